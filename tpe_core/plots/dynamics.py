"""The figures of training: when the encoding appears and when the parameters arrive (Cho et al. 2025, section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tpe_core.errors import TpeError
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

COLUMNS = ("source", "layer")
R2 = ("r2_adjusted", "r2", "r2_heldout_vocab")
LOG_FROM = 1.0  # step 0 stands at the left end of a logarithmic axis


def _axes_of_steps(canvas: Canvas, steps: Floats) -> tuple[Axes, Axes]:
    """Two panels, the steps logarithmic in the first and linear in the second."""
    logarithmic, linear = canvas.panels(2, height=3.5, sharey=not canvas.is_narrow)
    log_axis(logarithmic, "x", np.maximum(steps, LOG_FROM))
    plain_axis(linear, "x", 4)
    logarithmic.set_xlabel("training step (log)")
    linear.set_xlabel("training step (linear)")
    return logarithmic, linear


def _first(table: Table, names: tuple[str, ...], rows: NDArray[np.bool_]) -> tuple[str, Floats]:
    for name in names:
        if name in table.columns and np.isfinite(values := numbers(table, name)[rows]).any():
            return name, values
    return "", np.full(int(rows.sum()), np.nan)


@drawing("dynamics", "dynamics", "when the encoding appears in training, and when the parameters arrive",
         columns=COLUMNS, numbers=("step",))  # fmt: skip
def dynamics(table: Table, canvas: Canvas) -> None:
    """R2 of the law and the way that all parameters have come, by step: a colour for each model."""
    output = np.array([not layer for layer in words(table, "layer")])
    if not output.any():
        raise TpeError("the figure dynamics cannot be drawn: its table has no rows of a model's output.")
    sources, step = np.array(words(table, "source"), dtype=object)[output], numbers(table, "step")[output]
    name, r2 = _first(table, R2, output)
    _, away = _first(table, ("convergence",), output)
    if not (np.isfinite(r2).any() or np.isfinite(away).any()):
        raise TpeError("the figure dynamics cannot be drawn: its table has neither R2 nor convergence.")
    handles: list[Any] = []
    names: list[str] = []
    models = list(dict.fromkeys(sources.tolist()))
    panels = _axes_of_steps(canvas, step)
    for axes in panels:
        x = np.maximum(step, LOG_FROM) if axes is panels[0] else step
        for index, source in enumerate(models):
            rows = sources == source
            own = f"{source}: " if len(models) > 1 else ""
            for values, label, dashes in ((r2, "R² of the encoding", "-"), (1 - away, "way the parameters came", "--")):
                usable = rows & np.isfinite(values)
                if not usable.any():
                    continue
                colour = index if len(models) > 1 else int(dashes != "-")
                (line,) = axes.plot(
                    x[usable], values[usable], dashes, color=canvas.style.colour(colour),
                    marker=canvas.style.marker(colour), markersize=3.8,
                )  # fmt: skip
                if axes is panels[0]:
                    handles.append(line)
                    names.append(own + label)
        plain_axis(axes, "y", 6)
    for axes in panels if canvas.is_narrow else panels[:1]:
        axes.set_ylabel("R², or share of the way")
    canvas.legend(handles, names)
    canvas.heading(
        "When the encoding appears, and when the parameters arrive",
        *(_halves(source, step[sources == source], r2[sources == source], away[sources == source], len(models) > 1)
          for source in models[:3]),
        "adjusted R² of −log frequency" if name == "r2_adjusted" else "",
    )  # fmt: skip


def _halves(source: str, step: Floats, r2: Floats, away: Floats, is_named: bool) -> str:
    """The first steps at which R2 passes half its last value, and the parameters are half-way."""
    parts = []
    known = np.isfinite(r2)
    if known.any():
        enough = step[known & (r2 >= r2[known][-1] / 2)]
        parts += [f"half of R² by step {enough[0]:,.0f}"] if len(enough) else []
    near = step[np.isfinite(away) & (away <= 0.5)]
    parts += [f"half of the way by step {near[0]:,.0f}"] if len(near) else []
    return (f"{source}: " if is_named and parts else "") + ", ".join(parts)


@drawing("dynamics_layers", "dynamics", "how each layer's parameters move in training", columns=COLUMNS,
         numbers=("step",))  # fmt: skip
def dynamics_layers(table: Table, canvas: Canvas) -> None:
    """How far each layer still is from its last weights, by step: dark to light with depth; of the first model."""
    layers, sources = words(table, "layer"), words(table, "source")
    with_layers = [source for source, layer in zip(sources, layers, strict=True) if layer]
    if not with_layers:
        raise TpeError("the figure dynamics_layers cannot be drawn: its table has no rows of layers.")
    source = with_layers[0]
    rows = np.array([bool(layer) and each == source for layer, each in zip(layers, sources, strict=True)])
    name, values = _first(table, ("convergence", "r2_adjusted", "r2", "change", "travel"), rows)
    if not name:
        raise TpeError("the figure dynamics_layers cannot be drawn: nothing was measured by layer.")
    own = np.array(layers, dtype=object)[rows]
    step = numbers(table, "step")[rows]
    order = sorted(dict.fromkeys(own.tolist()), key=_depth)
    colours = canvas.colormap(np.linspace(0, 1, len(order)))
    panels, handles = _axes_of_steps(canvas, step), list[Any]()
    for axes in panels:
        x = np.maximum(step, LOG_FROM) if axes is panels[0] else step
        for index, (layer, colour) in enumerate(zip(order, colours, strict=True)):
            usable = (own == layer) & np.isfinite(values)
            (line,) = axes.plot(
                x[usable], values[usable], color=colour, marker=canvas.style.marker(index), markersize=3.4
            )
            if axes is panels[0]:
                handles.append(line)
        plain_axis(axes, "y", 6)
    ylabels = {"convergence": "distance to the last weights", "change": "change since the step before",
               "travel": "distance from the first weights"}  # fmt: skip
    for axes in panels if canvas.is_narrow else panels[:1]:
        axes.set_ylabel(ylabels.get(name, "R² of the encoding"))
    chosen = range(len(order)) if len(order) <= 12 else np.linspace(0, len(order) - 1, 12).round().astype(int).tolist()
    canvas.legend([handles[at] for at in chosen], [order[at] for at in chosen])
    canvas.heading(
        "How the layers move in training",
        source if source != canvas.subject else "",
        "1 = as at the first checkpoint, 0 = as at the last" if name == "convergence" else "",
    )


def _depth(layer: str) -> tuple[int, str]:
    """Numbered layers by number; others before them by name."""
    digits = "".join(char for char in layer if char.isdigit())
    return (int(digits) if digits else -1, layer)
