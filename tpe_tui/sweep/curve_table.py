"""The table under the curves: their marks, and every figure at the cursor, held-out beside out of domain.

It is the plot's legend as well; the figures are those of `SweepState`.
"""

from __future__ import annotations

import math
from typing import ClassVar

from textual import events
from textual.message import Message

from tpe_core.corpus.domains import DOMAINS, UNSEEN
from tpe_core.metrics import METRICS
from tpe_tui.cells import fit
from tpe_tui.sweep.state import SweepState, figure
from tpe_tui.widgets.curve_style import CURVE_ROLES, mark_of
from tpe_tui.widgets.line_widget import Line, LineWidget

__all__ = ["HEAD_ROWS", "CurveTable"]

HEAD_ROWS = 2
NAME_CELLS = 15
GAP = 2
CELLS = {"kl": 7, "band": 17, "js": 7, "top1": 7, "perplexity": 9, "entropy": 8}
TITLES = {metric.name: metric.short for metric in METRICS.values()} | {"band": f"{METRICS['kl'].short} over draws"}
CHOICES = (
    ("kl", "js", "top1", "perplexity", "entropy", "band"),
    ("kl", "js", "top1", "perplexity"),
    ("kl", "top1", "perplexity"),
    ("kl", "top1"),
)
"""Columns, from every one of them to those that stay longest."""


def columns_for(width: int) -> tuple[str, ...]:
    """The columns that fit for each domain."""
    room = (width - NAME_CELLS - GAP) // len(UNSEEN)
    return next((names for names in CHOICES if sum(CELLS[name] for name in names) <= room), CHOICES[-1])


class CurveTable(LineWidget):
    """A row for each curve; a click selects one."""

    COMPONENT_CLASSES: ClassVar[set[str]] = CURVE_ROLES

    can_focus = True

    class Picked(Message):
        """A row was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, state: SweepState) -> None:
        super().__init__("curve-table")
        self.state = state

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """Two lines of head, then a curve a line."""
        columns = columns_for(width)
        if y == 0:
            block = sum(CELLS[name] for name in columns)
            titles = [fit(f" {DOMAINS[name].label} ", block, right=True) for name in UNSEEN]
            return [(" " * NAME_CELLS + (" " * GAP).join(titles), "head")], "row"
        if y == 1:
            line: Line = [(fit(f"   {self.state.replacement}", NAME_CELLS), "head")]
            for at in range(len(UNSEEN)):
                line.append((" " * GAP * at, "row"))
                for name in columns:
                    chosen = name == self.state.metric.name
                    line.append((fit(TITLES[name], CELLS[name], right=True), "title" if chosen else "head"))
            return line, "row"
        names = self.state.names
        if y - HEAD_ROWS >= len(names):
            return [], "row"
        name = names[y - HEAD_ROWS]
        return self._row(name, columns), "cursor" if name == self.state.selected else "row"

    def _row(self, name: str, columns: tuple[str, ...]) -> Line:
        state = self.state
        mark, role = mark_of(name)
        hidden = name in state.hidden
        role, text = ("muted", "muted") if hidden or state.stale else (role, "row")
        line: Line = [
            ("▸" if name == state.selected else " ", "key"),
            ("-" if hidden else mark, role),
            (fit(f" {name}", NAME_CELLS - 2), text),
        ]
        for at, domain in enumerate(UNSEEN):
            line.append((" " * GAP * at, "row"))
            for column in columns:
                line.append((fit(self._cell(name, domain, column), CELLS[column], right=True), text))
        return line

    def _cell(self, name: str, domain: str, column: str) -> str:
        if column != "band":
            return figure(column, self.state.value(name, domain, column))
        low, high, draws = self.state.spread(name, domain, "kl")
        return f"{figure('kl', low)}–{figure('kl', high)}" if draws > 1 and not math.isnan(low) else ""

    def on_click(self, event: events.Click) -> None:
        """Select the curve under the mouse."""
        at = event.get_content_offset(self)
        if at is not None and 0 <= at.y - HEAD_ROWS < len(self.state.names):
            self.post_message(self.Picked(self.state.names[at.y - HEAD_ROWS]))
