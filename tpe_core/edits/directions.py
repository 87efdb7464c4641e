"""Directions in which a token's row moves to change its probability (Cho et al. 2025, section 3).

A token steered to ratio r gets ``dW = log r * v``, where v depends on the method alone, never on the token.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg import lapack

from tpe_core.detection.detection import Detection
from tpe_core.edits.intervention import Method
from tpe_core.errors import NumericalError

__all__ = ["TOP_K", "Directions", "LeastSquares", "steering_direction"]

Floats = NDArray[np.float64]

TOP_K = 8
RIDGE = 1e-6  # of the mean eigenvalue of E[h hᵀ]: enough for an exact solve, far below any useful direction
KEPT_SETS = 64  # pruned sets whose direction is remembered: undo and redo go back and forth between a few


class LeastSquares:
    """``v = (E[h hᵀ] + eps I)^-1 E[h]``, whose logit shift h.v is closest to 1 in every context.

    Where dimensions are pruned it is solved over the kept ones alone: a pruned column moves no logit.
    """

    def __init__(self, detection: Detection) -> None:
        moment = detection.second_moment
        self._moment: Floats = moment + RIDGE * np.trace(moment) / len(moment) * np.eye(len(moment))
        self._mean = detection.mean_hidden
        self._found: dict[tuple[int, ...], Floats] = {}

    @cached_property
    def _inverse(self) -> Floats:
        factor, failed = lapack.dpotrf(self._moment, lower=1)
        if failed:
            raise NumericalError("the second moments of the hidden states are singular: detect on more text.")
        half: Floats = lapack.dpotri(factor, lower=1)[0]
        return np.tril(half) + np.tril(half, -1).T

    def direction(self, pruned: tuple[int, ...] = ()) -> Floats:
        """[d] v, 0 at the `pruned` dimensions; cached for the last few sets."""
        if pruned not in self._found:
            if len(self._found) >= KEPT_SETS:
                del self._found[next(iter(self._found))]
            self._found[pruned] = self._solve(pruned)
        return self._found[pruned]

    def _solve(self, pruned: tuple[int, ...]) -> Floats:
        gone = np.array(pruned, dtype=np.int64)
        kept = np.setdiff1d(np.arange(len(self._mean)), gone)
        result = np.zeros(len(self._mean))
        if not len(gone) or len(gone) > len(kept):
            if len(kept):
                result[kept] = scipy.linalg.solve(self._moment[np.ix_(kept, kept)], self._mean[kept], assume_a="pos")
            return result
        # With B the inverse over all dimensions, the one over the kept is B_KK - B_KP B_PP^-1 B_PK: a toggle costs
        # a solve of the pruned dimensions only.
        whole, inverse = self.direction(), self._inverse
        result[kept] = whole[kept] - inverse[np.ix_(kept, gone)] @ scipy.linalg.solve(
            inverse[np.ix_(gone, gone)], whole[gone], assume_a="pos"
        )
        return result


class Directions:
    """The directions that slopes A [d] and a detection imply, each made on first use."""

    def __init__(self, slope: Floats, detection: Detection) -> None:
        self._slope, self._detection = slope, detection
        self._made: dict[Method, Floats] = {}

    @cached_property
    def _least_squares(self) -> LeastSquares:
        return LeastSquares(self._detection)

    def of(self, method: Method, pruned: tuple[int, ...] = ()) -> Floats | None:
        """[d] v of a method with `pruned` dimensions left out; None for ``bias``, which moves no row."""
        if method == "bias":
            return None
        if method == "least-squares":
            return self._least_squares.direction(pruned)
        if method not in self._made:
            self._made[method] = steering_direction(method, self._slope, self._detection)
        return self._made[method]


def steering_direction(method: Method, slope: Floats, detection: Detection, k: int = TOP_K) -> Floats:
    """[d] v such that moving a row by ``log r * v`` asks for r times its probability.

    `slope` [d] is A. Sum-one weights Omega give ``v = -Omega / A``: ``min-norm`` takes Omega_i = A_i^2/|A|^2 (the
    smallest edit), ``top-k`` 1/k on the k largest |A|; ``least-squares`` is `LeastSquares`. Uniform Omega over all
    dimensions is not offered: it divides by slopes near 0. Raises `NumericalError` where the slopes are all 0, and
    for ``bias``, which is no direction.

    Returns:
        [d] in units of W for each nat.

    Example:
        >>> tpe.steering_direction("min-norm", np.array([3.0, 4.0]), analysis.detection).tolist()
        [-0.12, -0.16]
    """

    def slopes() -> Floats:
        if not np.abs(slope).max() > 0:
            raise NumericalError("all slopes are 0: no direction changes a token's probability.")
        return slope

    def min_norm() -> Floats:
        return -slopes() / (slope @ slope)

    def top_k() -> Floats:
        best = np.argsort(-np.abs(slopes()), kind="stable")[:k]
        direction = np.zeros_like(slope)
        direction[best] = -1 / (len(best) * slope[best])
        return direction

    table: dict[Method, Callable[[], Floats]] = {
        "min-norm": min_norm,
        "top-k": top_k,
        "least-squares": lambda: LeastSquares(detection).direction(),
    }
    if method not in table:
        raise NumericalError(f"{method} moves no row and has no direction: choose one of {', '.join(table)}.")
    return table[method]()
