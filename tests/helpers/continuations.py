"""Continuations by transformers itself, and models that keep what they have read in ways of their own."""

from __future__ import annotations

from typing import Any

import torch
from transformers import MambaConfig, MambaForCausalLM

from tests.helpers.tiny_models import CONTEXT, VOCAB, WIDTH, tiny_tokenizer
from tpe_core.models.model import LanguageModel
from tpe_core.models.probe import open_head


def opened(hf: Any, context: int = CONTEXT) -> LanguageModel:
    """A random model, its weights spread so that its choices are far apart."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    head, report = open_head(hf.eval(), VOCAB, context)
    assert report.supported, report.reason
    return LanguageModel(
        name="tiny",
        revision=None,
        hf=hf,
        tokenizer=tiny_tokenizer(),
        context=context,
        report=report,
        measured_head=head,
    )


def greedy_by_transformers(hf: Any, asked: list[list[int]], length: int = 20) -> tuple[tuple[int, ...], ...]:
    """What `generate` of transformers says after each prompt, one at a time."""
    found = []
    for prompt in asked:
        ids = torch.tensor([prompt])
        out = hf.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=length, pad_token_id=0
        )
        found.append(tuple(out[0, len(prompt) :].tolist()))
    return tuple(found)


def mamba() -> MambaForCausalLM:
    return MambaForCausalLM(
        MambaConfig(vocab_size=VOCAB, hidden_size=WIDTH, state_size=4, num_hidden_layers=2, eos_token_id=0)
    )
