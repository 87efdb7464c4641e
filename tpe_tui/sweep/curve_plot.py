"""Curves over the share of removed dimensions, on the braille canvas: lines, a band, marks at the points, a cursor.

A pure function of a `CurveFigure` and a size; every curve has a mark of its own, so that none is told by hue alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tpe_core.lazy import Deferred
from tpe_tui.cells import tick
from tpe_tui.widgets.canvas import GUTTER, Series, draw, ticks
from tpe_tui.widgets.curve_style import CURSOR, CURVE_ROLES, ROOMY, mark_of
from tpe_tui.widgets.line_widget import Line
from tpe_tui.widgets.plot_base import FigurePlot

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
else:
    np = Deferred("numpy")

__all__ = ["CurveFigure", "CurvePlot", "PlottedCurve", "figure_lines"]

BAND = "░"
ROOM = 0.04  # of the range, above and below the curves
LEAST_DECADES = 0.3


@dataclass(frozen=True, slots=True)
class PlottedCurve:
    """One curve: `y` [n] at the picture's points, `low` and `high` [n] where it is a mean of several."""

    name: str
    y: Floats
    low: Floats | None = None
    high: Floats | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveFigure:
    """Everything drawn. The last curve covers the others; `cursor` is an index into `x`."""

    x: Floats  # [n] per cent
    curves: tuple[PlottedCurve, ...]
    cursor: int
    log: bool
    base: float | None = None  # the unpruned head's value, as a line across
    beside: tuple[PlottedCurve, ...] = ()  # drawn in another picture on the same scale
    stale: bool = False


def figure_lines(picture: CurveFigure, width: int, height: int) -> list[Line]:
    """`height` lines of `width` cells."""

    def place(values: Floats) -> Floats:
        if not picture.log:
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            result: Floats = np.where(values > 0, np.log10(values), np.nan)
        return result

    # On a logarithmic axis the unpruned head, at a divergence of 0, or what is nearly that, has no place.
    scaled = (*picture.curves, *picture.beside)
    ys = [place(each) for curve in scaled for each in (curve.y, curve.low, curve.high) if each is not None]
    own = np.concatenate([values[np.isfinite(values)] for values in ys]) if ys else np.empty(0)
    if not len(own):
        return draw([Series(picture.x, np.zeros(len(picture.x)), kind="dots", role="row")], width, height)[
            : max(0, height)
        ]
    y0, y1 = _range(own, picture.log)
    series: list[Series] = []
    if picture.base is not None:
        level = place(np.full(2, picture.base))
        if y0 <= level[0] <= y1:
            series.append(Series(picture.x[[0, -1]], level, kind="line", role="muted"))
    for curve in picture.curves:
        if curve.low is not None and curve.high is not None:
            series.append(_band(picture.x, place(curve.low), place(curve.high), (y0, y1), (width, height)))
    at = float(picture.x[picture.cursor])
    down = np.linspace(y0, y1, 4 * max(1, height))
    series.append(Series(np.full(len(down), at), down, kind="mark", role="rule", glyph=CURSOR))
    for curve in picture.curves:
        glyph, role = mark_of(curve.name)
        role = "muted" if picture.stale else role
        y = place(curve.y)
        if height >= ROOMY or curve is picture.curves[-1]:
            series.append(Series(picture.x, y, kind="line", role=role))
        series.append(Series(picture.x, y, kind="mark", role=role, glyph=glyph))
    for curve in picture.curves[-1:]:
        here = place(curve.y)[picture.cursor : picture.cursor + 1]
        series.append(Series(np.array([at]), here, kind="mark", role="here", glyph=mark_of(curve.name)[0]))
    return draw(series, width, height, "% removed", y_range=(y0, y1), y_marks=_marks(y0, y1, picture.log, height))


def _range(values: Floats, log: bool) -> tuple[float, float]:
    """Axis ends in places (decades where `log`), with room around; a linear axis that is near 0 begins there."""
    low, high = float(values.min()), float(values.max())
    if log:
        low = max(low, high - 6)  # what costs a millionth of the rest costs nothing
        middle, half = (low + high) / 2, max((high - low) / 2, LEAST_DECADES / 2)
        low, high = middle - half, middle + half
    elif 0 <= low < high / 2:
        low = 0.0
    span = (high - low) or 1.0
    return low - ROOM * span * (low != 0 or log), high + ROOM * span


def _marks(y0: float, y1: float, log: bool, height: int) -> list[tuple[float, str]]:
    """(place, text) along the axis."""
    count = max(2, height // 4)
    if not log:
        return [(value, tick(value, GUTTER)) for value in ticks(y0, y1, count)]
    factors = (1, 2, 5) if (y1 - y0) * 3 <= 2 * count + 1 else (1, 3) if (y1 - y0) * 2 <= 2 * count else (1,)
    decades = range(math.floor(y0), math.ceil(y1) + 1)
    places = [(power + math.log10(factor), factor * 10.0**power) for power in decades for factor in factors]
    return [(place, tick(value, GUTTER)) for place, value in places if y0 <= place <= y1]


def _band(x: Floats, low: Floats, high: Floats, ys: tuple[float, float], size: tuple[int, int]) -> Series:
    """Light cells between `low` and `high`, a column at a time."""
    fine = np.isfinite(low) & np.isfinite(high)
    if fine.sum() < 2:
        return Series(x[:0], low[:0], kind="mark", role="band", glyph=BAND)
    columns, rows = max(2, size[0] - GUTTER - 1), max(2, size[1])
    across = np.linspace(float(x[fine].min()), float(x[fine].max()), 2 * columns)
    floor, ceiling = np.interp(across, x[fine], low[fine]), np.interp(across, x[fine], high[fine])
    share = np.linspace(0.0, 1.0, 2 * rows)
    inside = floor[:, None] + (ceiling - floor)[:, None] * share
    wide = np.clip(inside, *ys)
    return Series(np.repeat(across, len(share)), wide.ravel(), kind="mark", role="band", glyph=BAND)


class CurvePlot(FigurePlot):
    """Draws a `CurveFigure`, or says in a few lines why there is none."""

    COMPONENT_CLASSES: ClassVar[set[str]] = CURVE_ROLES | {"line--band", "line--rule", "line--here"}

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.picture: CurveFigure | None = None

    def show(self, picture: CurveFigure | None, text: tuple[str, ...] = ()) -> None:
        """Another picture, or a text in its place."""
        self.picture = picture
        self.renew(text)

    def paint(self, width: int, height: int) -> list[Line]:
        """The picture."""
        return [] if self.picture is None else figure_lines(self.picture, width, height)
