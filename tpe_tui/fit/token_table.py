"""The table of every token in the fit, in the order of any column; only the rows in view are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from tpe_core.fit_summary import token_columns
from tpe_core.lazy import Deferred
from tpe_core.snapshots import EncodingTable
from tpe_tui.cells import fit, number
from tpe_tui.widgets.line_widget import Line, ListPane

if TYPE_CHECKING:
    import numpy as np

    from tpe_core.snapshots import Floats, Ints
else:
    np = Deferred("numpy")

__all__ = ["COLUMNS", "FitTable"]

TOKEN_CELLS = 10  # at least


class Column(NamedTuple):
    """One column: the name of its figures, its title, its cells, how it writes one, how it is sorted."""

    name: str
    title: str
    width: int
    write: Callable[[float], str]
    descending: bool = True
    by_size: bool = False


def _whole(value: float) -> str:
    return f"{value:.0f}"


def _figure(value: float) -> str:
    return "" if value != value else number(value)  # noqa: PLR0124 - NaN


def _signed(value: float) -> str:
    return "" if value != value else number(value, signed=True)  # noqa: PLR0124 - NaN


COLUMNS = (
    Column("rank", "rank", 7, _whole, False),
    Column("token", "token", 0, str, False),
    Column("id", "id", 8, _whole, False),
    Column("alpha", "alpha", 9, _figure),
    Column("surprisal", "−log α", 9, _figure),
    Column("predicted", "fitted", 9, _figure),
    Column("residual", "residual", 10, _signed, by_size=True),
    Column("log_p", "log p", 9, _figure),
)
BY_NAME = {column.name: column for column in COLUMNS}
PRIORITY = ("rank", "residual", "surprisal", "predicted", "id", "alpha", "log_p")


class FitTable(ListPane):
    """Every token; the cursor stays on its token when the order changes."""

    def __init__(self) -> None:
        super().__init__("fit-tokens")
        self.tokens: Sequence[str] = ()
        self.figures: dict[str, Floats] = {}
        self.sort = "rank"
        self.descending = False

    @cached_property
    def order(self) -> Ints:
        """[V] token ids as they stand."""
        return np.empty(0, dtype=np.int64)

    @cached_property
    def place(self) -> Ints:
        """[V] the row of each token."""
        return np.empty(0, dtype=np.int64)

    @property
    def n_rows(self) -> int:
        """How many tokens there are."""
        return len(self.tokens)

    @property
    def token_id(self) -> int | None:
        """The token under the cursor."""
        return int(self.order[self.cursor]) if self.n_rows else None

    def show(self, table: EncodingTable, log_p: Floats | None) -> None:
        """Show a table; `log_p` [V] is that of the prompt, where it is known."""
        self.tokens, self.figures = table.tokens, token_columns(table, log_p)
        self.sort_by(self.sort, self.descending)

    def sort_by(self, name: str, descending: bool | None = None) -> None:
        """Sort by a column, the way it is sorted first where `descending` is None; what has no figure comes last."""
        token_id, column = self.token_id if len(self.order) == self.n_rows else None, BY_NAME[name]
        self.sort, self.descending = name, column.descending if descending is None else descending
        if name == "token":
            ids = sorted(range(self.n_rows), key=self.tokens.__getitem__, reverse=self.descending)
            self.order = np.array(ids, dtype=np.int64)
        else:
            values = np.abs(self.figures[name]) if column.by_size else self.figures[name]
            self.order = np.argsort(-values if self.descending else values, kind="stable")
        self.place = np.empty(self.n_rows, dtype=np.int64)
        self.place[self.order] = np.arange(self.n_rows)
        self.go(0 if token_id is None else int(self.place[token_id]), quiet=True)
        self.repaint()

    def next_sort(self) -> None:
        """Sort by the next column."""
        names = list(BY_NAME)
        self.sort_by(names[(names.index(self.sort) + 1) % len(names)])

    def select(self, token_id: int) -> None:
        """Put the cursor on a token."""
        self.go(int(self.place[token_id]))

    def title(self) -> str:
        """The sort key and its direction, for the pane's title."""
        return f"{BY_NAME[self.sort].title} {'↓' if self.descending else '↑'}"

    def _columns(self, width: int) -> tuple[list[Column], int]:
        """The columns that fit, the sort key's always, and the token's cells."""
        left, chosen = width - TOKEN_CELLS - 1, {"token"}
        for name in (self.sort, *PRIORITY):
            if name not in chosen and BY_NAME[name].width <= left:
                chosen.add(name)
                left -= BY_NAME[name].width
        return [column for column in COLUMNS if column.name in chosen], TOKEN_CELLS + left

    def header(self, width: int) -> Line:
        """The titles, with an arrow on the sort key."""
        columns, cells = self._columns(width)
        text = ""
        for column in columns:
            arrow = ("↓" if self.descending else "↑") if column.name == self.sort else ""
            is_token = column.name == "token"
            title = column.title + arrow
            text += " " + fit(title, cells) if is_token else fit(title, column.width, right=True)
        return [(text, "head")]

    def row(self, index: int, width: int) -> tuple[Line, str]:
        """One token."""
        columns, cells = self._columns(width)
        token_id, text = int(self.order[index]), ""
        for column in columns:
            if column.name == "token":
                text += " " + fit(self.tokens[token_id], cells)
            else:
                value = float(self.figures[column.name][token_id])
                text += fit(column.write(value), column.width, right=True)
        return [(text, "row")], "cursor" if index == self.cursor else "row"

    def header_clicked(self, x: int) -> None:
        """Sort by the column that was clicked; the one that it is sorted by the other way round."""
        columns, cells = self._columns(self.size.width - 1)
        right = 0
        for column in columns:
            left, right = right, right + (cells + 1 if column.name == "token" else column.width)
            if left <= x < right:
                self.sort_by(column.name, not self.descending if column.name == self.sort else None)
                self.post_message(self.Sorted(self))

    def copy_text(self) -> str:
        """The token under the cursor."""
        token_id = self.token_id
        return "" if token_id is None else self.tokens[token_id]
