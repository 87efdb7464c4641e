"""The dose-response plot: what held-out text achieves against what is asked, a mark for each method; and the slider.

Both axes are logarithmic. Achieved as asked is the diagonal; the vertical line is the ratio in force.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from textual.message import Message

from tpe_core.clamping import at_most
from tpe_core.edits.intervention import Method
from tpe_core.lazy import Deferred
from tpe_tui.cells import fit
from tpe_tui.ratios import share, short_ratio
from tpe_tui.steering.state import METHOD_MARKS, SteerState
from tpe_tui.widgets.canvas import Series, draw
from tpe_tui.widgets.curve_style import CURSOR, CURVE_ROLES, ROOMY
from tpe_tui.widgets.line_widget import Line, LineWidget
from tpe_tui.widgets.plot_base import FigurePlot

if TYPE_CHECKING:
    import numpy as np
else:
    np = Deferred("numpy")

__all__ = ["DosePlot", "Slider", "dose_lines", "doublings"]

ROOM = 0.03  # of the range, above and below
HERE = "◆"
PHASES: dict[Method, int] = {"least-squares": 0, "min-norm": 0, "top-k": 1, "bias": 1}
"""Which points bear a method's marks, so that curves which coincide do not hide each other."""

STRIDES = (1, 2, 4, 5, 10, 20, 40, 80, 160)  # doublings between marks of an axis


def doublings(low: float, high: float, count: int) -> list[tuple[float, str]]:
    """About `count` whole doublings in [low, high] as (place, ratio): (-2, "1/4")."""
    stride = next((each for each in STRIDES if (high - low) / each <= count), STRIDES[-1])
    places = range(math.ceil(low / stride) * stride, math.floor(high) + 1, stride)
    return [(float(place), _power(place)) for place in places]


def _power(place: int) -> str:
    if abs(place) > 13:
        return f"2^{place}"
    return str(2**place) if place >= 0 else f"1/{2**-place}"


def dose_lines(state: SteerState, width: int, height: int) -> list[Line]:
    """The plot of a state with figures: `height` lines of `width` cells."""
    figures = state.figures
    if figures is None:
        return []
    x = np.log2(np.array(figures.request.grid))
    with np.errstate(divide="ignore", invalid="ignore"):
        curves = {method: np.log2(np.array(curve.achieved["heldout"])) for method, curve in figures.curves.items()}
        here = np.log2(np.array([figures.token.achieved["heldout"]]))
    points = np.concatenate([y[np.isfinite(y)] for y in (*curves.values(), x)])
    low, high = float(points.min()), float(points.max())
    low, high = max(low, 2 * float(x[0])), min(high, 2 * float(x[-1]))
    room = ROOM * (high - low)
    y_range = (low - room, high + room)
    level = np.linspace(float(x[0]), float(x[-1]), max(2, width // 2))
    series = [Series(level, level, kind="dots", role="muted")]
    at = float(np.clip(math.log2(state.ratio), x[0], x[-1]))
    down = np.linspace(*y_range, 4 * max(1, height))
    series.append(Series(np.full(len(down), at), down, kind="mark", role="rule", glyph=CURSOR))
    order = sorted(curves, key=lambda method: (method == state.method, -list(METHOD_MARKS).index(method)))
    roles = {method: "muted" if state.stale else METHOD_MARKS[method][1] for method in order}
    lines = [method for method in order if height >= ROOMY or method == state.method]
    series += [Series(x, curves[method], kind="line", role=roles[method]) for method in lines]
    for method in order:
        some = slice(PHASES[method], None, 2)
        mark = METHOD_MARKS[method][0]
        series.append(Series(x[some], curves[method][some], kind="mark", role=roles[method], glyph=mark))
    if not state.stale:
        series.append(Series(np.array([at]), here, kind="mark", role="steered", glyph=HERE))
    inside = [
        Series(one.x, np.clip(one.y, *y_range), kind=one.kind, role=one.role, level=one.level, glyph=one.glyph)
        for one in series
    ]
    return draw(
        inside, width, height, "asked",
        y_range=y_range, y_marks=doublings(*y_range, max(3, height // 3)),
        x_marks=doublings(float(x[0]), float(x[-1]), max(4, width // 8)),
    )  # fmt: skip


class DosePlot(FigurePlot):
    """Draws the state's dose-response, or says in a few lines why there is none."""

    COMPONENT_CLASSES: ClassVar[set[str]] = CURVE_ROLES | {"line--rule"}

    class Pointed(Message):
        """The mouse pointed at a ratio."""

        def __init__(self, ratio: float) -> None:
            super().__init__()
            self.ratio = ratio

    def __init__(self, state: SteerState) -> None:
        super().__init__("dose")
        self.state = state

    def show(self, text: tuple[str, ...] = ()) -> None:
        """The state is another one; `text` stands in the place of a picture."""
        self.renew(text)

    def paint(self, width: int, height: int) -> list[Line]:
        """The dose-response."""
        return dose_lines(self.state, width, height)

    def pointed(self, share: float) -> None:
        """Point at a ratio, on the grid of steps."""
        figures = self.state.figures
        if figures is not None:
            low, high = (math.log2(figures.request.grid[end]) for end in (0, -1))
            self.post_message(self.Pointed(2 ** (round(4 * (low + share * (high - low))) / 4)))


class Slider(LineWidget):
    """One line: the token, its ratio on a logarithmic scale, and the mean probability that this asks for."""

    def __init__(self, state: SteerState) -> None:
        super().__init__("slider")
        self.state = state
        self.name_shown = ""

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """Token, slider, probabilities."""
        state, low, high = self.state, *self._ends()
        room = min(20, max(8, width // 6))
        name = fit(self.name_shown, room)
        ratio = fit(f"×{short_ratio(state.ratio)}", 9)
        tail = ""
        if state.known is not None:
            own = state.known.token.alpha["local"]
            beyond = " and more" if own * state.ratio > 1 else ""
            tail = f"  mean p {share(own)} → {share(at_most(1.0, own * state.ratio))}{beyond} "
        added = "+" if state.steered in state.added else " "
        ends = f"{_power(low)} ", f" {_power(high)}"
        cells = max(9, width - 3 - room - 10 - len(tail) - len(ends[0]) - len(ends[1]) - 2)
        cells = min(cells, 65)
        at = round((min(high, max(low, math.log2(state.ratio))) - low) / (high - low) * (cells - 1))
        track = ["─"] * cells
        track[round(-low / (high - low) * (cells - 1))] = "┼"
        before, after = "".join(track[:at]), "".join(track[at + 1 :])
        line: Line = [(f" {added} ", "steered"), (name, "title"), (" " + ratio, "steered")]
        line += [(ends[0] + "├" + before, "muted"), (HERE, "steered"), (after + "┤" + ends[1], "muted"), (tail, "row")]
        return line, "row"

    def _ends(self) -> tuple[int, int]:
        reach = max(5, math.ceil(abs(math.log2(self.state.ratio))))
        return -reach, reach
