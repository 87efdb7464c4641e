"""The list of figures about the fit, and the lines that explain what is under the cursor."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from tpe_tui.cells import fit
from tpe_tui.fit_figures import Figure
from tpe_tui.widgets.line_widget import Line, LineWidget, ListPane

__all__ = ["Explanation", "FigureList"]

NAME_CELLS = 15


class FigureList(ListPane):
    """A figure a row: its name and its text."""

    def __init__(self) -> None:
        super().__init__("figures")
        self.figures: Sequence[Figure] = ()

    @property
    def n_rows(self) -> int:
        """How many figures there are."""
        return len(self.figures)

    @property
    def figure(self) -> Figure | None:
        """The one under the cursor."""
        return self.figures[self.cursor] if self.figures else None

    def show(self, figures: Sequence[Figure]) -> None:
        """Show other figures."""
        self.figures = figures
        self.go(self.cursor, quiet=True)
        self.repaint()

    def empty(self) -> str:
        """What stands here while the figures are computed."""
        return "the figures come in a moment"

    def header(self, width: int) -> Line:
        """The columns' names."""
        return [(fit(" figure", NAME_CELLS + 1) + fit("value", width - NAME_CELLS - 1), "head")]

    def row(self, index: int, width: int) -> tuple[Line, str]:
        """One figure."""
        name, text = self.figures[index]
        runs: Line = [(f" {fit(name, NAME_CELLS)}", "muted"), (fit(text, width - NAME_CELLS - 1), "row")]
        return runs, "cursor" if index == self.cursor else "row"


class Explanation(LineWidget):
    """What something means, wrapped, and in the last line the command that gives it."""

    def __init__(self) -> None:
        super().__init__("explanation")
        self.text = self.command = ""

    def show(self, text: str, command: str) -> None:
        """Show another text."""
        self.text, self.command = text, command
        self.repaint()

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """A line of the text, or the command."""
        room = self.size.height - 1
        if y == room:
            return [(fit(f" {self.command}", width), "muted")], "row"
        lines = textwrap.wrap(self.text, max(10, width - 2), max_lines=room, placeholder="…") if room > 0 else []
        return [(fit(f" {lines[y]}" if y < len(lines) else "", width), "row")], "row"
