"""What a plot of the fit draws: the law's prediction of every token against its -log alpha."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpe_core.lazy import Deferred
from tpe_core.snapshots import EncodingTable
from tpe_tui.widgets.canvas import Series
from tpe_tui.widgets.line_widget import Line

if TYPE_CHECKING:
    import numpy as np

    from tpe_core.snapshots import Floats
else:
    np = Deferred("numpy")

__all__ = ["FIT_LABELS", "FIT_LEGEND", "finite_points", "fit_series"]

MAX_POINTS = 20_000
FIT_LABELS = ("−log α", "fitted")
FIT_LEGEND: Line = [("⠢ tokens ", "bar"), ("╱ exact", "steered")]


def finite_points(table: EncodingTable) -> tuple[Floats, Floats]:
    """(-log alpha, prediction) of those tokens that have both."""
    finite = np.isfinite(table.surprisal) & np.isfinite(table.predicted)
    return table.surprisal[finite], table.predicted[finite]


def fit_series(table: EncodingTable) -> list[Series]:
    """The tokens as dots, every k-th of a large vocabulary, and the line on which a perfect fit would lie."""
    part = slice(None, None, max(1, -(-len(table.surprisal) // MAX_POINTS)))
    actual, predicted = table.surprisal[part], table.predicted[part]
    finite = np.isfinite(actual) & np.isfinite(predicted)
    actual, predicted = actual[finite], predicted[finite]
    ends = np.array([actual.min(), actual.max()]) if len(actual) else np.zeros(2)
    return [Series(actual, predicted, kind="dots", role="bar"), Series(ends, ends, kind="line", role="steered")]
