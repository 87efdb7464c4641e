"""The figures of pruning: what removing dimensions costs, by order and replacement (Cho et al. 2025, section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tpe_core.errors import TpeError
from tpe_core.lazy import Deferred
from tpe_core.plots.canvas import Canvas
from tpe_core.plots.drawing import drawing
from tpe_core.plots.scales import log_axis, numbers, plain_axis, words
from tpe_core.plots.series import order_looks, text_label

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from tpe_core.tables import Table

    Floats = NDArray[np.float64]
else:
    np = Deferred("numpy")

__all__ = ["draw_order"]

ROTATE = "rotate"
MARKS = 7  # along a curve, so that marks of close curves stay apart


def draw_order(canvas: Canvas, axes: Axes, points: tuple[Floats, Floats], order: str, look: int | None) -> Any:
    """One order's curve with its colour and mark; grey and dashed where others are compared with it."""
    style, (x, y) = canvas.style, points
    usable = np.isfinite(x) & np.isfinite(y)
    if look is None:
        how = {"color": style.reference, "linestyle": ":" if order == ROTATE else "--", "linewidth": 1.6}
    else:
        every = max(1, int(usable.sum()) // MARKS)
        how = {"color": style.colour(look), "marker": style.marker(look), "markevery": every}
    (line,) = axes.plot(x[usable], y[usable], **how)
    return line


@drawing("pruning_curves", "pruning", "the cost of removing dimensions, by order and by what replaces them",
         columns=("order", "replacement", "text"), numbers=("share", "kl"))  # fmt: skip
def pruning_curves(table: Table, canvas: Canvas) -> None:
    """KL on a logarithmic axis by share removed: a panel for each replacement, the rotated reference in all of them."""
    orders, replacements, texts = (
        np.array(words(table, name), dtype=object) for name in ("order", "replacement", "text")
    )
    share, kl = 100 * numbers(table, "share"), numbers(table, "kl")
    read = list(dict.fromkeys(texts.tolist()))
    text = "heldout" if "heldout" in read else read[0]
    here = (texts == text) & (share > 0) & (kl > 0)
    if not here.any():
        raise TpeError("the figure pruning_curves cannot be drawn: its table has no point with something removed.")
    shown = [each for each in dict.fromkeys(replacements.tolist()) if each != ROTATE] or [ROTATE]
    panels = canvas.panels(len(shown), height=3.5, sharey=True, sharex=not canvas.is_narrow)
    looks, handles = order_looks(orders.tolist()), dict[str, Any]()
    for axes, replacement in zip(panels, shown, strict=True):
        for order, look in looks.items():
            rows = here & (orders == order) & ((replacements == replacement) | (replacements == ROTATE))
            if rows.any():
                handles.setdefault(order, draw_order(canvas, axes, (share[rows], kl[rows]), order, look))
        log_axis(axes, "y", kl[here])
        plain_axis(axes, "x", 5)
        axes.set_xlim(left=0)
        axes.set_title(f"replaced by {replacement}" if len(shown) > 1 else "")
    for axes in panels if canvas.is_narrow else panels[:1]:
        axes.set_ylabel("KL(base ‖ pruned) (nats)")
    for axes in panels:
        axes.set_xlabel("dimensions removed (%)")
    canvas.legend(handles.values(), list(handles))
    canvas.heading(
        "What removing dimensions costs",
        f"on {text_label(text)}",
        f"replaced by {shown[0]}" if len(shown) == 1 else "",
        "grey: what the orders are compared with" if None in looks.values() else "",
    )
