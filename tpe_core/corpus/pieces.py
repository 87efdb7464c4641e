"""What each token adds to a text as it grows: a character made of several tokens comes whole, with the last of them.

It decodes a few tokens at a time, so that a long text costs no more per token than a short one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["Pieces"]

BEFORE = 8  # tokens decoded for their neighbours' sake: some tokenizers join words depending on what stands before
PENDING = 4  # the most bytes of a character; more tokens than that are not waiting for its end
BROKEN = "\ufffd"


class Pieces:
    """Token by token, what is new in the text; special tokens add nothing."""

    def __init__(self, tokenizer: Any, before: Sequence[int] = ()) -> None:
        """`before` are the tokens that the text stands after."""
        self._tokenizer = tokenizer
        self._ids = list(before)[-BEFORE:]
        self._from, self._said = 0, len(self._ids)  # decoding starts there; so many are said

    def add(self, token_id: int) -> str:
        """What this token adds; empty while a character is incomplete."""
        self._ids.append(token_id)
        piece = self._unsaid()
        if piece.endswith(BROKEN) and len(self._ids) - self._said < PENDING:
            return ""
        return self._say(piece)

    def rest(self) -> str:
        """What was held back, where nothing more comes."""
        return self._say(self._unsaid())

    def _unsaid(self) -> str:
        said = self._decode(self._ids[self._from : self._said])
        return self._decode(self._ids[self._from :])[len(said) :]

    def _say(self, piece: str) -> str:
        if piece or len(self._ids) - self._said >= PENDING:
            self._from, self._said = max(self._from, self._said - BEFORE), len(self._ids)
        return piece

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text
