"""Texts over the inspector that can be copied: a failure, or a command line.

Text goes to the screen as it is, never as markup.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from tpe_tui.cells import escape_controls
from tpe_tui.dialogs.dialog import Dialog
from tpe_tui.engine.messages import Failure

__all__ = ["ErrorScreen", "TextScreen"]


class TextScreen(Dialog[None]):
    """A titled text; `y` hands `text` to `copy`, which says where it went."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "copy", show=False),
        Binding("escape,enter,q", "leave", "close", show=False),
        Binding("j,down", "down", "down", show=False),
        Binding("k,up", "up", "up", show=False),
    ]

    def __init__(self, title: str, text: str, copy: Callable[[str], str], to_copy: str | None = None) -> None:
        super().__init__()
        self._heading = title
        self._text = "\n".join(escape_controls(line) for line in text.splitlines())
        self._to_copy = text if to_copy is None else to_copy
        self._copy = copy

    def compose(self) -> ComposeResult:
        """The title, the text, the keys."""
        with Vertical(id="text"):
            yield Static(Text(self._heading), id="text-title", markup=False)
            with VerticalScroll(id="text-body", can_focus=False):
                yield Static(Text(self._text), markup=False)
            yield Static(Text("y copies, esc closes"), id="text-hint", markup=False)

    def action_copy(self) -> None:
        """Copy and say where to."""
        self.query_one("#text-hint", Static).update(Text(self._copy(self._to_copy)))

    def action_leave(self) -> None:
        """Close."""
        self.dismiss(None)

    def action_down(self) -> None:
        """Scroll."""
        self.query_one("#text-body").scroll_relative(y=1, animate=False)

    def action_up(self) -> None:
        """Scroll."""
        self.query_one("#text-body").scroll_relative(y=-1, animate=False)


class ErrorScreen(TextScreen):
    """A failure: its sentence, what to press, and its details."""

    def __init__(self, title: str, failure: Failure, copy: Callable[[str], str], advice: str = "") -> None:
        parts = [part for part in (failure.sentence, advice, failure.details) if part]
        super().__init__(title, "\n\n".join(parts), copy, to_copy=failure.report)
        self.failure = failure
        self.add_class("-error")
