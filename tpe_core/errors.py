"""What the engine says when it cannot go on: what happened, which value, and what to do.

Every message is one sentence fit for a terminal; front ends print it as it is, without a traceback.
"""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import shorten

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "USAGE",
    "CancelledError",
    "CorpusError",
    "ExistsError",
    "HeadError",
    "ManifestError",
    "ModelError",
    "NotFiniteError",
    "NumericalError",
    "StoreWarning",
    "TpeError",
    "reason_of",
]

FAILED, USAGE, INTERRUPTED = 1, 2, 130
"""Exit codes of every command: it failed, it was called wrongly, it was interrupted."""

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class TpeError(Exception):
    """Any failure that a user can act on. ``str(error)`` is the sentence to show.

    Example:
        >>> try:
        ...     tpe.Steering(633, -1.0)
        ... except tpe.TpeError as error:
        ...     print(error)
        a steering ratio must be a finite number above 0, not -1.0: 2 doubles, 0.5 halves.
    """


class ModelError(TpeError):
    """A model or tokenizer could not be found or loaded."""


class HeadError(TpeError):
    """The model's output head does not satisfy ``logits = post(W h + b)``, or could not be captured."""


class CorpusError(TpeError):
    """A text is missing, empty, binary, not UTF-8, or too short for what was asked."""


class ExistsError(TpeError):
    """What is to be written is there already, and nobody said that it may be replaced; `path` is the file."""

    def __init__(self, sentence: str, path: Path) -> None:
        super().__init__(sentence)
        self.path = path


class ManifestError(TpeError):
    """A saved intervention is broken, of another width, or made for another head."""


class NumericalError(TpeError):
    """NaN or infinity where a finite number is needed, or a fit that has no solution."""


class NotFiniteError(NumericalError):
    """NaN or infinity in what a model computes: `row` of the batch and `position` in it say where it comes first."""

    def __init__(self, what: str, remedy: str, row: int, position: int, place: str = "") -> None:
        """`what` holds it, `remedy` is what to do, `place` names the text and the position in it."""
        super().__init__(f"the model's {what}{place or f' at position {position}'}: {remedy}.")
        self.what, self.remedy, self.row, self.position = what, remedy, row, position

    def placed(self, place: str) -> NotFiniteError:
        """The same with the text that was read named, as in " at position 3 of the prompt"."""
        return NotFiniteError(self.what, self.remedy, self.row, self.position, place)


class CancelledError(TpeError):
    """A job was cancelled by its user."""


class StoreWarning(UserWarning):
    """The cache could not be read or written; the result is right, only slower to get again."""


def reason_of(error: BaseException, limit: int = 300) -> str:
    """What a library's error says, all its lines as one of at most `limit` characters; its type where it says nothing.

    The first line alone is often no sentence: it ends in a colon, or points at a report printed above.
    """
    text = " ".join(COLOURS.sub("", str(error)).split()).rstrip(":")
    return shorten(text, limit, placeholder=" …") or type(error).__name__
