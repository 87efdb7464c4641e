"""Tiny masked and encoder-decoder models with tokenizers of their own kind, saved as Hugging Face folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    MarianConfig,
    MarianMTModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

from tests.helpers.tiny_models import WIDTH, text

__all__ = ["KINDS", "SENTINELS", "save_task_model", "task_tokenizer"]

KINDS = ("bert", "roberta", "t5", "bart", "marian")
SENTINELS = 12
ROOM = 64  # positions of every model
VOCAB = 320


def task_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """BPE with the special tokens of its kind: a mask and ends, sentinels (t5), or an end alone (marian)."""
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    extra: list[str] = []
    if kind in ("bert", "roberta", "bart"):
        names |= {"bos_token": "<s>", "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    if kind == "bert":
        del names["bos_token"], names["eos_token"]
    if kind == "t5":
        extra = [f"<extra_id_{number}>" for number in range(SENTINELS)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=[*dict.fromkeys(names.values()), *extra],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text(0)], trainer)
    opening = [] if kind in ("t5", "marian") else ["<s>"]
    template = " ".join([*opening, "$A", "</s>"])
    specials = [(token, tokenizer.token_to_id(token)) for token in dict.fromkeys([*opening, "</s>"])]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=specials)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=ROOM, additional_special_tokens=extra, **names
    )


def save_task_model(folder: Path, kind: str) -> Path:
    """Write a tiny random model of a kind, and its tokenizer."""
    torch.manual_seed(0)
    tokenizer = task_tokenizer(kind)
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    rows = max(tokenizer.get_vocab().values()) + 1
    ends: dict[str, Any] = {"vocab_size": rows, "pad_token_id": pad}
    encoder = {
        "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    both = {
        "d_model": WIDTH, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": ROOM,
    }  # fmt: skip
    model: Any
    if kind == "bert":
        model = BertForMaskedLM(BertConfig(**ends, **encoder, max_position_embeddings=ROOM))
    elif kind == "roberta":  # its first position has the number of the padding token plus one
        model = RobertaForMaskedLM(
            RobertaConfig(**ends, **encoder, bos_token_id=0, eos_token_id=eos, max_position_embeddings=ROOM)
        )
    elif kind == "t5":
        model = T5ForConditionalGeneration(
            T5Config(
                **ends, d_model=WIDTH, d_kv=8, num_heads=2, num_layers=2, d_ff=32, eos_token_id=eos,
                decoder_start_token_id=pad, dropout_rate=0.0,
            )
        )  # fmt: skip
    elif kind == "bart":
        model = BartForConditionalGeneration(
            BartConfig(**ends, **both, bos_token_id=0, eos_token_id=eos, decoder_start_token_id=eos)
        )
        model.final_logits_bias.normal_()
    else:
        model = MarianMTModel(
            MarianConfig(
                **ends, **both, bos_token_id=0, eos_token_id=eos, decoder_start_token_id=pad, scale_embedding=True
            )
        )
        model.final_logits_bias.normal_()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
