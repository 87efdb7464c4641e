"""The plot of the fit with a cursor: the token under it is marked, and moving it finds the nearest one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import events
from textual.message import Message

from tpe_core.lazy import Deferred
from tpe_core.snapshots import EncodingTable
from tpe_tui.widgets.canvas import GUTTER, Series, draw
from tpe_tui.widgets.fit_series import FIT_LABELS, FIT_LEGEND, finite_points, fit_series
from tpe_tui.widgets.line_widget import Line
from tpe_tui.widgets.plot_base import FigurePlot

if TYPE_CHECKING:
    import numpy as np

    from tpe_core.snapshots import Floats
else:
    np = Deferred("numpy")

__all__ = ["FitPlot"]

MARK, CROSS = "◆", "+"


class FitPlot(FigurePlot):
    """The tokens, the marked one, and where the cursor stands."""

    can_focus = True

    class Chosen(Message):
        """The mouse chose `FitPlot.token_id`."""

    def __init__(self) -> None:
        super().__init__("fit-plot")
        self.table: EncodingTable | None = None
        self.token_id: int | None = None
        self.cell: tuple[int, int] | None = None  # of the cursor; None on the marked token
        self._edges: list[Series] = []
        self._bounds = (0.0, 1.0, 0.0, 1.0)

    def show(self, table: EncodingTable) -> None:
        """Show another table."""
        self.table, self.cell = table, None
        x, y = finite_points(table)
        self._edges = []
        if len(x):
            ends = [int(at) for at in (x.argmin(), x.argmax(), y.argmin(), y.argmax())]
            self._edges = [Series(x[ends], y[ends], kind="dots", role="bar")]
            low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
            self._bounds = (float(x.min()), float(x.max()), low, high)
        self.renew(() if len(x) else ("Nothing to draw.", "No token has both a figure and a prediction."))

    def mark(self, token_id: int | None) -> None:
        """Mark a token and put the cursor on it; where it is marked already, the cursor stays."""
        if token_id != self.token_id:
            self.token_id, self.cell = token_id, None
            self.renew(self.text)

    @property
    def _grid(self) -> tuple[int, int]:
        return max(1, self.size.width - GUTTER - 1), max(1, self.size.height - 2)

    def _cells(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """(column, row) of points, as fractions of cells."""
        (columns, rows), (x0, x1, y0, y1) = self._grid, self._bounds
        across, down = (x - x0) / (x1 - x0 or 1) * (columns - 0.5), (y1 - y) / (y1 - y0 or 1) * (rows - 0.25)
        return across, down

    def _own_cell(self) -> tuple[int, int]:
        """Where the marked token is drawn; the middle where it is not."""
        columns, rows = self._grid
        if self.table is not None and self.token_id is not None:
            point = (self.table.surprisal[[self.token_id]], self.table.predicted[[self.token_id]])
            across, down = self._cells(*point)
            if np.isfinite(across[0]) and np.isfinite(down[0]):
                return int(across[0]), int(down[0])
        return columns // 2, rows // 2

    def move(self, across: int, down: int) -> None:
        """Move the cursor by cells, and choose the token that is nearest to it."""
        column, row = self.cell or self._own_cell()
        self.point(column + across, row + down)

    def point(self, column: int, row: int) -> None:
        """Put the cursor into a cell, and choose the token that is nearest to it."""
        if self.table is None or not self._edges:
            return
        columns, rows = self._grid
        self.cell = max(0, min(column, columns - 1)), max(0, min(row, rows - 1))
        across, down = self._cells(self.table.surprisal, self.table.predicted)
        away = (across - self.cell[0] - 0.25) ** 2 + (2 * (down - self.cell[1] - 0.5)) ** 2  # a cell is twice as high
        self.token_id = int(np.argmin(np.where(np.isfinite(away), away, np.inf)))
        self.renew(self.text)

    def paint(self, width: int, height: int) -> list[Line]:
        """The legend and the picture."""
        if self.table is None:
            return []
        series = [*fit_series(self.table), *self._edges]
        (columns, rows), (x0, x1, y0, y1) = self._grid, self._bounds
        if self.cell is not None:
            x = x0 + 2 * self.cell[0] / max(1, 2 * columns - 1) * (x1 - x0)
            y = y1 - (4 * self.cell[1] + 1) / max(1, 4 * rows - 1) * (y1 - y0)
            series.append(Series(np.array([x]), np.array([y]), kind="mark", role="title", glyph=CROSS))
        if self.token_id is not None:
            at = self.token_id
            point = np.array([self.table.surprisal[at]]), np.array([self.table.predicted[at]])
            if np.isfinite(point).all():
                series.append(Series(*point, kind="mark", role="steered", glyph=MARK))
        legend: Line = [(" " * (GUTTER + 1), "row"), *FIT_LEGEND, (f" {MARK} this token", "steered")]
        return [legend, *draw(series, width, height - 1, *FIT_LABELS, y_range=(y0, y1))]

    def on_resize(self) -> None:
        """Cells are other places now: the cursor goes back to the marked token."""
        self.cell = None
        super().on_resize()

    def on_click(self, event: events.Click) -> None:
        """Put the cursor where the mouse is."""
        at = event.get_content_offset(self)
        if at is not None and not self.text and at.x > GUTTER and at.y > 0:
            self.point(at.x - GUTTER - 1, at.y - 1)
            self.post_message(self.Chosen())
