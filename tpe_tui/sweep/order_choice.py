"""Which orders a pruning sweep compares: a list to tick, legible without colour."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from tpe_core.pruning.orders import ORDERS
from tpe_tui.cells import fit
from tpe_tui.dialogs.dialog import Dialog
from tpe_tui.widgets.curve_style import mark_of

__all__ = ["OrderChoice"]

NAME_CELLS = 15


class OrderChoice(Dialog["frozenset[str] | None"]):
    """Answers with the ticked names, at least one; or with None where it was left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "leave", show=False),
        Binding("enter", "accept", show=False),
        Binding("space,x", "tick", show=False),
        Binding("j,down", "move(1)", show=False),
        Binding("k,up", "move(-1)", show=False),
    ]

    def __init__(self, chosen: frozenset[str]) -> None:
        """Begin with these ticked."""
        super().__init__()
        self.chosen = chosen
        self.at = 0

    def compose(self) -> ComposeResult:
        """The list between a title and the keys."""
        with Vertical(id="orders"):
            yield Static(Text("Orders to compare: which dimension goes first"), id="orders-title", markup=False)
            yield Static(id="orders-list", markup=False)
            yield Static(Text("space ticks, enter accepts, esc leaves"), id="orders-hint", markup=False)

    def on_mount(self) -> None:
        """The list as it is."""
        self._show()

    def _show(self) -> None:
        text = Text()
        for at, (name, order) in enumerate(ORDERS.items()):
            line = f"{'▸' if at == self.at else ' '}[{'x' if name in self.chosen else ' '}] {mark_of(name)[0]} "
            text.append(line + fit(name, NAME_CELLS) + order.about + "\n", "reverse" if at == self.at else "")
        text.rstrip()
        self.query_one("#orders-list", Static).update(text)

    def on_click(self, event: events.Click) -> None:
        """A click ticks."""
        at = event.get_content_offset(self.query_one("#orders-list", Static))
        if at is not None and 0 <= at.y < len(ORDERS):
            self.at = at.y
            self.action_tick()

    def action_move(self, rows: int) -> None:
        """The next or previous order, round and round."""
        self.at = (self.at + rows) % len(ORDERS)
        self._show()

    def action_tick(self) -> None:
        """Tick it, or take the tick away."""
        self.chosen ^= {list(ORDERS)[self.at]}
        self._show()

    def action_accept(self) -> None:
        """Enter."""
        if self.chosen:
            self.dismiss(self.chosen)
            return
        hint = self.query_one("#orders-hint", Static)
        hint.update(Text("tick at least one order"))
        hint.add_class("-problem")

    def action_leave(self) -> None:
        """Escape."""
        self.dismiss(None)
