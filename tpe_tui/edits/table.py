"""The table of edits: named ones, then the steps of undo; with what each does after the prompt, where that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tpe_core.edits.intervention import Intervention
from tpe_core.snapshots import NextTokens
from tpe_tui.cells import escape_controls, fit, number
from tpe_tui.widgets.line_widget import Line, ListPane

__all__ = ["EditRow", "EditsTable"]

STEP, COUNT, REPLACEMENT, FIGURE = 7, 8, 14, 9  # cells of a column
TOP = 26  # of the most probable token's change, on a wide screen
WORDS, MOST_WORDS = 18, 48  # of what a step did


@dataclass(frozen=True, slots=True)
class EditRow:
    """A named edit or a step of the history; `step` is its index there, None for a named one."""

    edit: Intervention
    words: str
    step: int | None = None


class EditsTable(ListPane):
    """`rows` in the order of the screen; `figures` are the answers by edit, `now` the edit in force."""

    def __init__(self) -> None:
        super().__init__("edits-table")
        self.rows: Sequence[EditRow] = ()
        self.figures: Mapping[Intervention, NextTokens] = {}
        self.position = 0
        self.now = Intervention()
        self.tokens: Sequence[str] = ()

    @property
    def n_rows(self) -> int:
        """How many edits there are."""
        return len(self.rows)

    @property
    def chosen(self) -> EditRow | None:
        """The edit under the cursor."""
        return self.rows[self.cursor] if self.rows else None

    @property
    def seen(self) -> Sequence[EditRow]:
        """The rows in view."""
        return self.rows[self.top : self.top + self.page]

    def empty(self) -> str:
        """Why there is nothing to see."""
        return "nothing was edited yet"

    def _widths(self, width: int) -> tuple[int, int]:
        """Cells for the words and for the most probable tokens."""
        left = width - STEP - 2 * COUNT - REPLACEMENT - 2 * FIGURE - 1
        if left - TOP < WORDS:
            return max(WORDS, left), 0
        words = min(left - TOP, MOST_WORDS)
        return words, left - words

    def header(self, width: int) -> Line:
        """Column names."""
        words, top = self._widths(width)
        text = fit("step", STEP, True) + " " + fit("edit", words) + fit("pruned", COUNT, True)
        text += fit("steered", COUNT, True) + fit("  become", REPLACEMENT) + fit("KL", FIGURE, True)
        return [(text + fit("JS", FIGURE, True) + fit("  most probable", top), "head")]

    def row(self, index: int, width: int) -> tuple[Line, str]:
        """One edit; an arrow marks the step in force."""
        row, (words, top) = self.rows[index], self._widths(width)
        edit, answer = row.edit, self.figures.get(row.edit)
        in_force = row.step == self.position if row.step is not None else edit == self.now
        name = fit("▸" if in_force else " ", 2) + fit("◆" if row.step is None else str(row.step), STEP - 2, True)
        runs: Line = [
            (name + " ", "mark" if in_force else "muted"),
            (fit(escape_controls(row.words), words), "steered" if row.step is None else "row"),
            (fit(str(len(edit.pruned) or "·"), COUNT, True) + fit(str(len(edit.steering) or "·"), COUNT, True), "row"),
            (fit(f"  {edit.replacement}" if edit.pruned else "", REPLACEMENT), "muted"),
        ]
        if answer is None:
            runs.append((fit("…", FIGURE, True) * 2 + " " * top, "muted"))
        else:
            runs.append((fit(number(answer.kl), FIGURE, True) + fit(number(answer.js), FIGURE, True), "row"))
            runs.append((fit(f"  {self._most_probable(answer)}", top), "down" if answer.top1_changed else "muted"))
        return runs, "cursor" if index == self.cursor else "row"

    def _most_probable(self, answer: NextTokens) -> str:
        base, now = (self.tokens[int(answer.ids[side.argmax()])] for side in (answer.base, answer.now))
        return f"{base} → {now}" if answer.top1_changed else now

    def copy_text(self) -> str:
        """The edit under the cursor, in words."""
        return "" if self.chosen is None else self.chosen.words
