"""What series are called in figures, and which look the same order or text has in every figure."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["NEUTRAL", "order_looks", "text_label"]

NEUTRAL = ("random", "rotate")
"""Orders that the others are compared with: they are drawn in grey."""

TEXTS = {"local": "detecting text", "heldout": "held-out text", "ood": "other domain", "out_of_domain": "other domain"}


def text_label(name: str) -> str:
    """What a text is called in a legend."""
    return TEXTS.get(name, name)


def order_looks(orders: Iterable[str]) -> dict[str, int | None]:
    """The index of the colour and mark of each order; None for those in grey."""
    looks: dict[str, int | None] = {}
    for order in orders:
        if order not in looks:
            looks[order] = None if order in NEUTRAL else sum(look is not None for look in looks.values())
    return looks
