"""The table of `tpe compare`: a row for each figure, a column for each model, in blocks that fit a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpe_tui.cells import fit, four_decimals, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tpe_core.encoding_comparison import ComparedModel, EncodingComparison, Figure, Value

__all__ = ["report", "shown_value"]

TITLE = 20
CELLS = 14
BLOCK = 4  # models beside each other in 80 columns
NO_VALUE = "—"


def report(comparison: EncodingComparison) -> list[str]:
    """The lines of a comparison."""
    lines = list[str]()
    for first in range(0, len(comparison.models), BLOCK):
        lines += [*([""] if lines else []), *_block(comparison, comparison.models[first : first + BLOCK])]
    if not comparison.same_text:
        lines += ["", "The texts differ in what was read or how much of it: so do the figures, for that alone."]
    if comparison.budget is not None:
        lines += [
            "",
            f"prunable share: dimensions by |slope|, least first, replaced by least squares, at a held-out KL of at "
            f"most {comparison.budget:g} nats.",
        ]
    return lines


def _block(comparison: EncodingComparison, models: Sequence[ComparedModel]) -> list[str]:
    heads = [model.name for model in models]
    return [
        fit("", TITLE) + "".join(f" {fit(name, CELLS, right=True)}" for name in heads),
        *(
            fit(figure.title, TITLE)
            + "".join(f" {shown_value(figure, model.value(figure)):>{CELLS}}" for model in models)
            for figure in comparison.figures
        ),
    ]


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
