"""What each token adds to a text, as bytes: whole characters, and parts of characters at either end.

A vocabulary of bytes (byte-level BPE, byte fallback) has tokens that are a part of a character's UTF-8. Only its
beginning says which character it can become: a token that ends inside a character has a few completions, and one that
begins inside a character continues whatever stood before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tpe_core.corpus.id_tokenizer import IdTokenizer
from tpe_core.printable import spellings_and_texts, text_bytes

__all__ = ["TokenContent", "completions", "token_contents"]

LEADS = ((0xC2, 0xDF, 2), (0xE0, 0xEF, 3), (0xF0, 0xF4, 4))  # first byte of a character, and how many bytes it has
SURROGATES = range(0xD800, 0xE000)


@dataclass(frozen=True, slots=True)
class TokenContent:
    """One token: its whole characters, and the bytes of a character that it begins without ending."""

    text: str
    begun: bytes = b""
    is_whole: bool = True  # whether it consists of whole characters

    @staticmethod
    def of(data: bytes) -> TokenContent:
        """Take bytes apart. What is no part of UTF-8 is left out."""
        try:
            return TokenContent(data.decode())
        except UnicodeDecodeError:
            begun = _begun(data)
            body = data[: len(data) - len(begun)]
            return TokenContent(body.decode(errors="ignore"), begun, False)


def _begun(data: bytes) -> bytes:
    """The bytes at the end that are the beginning of one character."""
    for length in range(1, min(3, len(data)) + 1):
        tail = data[-length:]
        size = next((size for low, high, size in LEADS if low <= tail[0] <= high), 0)
        if size:
            return tail if length < size and completions(tail) else b""
        if not 0x80 <= tail[0] <= 0xBF:
            return b""
    return b""


@lru_cache(maxsize=4096)
def completions(begun: bytes) -> str:
    """Every character whose UTF-8 begins with some bytes, which are fewer than it has."""
    size = next((size for low, high, size in LEADS if low <= begun[0] <= high), 0)
    if not len(begun) < size or any(not 0x80 <= byte <= 0xBF for byte in begun[1:]):
        return ""
    code = begun[0] & (0xFF >> (size + 1))
    for byte in begun[1:]:
        code = code << 6 | byte & 0x3F
    missing = 6 * (size - len(begun))
    least = (0, 0, 0x80, 0x800, 0x10000)[size]
    first, last = max(code << missing, least), min((code + 1 << missing) - 1, 0x10FFFF)
    return "".join(chr(each) for each in range(first, last + 1) if each not in SURROGATES)


def token_contents(tokenizer: Any, rows: int) -> Sequence[TokenContent | None]:
    """[rows] what each token adds to a text; None for a row without a token, and all of a model without tokenizer."""
    if isinstance(tokenizer, IdTokenizer):
        return [None] * rows
    found = (text_bytes(spelling, text) for spelling, text in spellings_and_texts(tokenizer, rows))
    return [None if data is None else TokenContent.of(data) for data in found]
