"""Choosing one of many: a line to type in, and what may be meant by it, listed as it is typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from tpe_tui.cells import escape_controls
from tpe_tui.dialogs.dialog import Dialog
from tpe_tui.widgets.line_widget import ListPane
from tpe_tui.widgets.text_line import TextLine

__all__ = ["MatchList", "Picking"]

Chosen = TypeVar("Chosen")


class MatchList(ListPane):
    """The rows that a text may mean; the line above it keeps the focus."""

    can_focus = False

    def __init__(self) -> None:
        super().__init__("picker-list")

    def find(self, text: str) -> None:
        """Another text."""
        raise NotImplementedError


class Picking(Dialog[Chosen | None], Generic[Chosen]):
    """Answers with what was chosen, or with None. Subclasses say what enter chooses."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "close", show=False),
        Binding("down,ctrl+n", "move(1)", "down", show=False, priority=True),
        Binding("up,ctrl+p", "move(-1)", "up", show=False, priority=True),
        Binding("pagedown", "move(8)", "down", show=False),
        Binding("pageup", "move(-8)", "up", show=False),
    ]
    HEADING: ClassVar[str]
    PLACEHOLDER: ClassVar[str]
    HINT: ClassVar[str]

    def __init__(self, matches: MatchList, shown: Callable[[str], str] | None = None) -> None:
        """Nothing was typed yet; `shown` is how several pasted lines stand in the line."""
        super().__init__()
        self._shown = shown
        self._matches = matches

    def chosen(self, text: str) -> Chosen | None:
        """What enter chooses after `text` was typed; None where that is nothing."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        """The title, the line, the list, the hint."""
        with Vertical(id="picker"):
            yield Static(Text(self.HEADING), id="picker-title", markup=False)
            yield TextLine("", self._shown, placeholder=self.PLACEHOLDER, id="picker-input")
            yield self._matches
            yield Static(Text(self.HINT), id="picker-hint", markup=False)

    def on_mount(self) -> None:
        """Ready to type."""
        self.query_one(TextLine).focus()

    @on(TextLine.Changed)
    def search(self, event: TextLine.Changed) -> None:
        """Each letter."""
        self._matches.find(event.value)

    @on(TextLine.Refused)
    def _refused(self, event: TextLine.Refused) -> None:
        event.stop()
        self.say_problem(event.sentence)

    def say_problem(self, sentence: str) -> None:
        """A sentence in the place of the hint."""
        hint = self.query_one("#picker-hint", Static)
        hint.update(Text(escape_controls(sentence)))
        hint.add_class("-problem")

    @on(TextLine.Submitted)
    def accept(self, event: TextLine.Submitted) -> None:
        """Enter."""
        choice = self.chosen(event.value)
        if choice is not None:
            self.dismiss(choice)

    @on(ListPane.Moved)
    def _moved(self, event: ListPane.Moved) -> None:
        event.stop()

    def action_move(self, rows: int) -> None:
        """Another row."""
        self._matches.go(self._matches.cursor + rows)

    def action_leave(self) -> None:
        """Escape."""
        self.dismiss(None)
