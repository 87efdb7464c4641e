"""Sums of probabilities by stretch of the text, so that mean probabilities over parts of one text can be compared.

A group holds consecutive blocks (`Corpus.stretch`): a text's topics last longer than a block, so groups of blocks that
lie between each other would agree more than two texts do. Parts of a text, in whatever order and by whichever process
they were read, add up to the groups of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tpe_core.corpus.corpus import STRETCHES
from tpe_core.errors import TpeError

__all__ = ["BlockGroups", "runs_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


def runs_of(groups: Ints) -> list[tuple[int, slice]]:
    """(group, rows) of each run of equal values in `groups` [n]."""
    edges = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(groups)]
    return [(int(groups[first]), slice(first, last)) for first, last in pairwise(edges)]


@dataclass(frozen=True, kw_only=True)
class BlockGroups:
    """Sums over the positions of each group; ``a + b`` are those of both texts.

    Example:
        >>> groups = analysis.detection.groups
        >>> int(groups.positions.sum()) == analysis.detection.positions
        True
    """

    positions: Ints  # [K]
    log_sums: Floats  # [K, V_all] log of the sum of p_x(w) over the group's positions, nats

    def __add__(self, other: BlockGroups) -> BlockGroups:
        if self.log_sums.shape != other.log_sums.shape:
            raise TpeError(
                f"groups of different heads cannot be added: {self.log_sums.shape} and {other.log_sums.shape}."
            )
        return BlockGroups(
            positions=self.positions + other.positions, log_sums=np.logaddexp(self.log_sums, other.log_sums)
        )

    @staticmethod
    def empty(rows: int) -> BlockGroups:
        """Groups of no positions, for a head with `rows` rows."""
        return BlockGroups(positions=np.zeros(STRETCHES, np.int64), log_sums=np.full((STRETCHES, rows), -np.inf))

    def log_alpha(self, members: Flags, rows: Ints) -> Floats:
        """[m, r] log of the mean probability of `rows` [r] over the groups that each of `members` [m, K] names, nats.

        Raises `TpeError` where some name no position at all.
        """
        positions = members @ self.positions
        if not positions.all():
            raise TpeError("a set of groups without any position has no mean probability.")
        sums = self.log_sums[:, rows]
        known = np.isfinite(sums).any(0)
        top = np.where(known, sums.max(0), 0.0)
        result: Floats = members.astype(np.float64) @ np.exp(sums - top)
        with np.errstate(divide="ignore"):
            np.log(result, out=result)
        result += top
        # A group 1e300 times below another one is 0 beside it: there the sum is taken in the log domain.
        lost = np.flatnonzero(np.isneginf(result).any(0) & known)
        for row, chosen in zip(result, members, strict=True):
            row[lost] = np.logaddexp.reduce(sums[np.ix_(chosen, lost)], 0)
        result -= np.log(positions)[:, None]
        return result
