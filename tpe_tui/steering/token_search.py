"""Which token: a line to type in, and the tokens of the vocabulary that it may mean, as they are typed.

It only answers: with the id of a candidate, or with the text itself where nothing holds it.
"""

from __future__ import annotations

import math

from tpe_core.snapshots import EncodingTable
from tpe_core.steering.token_search import Candidate, TokenIndex
from tpe_tui.cells import fit, percent
from tpe_tui.dialogs.pick import MatchList, Picking
from tpe_tui.widgets.line_widget import Line
from tpe_tui.widgets.text_line import marked_lines

__all__ = ["CandidateList", "TokenSearch"]

WHY = {"id": "its number", "exact": "exactly", "space": "after a space", "case": "another case", "part": "holds it"}
ID_CELLS, PROBABILITY_CELLS, WHY_CELLS = 9, 9, 15


class CandidateList(MatchList):
    """The tokens that a text may mean, likeliest first."""

    def __init__(self, table: EncodingTable) -> None:
        super().__init__()
        self._table = table
        self._index = TokenIndex(table.tokens)
        self.found: list[Candidate] = []
        self.query_text = ""

    def find(self, text: str) -> None:
        """Another text."""
        self.query_text = text
        self.found = self._index.search(text)
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


class TokenSearch(Picking[int | str]):
    """Answers with a token's id, with the text typed where no token holds it, or with None."""

    HEADING = "Choose a token"
    PLACEHOLDER = "its text, ·text after a space, or #id"
    HINT = "type to search, ↑ ↓ move, enter chooses, esc closes"

    def __init__(self, table: EncodingTable) -> None:
        self.candidates = CandidateList(table)
        super().__init__(self.candidates, marked_lines)

    def chosen(self, text: str) -> int | str | None:
        """The candidate under the cursor, else the text itself."""
        found = self.candidates.found
        return found[self.candidates.cursor].token_id if found else text or None
