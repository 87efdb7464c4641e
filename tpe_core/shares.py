"""How many of something a share of it is: one rule, so that 30 % is the same number wherever it is asked for."""

from __future__ import annotations

import math

__all__ = ["count_of"]

NOISE = 1e-9  # of floating point: 0.35 * 90 is 31.499999999999996


def count_of(share: float, whole: int) -> int:
    """The whole number nearest to ``share * whole``, a half upwards: 30 % of 256 dimensions are 77."""
    return math.floor(share * whole + 0.5 + NOISE)
