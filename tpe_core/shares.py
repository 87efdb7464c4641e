"""Rounding of shares to counts: the same rule wherever a share is given."""

from __future__ import annotations

import math

__all__ = ["count_of"]

NOISE = 1e-9  # of floating point: 0.35 * 90 is 31.499999999999996


def count_of(share: float, whole: int) -> int:
    """The whole number nearest to ``share * whole``, a half upwards: 30 % of 256 dimensions are 77."""
    return math.floor(share * whole + 0.5 + NOISE)
