"""The table of `tpe compare`: a row for each figure, a column for each model, in blocks that fit a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpe_tui.cells import fit
from tpe_tui.comparison.values import notes, shown_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tpe_core.encoding_comparison import ComparedModel, EncodingComparison

__all__ = ["report"]

TITLE = 20
CELLS = 14
BLOCK = 4  # models beside each other in 80 columns


def report(comparison: EncodingComparison) -> list[str]:
    """The lines of a comparison."""
    lines = list[str]()
    for first in range(0, len(comparison.models), BLOCK):
        lines += [*([""] if lines else []), *_block(comparison, comparison.models[first : first + BLOCK])]
    for sentence in notes(comparison.same_text, comparison.budget):
        lines += ["", sentence]
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
