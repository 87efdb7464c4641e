"""From text to token ids: the text's own tokens, apart from what the tokenizer puts around them.

A tokenizer may begin every text with special tokens and end it with others. A model that continues a text must have
the former and never the latter: after an end token it says what begins the next text. Masked and encoder-decoder
models were trained with both. So nothing here ever adds special tokens by itself; who asks puts them where they belong.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Protocol

from tpe_core.corpus.id_tokenizer import IdTokenizer

__all__ = ["Tokenizer", "open_ended", "special_ends", "text_ids", "texts_ids", "vocabulary_rows"]

PROBES = ("a", "the", "0", ".", "é", "的")
"""Looked at until one has tokens of its own, to see what stands around them."""


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that reading a text needs."""

    bos_token_id: Any
    eos_token_id: Any

    def __call__(self, text: Any, **options: Any) -> Any:
        """A mapping whose ``input_ids`` are the token ids of every text."""

    def get_vocab(self) -> dict[str, int]:
        """Every token's id."""


def texts_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of each text alone. A special token spelled out in a text is read as that token."""
    return _ids(tokenizer, list(texts), special=False)


def text_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """The token ids of a text alone, as `texts_ids`."""
    return texts_ids(tokenizer, [text])[0] if text else []


def special_ends(tokenizer: Tokenizer | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special tokens that the tokenizer by itself puts before and after every text; none without a tokenizer."""
    if tokenizer is None or isinstance(tokenizer, IdTokenizer):
        return (), ()
    for probe in PROBES:
        (plain,) = _ids(tokenizer, [probe], special=False)
        (whole,) = _ids(tokenizer, [probe], special=True)
        for at in range(len(whole) - len(plain) + 1) if plain else ():
            if whole[at : at + len(plain)] == plain:
                return tuple(whole[:at]), tuple(whole[at + len(plain) :])
    return (), ()


def open_ended(tokenizer: Any) -> Any:
    """A tokenizer that puts nothing after a text: itself, or a copy without what it puts there.

    For libraries that turn text into ids on their own and let a causal model go on from there.
    """
    before, after = special_ends(tokenizer)
    if not after:
        return tokenizer
    other = copy.deepcopy(tokenizer)
    backend = getattr(other, "backend_tokenizer", None)
    if backend is None:
        other.build_inputs_with_special_tokens = lambda ids, _=None: [*before, *ids]
        return other
    from tokenizers import processors

    names = [str(name) for name in tokenizer.convert_ids_to_tokens(list(before))]
    backend.post_processor = processors.TemplateProcessing(
        single=[*names, "$A"], special_tokens=list(zip(names, before, strict=True))
    )
    return other


def vocabulary_rows(tokenizer: Tokenizer) -> int:
    """How many rows of a head a tokenizer uses: its highest token id and one. Its ids may have holes."""
    return max(tokenizer.get_vocab().values()) + 1


def _ids(tokenizer: Tokenizer, texts: list[str], special: bool) -> list[list[int]]:
    options = {"return_attention_mask": False, "return_token_type_ids": False, "verbose": False}
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=special, **options)["input_ids"]
    return ids
