"""The figures of steering: what was asked and what was achieved, on each text (Cho et al. 2025, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tpe_core.lazy import Deferred
from tpe_core.plots.canvas import Canvas
from tpe_core.plots.drawing import drawing
from tpe_core.plots.scales import log_axis, numbers, words
from tpe_core.plots.series import text_label

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from tpe_core.tables import Table

    Floats = NDArray[np.float64]
else:
    np = Deferred("numpy")

__all__: list[str] = []


def _by_text(table: Table) -> dict[str, NDArray[np.bool_]]:
    texts = np.array(words(table, "text"), dtype=object)
    return {text: texts == text for text in dict.fromkeys(texts.tolist())}


def _middles(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Geometric means of y at each x; what is not positive is left out."""
    usable = np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
    x, y = x[usable], y[usable]
    at = np.unique(x)
    return at, np.array([np.exp(np.log(y[x == each]).mean()) for each in at])


def _series(table: Table, canvas: Canvas, axes: Axes, x: Floats, y: Floats) -> tuple[list[Any], list[str]]:
    """A series for each text: every point faint, the geometric mean at each x as a line with marks."""
    handles, names = [], []
    for index, (text, rows) in enumerate(_by_text(table).items()):
        colour = canvas.style.colour(index)
        usable = rows & np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
        if not usable.any():
            continue
        at, middle = _middles(x[usable], y[usable])
        if int(usable.sum()) > len(at):
            axes.plot(x[usable], y[usable], canvas.style.marker(index), color=colour, alpha=0.3, markersize=3.5,
                      markeredgewidth=0)  # fmt: skip
        (line,) = axes.plot(at, middle, color=colour, marker=canvas.style.marker(index), markersize=5.5)
        handles.append(line)
        names.append(text_label(text))
    return handles, names


def _tokens(table: Table) -> str:
    tokens = list(dict.fromkeys(words(table, "token")))
    return f"token {tokens[0]}" if len(tokens) == 1 else f"{len(tokens)} tokens"


@drawing("steering_ratios", "steering", "the probability ratio achieved against the one asked, on each text",
         columns=("token", "text"), numbers=("ratio_asked", "ratio_achieved"))  # fmt: skip
def steering_ratios(table: Table, canvas: Canvas) -> None:
    """Asked against achieved alpha'/alpha on logarithmic axes, with the identity."""
    asked, achieved = numbers(table, "ratio_asked"), numbers(table, "ratio_achieved")
    (axes,) = canvas.panels(height=4.2)
    style = canvas.style
    every = np.concatenate([asked, achieved])
    ends = [float(np.nanmin(asked)), float(np.nanmax(asked))]
    axes.plot(ends, ends, color=style.ink, linewidth=1.2, linestyle="--", zorder=1)
    handles, names = _series(table, canvas, axes, asked, achieved)
    log_axis(axes, "x", asked)
    log_axis(axes, "y", every)
    axes.set_xlabel("ratio asked")
    axes.set_ylabel("ratio achieved, α′ / α")
    if len(handles) > 0:
        canvas.legend(handles, names)
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.abs(np.log(achieved / asked))
    canvas.heading(
        "Steering a token's probability: asked and achieved",
        _tokens(table),
        f"off by a factor of {float(np.exp(np.nanmedian(off))):.2f} in the median",
        "dashed: achieved = asked",
    )


@drawing("steering_js", "steering", "what steering costs the whole distribution, by ratio and text",
         columns=("token", "text"), numbers=("ratio_asked", "js"))  # fmt: skip
def steering_js(table: Table, canvas: Canvas) -> None:
    """Jensen-Shannon divergence between base and edited distributions against the ratio asked."""
    asked, js = numbers(table, "ratio_asked"), numbers(table, "js")
    (axes,) = canvas.panels(height=3.6)
    handles, names = _series(table, canvas, axes, asked, js)
    log_axis(axes, "x", asked)
    log_axis(axes, "y", js)
    axes.set_xlabel("ratio asked")
    axes.set_ylabel("JS divergence (nats)")
    if len(handles) > 0:
        canvas.legend(handles, names)
    canvas.heading(
        "What steering costs the whole distribution",
        _tokens(table),
        f"largest JS {float(np.nanmax(js)):.2g} nats" if np.isfinite(js).any() else "",
    )


@drawing("few_shot", "few_shot", "how much text slopes need to steer by", columns=("text",),
         numbers=("tokens", "ratio_achieved"))  # fmt: skip
def few_shot(table: Table, canvas: Canvas) -> None:
    """The ratio achieved, and KL where it was measured, by the length of the text that directions come from."""
    length, achieved = numbers(table, "tokens"), numbers(table, "ratio_achieved")
    has_kl = "kl" in table.columns and np.isfinite(numbers(table, "kl")).any()
    panels = canvas.panels(2 if has_kl else 1, height=3.5)
    handles, names = _series(table, canvas, panels[0], length, achieved)
    log_axis(panels[0], "x", length)
    asked = numbers(table, "ratio_asked") if "ratio_asked" in table.columns else np.array([np.nan])
    wanted = sorted(set(asked[np.isfinite(asked)].tolist()))
    for ratio in wanted:
        panels[0].axhline(ratio, color=canvas.style.reference, linestyle="--", linewidth=1.2, zorder=1)
    log_axis(panels[0], "y", np.concatenate([achieved, wanted]))
    panels[0].set_ylabel("ratio achieved, α′ / α")
    if has_kl:
        kl = numbers(table, "kl")
        _series(table, canvas, panels[1], length, kl)
        log_axis(panels[1], "x", length)
        log_axis(panels[1], "y", kl)
        panels[1].set_ylabel("KL (nats)")
    for axes in panels:
        axes.set_xlabel("detecting text (tokens)")
    if len(handles) > 0:
        canvas.legend(handles, names)
    canvas.heading(
        "Steering with slopes from little text",
        f"{np.nanmin(length):,.0f} to {np.nanmax(length):,.0f} tokens",
        f"dashed: asked, {wanted[0]:g}" if len(wanted) == 1 else "dashed: asked" if wanted else "",
    )
