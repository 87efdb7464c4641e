"""Which token: a line to type in, and the tokens of the vocabulary that it may mean, as they are typed.

It only answers: with the id of a candidate, or with the text itself where nothing holds it.
"""

from __future__ import annotations

import math
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from tpe_core.inspector import EncodingTable
from tpe_core.steering.token_search import Candidate, TokenIndex
from tpe_tui.format import fit, percent
from tpe_tui.widgets.lines import Line, ListPane

__all__ = ["CandidateList", "TokenSearch"]

WHY = {"id": "its number", "exact": "exactly", "space": "after a space", "case": "another case", "part": "holds it"}
ID_CELLS, PROBABILITY_CELLS, WHY_CELLS = 9, 9, 15


class CandidateList(ListPane):
    """The tokens that a text may mean, likeliest first."""

    can_focus = False

    def __init__(self, table: EncodingTable) -> None:
        """Nothing was typed."""
        super().__init__("picker-list")
        self._table = table
        self._index = TokenIndex(table.tokens)
        self.found: list[Candidate] = []
        self.query_text = ""

    def find(self, query: str) -> None:
        """Another text."""
        self.query_text = query
        self.found = self._index.search(query)
        self.cursor = self.top = 0
        self.repaint()

    @property
    def n_rows(self) -> int:
        """How many candidates there are."""
        return len(self.found)

    def empty(self) -> str:
        """Why there is none."""
        return "no token holds this; enter says what it becomes" if self.query_text else ""

    def header(self, width: int) -> Line:
        """The columns' names."""
        return [(self._line("token", "id", "mean p", "why", width), "head")]

    def row(self, index: int, width: int) -> tuple[Line, str]:
        """A candidate."""
        one = self.found[index]
        mean = percent(math.exp(-float(self._table.surprisal[one.token_id])))
        text = self._line(one.text, f"#{one.token_id}", mean, WHY[one.how], width)
        return [(text, "row")], "cursor" if index == self.cursor else "row"

    @staticmethod
    def _line(text: str, number: str, mean: str, why: str, width: int) -> str:
        room = max(1, width - ID_CELLS - PROBABILITY_CELLS - WHY_CELLS - 1)
        ends = fit(number, ID_CELLS, right=True) + fit(mean, PROBABILITY_CELLS, right=True)
        return f" {fit(text, room)}{ends}  {fit(why, WHY_CELLS - 2)}"


class TokenSearch(ModalScreen[int | str | None]):
    """Answers with a token's id, with the text typed where no token holds it, or with None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "close", show=False),
        Binding("down,ctrl+n", "move(1)", "down", show=False, priority=True),
        Binding("up,ctrl+p", "move(-1)", "up", show=False, priority=True),
        Binding("pagedown", "move(8)", "down", show=False),
        Binding("pageup", "move(-8)", "up", show=False),
    ]

    def __init__(self, table: EncodingTable) -> None:
        """Nothing was typed yet."""
        super().__init__()
        self.candidates = CandidateList(table)

    def compose(self) -> ComposeResult:
        """The title, the line, the list, the hint."""
        with Vertical(id="picker"):
            yield Static(Text("Choose a token"), id="picker-title", markup=False)
            yield Input(
                "", placeholder="its text, ·text after a space, or #id", id="picker-input", compact=True,
                select_on_focus=False,
            )  # fmt: skip
            yield self.candidates
            yield Static(Text("type to search, ↑ ↓ move, enter chooses, esc closes"), id="picker-hint", markup=False)

    def on_mount(self) -> None:
        """Ready to type."""
        self.query_one(Input).focus()

    @on(Input.Changed)
    def search(self, event: Input.Changed) -> None:
        """Each letter."""
        self.candidates.find(event.value)

    @on(Input.Submitted)
    def accept(self, event: Input.Submitted) -> None:
        """Enter."""
        found = self.candidates.found
        if found:
            self.dismiss(found[self.candidates.cursor].token_id)
        elif event.value:
            self.dismiss(event.value)

    @on(ListPane.Moved)
    def _moved(self, event: ListPane.Moved) -> None:
        event.stop()

    def action_move(self, rows: int) -> None:
        """Another row."""
        self.candidates.go(self.candidates.cursor + rows)

    def action_leave(self) -> None:
        """Escape."""
        self.dismiss(None)
