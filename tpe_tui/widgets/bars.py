"""The one-line bars: status, prompt, and the footer's keys.

Fields that do not fit are left out by priority, never cut in the middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len
from textual import events
from textual.message import Message

from tpe_tui.cells import escape_controls, fit, shown_prompt
from tpe_tui.widgets.line_widget import Line, LineWidget

__all__ = ["Field", "Footer", "PromptBar", "StatusBar", "choose_entries", "choose_fields"]

SEPARATOR = " · "


class Field(NamedTuple):
    """A field of the status bar; a lower `priority` number stays longer."""

    text: str
    priority: int
    role: str = "row"


def choose_fields(fields: Sequence[Field], width: int) -> list[Field]:
    """The fields that fit in `width` cells, in their order."""
    kept = [field for field in fields if field.text]
    while kept and sum(cell_len(field.text) for field in kept) + len(SEPARATOR) * (len(kept) - 1) > width:
        kept.remove(max(kept, key=lambda field: field.priority))
    return kept


LASTING = frozenset({"app.help", "app.quit", "help", "leave", "back"})
"""The footer's ways out and the way to all other keys: they stay at any width."""


def choose_entries(entries: Sequence[tuple[str, str, str]], width: int) -> list[tuple[str, str, str]]:
    """The (action id, key, label) entries that fit in `width` cells, in their order; the last go first."""
    kept = list(entries)
    while kept and sum(map(entry_cells, kept)) > width:
        lesser = [entry for entry in kept if entry[0] not in LASTING]
        kept.remove((lesser or kept)[-1])
    return kept


def entry_cells(entry: tuple[str, str, str]) -> int:
    """How many cells an entry of the footer takes."""
    return cell_len(entry[1]) + cell_len(entry[2]) + 4


class StatusBar(LineWidget):
    """What is loaded, how well the law holds, what is edited and what it costs."""

    def __init__(self) -> None:
        super().__init__("status")
        self.fields: tuple[Field, ...] = ()

    def show(self, fields: tuple[Field, ...]) -> None:
        """Other fields."""
        if fields != self.fields:
            self.fields = fields
            self.repaint()

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """The fields that fit."""
        runs: Line = [(" ", "row")]
        for index, field in enumerate(choose_fields(self.fields, width - 2)):
            runs += [(SEPARATOR if index else "", "muted"), (field.text, field.role)]
        return runs, "row"


class PromptBar(LineWidget):
    """The prompt, and how it was cut where it did not fit the model."""

    class Pressed(Message):
        """The prompt was clicked."""

    def __init__(self) -> None:
        super().__init__("prompt")
        self.prompt: str | None = None  # no model is open yet
        self.note = ""

    def show(self, prompt: str, note: str = "") -> None:
        """Another prompt."""
        self.prompt, self.note = prompt, note
        self.repaint()

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """The end of a long prompt matters most, so it is cut at the front."""
        note = f"  {self.note} " if self.note else " "
        room = max(8, width - 9 - len(note))
        if self.prompt is None:
            return [(" prompt", "muted")], "row"
        text = escape_controls(shown_prompt(self.prompt[-room:]))
        is_ascii = getattr(self.app, "ascii", None) is not None
        if is_ascii:
            text = text.encode("ascii", "backslashreplace").decode("ascii")
        if len(self.prompt) > room:
            text = "…" + text
        while cell_len(text) > room:
            text = "…" + text[2:] if text.startswith("…") else "…" + text[1:]
        return [(" prompt  ", "muted"), *_told(text, room, "_" if is_ascii else "·"), (note, "muted")], "row"

    def on_click(self) -> None:
        """The mouse's way to change it."""
        self.post_message(self.Pressed())


def _told(text: str, room: int, space: str) -> Line:
    """A prompt in `room` cells; each `space` at its end, which one does not see, as the tokens have it."""
    if not text:
        return [(fit("(empty: the beginning of a text)", room), "muted")]
    spaces = len(text) - len(text.rstrip(" "))
    words = text[: len(text) - spaces]
    return [(words, "row"), (space * spaces, "muted"), (" " * (room - cell_len(words) - spaces), "row")]


class Footer(LineWidget):
    """At most six keys of the focused pane; a click presses one."""

    class Pressed(Message):
        """A key's label was clicked."""

        def __init__(self, action_id: str) -> None:
            super().__init__()
            self.action_id = action_id

    def __init__(self) -> None:
        super().__init__("footer")
        self.entries: tuple[tuple[str, str, str], ...] = ()

    def show(self, entries: tuple[tuple[str, str, str], ...]) -> None:
        """Other (action id, key, label) entries."""
        if entries != self.entries:
            self.entries = entries
            self.repaint()

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """Key and label, as many as fit."""
        runs: Line = []
        for _, key, label in choose_entries(self.entries, width):
            runs += [(f" {key} ", "key"), (f"{label}  ", "muted")]
        return runs, "row"

    def on_click(self, event: events.Click) -> None:
        """Find the label under the mouse."""
        x = 0
        for entry in choose_entries(self.entries, self.size.width):
            x += entry_cells(entry)
            if event.x < x:
                self.post_message(self.Pressed(entry[0]))
                return
