"""How far to step so that a token's measured mean probability is the one asked for, on the sample measured.

The closed form of `steered` makes one try O(N), so the step is bracketed and bisected: no model, no derivative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from torch import Tensor

from tpe_core.clamping import at_most
from tpe_core.steering.effects import Observed
from tpe_core.steering.results import Steerable

__all__ = ["Calibration", "calibrate"]

Floats = NDArray[np.float64]

LONGEST = 512.0  # nats: a longer step asks for more than e^512 times the probability
TOLERANCE = 1e-11  # of a step, nats
REACHED = 1e-8  # of log alpha', nats
ROUNDS = 64  # of tokens solved in turn, where several are steered at once


@dataclass(frozen=True, slots=True)
class Calibration:
    """Steps (log r, nats) that reach the probabilities asked for, or come nearest to them."""

    steps: tuple[float, ...]  # [m]
    alpha: tuple[float, ...]  # [m] mean probabilities reached
    reached: tuple[bool, ...]  # [m] whether they are those asked for


def calibrate(
    observed: Observed, steered: Sequence[Steerable], probabilities: Sequence[float], unit: Tensor
) -> Calibration:
    """Steps of m tokens or sets steered at once so that their mean probabilities over the sample are those given [m].

    alpha' rises with the step where `unit` [N] (h.v) is above 0 everywhere; otherwise it can turn back before it gets
    there. Several tokens share each context's probability, so they are solved in turn until all hold at once.
    """
    rows = observed.rows(steered)
    log_p = observed.log_p[rows]
    rest = (1 - log_p.exp().sum(0)).clamp_min(0).log()
    wanted = [math.log(p) if p > 0 else -math.inf for p in probabilities]
    steps = [0.0] * len(rows)

    def moved(i: int, step: float) -> Tensor:
        """[N] log p + D of token i."""
        return log_p[i] + observed.shift([rows[i]], (step * unit)[None])[0]

    def error(i: int) -> Callable[[float], float]:
        """log alpha' of token i less the one wanted, as a function of its step, the others' steps as they are."""
        beside = [rest, *(moved(j, steps[j]) for j in range(len(rows)) if j != i)]
        others = torch.logsumexp(torch.stack(beside), 0)

        def of(step: float) -> float:
            own = moved(i, step)
            return float(torch.logsumexp(own - torch.logaddexp(others, own), 0)) - math.log(len(unit)) - wanted[i]

        return of

    errors: list[float] = []
    for _ in range(ROUNDS):
        for i in range(len(rows)):
            steps[i] = _solve(error(i), steps[i])
        errors = [error(i)(steps[i]) for i in range(len(rows))]
        if len(rows) == 1 or max(map(abs, errors)) <= REACHED:
            break
    return Calibration(
        tuple(steps),
        tuple(math.exp(at_most(0.0, found + target)) for found, target in zip(errors, wanted, strict=True)),
        tuple(abs(found) <= REACHED for found in errors),
    )


def _solve(error: Callable[[float], float], start: float) -> float:
    """A step at which `error` is 0; where it has no such step within reach, the one that comes nearest."""
    here = error(start)
    if abs(here) <= REACHED / 10:
        return start
    side = math.copysign(1.0, here)
    tried, width = [(start, abs(here))], 0.25
    while abs(tried[-1][0]) < LONGEST:
        low, high = tried[-1][0], tried[-1][0] - side * width
        error_there = side * error(high)
        if error_there <= 0:
            return _root(error, low, high)
        if not math.isfinite(error_there):
            break
        tried.append((high, error_there))
        width *= 2
    best = min(range(len(tried)), key=lambda i: tried[i][1])
    if not 0 < best < len(tried) - 1:
        return tried[best][0]
    # It turned back between two tries: the turning point may still be far enough, and is the nearest if not.
    before, after = tried[best - 1][0], tried[best + 1][0]
    turning = minimize_scalar(
        lambda step: side * error(step), bounds=(min(before, after), max(before, after)), method="bounded"
    )
    return float(turning.x) if turning.fun > 0 else _root(error, before, float(turning.x))


def _root(error: Callable[[float], float], low: float, high: float) -> float:
    return float(brentq(error, low, high, xtol=TOLERANCE, rtol=4 * np.finfo(float).eps))
