"""Figures against the training step, on the braille canvas: marks at the checkpoints, half-way steps, a cursor.

A pure function of a `StepFigure` and a size. On a logarithmic axis step 0 has a place of its own at the left edge,
with a gap and no line behind it: it lies infinitely far from the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tpe_core.lazy import Deferred
from tpe_tui.cells import tick
from tpe_tui.widgets.canvas import GUTTER, Series, draw, ticks
from tpe_tui.widgets.curve_style import CURSOR, CURVE_ROLES
from tpe_tui.widgets.line_widget import Line
from tpe_tui.widgets.plot_base import FigurePlot

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
else:
    np = Deferred("numpy")

__all__ = ["DUPLICATE", "HALF", "SKIPPED", "StepAxis", "StepCurve", "StepFigure", "TrajectoryPlot", "step_lines"]

DUPLICATE, HALF, SKIPPED = "=", "½", "!"
ROOM = 0.04  # of the range, above and below the curves
LOWEST_SHARE = -0.25  # where an axis of shares ends: a held-out R2 may lie anywhere below
GAP = (0.06, 0.25)  # between step 0 and the first: of the decades, and decades at least
DECADE = 30.0  # a range of so many times its least value has a logarithmic axis
ROOMY = 24  # lines of the plot from which on every curve has a line of its own
BAR, EDGE = 96, 64  # dots of a band's bar, and of each of its edges
FEW = 6  # curves that have one on any plot; of more only the one under the cursor


class StepAxis:
    """Where steps lie, in places from `low` to `high`: the steps themselves, or their logarithms to base 10."""

    def __init__(self, steps: Sequence[int], log: bool) -> None:
        """Of all steps that are drawn."""
        self.steps = sorted(set(steps)) or [0]
        positive = [step for step in self.steps if step > 0]
        self.log = log and bool(positive)
        self.zero = 0.0
        if self.log:
            first, last = math.log10(positive[0]), math.log10(positive[-1])
            self.zero = first - max(GAP[1], GAP[0] * (last - first))
        low, high = self.place(self.steps[0]), self.place(self.steps[-1])
        self.low, self.high = (low, high) if high > low else (low - 0.5, high + 0.5)

    def place(self, step: int) -> float:
        """A step's place; on a logarithmic axis step 0 has one before all others."""
        if not self.log:
            return float(step)
        return math.log10(step) if step > 0 else self.zero

    def nearest(self, share: float) -> int:
        """The step that is drawn nearest to a `share` of the axis."""
        place = self.low + share * (self.high - self.low)
        return min(self.steps, key=lambda step: abs(self.place(step) - place))

    def marks(self, count: int) -> list[tuple[float, str]]:
        """At most about `count` places with the steps that are there: powers of ten, or round numbers; whole ones."""
        if not self.log:
            return [(value, _short(value)) for value in ticks(self.low, self.high, count) if value == round(value)]
        first = [(self.zero, "0")] if self.steps[0] <= 0 else []
        begin = self.place(next(step for step in self.steps if step > 0))
        powers = range(math.floor(begin), math.floor(self.high) + 1)
        factors = (1, 2, 5) if 3 * len(powers) <= count else (1,)
        marks = [(power + math.log10(factor), factor * 10**power) for power in powers for factor in factors]
        inside = [(place, value) for place, value in marks if begin - 1e-9 <= place <= self.high + 1e-9]
        if not inside:  # a single decade's part: its own ends
            inside = [(self.place(step), step) for step in (self.steps[-1],)]
        return [*first, *((place, _short(value)) for place, value in inside)]


def _short(step: float) -> str:
    """A step in few cells: 2k for 2,000."""
    for size, letter in ((1_000_000, "M"), (1000, "k")):
        if step >= size and step % (size / 10) == 0:
            return f"{step / size:g}{letter}"
    return f"{step:.0f}" if step == round(step) else f"{step:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCurve:
    """One quantity of one source. `steps` ascend; a checkpoint that is `same` as another one is drawn as such."""

    steps: tuple[int, ...]
    values: tuple[float, ...]  # NaN where it is not measured
    mark: str
    role: str
    same: tuple[bool, ...]
    half: int | None = None  # the step at which it is half-way
    low: tuple[float, ...] = ()  # the band's edges, NaN where a step has none; empty where no step has
    high: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFigure:
    """Everything drawn; the last curve covers the others and has the cursor's mark."""

    axis: StepAxis
    curves: tuple[StepCurve, ...]
    cursor: int | None = None  # a step
    shares: bool = True  # on an axis from 0 to 1
    skipped: tuple[int, ...] = ()  # steps of checkpoints that were left out


def step_lines(picture: StepFigure, width: int, height: int) -> list[Line]:
    """`height` lines of `width` cells."""
    axis = picture.axis
    values = np.array([each for curve in picture.curves for each in (*curve.values, *curve.low, *curve.high)], float)
    values = values[np.isfinite(values)]
    log = not picture.shares and len(values) > 0 and values.min() > 0 and bool(values.max() / values.min() > DECADE)
    y0, y1 = _range(values, picture.shares, log)
    cell = (y1 - y0) / max(1, height - 2)
    # A series that draws nothing holds the x axis, so that plots above each other have the same one.
    series = [Series(np.array([axis.low, axis.high]), np.full(2, np.nan))]
    if picture.cursor is not None:
        down = np.linspace(y0, y1, 4 * max(1, height))
        series.append(
            Series(np.full(len(down), axis.place(picture.cursor)), down, kind="mark", role="rule", glyph=CURSOR)
        )
    skipped = np.array([axis.place(step) for step in picture.skipped])
    series.append(Series(skipped, np.full(len(skipped), y0), kind="mark", role="warn", glyph=SKIPPED))
    joined = height >= ROOMY or len(picture.curves) <= FEW
    heights = [np.clip(_places(np.array(curve.values, float), log), y0, y1) for curve in picture.curves]
    for curve in picture.curves:
        series += _band(curve, axis, log, edges=curve is picture.curves[-1])
    for curve, y in zip(picture.curves, heights, strict=True):
        if joined or curve is picture.curves[-1]:
            series += _line(curve, axis, y)
    for curve, y in zip(picture.curves, heights, strict=True):
        series += _marks_of(curve, axis, y)
    order = {step: at % len(picture.curves) for at, step in enumerate(axis.steps)} if picture.curves else {}
    for number, (curve, y) in enumerate(zip(picture.curves, heights, strict=True)):
        # Where marks coincide, each curve's own is on top at some of the steps.
        series += _marks_of(curve, axis, y, [at for at, step in enumerate(curve.steps) if order.get(step) == number])
        if curve.half is not None and curve.half in curve.steps:
            at = curve.steps.index(curve.half)
            above = y[at] + cell if y[at] + 1.5 * cell <= y1 else y[at] - cell
            series.append(
                Series(np.array([axis.place(curve.half)]), np.array([above]), kind="mark", role="title", glyph=HALF)
            )
    if picture.curves and picture.cursor is not None:
        series += _here(picture.curves[-1], picture.cursor, axis, (y0, y1), log)
    x_marks = axis.marks(max(3, width // 6))
    return draw(series, width, height, "step", y_range=(y0, y1), y_marks=_marks(y0, y1, log, height), x_marks=x_marks)


def _band(curve: StepCurve, axis: StepAxis, log: bool, *, edges: bool) -> list[Series]:
    """A bar from edge to edge at every step that has a band; with `edges` dots along them, too."""
    if not curve.low:
        return []
    low, high = (_places(np.array(ends, float), log) for ends in (curve.low, curve.high))
    x = np.array([axis.place(step) for step in curve.steps])
    there = np.isfinite(low) & np.isfinite(high)
    x, low, high = x[there], low[there], high[there]
    if not len(x):
        return []
    down = np.linspace(0, 1, BAR)
    bars = Series(np.repeat(x, BAR), (low[:, None] + (high - low)[:, None] * down).ravel(), role=curve.role)
    if not edges or len(x) < 2:
        return [bars]
    along = np.linspace(x[0], x[-1], EDGE)
    return [bars, *(Series(along, np.interp(along, x, ends), role=curve.role) for ends in (low, high))]


def _line(curve: StepCurve, axis: StepAxis, y: Floats) -> list[Series]:
    """The line through the curve's own checkpoints; on a logarithmic axis it begins after step 0."""
    drawn = ~np.array(curve.same, bool) & np.isfinite(y)
    if axis.log:
        drawn &= np.array(curve.steps) > 0
    x = np.array([axis.place(step) for step in curve.steps])
    return [Series(x[drawn], y[drawn], kind="line", role=curve.role)] if drawn.sum() > 1 else []


def _marks_of(curve: StepCurve, axis: StepAxis, y: Floats, only: Sequence[int] | None = None) -> list[Series]:
    """The marks of all checkpoints, or of `only`; those with another one's content by a sign of their own."""
    chosen = np.zeros(len(curve.steps), bool)
    chosen[slice(None) if only is None else list(only)] = True
    x, same = np.array([axis.place(step) for step in curve.steps]), np.array(curve.same, bool)
    return [
        Series(x[chosen & same], y[chosen & same], kind="mark", role="warn", glyph=DUPLICATE),
        Series(x[chosen & ~same], y[chosen & ~same], kind="mark", role=curve.role, glyph=curve.mark),
    ]


def _here(curve: StepCurve, cursor: int, axis: StepAxis, ys: tuple[float, float], log: bool) -> list[Series]:
    """The mark of the checkpoint that the cursor is on, or has passed last."""
    before = [at for at, step in enumerate(curve.steps) if step <= cursor]
    if not before:
        return []
    at = before[-1]
    y = np.clip(_places(np.array([curve.values[at]], float), log), *ys)
    glyph = DUPLICATE if curve.same[at] else curve.mark
    return [Series(np.array([axis.place(curve.steps[at])]), y, kind="mark", role="here", glyph=glyph)]


def _places(values: Floats, log: bool) -> Floats:
    if not log:
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Floats = np.log10(values)
    return result


def _range(values: Floats, shares: bool, log: bool) -> tuple[float, float]:
    """The axis's ends in places."""
    if shares or not len(values):
        least = float(values.min()) if len(values) else 0.0
        low, high = max(LOWEST_SHARE, min(0.0, least)), max(1.0, float(values.max()) if len(values) else 1.0)
    else:
        low, high = (float(value) for value in _places(np.array([values.min(), values.max()]), log))
        if not log and 0 <= low < high / 2:
            low = 0.0
    span = (high - low) or 1.0
    return low - ROOM * span, high + ROOM * span


def _marks(y0: float, y1: float, log: bool, height: int) -> list[tuple[float, str]]:
    """(place, text) along the y axis."""
    count = max(4, height // 3)
    if not log:
        return [(value, tick(value, GUTTER)) for value in ticks(y0, y1, count)]
    powers = range(math.floor(y0), math.ceil(y1) + 1)
    factors = (1, 2, 5) if (y1 - y0) * 3 <= 2 * count else (1,)
    places = [(power + math.log10(factor), factor * 10.0**power) for power in powers for factor in factors]
    return [(place, tick(value, GUTTER)) for place, value in places if y0 <= place <= y1]


class TrajectoryPlot(FigurePlot):
    """Draws a `StepFigure`, or says in a few lines why there is none."""

    COMPONENT_CLASSES: ClassVar[set[str]] = CURVE_ROLES | {"line--rule", "line--here"}

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.picture: StepFigure | None = None

    def show(self, picture: StepFigure | None, text: tuple[str, ...] = ()) -> None:
        """Another picture, or a text in its place."""
        self.picture = picture
        self.renew(text)

    def paint(self, width: int, height: int) -> list[Line]:
        """The picture."""
        return [] if self.picture is None else step_lines(self.picture, width, height)
