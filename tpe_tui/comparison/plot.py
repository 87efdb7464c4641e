"""Overlays of a comparison on the braille canvas: a curve for each model, told apart by its mark as by its colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tpe_core.lazy import Deferred
from tpe_tui.cells import tick
from tpe_tui.widgets.canvas import GUTTER, Series, draw, ticks
from tpe_tui.widgets.curve_style import CURVE_ROLES
from tpe_tui.widgets.line_widget import Line
from tpe_tui.widgets.plot_base import FigurePlot

if TYPE_CHECKING:
    import numpy as np

    from tpe_core.encoding_comparison import EncodingComparison
else:
    np = Deferred("numpy")

__all__ = ["OVERLAYS", "Overlay", "OverlayPlot", "mark_of_model", "overlay_lines"]

MARKS = ("●", "▲", "■", "◆", "▼", "★", *"abcdefghijklmnpqrstuvwyz")
ROLES = ("curve0", "curve2", "curve3", "curve4", "curve5", "curve1")
DECADES = 4  # that a logarithmic y axis shows below its largest value: the last few slopes are near 0
EVERY = 12  # cells between two marks of a curve, at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """What is drawn over what: columns of a table of `EncodingComparison`, both axes logarithmic or only x."""

    table: str
    title: str
    x: str
    y: str
    x_label: str
    log_y: bool


OVERLAYS = (
    Overlay(table="compared_r2_by_k", title="R² of the k best dimensions", x="k", y="r2", x_label="k", log_y=False),
    Overlay(
        table="compared_slopes", title="|slope|·sd, share of their sum", x="rank", y="share", x_label="rank", log_y=True
    ),
    Overlay(
        table="compared_components", title="R² of the first components", x="component", y="r2_cumulative",
        x_label="components", log_y=False,
    ),
)  # fmt: skip
"""The plots, in the order in which they are turned over."""


def mark_of_model(number: int) -> tuple[str, str]:
    """(glyph, role) of the model of that number: no two of the first thirty have the same glyph."""
    return MARKS[number % len(MARKS)], ROLES[number % len(ROLES)]


def overlay_lines(
    comparison: EncodingComparison, overlay: Overlay, selected: int, width: int, height: int
) -> list[Line]:
    """`height` lines of `width` cells; the curve of the selected model lies over the others."""
    table = comparison.to_table(overlay.table)
    names = table.column("model")
    x_all = np.array(table.column(overlay.x), float)
    y_all = np.array([math.nan if value is None else value for value in table.column(overlay.y)], float)
    good = np.isfinite(x_all) & np.isfinite(y_all) & (x_all > 0) & ((y_all > 0) | (not overlay.log_y))
    if not good.any():
        return []
    x, y = np.log10(np.where(good, x_all, 1.0)), np.where(good, y_all, 1.0)
    if overlay.log_y:
        y = np.log10(y)
        good &= y >= y[good].max() - DECADES
    order = [each for each in range(len(comparison.models)) if each != selected] + [selected]
    series: list[Series] = []
    for number in order:
        name, (glyph, role) = comparison.models[number].name, mark_of_model(number)
        rows = np.array([each == name for each in names]) & good
        series.append(Series(x[rows], y[rows], kind="line", role=role))
        some = _spread(x[rows], EVERY * (float(x[good].max()) or 1.0) / max(1, width - GUTTER))
        series.append(Series(x[rows][some], y[rows][some], kind="mark", role=role, glyph=glyph))
    low, high = float(y[good].min()), float(y[good].max())
    if not overlay.log_y:
        low, high = min(0.0, low), max(1.0, high)
    room = 0.04 * ((high - low) or 1.0)
    return draw(
        series, width, height, overlay.x_label,
        y_range=(low - room, high + room),
        y_marks=_powers(low, high, GUTTER) if overlay.log_y else [(at, tick(at, GUTTER)) for at in ticks(low, high, 5)],
        x_marks=_powers(0.0, float(x[good].max()), GUTTER),
    )  # fmt: skip


def _spread(places: Sequence[float] | np.ndarray, gap: float) -> list[int]:
    """Indices of points at least `gap` apart, the first and the last among them."""
    chosen: list[int] = []
    for index, place in enumerate(places):
        if not chosen or place - places[chosen[-1]] >= gap:
            chosen.append(index)
    return [*chosen, *({len(places) - 1} - set(chosen) if len(places) else ())]


def _powers(low: float, high: float, cells: int) -> list[tuple[float, str]]:
    """(place, text) at the powers of ten between two places on a logarithmic axis; two and five too where few are."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    factors = (1, 2, 5) if len(powers) <= 3 else (1,)
    places = [(power + math.log10(factor), factor * 10.0**power) for power in powers for factor in factors]
    return [(place, tick(value, cells)) for place, value in places if low - 1e-9 <= place <= high + 1e-9]


class OverlayPlot(FigurePlot):
    """Draws an `Overlay`, or says in a few lines why there is none."""

    COMPONENT_CLASSES: ClassVar[set[str]] = CURVE_ROLES

    def __init__(self) -> None:
        super().__init__("overlay")
        self._shown: tuple[EncodingComparison, Overlay, int] | None = None

    def show(self, shown: tuple[EncodingComparison, Overlay, int] | None, text: tuple[str, ...] = ()) -> None:
        """A comparison, what of it and the selected model; or a text in its place."""
        self._shown = shown
        self.renew(text)

    def paint(self, width: int, height: int) -> list[Line]:
        """The picture."""
        return [] if self._shown is None else overlay_lines(*self._shown, width, height)
