"""How much of a ranking of dimensions is the text's: slopes from parts of it, held against each other.

The standard errors of the regression speak of the vocabulary alone. Here the detection's groups of blocks
(`tpe_core.detection.block_groups`) take the text apart: slopes from halves of it say how far two texts of that length
agree, slopes without one group at a time give a standard error over the text for each (the delete-one-group
jackknife). All of them are one product with the same regressors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
import scipy.special
from numpy.typing import NDArray

from tpe_core.corpus.corpus import STRETCHES
from tpe_core.detection.block_groups import BlockGroups
from tpe_core.encoding.gram import Solver
from tpe_core.shares import count_of

if TYPE_CHECKING:
    from tpe_core.encoding.design import Design

__all__ = ["OVERLAP_SHARES", "Stability", "bottom_overlap", "half_splits", "jackknife_variance", "text_stability"]

OVERLAP_SHARES = (0.1, 0.3, 0.5)  # of the dimensions, smallest |slope| first
COSINES = (0.9, 0.95, 0.99)  # agreements whose positions are reported
FEWEST_GROUPS = 4  # with positions; below it nothing is said
SMALLEST_HALF = 0.25  # of the positions: a split with a smaller part is left out
NAMED = 8  # dimensions that a sentence names
CONFIDENCE = 0.95  # of the intervals, two-sided

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Stability:
    """Slopes from parts of one text. G groups have positions; S splits cut them in two.

    Example:
        >>> stability = analysis.stability
        >>> bool(0 < stability.cosine <= 1)
        True
        >>> bool((stability.low <= analysis.encoding.slope).all())
        True
        >>> bottom = analysis.table().order("slope", descending=False)[:10]
        >>> set(stability.doubtful(bottom)) <= set(bottom)
        True
    """

    slope: Floats  # [d] of the whole text
    group_positions: Ints  # [G] positions of each group
    without: Floats  # [G, d] slopes without each group
    halves: Floats  # [S, 2, d] slopes of the two parts of each split
    half_positions: Ints  # [S, 2] their positions

    @property
    def positions(self) -> int:
        """Positions of the whole text."""
        return int(self.group_positions.sum())

    @property
    def positions_per_half(self) -> float:
        """Harmonic mean of the halves' positions."""
        return float(1 / np.mean(1 / self.half_positions))

    @cached_property
    def cosine(self) -> float:
        """Cosine of the slopes of two halves, mean over splits."""
        return float(self._cosines.mean())

    @cached_property
    def spearman(self) -> float:
        """Rank correlation of |slope| of two halves, mean over splits: the order `slope` of pruning."""
        from scipy.stats import rankdata  # takes as long to import as all else here

        ranks = rankdata(np.abs(self.halves), axis=2)
        return float(np.mean([np.corrcoef(pair)[0, 1] for pair in ranks]))

    @cached_property
    def overlap(self) -> dict[float, float]:
        """By share of the dimensions: how much of the bottom by |slope| two halves have in common, mean over splits."""
        return {
            share: float(np.mean([bottom_overlap(first, second, share) for first, second in self.halves]))
            for share in OVERLAP_SHARES
        }

    @cached_property
    def stderr(self) -> Floats:
        """[d] standard error of each slope over the text, by the delete-one-group jackknife."""
        result: Floats = np.sqrt(jackknife_variance(self.slope, self.without, self.group_positions))
        return result

    @cached_property
    def low(self) -> Floats:
        """[d] lower end of the 95 % interval over the text: ``A - t stderr``, Student's t with G - 1 degrees."""
        return self.slope - self._quantile * self.stderr

    @cached_property
    def high(self) -> Floats:
        """[d] upper end of the 95 % interval over the text."""
        return self.slope + self._quantile * self.stderr

    @cached_property
    def noise(self) -> float:
        """nu, in positions: the length of text whose slopes are as much noise as signal, in squared length.

        Slopes of n positions are taken as ``A + e``, e independent between texts with ``E|e|² = nu |A|² / n``, so that
        the cosine of two such vectors is ``1 / (1 + nu / n)``; nu is solved from every split and averaged. Infinite
        where halves do not agree at all.
        """
        per_half = 1 / np.mean(1 / self.half_positions, 1)
        cosines = self._cosines
        return float(np.mean(per_half * (1 / cosines - 1))) if (cosines > 0).all() else float("inf")

    def cosine_at(self, positions: float) -> float:
        """The expected cosine of the slopes of two independent texts like this one, of so many positions each."""
        return 1 / (1 + self.noise / positions)

    def positions_for(self, cosine: float) -> float:
        """Positions at which two independent texts like this one are expected to agree to a cosine in (0, 1)."""
        return self.noise / (1 / cosine - 1)

    def doubtful(self, pruned: Sequence[int] | Ints) -> Ints | None:
        """Which of the pruned dimensions cannot be told from the kept ones by this text; None for another order's mask.

        The mask must be the bottom by |slope|. The border lies halfway between its largest |slope| and the smallest
        one kept. A dimension is doubtful where the jackknife's interval of its distance to the border, with the border
        found anew without each group, reaches 0.
        """
        size, width = np.abs(self.slope), len(self.slope)
        inside = np.zeros(width, dtype=bool)
        inside[np.asarray(pruned, dtype=np.int64)] = True
        count = int(inside.sum())
        if not 0 < count < width or size[inside].max() > size[~inside].min():
            return None
        distance = _border(size, count) - size
        others = np.abs(self.without)
        # Signed by the whole text's slope: |A| folds at 0, which would make a slope about 0 look steadier than it is.
        signed = self.without * np.sign(self.slope)
        without = np.stack([_border(each, count) for each in others])[:, None] - signed
        spread = np.sqrt(jackknife_variance(distance, without, self.group_positions))
        result: Ints = np.flatnonzero(inside & (distance <= self._quantile * spread))
        return result

    def warning(self, pruned: Sequence[int] | Ints) -> str:
        """How many dimensions of a mask are `doubtful`, in a sentence; empty where none is."""
        found = self.doubtful(pruned)
        if found is None or not len(found):
            return ""
        named = ", ".join(map(str, found[:NAMED].tolist())) + (", ..." if len(found) > NAMED else "")
        return (
            f"{len(found)} of the {len(pruned)} pruned dimensions cannot be told from those that were kept, "
            f"by this text: {named}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Its figures, for `tpe analyze`."""
        return {
            "groups": len(self.group_positions),
            "splits": len(self.halves),
            "positions_per_half": self.positions_per_half,
            "cosine": self.cosine,
            "spearman": self.spearman,
            "bottom_overlap": {str(share): value for share, value in self.overlap.items()},
            "cosine_at_this_length": self.cosine_at(self.positions),
            "positions_for_cosine": {str(cosine): self.positions_for(cosine) for cosine in COSINES},
        }

    @property
    def _cosines(self) -> Floats:
        """[S]."""
        first, second = self.halves[:, 0], self.halves[:, 1]
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        result: Floats = np.sum(first * second, 1) / lengths
        return result

    @property
    def _quantile(self) -> float:
        return float(scipy.special.stdtrit(len(self.group_positions) - 1, (1 + CONFIDENCE) / 2))


def _border(size: Floats, count: int) -> float:
    """Halfway between the `count` smallest values and the others."""
    lowest = np.partition(size, [count - 1, count])
    return float(lowest[count - 1] + lowest[count]) / 2


def bottom_overlap(first: Floats, second: Floats, share: float) -> float:
    """How much of the bottom `share` of the dimensions by |slope| two slope vectors [d] have in common, in [0, 1]."""
    count = max(1, count_of(share, len(first)))
    bottoms = [set(np.argsort(np.abs(slope), kind="stable")[:count].tolist()) for slope in (first, second)]
    return len(bottoms[0] & bottoms[1]) / count


def jackknife_variance(whole: Floats, without: Floats, sizes: Ints) -> Floats:
    """[d] variance of an estimate [d] from those without one group each [G, d], of groups of different `sizes` [G].

    The delete-m_j jackknife (Busing, Meijer & van der Leeden 1999): with ``h_j = n / m_j``, pseudo-values
    ``h_j T - (h_j - 1) T_(-j)`` about ``G T - sum_j (1 - 1 / h_j) T_(-j)``, squared, over ``h_j - 1``, and averaged.
    For equal groups it is ``(G - 1) / G`` times the sum of squares of ``T_(-j)`` about their mean.
    """
    ratio = (sizes.sum() / sizes)[:, None]
    pseudo = ratio * whole - (ratio - 1) * without
    centre = len(sizes) * whole - ((1 - 1 / ratio) * without).sum(0)
    result: Floats = ((pseudo - centre) ** 2 / (ratio - 1)).mean(0)
    return result


def half_splits(positions: Ints) -> Flags:
    """[S, K] which groups make the first half, by split: the balanced half-samples of McCarthy (1969).

    They are the rows of a Hadamard matrix but the first: any two groups are together in as many splits as apart. A
    split is left out where one part has less than a quarter of the positions.
    """
    first: Flags = scipy.linalg.hadamard(STRETCHES)[1:] > 0
    share = first @ positions / max(1, positions.sum())
    kept: Flags = first[(share >= SMALLEST_HALF) & (share <= 1 - SMALLEST_HALF)]
    return kept


def text_stability(
    design: Design, slope: Floats, groups: BlockGroups, keep: Flags, offset: Floats | None = None
) -> Stability | None:
    """Refit the law to parts of the text: one product with the regressors for all of them.

    `slope` [d] is the whole text's; `keep` [V] marks the rows of `design`, `offset` [rows] is their head bias.
    Every part is fitted on the same rows. None where fewer than four groups have positions.
    """
    known = groups.positions > 0
    splits = half_splits(groups.positions)
    if known.sum() < FEWEST_GROUPS or not len(splits):
        return None
    members = np.concatenate([(~np.eye(STRETCHES, dtype=bool))[known], splits, ~splits])
    rows = np.flatnonzero(keep)
    y = -groups.log_alpha(members, rows)
    if offset is not None:
        y += offset
    slopes = Solver(design.gram, design.rows, ~design.varies).solve(design.cross(y)).T
    count = int(known.sum())
    halves = slopes[count:].reshape(2, len(splits), -1).swapaxes(0, 1)
    sizes = np.stack([splits @ groups.positions, ~splits @ groups.positions], 1)
    return Stability(
        slope=slope,
        group_positions=groups.positions[known],
        without=slopes[:count],
        halves=halves,
        half_positions=sizes,
    )
