"""What both pages of the dynamics screen share: two plots over the steps of training, a table of rows, the way out."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from textual import on
from textual.app import ComposeResult
from textual.containers import Container

from tpe_tui.dynamics.plot import TrajectoryPlot
from tpe_tui.dynamics.reader import DynamicsReader
from tpe_tui.dynamics.row_table import RowTable
from tpe_tui.study import StudyScreen
from tpe_tui.widgets.plot_base import FigurePlot

__all__ = ["TALL", "TrainingPage"]

TALL = 34  # lines from which two plots fit above each other


class LookedAt(Protocol):
    """How the state of a page is looked at."""

    log: bool  # the axis of steps

    def move_row(self, rows: int) -> object:
        """Put the cursor on another row."""

    def move(self, steps: int) -> object:
        """Go to another step."""

    def go(self, step: int) -> object:
        """Go to this step."""


class TrainingPage(StudyScreen):
    """Over the inspector or the other page; or, where `is_base`, the screen of an app that has no model."""

    STAYS: ClassVar[tuple[str, str, str]]  # which page this is, which the other, the key that leads there

    def __init__(self, reader: DynamicsReader, table: RowTable[Any], is_base: bool) -> None:
        super().__init__(reader.workspace)
        self.reader = reader
        self.table = table
        self.is_base = is_base
        self.plots = (TrajectoryPlot("first"), TrajectoryPlot("beside"))

    @property
    def looked_at(self) -> LookedAt:
        """The state that the keys change."""
        raise NotImplementedError

    def pick(self, row: Any, column: int | None) -> None:
        """Put the cursor where the mouse was: on a row, None on the head, and perhaps in a column."""
        raise NotImplementedError

    @property
    def tall(self) -> bool:
        """Whether two plots fit above each other."""
        return self.size.height >= TALL

    def compose_panes(self) -> ComposeResult:
        """The plots, and the table below them."""
        with Container(id="trajectories"):
            yield from self.plots
        yield self.table

    def on_mount(self) -> None:
        """The keys are the table's; Textual runs a page's own handler before this one."""
        self.table.focus()
        self.show()

    @property
    def labels(self) -> dict[str, str]:
        """What the footer says otherwise."""
        return {"leave": "Quit"} if self.is_base else {}

    def action_row(self, rows: int) -> None:
        """Another row."""
        self.looked_at.move_row(rows)
        self.show()

    def action_move(self, steps: int) -> None:
        """Another step."""
        self.looked_at.move(steps)
        self.show()

    def action_log(self) -> None:
        """Logarithmic or linear."""
        self.looked_at.log = not self.looked_at.log
        self.show()

    def action_stay(self) -> None:
        """This page, which is shown already."""
        this, other, key = self.STAYS
        self.say(f"this is the {this} page; {self.key(key)} leads to the {other}")

    def action_back(self) -> None:
        """Back to what lies below; where nothing does, the way out is another key."""
        if self.is_base:
            self.say(f"{self.key('q')} leaves")
            self.show()
        else:
            self.dismiss(None)

    def action_leave(self) -> None:
        """Back to what lies below, or out of the app."""
        if self.is_base:
            self.frame.ask_to_leave()
        else:
            self.dismiss(None)

    @on(RowTable.Picked)
    def _picked(self, event: RowTable.Picked) -> None:
        event.stop()
        self.pick(event.row, event.column)
        self.show()

    @on(FigurePlot.Pointed)
    def _pointed(self, event: FigurePlot.Pointed) -> None:
        event.stop()
        picture = self.plots[0].picture
        if picture is not None:
            self.looked_at.go(picture.axis.nearest(event.share))
        self.show()
