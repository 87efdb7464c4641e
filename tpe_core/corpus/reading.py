"""How much of a text was read: documents, positions, and the share of the source, for tables and reports.

It only counts: what is read is decided by `tpe_core.corpus.corpus`.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import asdict, dataclass, field
from typing import Any

from tpe_core.clamping import at_most

__all__ = ["Meter", "TextRead", "between"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRead:
    """What was read of a text."""

    label: str
    fingerprint: str  # sha256 (hex) of the text
    positions: int  # predicted ones
    documents: int | None  # begun, up to the last of those positions; None where nobody counted
    share: float | None  # of the source, up to there: of its bytes, or of a table's rows; None where nobody knows

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


@dataclass(slots=True)
class Meter:
    """How many documents are begun, and what share of the source is read, at each token of a text."""

    _marks: list[tuple[int, int, float | None]] = field(default_factory=lambda: [(0, 0, 0.0)])

    def forget(self) -> None:
        """Keep only the last token's mark: nobody asks for what is before it any more."""
        del self._marks[:-1]

    def add(self, tokens: int, begins: bool, share: float | None) -> None:
        """So many tokens more, which begin a document or not, and the share of the source that is read with them."""
        before, documents, _ = self._marks[-1]
        self._marks.append((before + tokens, documents + begins, share))

    def at(self, token: int) -> tuple[int, float | None]:
        """Documents begun and share read by the end of so many tokens; between marks the share grows evenly."""
        index = min(bisect_left(self._marks, token, key=lambda mark: mark[0]), len(self._marks) - 1)
        after, documents, share = self._marks[index]
        if index == 0:
            return documents, share
        before, _, shared = self._marks[index - 1]
        return documents, between(shared, share, (token - before) / max(1, after - before))


def between(before: float | None, after: float | None, part: float) -> float | None:
    """The share at a `part` of the way from one to another; None where one is not known."""
    return None if before is None or after is None else before + (after - before) * at_most(1.0, part)
