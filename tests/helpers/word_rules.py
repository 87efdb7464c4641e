"""Tiny byte-level tokenizers by llama.cpp's name of the rule that cuts a text into words, and one over characters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.helpers.tiny_models import text

__all__ = ["RULES", "byte_level_by_rule", "character_level"]

TRAINED_ON = [
    text(0, 300),
    "We'll see isn't it's IT'S def f(x):\n\treturn x\n\n  12 345 1999 2024 Größe café Привет мир 日本語 नमस्ते",
]


def _split(digits: str) -> Any:
    """The rule of tiktoken's cl100k, but for how many digits are one word."""
    from tokenizers import Regex, pre_tokenizers

    pattern = "|".join(
        (
            r"(?i:'(?:[sdmt]|ll|ve|re))",
            r"[^\r\n\p{L}\p{N}]?\p{L}+",
            rf"\p{{N}}{digits}",
            r" ?[^\s\p{L}\p{N}]+[\r\n]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        )
    )
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), _bytes(use_regex=False)])


def _bytes(use_regex: bool = True) -> Any:
    from tokenizers import pre_tokenizers

    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def _single_digits() -> Any:
    from tokenizers import pre_tokenizers

    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _bytes()])


RULES: dict[str, Callable[[], Any]] = {
    "gpt-2": _bytes,
    "smollm": _single_digits,
    "qwen2": lambda: _split(""),
    "llama-bpe": lambda: _split("{1,3}"),
    "dbrx": lambda: _split("{1,3}"),
}
"""tokenizers' pre-tokenizer by llama.cpp's name."""


def byte_level_by_rule(rule: str, begins: bool = False) -> Any:
    """A tokenizer by its name in `RULES`, which puts ``<|begin|>`` before every text where it `begins`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(ignore_merges=rule == "llama-bpe"))
    tokenizer.pre_tokenizer = RULES[rule]()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TRAINED_ON, trainer)
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", special_tokens=[("<|begin|>", 0)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin|>", eos_token="<|end|>", model_max_length=64
    )


def character_level(space_first: bool = True) -> Any:
    """A tokenizer as SentencePiece's BPE: characters, bytes for those that are no token, ``▁`` for a space."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    put = [normalizers.Prepend("▁")] if space_first else []
    tokenizer.normalizer = normalizers.Sequence([*put, normalizers.Replace(" ", "▁")])
    tokenizer.train_from_iterator(
        TRAINED_ON[:1],
        trainers.BpeTrainer(vocab_size=420, special_tokens=names, show_progress=False, max_token_length=8),
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    )
