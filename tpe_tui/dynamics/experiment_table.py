"""The table of an experiment's runs: every variant over seeds at the step under the cursor, its runs below it.

It is the plot's legend. The figures are those of ``train-on.json``; one of an earlier step is dim.
"""

from __future__ import annotations

import math
from typing import ClassVar

from textual import events
from textual.message import Message

from tpe_core.continued_training.results import Key
from tpe_tui.cells import count, escape_controls, fit
from tpe_tui.dynamics.experiment_state import MARKS, ExperimentState, Row
from tpe_tui.dynamics.table import figure, thumb
from tpe_tui.widgets.curve_style import CURVE_ROLES
from tpe_tui.widgets.line_widget import Line, LineWidget

__all__ = ["HEAD_ROWS", "RunsTable", "mark_of"]

HEAD_ROWS = 2
NAME_CELLS, STATE_CELLS, WIDE_STATE = 13, 12, 24
BESIDE = ("loss.heldout", "gap.heldout", "kl.heldout")
TITLES = ("loss", "gap", "KL")
STATES = {"waiting": ("waits", "muted"), "running": ("runs", "title"), "done": ("done", "row"),
          "stopped": ("ended early", "bad")}  # fmt: skip


def mark_of(variant: str) -> tuple[str, str]:
    """(mark, role) of a variant's curve."""
    return MARKS.get(variant, ("×", "curve5"))


class RunsTable(LineWidget):
    """A row for each variant and run; a click puts the cursor on one."""

    COMPONENT_CLASSES: ClassVar[set[str]] = CURVE_ROLES

    can_focus = True

    class Picked(Message):
        """A row was clicked."""

        def __init__(self, row: Row) -> None:
            super().__init__()
            self.row = row

    def __init__(self, state: ExperimentState) -> None:
        super().__init__("experiment-table")
        self.state = state
        self.top = 0
        self._rows: tuple[Row, ...] = ()

    def renew(self) -> None:
        """The state is another one: keep its row in view, and paint."""
        self._rows = self.state.rows
        room = self._room
        at = self._rows.index(self.state.row) if self.state.row in self._rows else 0
        self.top = max(0, min(self.top, at, len(self._rows) - room), at - room + 1)
        self.repaint()

    def on_resize(self) -> None:
        """The row under the cursor stays in view."""
        super().on_resize()
        self.renew()

    @property
    def _room(self) -> int:
        return max(1, self.size.height - HEAD_ROWS)

    @property
    def _state_cells(self) -> int:
        return WIDE_STATE if self.size.width >= 110 else STATE_CELLS

    @property
    def _cells(self) -> int:
        """How wide a column of figures is."""
        return max(7, min(12, (self.size.width - NAME_CELLS - self._state_cells - 1) // 6))

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """Two lines of head, then a row a line."""
        if y < HEAD_ROWS:
            return self._head(y), "row"
        index = self.top + y - HEAD_ROWS
        if index >= len(self._rows):
            return [], "row"
        row = self._rows[index]
        here = row == self.state.row
        line: Line = [("▸" if here else " ", "key")]
        line += self._run(row) if len(row) == 4 else self._variant(row[2])
        used = sum(len(text) for text, _ in line)
        line.append((thumb(y - HEAD_ROWS, self._room, len(self._rows), self.top).rjust(max(1, width - used)), "muted"))
        return line, "cursor" if here else "row"

    def _head(self, y: int) -> Line:
        state, cells = self.state, self._cells
        at = state.at
        if y == 0:
            step = "no step yet" if at is None else f"step {count(at)} of {count(state.last_step)}"
            return [
                (fit(f" {step}", NAME_CELLS + self._state_cells), "title"),
                (fit(fit(state.measure.short, 3 * cells - 2), 3 * cells, right=True), "title"),
                (fit("held-out text", 3 * cells, right=True), "head"),
            ]
        names = ("mean", "from", "to", *TITLES)
        return [
            (fit(" variant", NAME_CELLS), "head"),
            (fit(" step state", self._state_cells), "head"),
            *((fit(name, cells, right=True), "head") for name in names),
        ]

    def _variant(self, variant: str) -> Line:
        """A variant over seeds: its band, and the means of what stands beside it."""
        state, cells = self.state, self._cells
        hidden = variant in state.hidden
        mark, role = mark_of(variant)
        keys = state.runs_of(variant)
        states = [state.state_of(key) for key in keys]
        ended, early = states.count("done"), states.count("stopped")
        seeds = f"{ended} of {len(keys)} done" if not early else f"{ended} done {early} ended"
        band, exact = state.band_at(variant, state.figure)
        line: Line = [
            ("-" if hidden else mark, "muted" if hidden else role),
            (fit(f" {variant}", NAME_CELLS - 2), "muted" if hidden else "title"),
            (fit(f" {seeds}", self._state_cells), "bad" if early else "head"),
        ]
        numbers = (None, None, None) if band is None else (band.mean, band.low, band.high)
        line += [self._figure(value, cells, exact) for value in numbers]
        for name in BESIDE:
            beside, is_exact = state.band_at(variant, name)
            line.append(self._figure(None if beside is None else beside.mean, cells, is_exact))
        return line

    def _run(self, key: Key) -> Line:
        """A run: how far it is, its own figures."""
        state, cells = self.state, self._cells
        run = state.run(key)
        step = run.points[-1].step if run is not None and run.points else 0
        word, role = STATES[state.state_of(key)]
        wide = self._state_cells == WIDE_STATE
        far = f"{count(step)}/{count(state.last_step)}" if wide else f"{step}"
        word = word if wide else word.partition(" ")[0]
        line: Line = [
            (fit(f"   seed {key[3]}", NAME_CELLS - 1), "row"),
            (fit(f" {far:>{12 if wide else 4}} {word}", self._state_cells), role),
        ]
        value, exact = state.value_at(key, state.figure)
        line += [self._figure(value, cells, exact), (" " * (2 * cells), "row")]
        return [*line, *(self._figure(state.value_at(key, name)[0], cells, exact) for name in BESIDE)]

    @staticmethod
    def _figure(value: float | None, cells: int, exact: bool) -> tuple[str, str]:
        text = "·" if value is None else figure(value)
        muted = value is None or math.isnan(value) or not exact
        return fit(text, cells, right=True), "muted" if muted else "row"

    def title(self, width: int) -> str:
        """What the cursor is on, for the border: why a run ended, or which experiment it is of."""
        state = self.state
        run = None if state.row is None or len(state.row) != 4 else state.run(state.row)
        if run is not None and (run.stopped or run.note):
            text = f" seed {run.seed}: {run.stopped or run.note} "
        else:
            text = f" {state.scenario} · mask {state.mask} "
        text = escape_controls(text)
        return fit(text, min(len(text), max(8, width)))

    def on_click(self, event: events.Click) -> None:
        """Put the cursor there."""
        at = event.get_content_offset(self)
        index = -1 if at is None else self.top + at.y - HEAD_ROWS
        if at is not None and at.y >= HEAD_ROWS and index < len(self._rows):
            self.post_message(self.Picked(self._rows[index]))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The next row."""
        event.stop()
        self._scroll(1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The row before."""
        event.stop()
        self._scroll(-1)

    def _scroll(self, rows: int) -> None:
        if self.state.row in self._rows:
            at = max(0, min(self._rows.index(self.state.row) + rows, len(self._rows) - 1))
            self.post_message(self.Picked(self._rows[at]))
