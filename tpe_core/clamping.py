"""Bounds for figures that rounding takes a little too far. NaN stays NaN: no bound makes a number of it."""

from __future__ import annotations

__all__ = ["at_least", "at_most"]


def at_least(low: float, value: float) -> float:
    """`value`, or `low` where it is below that. NaN stays NaN, which ``max(0.0, nan)`` would turn into 0."""
    return low if value < low else value


def at_most(high: float, value: float) -> float:
    """`value`, or `high` where it is above that. NaN stays NaN."""
    return high if value > high else value
