"""The comparison screen: models side by side, their figures and, over each other, what their encodings look like."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content

from tpe_core.encoding_comparison import check_comparison_file
from tpe_tui.cells import escape_controls
from tpe_tui.comparison.plot import OVERLAYS, OverlayPlot
from tpe_tui.comparison.reader import ComparisonReader
from tpe_tui.comparison.table import ComparisonTable
from tpe_tui.comparison.values import notes
from tpe_tui.dialogs.error import TextScreen
from tpe_tui.dialogs.saving import ask_where
from tpe_tui.sizes import short_name
from tpe_tui.study import COMMON_KEYS, ListStudy, bindings, list_keys
from tpe_tui.widgets.bars import Field
from tpe_tui.widgets.line_widget import ListPane

__all__ = ["KEYS", "ComparisonScreen"]

KEYS: tuple[tuple[str, str, str], ...] = (
    *list_keys("figure"),
    ("pane.next", "model(1)", "next model: its curve lies over the others"),
    ("pane.previous", "model(-1)", "previous model"),
    ("plot.next", "plot(1)", "next plot: R² by k, slopes, components"),
    ("plot.previous", "plot(-1)", "previous plot"),
    ("i", "facts", "what was left out, and what differs beside the models"),
    ("out.export", "export", "export the table as CSV, JSON or Markdown"),
    ("run.rerun", "start", "analyse what is missing"),
    ("run.cancel", "cancel", "stop analysing; what is done stays"),
    *COMMON_KEYS,
    ("out.headless", "headless", "the command line that prints this"),
    ("app.help", "help", "these keys"),
    ("q", "leave", "leave"),
)
"""(key or the id of the action that has it in the inspector, action here, help)."""

FOOTER = (
    ("plot(1)", "Plot"), ("model(1)", "Model"), ("facts", "Notes"), ("export", "Export"), ("help", "Keys"),
    ("leave", "Quit"),
)  # fmt: skip


class ComparisonScreen(ListStudy):
    """The one screen of an app that has no model open."""

    NAME, KEYS, FOOTER = "Comparison", KEYS, FOOTER
    COUNTED = frozenset({"move", "page", "model", "plot"})
    NOTES = ("A mark before a model's name in the table is its curve's in the plot.",)
    BINDINGS: ClassVar[list[BindingType]] = bindings(KEYS)

    def __init__(self, reader: ComparisonReader) -> None:
        super().__init__(reader.workspace)
        self.reader = reader
        self.plot = OverlayPlot()
        self.table = ComparisonTable(reader)
        self.overlay = 0
        self._exported = ""

    @property
    def listed(self) -> ListPane:
        """The table."""
        return self.table

    @property
    def subject(self) -> str:
        """The selected model."""
        models = self.table.models
        return short_name(escape_controls(models[self.table.selected].name)) if models else "no model yet"

    def compose_panes(self) -> ComposeResult:
        """The plot, and the table below it."""
        yield self.plot
        yield self.table

    def on_mount(self) -> None:
        """What is there already."""
        self.table.focus()
        self.show()

    def show(self) -> None:
        """Everything, as it is now."""
        result, overlay = self.reader.result, OVERLAYS[self.overlay]
        if result is None:
            self.plot.show(None, self._waiting())
            self.plot.border_title = Content("")
        else:
            self.plot.show((result, overlay, self.table.selected))
            self.plot.border_title = Content.assemble((f" {overlay.title} ", "bold"), ("· log axis ", "dim"))
        self.table.repaint()
        self.show_bars(self._fields())

    def _waiting(self) -> tuple[str, ...]:
        if self.reader.failure is not None:
            return ("No model could be analysed.", self.reader.failure.sentence)
        return ("The models are analysed one after the other.", "What was detected before is taken from the cache.")

    def _fields(self) -> tuple[Field, ...]:
        result, waiting = self.reader.result, self.reader.waiting
        if result is None:
            return ()
        left_out = len(result.problems)
        return (
            Field(f"{len(result.models)} model{'' if len(result.models) == 1 else 's'}", 1),
            Field(f"{left_out} left out" if left_out else "", 2, "warn"),
            Field("" if result.same_text else "texts differ", 2, "warn"),
            Field(f"{waiting} to come" if waiting else "", 4, "muted"),
        )

    # keys

    def action_model(self, models: int) -> None:
        """Another model."""
        self.table.turn(models)
        self.show()

    def action_plot(self, plots: int) -> None:
        """Another plot."""
        self.overlay = (self.overlay + plots) % len(OVERLAYS)
        self.show()

    def action_facts(self) -> None:
        """What is to be known beside the figures."""
        result = self.reader.result
        sentences = [] if result is None else [*result.problems, *notes(result.same_text, result.budget)]
        text = "\n\n".join(sentences) or "All were measured on one text, and none is left out."
        self.frame.push_screen(TextScreen("About this comparison", escape_controls(text), self.frame.copy_text))

    def action_export(self) -> None:
        """Type where to, then write."""
        if self.reader.result is None:
            self.say("no model is analysed yet: there is nothing to export", "warn")
            return

        def check(path: Path, replace: bool) -> None:
            check_comparison_file(path, replace=replace)

        def write(path: Path, replace: bool) -> None:
            self._exported = str(path)
            self.reader.export(path, replace)

        hint = "a model a row as .csv, everything as .json, a figure a row as .md"
        ask_where(self.frame, "export the table to", self._exported or "tpe-comparison.csv", hint, check, write)

    def action_start(self) -> None:
        """Analyse what is missing."""
        self.reader.start()
        self.show()

    def action_cancel(self) -> None:
        """Stop."""
        self.reader.cancel()
        self.show()

    def action_leave(self) -> None:
        """Out of the app."""
        self.frame.ask_to_leave()

    def headless(self) -> str:
        """The command that prints this table."""
        names = [str(each) if isinstance(each, Path) else each.model + (f"@{each.revision}" if each.revision else "")
                 for each in self.reader.sources]  # fmt: skip
        budget = [] if self.reader.budget is None else ["--budget", f"{self.reader.budget:g}"]
        return shlex.join(["tpe", "compare", *names, *budget])

    @on(ListPane.Moved)
    def _moved(self, event: ListPane.Moved) -> None:
        event.stop()
        self.show()
