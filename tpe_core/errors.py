"""What the engine says when it cannot go on: what happened, which value, and what to do.

Every message is one sentence fit for a terminal; front ends print it as it is, without a traceback.
"""

from __future__ import annotations

__all__ = [
    "CancelledError",
    "CorpusError",
    "HeadError",
    "ManifestError",
    "ModelError",
    "NumericalError",
    "StoreWarning",
    "TpeError",
]


class TpeError(Exception):
    """Any failure that a user can act on. ``str(error)`` is the sentence to show."""


class ModelError(TpeError):
    """A model or tokenizer could not be found or loaded."""


class HeadError(TpeError):
    """The model's output head does not satisfy ``logits = post(W h + b)``, or could not be captured."""


class CorpusError(TpeError):
    """A text is missing, empty, binary, not UTF-8, or too short for what was asked."""


class ManifestError(TpeError):
    """A saved intervention is broken, of another width, or made for another head."""


class NumericalError(TpeError):
    """NaN or infinity where a finite number is needed, or a fit that has no solution."""


class CancelledError(TpeError):
    """A job was cancelled by its user."""


class StoreWarning(UserWarning):
    """The cache could not be read or written; the result is right, only slower to get again."""
