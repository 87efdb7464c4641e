"""The figure of what pruned heads write: MAUVE, repetition and variety by share removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tpe_core.errors import TpeError
from tpe_core.lazy import Deferred
from tpe_core.plots.canvas import Canvas
from tpe_core.plots.drawing import drawing
from tpe_core.plots.pruning import draw_order
from tpe_core.plots.scales import numbers, plain_axis, words
from tpe_core.plots.series import order_looks

if TYPE_CHECKING:
    import numpy as np

    from tpe_core.tables import Table
else:
    np = Deferred("numpy")

__all__: list[str] = []

FIGURES = {
    "mauve": "MAUVE (1 = as unpruned)",
    "distinct": "distinct n-grams (share)",
    "repetition": "repeated n-grams (share)",
    "perplexity": "perplexity",
}


@drawing("generation", "generation", "what text written by pruned heads is like", columns=("order",),
         numbers=("share",))  # fmt: skip
def generation(table: Table, canvas: Canvas) -> None:
    """A panel for each figure of generated text that the table has; `replacement` tells curves of one order apart."""
    measured = {name: numbers(table, name) for name in FIGURES if name in table.columns}
    measured = {name: values for name, values in measured.items() if np.isfinite(values).any()}
    if not measured:
        raise TpeError(f"the figure generation cannot be drawn: its table has none of {', '.join(FIGURES)}.")
    orders, share = words(table, "order"), 100 * numbers(table, "share")
    replaced = words(table, "replacement") if "replacement" in table.columns else [""] * len(orders)
    several = len(set(replaced)) > 1
    series = [f"{order}, {by}" if several else order for order, by in zip(orders, replaced, strict=True)]
    rows_of = {name: np.array([each == name for each in series]) for name in dict.fromkeys(series)}
    looks, handles = order_looks(rows_of), dict[str, Any]()
    for axes, (name, values) in zip(canvas.panels(len(measured), height=2.9), measured.items(), strict=True):
        for order, look in looks.items():
            rows = rows_of[order]
            handles.setdefault(order, draw_order(canvas, axes, (share[rows], values[rows]), order, look))
        axes.set_title(FIGURES[name])
        axes.set_xlabel("dimensions removed (%)")
        plain_axis(axes, "x", 5)
        plain_axis(axes, "y", 5)
        if name == "mauve":
            axes.set_ylim(0, 1.03)
        elif name != "perplexity":
            axes.set_ylim(bottom=0)
    canvas.legend(handles.values(), list(handles))
    canvas.heading("What pruned heads write", "text sampled after prompts of held-out text")
