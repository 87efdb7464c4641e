"""Models side by side: how few dimensions, or components, tell a token's probability in each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tpe_core.lazy import Deferred
from tpe_core.plots.canvas import Canvas
from tpe_core.plots.drawing import drawing
from tpe_core.plots.scales import log_axis, numbers, plain_axis, words

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from tpe_core.tables import Table

    Floats = NDArray[np.float64]
else:
    np = Deferred("numpy")

__all__: list[str] = []


def _overlay(table: Table, canvas: Canvas, axes: Axes, x: Floats, y: Floats, *, marked: bool) -> None:
    """A curve for each model, and the legend that names them."""
    models = words(table, "model")
    handles: list[Any] = []
    names = list(dict.fromkeys(models))
    for index, name in enumerate(names):
        rows = np.array([each == name for each in models]) & np.isfinite(x) & np.isfinite(y)
        style = canvas.style
        dashes = ("-", "--", "-.", ":")[index % 4]
        how = {"marker": style.marker(index)} if marked else {"linestyle": dashes}
        (line,) = axes.plot(x[rows], y[rows], color=style.colour(index), **how)
        handles.append(line)
    canvas.legend(handles, names)


@drawing("compared_r2_by_k", "compared_r2_by_k", "R2 of the k best dimensions, model by model",
         columns=("model",), numbers=("k", "r2"))  # fmt: skip
def compared_r2_by_k(table: Table, canvas: Canvas) -> None:
    """R2 of the k best dimensions of each model."""
    k, r2 = numbers(table, "k"), numbers(table, "r2")
    (axes,) = canvas.panels(height=3.7)
    _overlay(table, canvas, axes, k, r2, marked=True)
    log_axis(axes, "x", k, base=2)
    plain_axis(axes, "y")
    axes.set_ylim(float(np.nanmin([0.0, *r2])), 1.02)
    axes.set_xlabel("k: dimensions with the largest |slope|·sd")
    axes.set_ylabel("R² of −log α")
    canvas.heading("R² of the k best dimensions, model by model", _count(table))


@drawing("compared_slopes", "compared_slopes", "the slopes of each model by rank, as shares of their sum",
         columns=("model",), numbers=("rank", "share"))  # fmt: skip
def compared_slopes(table: Table, canvas: Canvas) -> None:
    """Each dimension's share of the sum of |slope| sd(W), by rank."""
    rank, share = numbers(table, "rank"), numbers(table, "share")
    (axes,) = canvas.panels(height=3.7)
    _overlay(table, canvas, axes, rank, np.where(share > 0, share, np.nan), marked=False)
    log_axis(axes, "x", rank)
    log_axis(axes, "y", share)
    axes.set_xlabel("rank of the dimension")
    axes.set_ylabel("share of the sum of |slope|·sd")
    canvas.heading("How unequal the slopes are, model by model", _count(table))


@drawing("compared_components", "compared_components", "R2 of the first principal components, model by model",
         columns=("model",), numbers=("component", "r2_cumulative"))  # fmt: skip
def compared_components(table: Table, canvas: Canvas) -> None:
    """R2 of the first principal components of each model together."""
    component, together = numbers(table, "component"), numbers(table, "r2_cumulative")
    (axes,) = canvas.panels(height=3.7)
    _overlay(table, canvas, axes, component, together, marked=False)
    log_axis(axes, "x", component)
    plain_axis(axes, "y")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("first principal components of W, by variance")
    axes.set_ylabel("R² of −log α")
    canvas.heading("R² of the first principal components, model by model", _count(table))


def _count(table: Table) -> str:
    models = set(words(table, "model"))
    return f"{len(models)} models" if len(models) > 1 else ""
