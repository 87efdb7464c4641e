"""Under-trained tokens: rows of the output embedding that still point where training left the unused ones.

The nearest to the mean unused row by cosine are the candidates for glitch tokens (Land & Bartolo 2024). W's mean
row is taken off first: a shift of all rows changes no softmax, but it would change every raw cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tpe_core.models.head import OutputHead
from tpe_core.shares import count_of

__all__ = ["LISTED", "Reference", "Undertrained", "Untrained", "lowest", "untrained_rows"]

LOWEST_SHARE = 0.01  # of the fitted rows, where no row is known to be unused
LISTED = 20  # tokens of each kind

Floats = NDArray[np.float64]
Reference = Literal["padding rows", "never-predicted rows", "lowest-alpha 1 %"]


@dataclass(frozen=True)
class Untrained:
    """The direction of rows that training hardly touched.

    `reference` says which: padding rows, else rows the model never gives any probability, else the 1 % of lowest
    alpha (then these are near by construction, and only the order among all rows says something).
    """

    reference: Reference
    rows: int
    centre: Floats  # [d] mean of the fitted rows
    direction: Floats  # [d] unit vector from it to the mean reference row; 0 where the two coincide

    def distance(self, row: Floats) -> float:
        """Cosine distance of one row [d], 0 to 2: 0 points exactly where the untrained rows do."""
        away = row - self.centre
        length = float(np.linalg.norm(away))
        return 1 - float(away @ self.direction) / length if length and self.direction.any() else float("nan")

    def distances(self, products: Floats, lengths: Floats) -> Floats:
        """[V] the same for rows given by W @ [direction, centre] [V, 2] and their lengths [V]."""
        away = np.sqrt(np.maximum(lengths**2 - 2 * products[:, 1] + self.centre @ self.centre, 0.0))
        with np.errstate(divide="ignore", invalid="ignore"):
            result: Floats = 1 - (products[:, 0] - self.centre @ self.direction) / away
        return result if self.direction.any() else np.full(len(result), np.nan)


@dataclass(frozen=True, kw_only=True)
class Undertrained:
    """Candidates for glitch tokens: the rows nearest to the untrained ones, and those that the law fits worst."""

    untrained: Untrained
    distance: Floats  # [V] cosine distance of every row in use
    residual: Floats  # [V] -log alpha minus its prediction, nats; NaN where not fitted
    surprisal: Floats  # [V] -log alpha, nats
    counts: NDArray[np.int64]  # [V] occurrences in the detecting text

    @property
    def nearest(self) -> NDArray[np.int64]:
        """[k] token ids, nearest first."""
        return lowest(self.distance, LISTED)

    @property
    def worst_fitted(self) -> NDArray[np.int64]:
        """[k] token ids by |residual|, largest first."""
        return lowest(-np.abs(self.residual), LISTED)

    def to_dict(self, tokens: Sequence[str]) -> dict[str, Any]:
        """The object ``undertrained`` of `tpe analyze`; `tokens` [V] are printable texts."""

        def entry(token_id: int) -> dict[str, Any]:
            return {
                "token_id": token_id,
                "token": tokens[token_id],
                "distance": float(self.distance[token_id]),
                "surprisal": float(self.surprisal[token_id]),
                "residual": float(self.residual[token_id]),
                "count": int(self.counts[token_id]),
            }

        return {
            "reference": self.untrained.reference,
            "reference_rows": self.untrained.rows,
            "nearest": [entry(token_id) for token_id in self.nearest.tolist()],
            "worst_fitted": [entry(token_id) for token_id in self.worst_fitted.tolist()],
        }


def untrained_rows(head: OutputHead, surprisal: Floats, mean_row: Floats) -> Untrained:
    """Find the rows that training hardly touched and their direction; only these rows are read.

    `surprisal` [V] is -log alpha of the rows in use, inf where never predicted; `mean_row` [d] that of the fitted ones.
    """
    fitted = np.isfinite(surprisal)
    reference: Reference
    if head.padding_rows:
        reference, rows = "padding rows", np.arange(head.vocab_rows, head.total_rows)
    elif not fitted.all():
        reference, rows = "never-predicted rows", np.flatnonzero(~fitted)
    else:
        reference, rows = (
            "lowest-alpha 1 %",
            np.sort(lowest(-surprisal, max(1, count_of(LOWEST_SHARE, len(surprisal))))),
        )
    total = np.zeros(head.hidden_size)
    for some in np.array_split(rows, -(-len(rows) // 1024)):
        total += head.columns[:, some].double().sum(1).cpu().numpy()
    away = total / len(rows) - mean_row
    length = float(np.linalg.norm(away))
    return Untrained(reference, len(rows), mean_row, away / length if length else np.zeros_like(away))


def lowest(values: Floats, count: int) -> NDArray[np.int64]:
    """Indices of the `count` smallest values, smallest first, ties by index; NaN is never among them."""
    order = np.argsort(values, kind="stable")
    result: NDArray[np.int64] = order[: min(count, int((~np.isnan(values)).sum()))]
    return result
