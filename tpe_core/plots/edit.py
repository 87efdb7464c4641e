"""The figure of one edit: which dimensions are pruned and which tokens are steered how far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpe_core.errors import TpeError
from tpe_core.lazy import Deferred
from tpe_core.plots.canvas import Canvas
from tpe_core.plots.drawing import drawing
from tpe_core.plots.scales import log_axis, numbers, plain_axis, words

if TYPE_CHECKING:
    import numpy as np

    from tpe_core.tables import Table
else:
    np = Deferred("numpy")

__all__: list[str] = []

MOST = 12  # steered tokens that are shown


@drawing("edit", "edit", "the pruned dimensions and steered tokens of one edit", columns=("kind", "ratio", "how"),
         numbers=("id",))  # fmt: skip
def edit(table: Table, canvas: Canvas) -> None:
    """Pruned dimensions as marks along the dimensions' numbers, steered tokens by their ratio on a logarithmic axis."""
    kinds, ids, ratios = words(table, "kind"), numbers(table, "id"), numbers(table, "ratio")
    hows = words(table, "how")
    pruned = ids[[kind == "pruned" for kind in kinds]]
    steered = [at for at, kind in enumerate(kinds) if kind == "steered"]
    if not len(pruned) and not steered:
        raise TpeError("the figure edit cannot be drawn: nothing is pruned and no token is steered.")
    style = canvas.style
    panels = canvas.panels(bool(len(pruned)) + bool(steered), height=2.6)
    if len(pruned):
        axes = panels[0]
        axes.vlines(pruned, 0, 1, color=style.colour(0), linewidth=1.2)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("dimension")
        plain_axis(axes, "x", 5)
        replaced = next(how for how, kind in zip(hows, kinds, strict=True) if kind == "pruned")
        axes.set_title(f"pruned, replaced by {replaced}")
    if steered:
        axes = panels[-1]
        shown = steered[:MOST]
        places = np.arange(len(shown))[::-1]
        values = ratios[shown]
        axes.hlines(places, 1, values, color=style.colour(1), linewidth=1.6)
        axes.plot(values, places, "o", color=style.colour(1))
        axes.axvline(1, color=style.reference, linewidth=1.2)
        axes.set_yticks(places, [f"token {ids[at]:.0f}" for at in shown])
        axes.margins(x=0.1, y=0.2 if len(shown) > 1 else 1)
        log_axis(axes, "x", np.concatenate([values, [1.0]]))
        axes.set_xlabel("ratio asked")
        more = f", {len(shown)} of {len(steered)}" if len(steered) > MOST else ""
        axes.set_title(f"steered{more}")
    canvas.heading(
        "One edit of the output head",
        f"{len(pruned)} dimensions pruned" if len(pruned) else "",
        f"{len(steered)} tokens steered" if steered else "",
    )
