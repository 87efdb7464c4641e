"""The prompt's tokens as a strip: each with a mark of what the edit does at it, or of how unexpected it was.

It shows the engine's last figures and says when they are not current; it decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from rich.cells import cell_len
from textual import events
from textual.message import Message

from tpe_core.snapshots import EncodingTable, PromptPositions
from tpe_tui.cells import fit, number
from tpe_tui.widgets.bars import Field, choose_fields
from tpe_tui.widgets.line_widget import Line, LineWidget

__all__ = ["LEVELS", "Colouring", "TokenStrip", "level_of"]

Colouring = Literal["KL", "surprisal"]

LEVELS = "▁▂▄▆█"
"""The marks of five levels, the least first; they differ by their ink, their roles by brightness."""

LIMITS: dict[Colouring, tuple[float, ...]] = {"KL": (0.001, 0.01, 0.1, 1.0), "surprisal": (0.5, 2.0, 5.0, 10.0)}
"""Nats from which on each level but the least begins."""

TOKEN_CELLS = 24  # of a token at most
LOW_ROWS, TALL_ROWS, TALL = 3, 6, 28  # rows of tokens at most; in terminals of at least `TALL` rows
SEPARATOR = " · "


def level_of(value: float, colouring: Colouring) -> int | None:
    """The level of a figure, from 0; None for one that is not there."""
    return None if math.isnan(value) else sum(value >= limit for limit in LIMITS[colouring])


class TokenStrip(LineWidget):
    """Rows of tokens, and a line of words about the one under the cursor; it is seen while it is open."""

    can_focus = True
    COMPONENT_CLASSES: ClassVar[set[str]] = {"line--chosen"}

    class Chosen(Message):
        """Another token is under the cursor."""

        def __init__(self, position: int) -> None:
            super().__init__()
            self.position = position

    def __init__(self) -> None:
        super().__init__("positions")
        self.table: EncodingTable | None = None
        self.figures: PromptPositions | None = None
        self.colouring: Colouring = "KL"
        self.cursor = 0
        self.top = 0
        self.pending = False
        self.said = ""  # in place of the figures
        self.progress = ""  # of figures that are awaited
        self._rows: list[list[tuple[int, int, str]]] = []  # (position, first cell, text)

    @property
    def is_open(self) -> bool:
        """Whether it is on the screen."""
        return self.has_class("-open")

    def open(self, is_open: bool) -> None:
        """Put it on the screen, or take it away with what it showed."""
        self.set_class(is_open, "-open")
        if not is_open:
            self.figures, self.pending, self.said, self._rows, self.top = None, False, "", [], 0

    def wait(self, said: str = "") -> None:
        """What is shown is no longer current; nothing is, where something is `said`."""
        if said:
            self.figures, self._rows = None, []
        self.pending, self.said, self.progress = True, said, ""
        self._arrange()

    def note(self, progress: str) -> None:
        """How far the figures are that are awaited."""
        self.progress = progress
        self.repaint()

    def show(self, figures: PromptPositions, cursor: int) -> None:
        """The engine's figures, with the cursor on a token."""
        self.figures, self.pending, self.said, self.progress = figures, False, "", ""
        self.cursor = max(0, min(cursor, len(figures.ids) - 1))
        self._arrange()

    def refuse(self, sentence: str) -> None:
        """There are no figures, and why."""
        self.figures, self.pending, self.said, self._rows = None, False, sentence, []
        self._arrange()

    def colour(self) -> Colouring:
        """Mark tokens by the other figure; which one that is."""
        self.colouring = "surprisal" if self.colouring == "KL" else "KL"
        self.repaint()
        return self.colouring

    def go(self, position: int) -> None:
        """Put the cursor on a token and say so."""
        if self.figures is None:
            return
        before, self.cursor = self.cursor, max(0, min(position, len(self.figures.ids) - 1))
        if self.cursor != before:
            self._scroll()
            self.repaint()
            self.post_message(self.Chosen(self.cursor))

    def go_rows(self, rows: int) -> None:
        """Put the cursor so many rows of the strip further down, on the token there."""
        at = self._row_of(self.cursor)
        if at is None:
            return
        x = next(x for position, x, _ in self._rows[at] if position == self.cursor)
        row = self._rows[max(0, min(at + rows, len(self._rows) - 1))]
        at_end = at + rows >= len(self._rows) and at == len(self._rows) - 1
        at_start = at + rows < 0 and at == 0
        self.go(row[-1][0] if at_end else row[0][0] if at_start else min(row, key=lambda cell: abs(cell[1] - x))[0])

    def on_resize(self) -> None:
        """Other rows."""
        super().on_resize()
        self._arrange()

    def on_click(self, event: events.Click) -> None:
        """Choose the token under the mouse."""
        index = self.top + event.y
        if event.y < self.size.height - 1 and index < len(self._rows):
            for position, x, text in self._rows[index]:
                if x <= event.x < x + 1 + cell_len(text):
                    self.go(position)

    def _text(self, position: int) -> str:
        figures, table = self.figures, self.table
        if figures is None:
            return ""
        token = int(figures.ids[position])
        return table.tokens[token] if table is not None and token < len(table.tokens) else figures.texts[position]

    def _token(self, token: int) -> str:
        return "" if self.table is None else self.table.tokens[token]

    def _arrange(self) -> None:
        """Lay the tokens out in rows of the width, and be as high as they need, within the bound."""
        width = (self.size.width or self.app.size.width) - 2
        rows: list[list[tuple[int, int, str]]] = [[]]
        x = 1
        for position in range(0 if self.figures is None else len(self.figures.ids)):
            text = self._text(position)
            text = fit(text, min(cell_len(text), TOKEN_CELLS, max(1, width - 2)))
            if x + 1 + cell_len(text) > width and rows[-1]:
                rows.append([])
                x = 1
            rows[-1].append((position, x, text))
            x += 1 + cell_len(text)
        self._rows = rows if self.figures is not None else []
        most = TALL_ROWS if self.app.size.height >= TALL else LOW_ROWS
        if self.figures is not None or not self.pending:  # it keeps its height while figures of a prompt are awaited
            self.styles.height = 1 + max(1, min(len(self._rows), most))
        self._scroll()
        self.repaint()

    def _row_of(self, position: int) -> int | None:
        return next(
            (at for at, row in enumerate(self._rows) if row and row[0][0] <= position <= row[-1][0]),
            None,
        )

    @property
    def _seen(self) -> int:
        """Rows of tokens on the screen."""
        height = self.styles.height
        return max(1, int(height.value) - 1 if height is not None else 1)

    def _scroll(self) -> None:
        at = self._row_of(self.cursor) or 0
        self.top = max(0, min(max(min(self.top, at), at - self._seen + 1), len(self._rows) - self._seen))

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """A row of tokens, or below them the words."""
        if y == self._seen:
            return self._words(width), "row"
        if not self._rows:
            return [
                (" " + fit(self.said, width - 1), "warn" if not self.pending else "muted") if not y else ("", "row")
            ], "row"
        if self.top + y >= len(self._rows):
            return [], "row"
        row = self._rows[self.top + y]
        runs: Line = [(" ", "row")]
        for position, _, text in row:
            level = self._level(position)
            role = "muted" if level is None else f"ramp{len(LEVELS) - 1 - level}"
            runs.append((" " if level is None else LEVELS[level], role))
            runs.append((text, "chosen" if position == self.cursor else role))
        above, below = y == 0 and self.top > 0, y == self._seen - 1 and self.top + self._seen < len(self._rows)
        used = sum(cell_len(text) for text, _ in runs)
        return [*runs, (" " * (width - 1 - used), "row"), ("↑" if above else "↓" if below else " ", "muted")], "row"

    def _level(self, position: int) -> int | None:
        figures = self.figures
        if figures is None:
            return None
        of = figures.kl if self.colouring == "KL" else figures.surprisal_now
        return level_of(float(of[position]), self.colouring)

    def _words(self, width: int) -> Line:
        figures, at = self.figures, self.cursor
        if self.pending and self.progress:
            return [(" " + fit(self.progress, width - 1), "muted")]
        if figures is None:
            return []
        awaited = "…" if self.pending else ""
        base, now = float(figures.surprisal_base[at]), float(figures.surprisal_now[at])
        surprisal = "no surprisal" if math.isnan(base) else f"surprisal {number(base)}→{number(now)}{awaited}"
        first, last = int(figures.top1_base[at]), int(figures.top1_now[at])
        top = f"top-1 {self._token(first)}" + (f"→{self._token(last)}" if first != last else "")
        where = "after it" if figures.is_next else "in its place"
        fields = [
            Field(f"token {at + 1} of {len(figures.ids)}", 0, "title"),
            Field(f"KL {number(float(figures.kl[at]))}{awaited} {where}", 1),
            Field(surprisal, 2),
            Field(top, 3, "row" if first == last else "steered"),
            Field(self.legend(), 4, "muted"),
        ]
        runs: Line = [("▸" if self.has_focus else " ", "title")]
        for index, field in enumerate(choose_fields(fields, width - 2)):
            runs += [(SEPARATOR if index else "", "muted"), (field.text, field.role)]
        return runs

    def legend(self) -> str:
        """What the marks stand for."""
        limits: Sequence[float] = LIMITS[self.colouring]
        marks = " ".join(f"{mark}<{limit:g}" for mark, limit in zip(LEVELS, limits, strict=False))
        return f"{self.colouring} {marks} {LEVELS[-1]} nats"

    def copy_text(self) -> str:
        """Every token with its figures, as tab-separated lines."""
        figures = self.figures
        if figures is None:
            return ""
        lines = ["position\ttoken_id\ttoken\tkl\tsurprisal_base\tsurprisal_now\ttop1_base\ttop1_now"]
        for at, token in enumerate(figures.ids):
            values = (figures.kl[at], figures.surprisal_base[at], figures.surprisal_now[at])
            shown = ["" if math.isnan(value) else repr(float(value)) for value in values]
            top = (self._token(int(figures.top1_base[at])), self._token(int(figures.top1_now[at])))
            lines.append("\t".join((str(at + 1), str(int(token)), self._text(at), *shown, *top)))
        return "\n".join(lines)
