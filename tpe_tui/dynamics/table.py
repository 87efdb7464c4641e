"""The table under the dynamics plots: every figure at the step under the cursor, a source a column; the plots' legend.

The figures are those of `DynamicsState`; a source without a checkpoint at that very step shows the one before it, dim.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tpe_tui.cells import count, escape_controls, fit, four_decimals
from tpe_tui.dynamics.row_table import RowTable
from tpe_tui.dynamics.state import DynamicsState, Source, quantity
from tpe_tui.widgets.line_widget import Line

__all__ = ["DynamicsTable", "figure"]

NAME_CELLS = 22
LEAST, MOST = 12, 34  # cells of a column
BOTH = 24  # cells from which a column has the last value as well
VALUE = 9
STATUS = {
    "waiting": "waits", "reading": "is read…", "following": "followed…", "done": "", "failed": "failed",
    "cancelled": "stopped",
}  # fmt: skip


def figure(value: float) -> str:
    """A figure in at most eight cells; a dot where it was not measured."""
    if math.isnan(value):
        return "·"
    return four_decimals(value)


class DynamicsTable(RowTable[str]):
    """A row for each quantity; a click puts the cursor on one, and on a source."""

    HEAD_ROWS = 3

    def __init__(self, state: DynamicsState) -> None:
        super().__init__("dynamics-table")
        self.state = state
        self._marks: dict[tuple[str, str], tuple[str, str]] = {}

    def row_keys(self) -> Sequence[str]:
        """The quantities that were measured."""
        self._marks = self.state.marks()
        return [each.key for each in self.state.quantities]

    @property
    def here(self) -> str:
        """The quantity under the cursor."""
        return self.state.row

    # columns

    @property
    def cells(self) -> int:
        """How wide a source's column is."""
        room = self.size.width - NAME_CELLS - 1
        return max(LEAST, min(MOST, room // max(1, len(self.state.sources))))

    @property
    def columns(self) -> list[tuple[int, Source]]:
        """The sources that fit, the selected one among them."""
        sources = [*enumerate(self.state.sources)]
        fits = max(1, (self.size.width - NAME_CELLS - 1) // self.cells)
        first = max(0, min(self.state.selected - fits + 1, len(sources) - fits))
        return sources[first : first + fits]

    def column_at(self, x: int) -> int | None:
        """The source whose column it is."""
        column = (x - NAME_CELLS) // self.cells if x >= NAME_CELLS else -1
        columns = self.columns
        return columns[column][0] if 0 <= column < len(columns) else None

    # lines

    def row(self, key: str, width: int, thumb: str) -> Line:
        """A quantity: its value at the cursor's step and its last one, of every source."""
        drawn = key in self.state.drawn
        line: Line = [(fit(quantity(key).label, NAME_CELLS - 2), "row" if drawn else "muted"), (thumb, "muted")]
        for _, source in self.columns:
            line += self._cell(source, key)
        return line

    def head(self, y: int, width: int) -> Line:
        """The sources by name, their checkpoints at the cursor, their half-way steps."""
        at = self.state.at
        step = "no step yet" if at is None else f"step {count(at)}"
        name = (f" {step}", " checkpoint", " half-way R² · all")[y]
        line: Line = [(fit(name, NAME_CELLS), "title" if y == 0 else "head")]
        both = self.cells >= BOTH
        for index, source in self.columns:
            selected = index == self.state.selected
            text, role = self._head_cell(source, y)
            if y == 0:
                hidden = source.name in self.state.hidden
                mark = self._marks.get((source.name, "r2_adjusted"), (" ", "row"))
                line.append((" ▸" if selected else "  ", "key"))
                line.append(("-" if hidden else mark[0], "muted" if hidden else mark[1]))
                line.append((fit(" " + text, self.cells - 3), "title" if selected else role))
            elif y == 1 and both and source.trajectory is not None:
                line.append((fit(f"    {text}", self.cells - VALUE), role))
                line.append((fit("last", VALUE, right=True), "head"))
            else:
                line.append((fit(("    " if both else "  ") + text, self.cells), role))
        return line

    def _head_cell(self, source: Source, y: int) -> tuple[str, str]:
        """The source's name and status, its checkpoint at the cursor, its half-way steps."""
        status = STATUS[source.status]
        if y == 0:
            name = escape_controls(self.state.short(source))
            if self.cells >= BOTH:
                return (f"{name} {status}" if status else name), "head"
            return fit(name, min(len(name), self.cells - 5)) + ("…" if source.pending else ""), "head"
        if source.trajectory is None:
            return (status if y == 1 else ""), "bad" if source.status == "failed" else "muted"
        if y == 1:
            at = self.state.at
            index = None if at is None else source.index_at(at)
            if index is None:
                return "none yet", "muted"
            point = source.points[index]
            if point.duplicate_of is not None:
                return escape_controls(f"{point.name} = {point.duplicate_of}"), "warn"
            if point.suspected:
                return escape_controls(f"{point.name} ?"), "warn"
            return escape_controls(point.name), "head" if point.step == at else "muted"
        half = source.halfway()
        both = self.cells >= BOTH
        texts = ["·" if step is None else count(step) if both else str(step) for step in half.values()]
        so_far = " so far" if source.pending and both else ""
        return (" · " if both else "·").join(texts) + so_far, "head"

    def _cell(self, source: Source, key: str) -> Line:
        state = self.state
        mark, role = self._marks.get((source.name, key), (" ", "row"))
        at = state.at
        index = None if at is None else source.index_at(at)
        exact = index is not None and source.points[index].step == at
        hidden = source.name in state.hidden
        text = "muted" if hidden or not exact else "row"
        both = self.cells >= BOTH
        line: Line = [
            ("  ", "row"),
            (" " if hidden else mark, role),
            (fit(figure(state.value(source, key)), VALUE, right=True), text),
        ]
        last = fit(figure(state.last(source, key)) if both else "", self.cells - 3 - VALUE, right=True)
        return [*line, (last, "muted")]
