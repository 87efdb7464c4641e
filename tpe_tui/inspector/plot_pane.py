"""The plot pane: slopes, principal components, the fit, and the embedding's first two components.

It turns the analysis into series for the canvas; it redraws only when visible and only when its data changed. A plot is
one function under `plot`: the tabs, the keys that turn them and the saved view are made from `PLOTS`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from tpe_core.lazy import Deferred
from tpe_core.registry import Registry
from tpe_core.snapshots import EncodingTable
from tpe_tui.widgets.canvas import GUTTER, RAMP, Series, draw
from tpe_tui.widgets.fit_series import FIT_LABELS, FIT_LEGEND, fit_series
from tpe_tui.widgets.line_widget import Line, LineWidget

if TYPE_CHECKING:
    import numpy as np
else:
    np = Deferred("numpy")

__all__ = ["PLOTS", "Plot", "PlotKind", "plot", "series_of"]

MAX_COMPONENTS = 64

if TYPE_CHECKING:
    Contents = tuple[list[Series], str, str, Line]  # series, x label, y label, legend
    Builder = Callable[[EncodingTable, np.ndarray], Contents]  # of a table and whether each dimension is pruned [d]


@dataclass(frozen=True, slots=True)
class PlotKind:
    """A plot that pane 3 can show."""

    name: str  # on its tab
    build: Builder
    follows_mask: bool = False  # whether it is drawn anew where the mask changed


PLOTS: Registry[PlotKind] = Registry("plot")
"""The plots by name, in the order of their tabs."""


def plot(name: str, *, follows_mask: bool = False) -> Callable[[Builder], Builder]:
    """Register the builder below as the plot `name`."""

    def register(build: Builder) -> Builder:
        PLOTS.register(PlotKind(name, build, follows_mask))
        return build

    return register


@plot("slopes", follows_mask=True)
def _slopes(table: EncodingTable, pruned: np.ndarray) -> Contents:
    order = table.order("slope")
    size = np.abs(table.slope[order])
    rank = np.arange(1, len(order) + 1, dtype=float)
    gone = pruned[order]
    series = [
        Series(rank[~gone], size[~gone], kind="stems", role="bar"),
        Series(rank[gone], size[gone], kind="glyph", role="down", glyph="x"),
    ]
    legend: Line = [("⣿ kept ", "bar"), ("x pruned", "down")]
    return series, "rank", "|slope|", legend


@plot("PCs")
def _components(table: EncodingTable, _pruned: np.ndarray) -> Contents:
    n = min(MAX_COMPONENTS, len(table.pc_correlation))
    index = np.arange(1, n + 1, dtype=float)
    series = [
        Series(np.array([0.0, float(n + 1)]), np.zeros(2), kind="line", role="muted"),
        Series(index, np.abs(table.pc_correlation[:n]), kind="stems", role="bar"),
        Series(index, table.explained[:n], kind="glyph", role="up", glyph="o"),
    ]
    return series, "component", "", [("⣿ |corr. with −log α| ", "bar"), ("o explained", "up")]


@plot("fit")
def _fit(table: EncodingTable, _pruned: np.ndarray) -> Contents:
    return fit_series(table), *FIT_LABELS, FIT_LEGEND


@plot("PCA")
def _embedding(table: EncodingTable, _pruned: np.ndarray) -> Contents:
    scores = np.asarray(table.pc_scores, float)
    series = [Series(scores[:, 0], scores[:, 1], kind="cells", level=table.rank_percentile())]
    legend: Line = [
        ("frequent ", "muted"),
        *((glyph, f"ramp{index}") for index, glyph in enumerate(RAMP)),
        (" rare", "muted"),
    ]
    return series, "PC1", "PC2", legend


def series_of(name: str, table: EncodingTable, pruned: np.ndarray) -> Contents:
    """A plot's series, x label, y label and legend."""
    return PLOTS[name].build(table, pruned)


EMPTY = "here are drawn the slopes, the components and the fit of a model, once it is open"


class Plot(LineWidget):
    """Pane 3: a line of tabs, the legend, the canvas."""

    can_focus = True

    def __init__(self) -> None:
        super().__init__("plot")
        self.table: EncodingTable | None = None
        self.name_shown = next(iter(PLOTS))
        self._drawn: tuple[tuple[object, ...], list[Line]] | None = None
        self._changed = 0

    @cached_property
    def pruned(self) -> np.ndarray:
        """[d] whether a dimension is pruned."""
        return np.empty(0, dtype=bool)

    def show(self, table: EncodingTable, pruned: np.ndarray) -> None:
        """Another analysis or mask; a plot that does not depend on the mask stays as it is."""
        new = table is not self.table
        masked = not np.array_equal(pruned, self.pruned)
        self.table, self.pruned = table, pruned.copy()
        if new or (masked and PLOTS[self.name_shown].follows_mask):
            self._changed += 1
            self.repaint()

    def turn(self, step: int) -> None:
        """The next or previous plot."""
        names = list(PLOTS)
        self.choose(names[(names.index(self.name_shown) + step) % len(names)])

    def choose(self, name: str) -> None:
        """A plot by name."""
        self.name_shown = name
        self._changed += 1
        self.repaint()

    def _lines(self) -> list[Line]:
        width, height = self.size
        key = (self._changed, self.name_shown, width, height)
        if self._drawn is None or self._drawn[0] != key:
            words = textwrap.wrap(EMPTY, max(10, width - 2))
            lines: list[Line] = [[(f" {text}", "muted")] for text in words]
            if self.table is not None:
                series, x_label, y_label, legend = series_of(self.name_shown, self.table, self.pruned)
                lines = [[(" " * (GUTTER + 1), "row"), *legend], *draw(series, width, height - 2, x_label, y_label)]
            self._drawn = key, lines
        return self._drawn[1]

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """The tabs, then the drawing."""
        if y == 0:
            tabs: Line = [(" ", "row")]
            for name in PLOTS:
                tabs.append((f"[{name}]", "title") if name == self.name_shown else (f" {name} ", "muted"))
            return tabs, "row"
        lines = self._lines()
        return (lines[y - 1] if y <= len(lines) else []), "row"

    def copy_text(self) -> str:
        """The series on screen as tab-separated columns."""
        if self.table is None:
            return ""
        series, x_label, y_label, _ = series_of(self.name_shown, self.table, self.pruned)
        rows = [f"{x_label}\t{y_label or 'value'}"]
        for one in series:
            rows.extend(f"{float(x)!r}\t{float(y)!r}" for x, y in zip(one.x, one.y, strict=True))
        return "\n".join(rows)
