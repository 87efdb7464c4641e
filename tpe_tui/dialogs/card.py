"""The report card screen: what the output head is, and whether the engine is right about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from tpe_tui.cells import escape_controls
from tpe_tui.dialogs.dialog import Dialog
from tpe_tui.head_card import card_lines

__all__ = ["CardScreen", "card_table"]

LABEL_CELLS = 16


def card_table(card: Mapping[str, Any]) -> Table:
    """The card, a row for every fact; a long one goes on below itself."""
    table = Table.grid(padding=(0, 1))
    table.add_column(width=LABEL_CELLS - 1, style="bold", no_wrap=True)
    table.add_column()
    for label, value in card_lines(card):
        table.add_row(Text(label), Text(escape_controls(value)))
    return table


class CardScreen(Dialog[None]):
    """Scrolls where the screen is small."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q,C", "leave", "close", show=False),
        Binding("j,down", "scroll(1)", "down", show=False),
        Binding("k,up", "scroll(-1)", "up", show=False),
    ]

    def __init__(self, name: str, card: Mapping[str, Any]) -> None:
        """Show the card of the model called `name`."""
        super().__init__()
        self._model, self._card = name, card

    def compose(self) -> ComposeResult:
        """The title, the facts, the hint."""
        with Vertical(id="text"):
            yield Static(Text(f"Output head of {escape_controls(self._model)}"), id="text-title", markup=False)
            with VerticalScroll(id="text-body", can_focus=False):
                yield Static(card_table(self._card), markup=False)
            yield Static(Text("j k scroll, esc closes; on the command line: tpe check"), id="text-hint", markup=False)

    def action_scroll(self, rows: int) -> None:
        """Scroll."""
        self.query_one("#text-body").scroll_relative(y=rows, animate=False)

    def action_leave(self) -> None:
        """Close."""
        self.dismiss(None)
