"""Steering ratios as people give them: typed, or moved in steps of 2^¼.

Nothing here knows a widget or a token.
"""

from __future__ import annotations

import math

from tpe_tui.cells import number

__all__ = ["parse_probability", "parse_ratio", "share", "short_ratio", "stepped"]

STEPS_PER_DOUBLING = 4
MOST_DOUBLINGS = 64


def parse_ratio(text: str) -> float | None:
    """A finite number above 0; None otherwise."""
    try:
        value = float(text.strip().lstrip("×x"))
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def stepped(ratio: float, step: int) -> float:
    """`ratio` moved by `step` quarter doublings, kept on the grid of such steps so that 1 is met again.

    A ratio beyond 2^±64 asks for nothing more and stays where it is.
    """
    if abs(math.log2(ratio)) > MOST_DOUBLINGS:
        return ratio
    most = STEPS_PER_DOUBLING * MOST_DOUBLINGS
    step = max(-most, min(step, most))
    place = STEPS_PER_DOUBLING * math.log2(ratio)
    start = round(place) if abs(place - round(place)) < 1e-6 else place
    return float(2 ** ((start + step) / STEPS_PER_DOUBLING))


def parse_probability(text: str) -> float | None:
    """``1%`` as 0.01, between 0 and 1 exclusive; None for anything else, so that a bare number stays a ratio."""
    try:
        value = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        return None
    return value if text.strip().endswith("%") and 0 < value < 1 else None


def short_ratio(ratio: float) -> str:
    """A ratio as a label: 2, 0.595, 1189, 1.2e+06."""
    return f"{ratio:.3g}" if 1e-3 <= ratio < 999.5 else number(ratio)


def share(p: float) -> str:
    """A mean probability to three digits, as per cent."""
    return f"{100 * p:.3g}%"
