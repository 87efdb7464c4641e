"""What every text is to its readers: a name, a fingerprint, and pieces of documents that come lazily.

It opens nothing itself and never tokenises; `tpe_core.corpus.sources` makes sources of what people name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from tpe_core.errors import CorpusError

__all__ = ["Piece", "TextSource", "unreadable"]


class Piece(NamedTuple):
    """A part of a document that fits in memory."""

    text: str
    begins: bool  # whether a document begins with it
    share: float | None  # of the whole source, read when this piece ends; None where nobody knows


class TextSource(ABC):
    """Where text comes from. `label` is for people; reading raises `CorpusError`."""

    @property
    @abstractmethod
    def label(self) -> str:
        """A few words that name the text."""

    @abstractmethod
    def fingerprint(self) -> str:
        """sha256 (hex) that changes when the text does."""

    @abstractmethod
    def pieces(self) -> Iterator[tuple[str, bool]]:
        """The text in order, lazily, in pieces that fit in memory, and whether each one begins a document."""

    def measured(self) -> Iterator[Piece]:
        """`pieces`, each with the share of the source that was read by then."""
        return (Piece(text, begins, None) for text, begins in self.pieces())

    def for_tokenizer(self, tokenizer: Any) -> TextSource:
        """The same text as a model's tokenizer has it: chat records go through its chat template."""
        return self

    def token_ids(self, rows: int, end: int | None = None, padding: int | None = None) -> Iterator[NDArray[Any]] | None:
        """Its token ids, where it holds those instead of text (`tpe_core.corpus.id_files`); None where it is text."""
        return None

    def documents(self) -> Iterator[str]:
        """Whole documents, lazily."""
        held: list[str] = []
        for text, begins in self.pieces():
            if begins and held:
                yield "".join(held)
                held = []
            held.append(text)
        if held:
            yield "".join(held)


def unreadable(path: Path, error: Exception) -> CorpusError:
    """The sentence for a file that the operating system does not give."""
    reason = getattr(error, "strerror", None) or str(error)
    return CorpusError(f"the text at {path} cannot be read ({reason}): check the path and its permissions.")
