"""A braille canvas: plots as a pure function of (series, width, height), with axes and round ticks.

It knows neither widgets nor colours: each run of text carries a role name, and the widget gives it a style.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from tpe_core.lazy import Deferred
from tpe_tui.cells import fit, tick

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = Deferred("numpy")

__all__ = ["RAMP", "Series", "draw", "ticks"]

Kind = Literal["line", "dots", "stems", "glyph", "mark", "cells"]
RAMP = "█▓▒░·"
"""Glyphs of ``cells`` from level 0 to level 1: fullest first, so that levels read without colour."""

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
GUTTER = 7


@dataclass(frozen=True, slots=True)
class Series:
    """One thing drawn: x [n] and y [n]; `level` [n] in [0, 1] for ``cells``; `glyph` for ``glyph`` and ``mark``.

    A ``mark`` is a glyph in the very cell that a line through its point goes through.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    _: KW_ONLY
    kind: Kind = "dots"
    role: str = "bar"
    level: NDArray[np.float64] | None = None
    glyph: str = "x"


def ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers in [low, high]: multiples of 1, 2 or 5 times a power of ten."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low] if math.isfinite(low) else []
    rough = span / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-12))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{index * step:.12g}") + 0.0 for index in range(first, last + 1)]


def _bounds(parts: list[NDArray[np.float64]]) -> tuple[float, float]:
    values = np.concatenate(parts) if parts else np.empty(0)
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def draw(
    series: Sequence[Series],
    width: int,
    height: int,
    x_label: str = "",
    y_label: str = "",
    *,
    y_range: tuple[float, float] | None = None,
    y_marks: Sequence[tuple[float, str]] | None = None,
    x_marks: Sequence[tuple[float, str]] | None = None,
) -> list[list[tuple[str, str]]]:
    """`height` lines of `width` cells as (text, role) runs; later series cover earlier ones.

    Points that are not finite are left out. `y_range` holds the axis where it should not follow the points, `y_marks`
    and `x_marks` are (place, text) where an axis's texts are not the places. Axes take a gutter of 7 cells at the left
    and one line below; where that leaves less than 4 x 2 cells, blank lines come back.
    """
    columns, rows = width - GUTTER - 1, height - 1
    if columns < 4 or rows < 2:
        return [[(" " * max(0, width), "row")] for _ in range(max(0, height))]
    x0, x1 = _bounds([np.asarray(line.x, float) for line in series])
    y0, y1 = _bounds([np.asarray(line.y, float) for line in series]) if y_range is None else y_range
    grid = _Grid(columns, rows, (x0, x1), (y0, y1))
    for line in series:
        grid.add(line)
    lines = []
    if y_marks is None:
        y_marks = [(value, tick(value, GUTTER)) for value in ticks(y0, y1, max(2, rows // 4))]
    marks = {grid.row_of(value): text for value, text in y_marks if y0 <= value <= y1}
    for row, runs in enumerate(grid.lines()):
        label = fit(marks[row], GUTTER, right=True) if row in marks else " " * GUTTER
        if row == 0 and y_label:
            label = fit(y_label, GUTTER, right=True)
        lines.append([(label, "muted"), ("┤" if row in marks else "│", "muted"), *runs])
    if x_marks is None:
        x_marks = [(value, tick(value, GUTTER)) for value in ticks(x0, x1, max(2, columns // 7))]
    lines.append([(_x_axis(grid, x_marks, width, x_label), "muted")])
    return lines


def _x_axis(grid: _Grid, marks: Sequence[tuple[float, str]], width: int, label: str) -> str:
    text = [" "] * width
    name = fit(label, min(len(label), width // 2))
    limit = width - len(name) - (1 if name else 0)
    free = 0
    for value, mark in marks:
        start = max(free, GUTTER + 1 + grid.column_of(value) - len(mark) // 2)
        if start + len(mark) <= limit and start - (GUTTER + 1 + grid.column_of(value)) <= 1:
            text[start : start + len(mark)] = mark
            free = start + len(mark) + 1
    text[width - len(name) :] = name
    return "".join(text)


class _Grid:
    """The plotted area: braille dots and glyphs by cell, with the role that drew each cell last."""

    def __init__(self, columns: int, rows: int, xs: tuple[float, float], ys: tuple[float, float]) -> None:
        self.columns, self.rows = columns, rows
        self.xs, self.ys = xs, ys
        self.dots = np.zeros((rows, columns), np.uint8)
        self.chars = np.full((rows, columns), " ", dtype="<U1")
        self.roles = np.zeros((rows, columns), np.int16)
        self.names = ["row"]

    def column_of(self, value: float) -> int:
        return round((value - self.xs[0]) / (self.xs[1] - self.xs[0]) * (self.columns - 1))

    def row_of(self, value: float) -> int:
        return round((self.ys[1] - value) / (self.ys[1] - self.ys[0]) * (self.rows - 1))

    def _scale(
        self, x: NDArray[np.float64], y: NDArray[np.float64], fine: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        across, down = (self.columns * 2, self.rows * 4) if fine else (self.columns, self.rows)
        px = np.rint((x - self.xs[0]) / (self.xs[1] - self.xs[0]) * (across - 1)).astype(np.int64)
        py = np.rint((self.ys[1] - y) / (self.ys[1] - self.ys[0]) * (down - 1)).astype(np.int64)
        return np.clip(px, 0, across - 1), np.clip(py, 0, down - 1)

    def _role(self, name: str) -> int:
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def add(self, series: Series) -> None:
        x, y = np.asarray(series.x, float), np.asarray(series.y, float)
        finite = np.isfinite(x) & np.isfinite(y)
        x, y = x[finite], y[finite]
        if not len(x):
            return
        if series.kind == "cells" and series.level is not None:
            self._add_cells(x, y, np.asarray(series.level, float)[finite])
            return
        if series.kind == "glyph":
            px, py = self._scale(x, y, fine=False)
            self.chars[py, px] = series.glyph
            self.roles[py, px] = self._role(series.role)
            return
        if series.kind == "mark":
            px, py = self._scale(x, y, fine=True)
            self.chars[py // 4, px // 2] = series.glyph
            self.roles[py // 4, px // 2] = self._role(series.role)
            return
        if series.kind == "line":
            x, y = self._resampled(x, y)
        px, py = self._scale(x, y, fine=True)
        if series.kind == "stems":
            floor = int(self._scale(x[:1], np.array([max(self.ys[0], 0.0)]), fine=True)[1][0])
            down = [np.arange(min(int(top), floor), max(int(top), floor) + 1) for top in py]
            px, py = np.repeat(px, [len(part) for part in down]), np.concatenate(down)
        np.bitwise_or.at(self.dots, (py // 4, px // 2), np.array(DOTS, np.uint8)[py % 4, px % 2])
        self.chars[py // 4, px // 2] = " "
        self.roles[py // 4, px // 2] = self._role(series.role)

    def _resampled(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A line's points on the dot grid, dense in y as well."""
        order = np.argsort(x, kind="stable")
        dense = np.linspace(float(x.min()), float(x.max()), self.columns * 8)
        return dense, np.interp(dense, x[order], y[order])

    def _add_cells(self, x: NDArray[np.float64], y: NDArray[np.float64], level: NDArray[np.float64]) -> None:
        """Each cell takes the glyph of its points' mean level."""
        px, py = self._scale(x, y, fine=False)
        cell = py * self.columns + px
        total = np.bincount(cell, minlength=self.rows * self.columns)
        mean = np.bincount(cell, weights=level, minlength=self.rows * self.columns) / np.maximum(total, 1)
        step = np.clip((mean * len(RAMP)).astype(int), 0, len(RAMP) - 1)
        for index, glyph in enumerate(RAMP):
            here = ((total > 0) & (step == index)).reshape(self.rows, self.columns)
            self.chars[here] = glyph
            self.roles[here] = self._role(f"ramp{index}")

    def lines(self) -> list[list[tuple[str, str]]]:
        braille = np.where(self.dots > 0, self.dots.astype(np.uint32) + 0x2800, ord(" "))
        out = []
        for row in range(self.rows):
            text = "".join(
                glyph if glyph != " " else chr(code) for glyph, code in zip(self.chars[row], braille[row], strict=True)
            )
            runs = groupby(zip(text, self.roles[row], strict=True), key=lambda pair: int(pair[1]))
            out.append([("".join(char for char, _ in group), self.names[role]) for role, group in runs])
        return out
