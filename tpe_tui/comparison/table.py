"""The table under the overlays: a figure a row, a model a column with its mark; the plot's legend."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tpe_tui.cells import escape_controls, fit
from tpe_tui.comparison.plot import mark_of_model
from tpe_tui.comparison.values import shown_value
from tpe_tui.widgets.curve_style import CURVE_ROLES
from tpe_tui.widgets.line_widget import Line, ListPane

if TYPE_CHECKING:
    from tpe_core.encoding_comparison import ComparedModel
    from tpe_tui.comparison.reader import ComparisonReader

__all__ = ["ComparisonTable"]

TITLE = 20
LEAST, MOST = 15, 30  # cells of a column


class ComparisonTable(ListPane):
    """`selected` is the number of the model whose column is marked, and always in view."""

    COMPONENT_CLASSES: ClassVar[set[str]] = CURVE_ROLES

    def __init__(self, reader: ComparisonReader) -> None:
        super().__init__("comparison-table")
        self.reader = reader
        self.selected = 0

    @property
    def n_rows(self) -> int:
        """A row for each figure."""
        return len(self.reader.figures)

    @property
    def models(self) -> tuple[ComparedModel, ...]:
        """The models that are analysed."""
        return () if self.reader.result is None else self.reader.result.models

    def turn(self, models: int) -> None:
        """Select another model, from the last on to the first."""
        if self.models:
            self.selected = (self.selected + models) % len(self.models)
            self.repaint()

    def columns(self, width: int) -> tuple[int, list[tuple[int, ComparedModel]]]:
        """(cells of a column, the models that fit with their numbers, the selected one among them)."""
        room = max(LEAST, width - TITLE - 2)
        cells = max(LEAST, min(MOST, room // max(1, len(self.models))))
        fits = max(1, room // cells)
        first = max(0, min(self.selected - fits + 1, len(self.models) - fits))
        return cells, [*enumerate(self.models)][first : first + fits]

    def header(self, width: int) -> Line:
        """The models by name, each behind its mark."""
        cells, columns = self.columns(width)
        left = " " if not columns or columns[0][0] == 0 else "<"
        line: Line = [(fit(f" {left}", TITLE + 2), "muted")]
        for number, model in columns:
            glyph, role = mark_of_model(number)
            name = escape_controls(model.name)
            shown = fit(name, min(len(name), cells - 3))
            line.append((fit("", cells - 2 - len(shown)), "row"))
            line.append((glyph, role))
            line.append((f" {shown}", "title" if number == self.selected else "head"))
        return line

    def row(self, index: int, width: int) -> tuple[Line, str]:
        """A figure of every model that fits."""
        figure = self.reader.figures[index]
        here = index == self.cursor
        cells, columns = self.columns(width)
        line: Line = [("▸" if here else " ", "key"), (fit(figure.title, TITLE + 1), "row")]
        for number, model in columns:
            value = escape_controls(shown_value(figure, model.value(figure)))
            line.append((fit(value, cells, right=True), "row" if number == self.selected else "muted"))
        return line, "cursor" if here else "row"

    def empty(self) -> str:
        """Before the first model is analysed."""
        return "The figures stand here once the first model is analysed."
