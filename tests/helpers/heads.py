"""Tiny models with every kind of step after the head, and their edited twins."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from transformers import BartConfig, BartForConditionalGeneration, LlamaForCausalLM

from tests.helpers.tiny_models import CONTEXT, VOCAB, WIDTH, random_corpus, tiny_config, tiny_tokenizer
from tpe_core.detection.detection import Detection, detect
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.intervention import Intervention
from tpe_core.models.model import LanguageModel
from tpe_core.models.probe import open_head
from tpe_core.progress import run

NEVER_PREDICTED = slice(40, 60)
KEPT = VOCAB - 30


class MaskingLlama(LlamaForCausalLM):
    """Never predicts some tokens."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits[..., NEVER_PREDICTED] = torch.finfo(output.logits.dtype).min
        return output


class SlicingLlama(LlamaForCausalLM):
    """Cuts the last rows of its head off."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = output.logits[..., :KEPT]
        return output


def bart() -> BartForConditionalGeneration:
    config = BartConfig(
        vocab_size=VOCAB, d_model=WIDTH, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=CONTEXT,
        pad_token_id=0, bos_token_id=0, eos_token_id=0, decoder_start_token_id=0, forced_eos_token_id=None,
    )  # fmt: skip
    model = BartForConditionalGeneration(config)
    model.final_logits_bias.normal_()
    return model


def build(kind: str) -> Any:
    torch.manual_seed(3)
    from transformers import AutoModelForCausalLM

    if kind == "bias":
        model = bart()
    elif kind in ("mask", "slice"):
        model = {"mask": MaskingLlama, "slice": SlicingLlama}[kind](tiny_config("llama"))
    else:
        source = {"identity": "gpt2", "scale": "granite", "softcap": "gemma2", "head bias": "gptj"}[kind]
        config = tiny_config(source)
        if kind == "softcap":
            config.final_logit_softcapping = 2.5
        model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model.eval()


def wrapped(hf: Any, task: Any = "causal") -> LanguageModel:
    head, report = open_head(hf, VOCAB, CONTEXT, task, 0)
    return LanguageModel(
        name="tiny",
        revision=None,
        hf=hf,
        tokenizer=tiny_tokenizer(),
        context=CONTEXT,
        report=report,
        measured_head=head,
        task=task,
    )


KINDS = ["identity", "head bias", "scale", "softcap", "bias", "mask", "slice"]


def corpus_for(model: LanguageModel) -> Any:
    return random_corpus(12, 40, vocab=min(VOCAB, model.head.total_rows))


def edited_model(model: LanguageModel, intervention: Intervention, basis: EditStatistics) -> LanguageModel:
    """A copy whose own weights were edited: rows moved by a shift of final logits over the scale, columns zeroed."""
    hf = copy.deepcopy(model.hf)
    old = hf.get_output_embeddings()
    W = old.weight.detach().double().clone()
    b = torch.zeros(len(W), dtype=torch.float64) if old.bias is None else old.bias.detach().double().clone()
    for entry in intervention.steering:
        direction, step = basis.direction(entry.method, intervention.pruned), math.log(entry.ratio)
        if direction is None:
            b[entry.token_id] += step / model.head.post.scale
        else:
            W[entry.token_id] += step / model.head.post.scale * torch.from_numpy(direction)
    dims = list(intervention.pruned)
    if intervention.replacement == "mean":
        b += W[:, dims] @ torch.from_numpy(basis.mean_hidden[dims])
    if intervention.replacement == "least-squares":
        rebuilt = basis.reconstruction(intervention.pruned)
        b += W[:, dims] @ torch.from_numpy(rebuilt.constant)
        W[:, list(rebuilt.kept)] += W[:, dims] @ torch.from_numpy(rebuilt.fold)
    W[:, dims] = 0
    new = torch.nn.Linear(W.shape[1], W.shape[0])
    with torch.no_grad():
        new.weight.copy_(W)
        new.bias.copy_(b)
    hf.lm_head = new
    return LanguageModel(
        name="edited",
        revision=None,
        hf=hf,
        tokenizer=model.tokenizer,
        context=model.context,
        report=model.report,
        measured_head=model.measured_head,
        task=model.task,
    )


def detected(blocks: int, sample_size: int) -> Callable[[str], tuple[LanguageModel, Detection]]:
    """Gives a model of a kind with its detection over `blocks` random blocks; each is made once."""

    @functools.cache
    def make(kind: str) -> tuple[LanguageModel, Detection]:
        model = wrapped(build(kind), "seq2seq" if kind == "bias" else "causal")
        return model, run(detect(model, random_corpus(blocks, 40), sample_size=sample_size))

    return make
