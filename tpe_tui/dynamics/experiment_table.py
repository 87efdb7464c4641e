"""The table of an experiment's runs: every variant over seeds at the step under the cursor, its runs below it.

It is the plot's legend. The figures are those of ``train-on.json``; one of an earlier step is dim.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tpe_core.continued_training.results import Key
from tpe_tui.cells import count, escape_controls, fit
from tpe_tui.dynamics.experiment_state import MARKS, ExperimentState, Row
from tpe_tui.dynamics.row_table import RowTable
from tpe_tui.dynamics.table import figure
from tpe_tui.widgets.line_widget import Line

__all__ = ["RunsTable", "mark_of"]

NAME_CELLS, STATE_CELLS, WIDE_STATE = 13, 12, 24
BESIDE = ("loss.heldout", "gap.heldout", "kl.heldout")
TITLES = ("loss", "gap", "KL")
STATES = {"waiting": ("waits", "muted"), "running": ("runs", "title"), "done": ("done", "row"),
          "stopped": ("ended early", "bad")}  # fmt: skip


def mark_of(variant: str) -> tuple[str, str]:
    """(mark, role) of a variant's curve."""
    return MARKS.get(variant, ("×", "curve5"))


class RunsTable(RowTable[Row]):
    """A row for each variant and run; a click puts the cursor on one."""

    HEAD_ROWS = 2

    def __init__(self, state: ExperimentState) -> None:
        super().__init__("experiment-table")
        self.state = state

    def row_keys(self) -> Sequence[Row]:
        """The variants, each with its runs."""
        return self.state.rows

    @property
    def here(self) -> Row | None:
        """The variant or run under the cursor."""
        return self.state.row

    @property
    def _state_cells(self) -> int:
        return WIDE_STATE if self.size.width >= 110 else STATE_CELLS

    @property
    def _cells(self) -> int:
        """How wide a column of figures is."""
        return max(7, min(12, (self.size.width - NAME_CELLS - self._state_cells - 1) // 6))

    def row(self, key: Row, width: int, thumb: str) -> Line:
        """A run, or a variant over its seeds."""
        line = self._run(key) if len(key) == 4 else self._variant(key[2])
        used = sum(len(text) for text, _ in line)
        return [*line, (thumb.rjust(max(1, width - used)), "muted")]

    def head(self, y: int, width: int) -> Line:
        """Which step and figure, then the columns."""
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
