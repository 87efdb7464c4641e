"""How a figure of a comparison is written, on the screen and by the command line alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpe_tui.cells import four_decimals, percent

if TYPE_CHECKING:
    from tpe_core.encoding_comparison import Figure, Value

__all__ = ["NO_VALUE", "notes", "shown_value"]

NO_VALUE = "—"


def shown_value(figure: Figure, value: Value) -> str:
    """A value of a figure, for people."""
    if value is None:
        return NO_VALUE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if figure.kind == "count":
        return f"{value:,.0f}"
    return percent(float(value)) if figure.kind == "share" else four_decimals(float(value))


def notes(same_text: bool, budget: float | None) -> list[str]:
    """What is to be known of the figures, a sentence each."""
    sentences = []
    if not same_text:
        sentences.append("The texts differ in what was read or how much of it: so do the figures, for that alone.")
    if budget is not None:
        sentences.append(
            "prunable share: dimensions by |slope|, least first, replaced by least squares, at a held-out KL of at "
            f"most {budget:g} nats."
        )
    return sentences
