"""Directions in which a token's row moves to change its probability (Cho et al. 2025, section 3).

A token steered to ratio r gets ``dW = log r * v``, where v depends on the method alone, never on the token.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tpe_core.detection import Detection
from tpe_core.errors import NumericalError
from tpe_core.intervention import Method

__all__ = ["TOP_K", "steering_direction"]

Floats = NDArray[np.float64]

TOP_K = 8
RIDGE = 1e-6  # of the mean eigenvalue of E[h hᵀ]: enough for an exact solve, far below any useful direction


def steering_direction(method: Method, slope: Floats, detection: Detection, k: int = TOP_K) -> Floats:
    """[d] v such that moving a row by ``log r * v`` asks for r times its probability.

    `slope` [d] is A. Sum-one weights Omega give ``v = -Omega / A``: ``min-norm`` takes Omega_i = A_i^2/|A|^2 (the
    smallest edit), ``top-k`` 1/k on the k largest |A|. ``least-squares`` takes ``(E[h hᵀ] + eps I)^-1 E[h]``, whose
    logit shift h.v is closest to 1 in every context. Uniform Omega over all dimensions is not offered: it divides by
    slopes near 0. Raises `NumericalError` where the slopes are all 0.
    """
    if not np.abs(slope).max() > 0:
        raise NumericalError("all slopes are 0: no direction changes a token's probability.")

    def min_norm() -> Floats:
        return -slope / (slope @ slope)

    def top_k() -> Floats:
        best = np.argsort(-np.abs(slope), kind="stable")[:k]
        direction = np.zeros_like(slope)
        direction[best] = -1 / (len(best) * slope[best])
        return direction

    def least_squares() -> Floats:
        moment = detection.second_moment
        ridge = RIDGE * np.trace(moment) / len(moment)
        solved: Floats = np.linalg.solve(moment + ridge * np.eye(len(moment)), detection.mean_hidden)
        return solved

    table: dict[Method, Callable[[], Floats]] = {"min-norm": min_norm, "top-k": top_k, "least-squares": least_squares}
    return table[method]()
