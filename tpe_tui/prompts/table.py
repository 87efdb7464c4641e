"""The list of prompts: KL, the most probable token without and with the edit, and the prompt itself.

It shows what a `PromptList` knows and says where that is not of the edit in force.
"""

from __future__ import annotations

from rich.cells import cell_len

from tpe_core.edits.intervention import Intervention
from tpe_core.snapshots import EncodingTable
from tpe_tui.cells import escape_controls, fit, number, shown_prompt
from tpe_tui.prompts.state import PromptList
from tpe_tui.widgets.line_widget import Line, ListPane

__all__ = ["PromptTable"]

KL_CELLS, TOKEN_CELLS = 9, 14


class PromptTable(ListPane):
    """A row for each prompt; the cursor stays on its prompt when rows change places."""

    def __init__(self, state: PromptList) -> None:
        super().__init__("prompts")
        self.state = state
        self.table: EncodingTable | None = None
        self.edit = Intervention()
        self.in_force = ""  # the inspector's prompt
        self.rows: list[str] = []

    @property
    def n_rows(self) -> int:
        """How many prompts there are."""
        return len(self.rows)

    @property
    def prompt(self) -> str | None:
        """The one under the cursor."""
        return self.rows[self.cursor] if self.rows else None

    @property
    def seen(self) -> list[str]:
        """The prompts on the screen."""
        return self.rows[self.top : self.top + self.page]

    def empty(self) -> str:
        """How to fill it."""
        return "no prompt is here: a adds one, r reads a file with one a line"

    def show(self, table: EncodingTable | None, edit: Intervention, in_force: str, at: str | None) -> None:
        """What the state holds now, the cursor on the prompt `at`."""
        self.table, self.edit, self.in_force = table, edit, in_force
        self.rows = self.state.shown
        self.go(self.rows.index(at) if at in self.rows else self.cursor, quiet=True)
        self.repaint()

    def header(self, width: int) -> Line:
        """Column names."""
        text = "  " + fit("KL", KL_CELLS, True) + "  " + fit("top-1 base", TOKEN_CELLS) + fit("now", TOKEN_CELLS)
        return [(fit(text + " prompt" + (", by KL" if self.state.by_kl else ""), width), "head")]

    def row(self, index: int, width: int) -> tuple[Line, str]:
        """One prompt, its end where it is long; a token that changed is marked and stands in another colour."""
        prompt = self.rows[index]
        cost = self.state.cost(prompt)
        ground = "cursor" if index == self.cursor else "row"
        runs: Line = [("● " if prompt == self.in_force else "  ", "key")]
        room = width - 4 - KL_CELLS - 2 * TOKEN_CELLS - 1
        if cost is None or cost.intervention != self.edit:
            runs.append((fit("…", KL_CELLS, True) + " " * (3 + 2 * TOKEN_CELLS), "muted"))
        elif cost.problem:
            runs.append((fit(cost.problem, KL_CELLS + 2 + 2 * TOKEN_CELLS) + " ", "warn"))
        else:
            first, last = self._token(cost.top1_base), self._token(cost.top1_now)
            runs += [
                (fit(number(cost.kl), KL_CELLS, True) + "  ", "row"),
                (fit(first, TOKEN_CELLS - 1) + " ", "row"),
                (("→" + fit(last, TOKEN_CELLS - 2) if cost.top1_changed else fit("same", TOKEN_CELLS - 1)) + "  ",
                 "steered" if cost.top1_changed else "muted"),
            ]  # fmt: skip
        text = escape_controls(shown_prompt(prompt[-room:])) if room > 0 else ""
        if cell_len(text) > room or len(prompt) > max(room, 0):
            while text and cell_len(text) > room - 1:
                text = text[1:]
            text = "…" + text
        runs.append((fit(text, max(0, room)), "row"))
        return runs, ground

    def _token(self, token_id: int) -> str:
        return "" if self.table is None else self.table.tokens[token_id]

    def copy_text(self) -> str:
        """The row under the cursor as two tab-separated lines."""
        prompt = self.prompt
        cost = None if prompt is None else self.state.cost(prompt)
        if prompt is None:
            return ""
        known = cost is not None and cost.intervention == self.edit and not cost.problem
        figures = (
            [repr(cost.kl), self._token(cost.top1_base), self._token(cost.top1_now)] if known and cost else [""] * 3
        )
        return "prompt\tkl\ttop1_base\ttop1_now\n" + "\t".join((shown_prompt(prompt), *figures))
