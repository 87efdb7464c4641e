"""Marks and colours of curves: every curve has a mark of its own, so that none is told by hue alone."""

from __future__ import annotations

from tpe_core.edits.replacements import ROTATE
from tpe_core.pruning.orders import ORDERS

__all__ = ["CURSOR", "CURVE_ROLES", "PALETTE", "REFERENCE", "ROOMY", "mark_of"]

PALETTE = (
    ("●", "curve0"), ("◐", "curve0"), ("○", "curve1"), ("▼", "curve2"), ("▲", "curve2"), ("■", "curve3"),
    ("□", "curve3"), ("◆", "curve4"), ("◈", "curve4"), ("◇", "curve4"), ("▽", "curve1"), ("△", "curve3"),
    ("☆", "curve2"), ("⊙", "curve0"),
)  # fmt: skip
"""(mark, role) of an order by its position among `ORDERS`: no two have the same mark, colours repeat."""

REFERENCE = ("×", "curve5")
"""That of the curve that is along no dimensions, `ROTATE`."""

CURVE_ROLES = {f"line--{role}" for _, role in (*PALETTE, REFERENCE)}

CURSOR = "│"
ROOMY = 18  # lines from which on every curve has a line; below, they would cover each other's marks


def mark_of(name: str) -> tuple[str, str]:
    """(mark, role) of a curve."""
    if name == ROTATE:
        return REFERENCE
    return PALETTE[list(ORDERS).index(name) % len(PALETTE)] if name in ORDERS else ("+", "row")
