"""The table of edits: named ones, then the steps of undo; with what each does after the prompt, where that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tpe_core.edits.intervention import Intervention
from tpe_core.snapshots import NextTokens
from tpe_tui.cells import escape_controls, fit, number
from tpe_tui.widgets.line_widget import Line, ListPane

__all__ = ["EditRow", "EditsTable"]

STEP = 7  # cells of a column
WORDS, MOST_WORDS = 18, 48  # of what a step did
CELLS = {"KL": 9, "pruned": 8, "JS": 9, "steered": 8, "become": 14, "most probable": 26}
"""Of the other columns, in the order in which they find room: a column is there whole or not at all."""
SHOWN = ("pruned", "steered", "become", "KL", "JS", "most probable")
LEFT = frozenset({"become", "most probable"})  # the others stand at the right end of their cells


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

    def _widths(self, width: int) -> tuple[int, dict[str, int]]:
        """Cells for the words, and for the other columns that fit, in the order of the screen."""
        left, fits = width - STEP - 1 - WORDS, set()
        for name, cells in CELLS.items():
            if left < cells:
                break
            fits.add(name)
            left -= cells
        words = min(WORDS + left, MOST_WORDS)
        widths = {name: CELLS[name] for name in SHOWN if name in fits}
        if "most probable" in widths:
            widths["most probable"] += WORDS + left - words
        return words, widths

    def header(self, width: int) -> Line:
        """Column names."""
        words, widths = self._widths(width)
        names = (fit(f"  {name}" if name in LEFT else name, cells, name not in LEFT) for name, cells in widths.items())
        return [(fit("step", STEP, True) + " " + fit("edit", words) + "".join(names), "head")]

    def row(self, index: int, width: int) -> tuple[Line, str]:
        """One edit; an arrow marks the step in force."""
        row, (words, widths) = self.rows[index], self._widths(width)
        edit = row.edit
        in_force = row.step == self.position if row.step is not None else edit == self.now
        name = fit("▸" if in_force else " ", 2) + fit("◆" if row.step is None else str(row.step), STEP - 2, True)
        runs: Line = [
            (name + " ", "mark" if in_force else "muted"),
            (fit(escape_controls(row.words), words), "steered" if row.step is None else "row"),
        ]
        texts = self._texts(edit)
        runs += [(fit(texts[name][0], cells, name not in LEFT), texts[name][1]) for name, cells in widths.items()]
        return runs, "cursor" if index == self.cursor else "row"

    def _texts(self, edit: Intervention) -> dict[str, tuple[str, str]]:
        """(text, role) of an edit in every column; dots where it is not known yet what it does."""
        answer = self.figures.get(edit)
        texts = {
            "pruned": (str(len(edit.pruned) or "·"), "row"),
            "steered": (str(len(edit.steering) or "·"), "row"),
            "become": (f"  {edit.replacement}" if edit.pruned else "", "muted"),
        }
        if answer is None:
            return texts | {"KL": ("…", "muted"), "JS": ("…", "muted"), "most probable": ("", "muted")}
        role = "down" if answer.top1_changed else "muted"
        top = (f"  {self._most_probable(answer)}", role)
        return texts | {"KL": (number(answer.kl), "row"), "JS": (number(answer.js), "row"), "most probable": top}

    def _most_probable(self, answer: NextTokens) -> str:
        base, now = (self.tokens[int(answer.ids[side.argmax()])] for side in (answer.base, answer.now))
        return f"{base} → {now}" if answer.top1_changed else now

    def copy_text(self) -> str:
        """The edit under the cursor, in words."""
        return "" if self.chosen is None else self.chosen.words
