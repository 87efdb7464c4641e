"""The figures of experiments: training on from an edit, what makes the encoding sparse, early frequency learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tpe_core.errors import TpeError
from tpe_core.lazy import Deferred
from tpe_core.plots.canvas import Canvas
from tpe_core.plots.drawing import drawing
from tpe_core.plots.scales import numbers, plain_axis, words

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from tpe_core.tables import Table

    Floats = NDArray[np.float64]
else:
    np = Deferred("numpy")

__all__: list[str] = []

MOST = 9  # panels of scenarios and masks
CROWDED = 14  # dots along a curve
ENCODING = ("twins_r2", "r2_adjusted")


def _banded(
    canvas: Canvas, axes: Axes, band: tuple[Floats, Floats, Floats, Floats], look: int, dashes: str = "-"
) -> Any:
    """A curve (x, mean, low, high) with its band, where there is one."""
    order = np.argsort(band[0], kind="stable")
    x, mean, low, high = (values[order] for values in band)
    style, known = canvas.style, np.isfinite(low) & np.isfinite(high)
    (line,) = axes.plot(
        x, mean, dashes, color=style.colour(look), marker=style.marker(look), markevery=max(1, len(x) // CROWDED)
    )
    if known.any():
        axes.fill_between(x[known], low[known], high[known], color=style.colour(look), alpha=0.18, linewidth=0)
    return line


def _columns(table: Table, *names: str) -> list[NDArray[np.object_]]:
    return [np.array(words(table, name), dtype=object) for name in names]


def _continued(table: Table, canvas: Canvas, figure: str, title: str, ylabel: str) -> None:
    """A panel for each scenario and mask, a curve for each variant."""
    kinds = _columns(table, *(["experiment"] if "experiment" in table.columns else []), "scenario", "mask")
    variants, figures = _columns(table, "variant", "figure")
    step, mean, low, high = (numbers(table, name) for name in ("step", "mean", "low", "high"))
    here = (figures == figure) & np.isfinite(step) & np.isfinite(mean)
    if not here.any():
        raise TpeError(f"the figure of {figure} cannot be drawn: its table has no rows of {figure}.")
    every = [*zip(*(column.tolist() for column in kinds), strict=True)]
    groups = list(dict.fromkeys(key for key, is_here in zip(every, here.tolist(), strict=True) if is_here))
    looks = {name: at for at, name in enumerate(dict.fromkeys(variants[here].tolist()))}
    handles: dict[str, Any] = {}
    panels = canvas.panels(min(len(groups), MOST), height=2.7, sharey=True)
    for axes, group in zip(panels, groups, strict=False):
        own = here & np.array([key == group for key in every])
        for variant, look in looks.items():
            rows = own & (variants == variant)
            if rows.any():
                band = (step[rows], mean[rows], low[rows], high[rows])
                handles.setdefault(variant, _banded(canvas, axes, band, look))
        plain_axis(axes, "x", 4)
        plain_axis(axes, "y", 5)
        axes.set_title(", ".join(part for part in group if part))
        axes.set_xlabel("step")
        axes.set_ylabel(ylabel)
    canvas.legend(handles.values(), list(handles))
    left = len(groups) - MOST
    canvas.heading(title, "bands: 95 % intervals over seeds" if np.isfinite(low[here]).any() else "one seed each",
                   f"{left} more of scenario and mask are in the table" if left > 0 else "")  # fmt: skip


COLUMNS = ("scenario", "mask", "variant", "figure", "low", "high")


@drawing("continued_gap", "continued_training", "the gap in loss to the unedited model while both are trained on",
         columns=COLUMNS, numbers=("step", "mean"))  # fmt: skip
def continued_gap(table: Table, canvas: Canvas) -> None:
    """Loss on held-out text minus the unedited run's, by step."""
    _continued(
        table, canvas, "gap.heldout", "The loss above that of the unedited model, trained on alike", "gap (nats)"
    )


@drawing("continued_kl", "continued_training", "the divergence from the unedited model while both are trained on",
         columns=COLUMNS, numbers=("step", "mean"))  # fmt: skip
def continued_kl(table: Table, canvas: Canvas) -> None:
    """KL(unedited || run) on held-out text, by step."""
    _continued(table, canvas, "kl.heldout", "Divergence from the unedited model, trained on alike", "KL (nats)")


@drawing("sparsity_effects", "sparsity_effects", "what each choice of a model and its training does to the encoding",
         columns=("figure", "factor", "interval_low", "interval_high", "clear"), numbers=("effect",))  # fmt: skip
def sparsity_effects(table: Table, canvas: Canvas) -> None:
    """The effect of every factor with its interval: a panel for each figure; what is not clear is grey."""
    figures, factors = _columns(table, "figure", "factor")
    effect, low, high = (numbers(table, name) for name in ("effect", "interval_low", "interval_high"))
    clear = np.array([bool(value) for value in table.column("clear")])
    usable = np.isfinite(effect)
    shown = list(dict.fromkeys(figures[usable].tolist()))
    names = list(dict.fromkeys(factors[usable].tolist()))
    panels = canvas.panels(len(shown), height=0.9 + 0.21 * len(names), sharey=True)
    for axes, figure in zip(panels, shown, strict=True):
        axes.axvline(0, color=canvas.style.reference, linewidth=0.9)
        for at, factor in enumerate(names):
            for row in np.flatnonzero(usable & (figures == figure) & (factors == factor)).tolist():
                colour = canvas.style.colour(0) if clear[row] else canvas.style.reference
                axes.plot([low[row], high[row]], [at, at], color=colour, linewidth=1.6)
                axes.plot([effect[row]], [at], "o" if clear[row] else "s", color=colour)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        plain_axis(axes, "x", 4)
        axes.set_xlabel("effect")
        axes.set_title(figure)
    canvas.heading("What each choice does to the encoding", "mean at the high level minus that at the low one",
                   "95 % intervals", "round and coloured: clear")  # fmt: skip


@drawing("curriculum", "curriculum", "encoding and loss by step, of an arm whose frequencies differ and its control",
         columns=("experiment", "arm", "figure", "low", "high"), numbers=("step", "mean"))  # fmt: skip
def curriculum(table: Table, canvas: Canvas) -> None:
    """R2 of the encoding and loss by step: two panels for each experiment, the control dashed."""
    experiments, arms, figures = _columns(table, "experiment", "arm", "figure")
    step, mean, low, high = (numbers(table, name) for name in ("step", "mean", "low", "high"))
    usable = np.isfinite(step) & np.isfinite(mean)
    plans: list[tuple[str, str]] = []
    for experiment in dict.fromkeys(experiments[usable].tolist()):
        there = set(figures[usable & (experiments == experiment)].tolist())
        chosen = next((name for name in ENCODING if name in there), "")
        plans += [(experiment, name) for name in (chosen, "loss") if name and name in there]
    if not plans:
        raise TpeError("the figure curriculum cannot be drawn: its table has neither the encoding nor the loss.")
    labels = {"twins_r2": "R² of the twins' ratios", "r2_adjusted": "R² of the encoding", "loss": "loss (nats)"}
    handles: dict[str, Any] = {}
    for axes, (experiment, figure) in zip(canvas.panels(len(plans), height=2.9), plans, strict=True):
        here = usable & (experiments == experiment) & (figures == figure)
        for look, arm in enumerate(dict.fromkeys(arms[usable & (experiments == experiment)].tolist())):
            rows = here & (arms == arm)
            if rows.any():
                band = (step[rows], mean[rows], low[rows], high[rows])
                dashes = "--" if look == 0 else "-"
                handles.setdefault(f"{experiment}: {arm}", _banded(canvas, axes, band, look, dashes))
        plain_axis(axes, "x", 4)
        plain_axis(axes, "y", 5)
        axes.set_xlabel("step")
        axes.set_ylabel(labels[figure])
        axes.set_title(experiment)
    canvas.legend(handles.values(), list(handles))
    canvas.heading("When frequencies are learned, and what it changes", "dashed: the control",
                   "bands: 95 % intervals over seeds" if np.isfinite(low[usable]).any() else "")  # fmt: skip
