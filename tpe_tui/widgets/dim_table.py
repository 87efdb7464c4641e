"""The table of dimensions: rank, slope and its tests, and which ones are pruned.

It shows numpy columns in an order; it never computes a statistic and never edits an intervention.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from tpe_core.expressions import parse_condition
from tpe_core.lazy import Deferred
from tpe_core.snapshots import CONDITION_FLAGS, CONDITION_NUMBERS, SORT_KEYS, EncodingTable
from tpe_tui.cells import bar, fit, number, p_value
from tpe_tui.widgets.line_widget import Line, ListPane

if TYPE_CHECKING:
    import numpy as np

    from tpe_core.snapshots import Ints
else:
    np = Deferred("numpy")

__all__ = ["FILTER_HELP", "DimTable", "parse_filter"]

FILTER_HELP = "kept, bookmarked, 10-50, >0.5 (the sort key), or as in abs(slope) > 1 and not pruned"
BOOKMARKED = "bookmarked"  # the filter
BAR_CELLS = 6  # of the bar at least
HEADER_CELLS = 12  # before the columns: the mark, the rank, the dimension


class Column(NamedTuple):
    """One column: the table's field, its header, its cells, and how it writes a value."""

    name: str
    header: str
    width: int
    write: Callable[[float], str]


def _signed(value: float) -> str:
    return number(value, signed=True)


def _t(value: float) -> str:
    return f"{value:+z.1f}" if abs(value) < 99_999 else number(value, signed=True)


def _r(value: float) -> str:
    return f"{value:+z.2f}"


COLUMNS = (
    Column("slope", "slope", 8, _signed),
    Column("slope_std", "std", 8, _signed),
    Column("stderr", "stderr", 8, number),
    Column("t", "t", 8, _t),
    Column("r", "r", 6, _r),
    Column("q", "q", 7, p_value),
    Column("mean_hidden", "mean h", 8, _signed),
    Column("sd_hidden", "sd h", 8, number),
    Column("rms_hidden", "rms h", 8, number),
    Column("sd_weight", "sd W", 8, number),
)
PRIORITY = ("slope", "r", "slope_std", "t", "q")
WIDE = ("stderr", "mean_hidden", "sd_hidden", "sd_weight", "rms_hidden")
"""The columns of a pane that is wide enough for them beside a bar."""

Filter = Callable[[EncodingTable, str, "np.ndarray"], "np.ndarray"]
"""Of (table, sort key, pruned [d]): what stays in view [d]."""


def parse_filter(text: str, bookmarks: Collection[int] = ()) -> Filter | None:
    """A filter; None where the text is empty. Raises `TpeError` where it is not understood."""
    text = text.strip()
    if not text:
        return None
    if text.lower() == "kept":
        return lambda _table, _key, pruned: ~pruned
    if text.lower() == BOOKMARKED:
        return lambda _table, _key, pruned: np.isin(np.arange(len(pruned)), list(bookmarks))
    if match := re.fullmatch(r"(\d+)\s*-\s*(\d+)", text):
        low, high = int(match[1]), int(match[2])
        return lambda _table, _key, pruned: (np.arange(len(pruned)) >= low) & (np.arange(len(pruned)) <= high)
    if match := re.fullmatch(r"([<>])\s*(\d*\.?\d+(?:e[+-]?\d+)?)", text):
        above, bound = match[1] == ">", float(match[2])
        return lambda table, key, _pruned: (np.abs(table.key(key)) > bound) == above
    condition = parse_condition(text, CONDITION_NUMBERS, CONDITION_FLAGS)
    return lambda table, _key, pruned: table.where(condition.text, np.flatnonzero(pruned).tolist())


class DimTable(ListPane):
    """Pane 1. `pruned` [d] marks what is pruned; `range_from` is the dimension where a range began."""

    def __init__(self) -> None:
        super().__init__("dims")
        self.table: EncodingTable | None = None
        self.sort = "slope"
        self.descending = True
        self.filter = ""
        self.range_from: int | None = None
        self.bookmarks: set[int] = set()
        self._largest = 1.0

    @cached_property
    def order(self) -> Ints:
        """[n_rows] the dimensions in view."""
        return np.empty(0, dtype=np.int64)

    @cached_property
    def rank(self) -> Ints:
        """[d] 1 for the dimension that the sort key puts first."""
        return np.empty(0, dtype=np.int64)

    @cached_property
    def pruned(self) -> np.ndarray:
        """[d] whether a dimension is pruned."""
        return np.empty(0, dtype=bool)

    @property
    def n_rows(self) -> int:
        """Rows in view."""
        return len(self.order) if self.table is not None else 0

    @property
    def dim(self) -> int | None:
        """The dimension under the cursor."""
        return int(self.order[self.cursor]) if self.n_rows else None

    def empty(self) -> str:
        """Why there is nothing to see."""
        if self.table is None:
            return "here stand the dimensions of a model's output embedding, ranked, once it is open"
        return "no dimension passes the filter"

    def show(self, table: EncodingTable, pruned: tuple[int, ...]) -> None:
        """Another table; the cursor keeps its dimension where it can."""
        self.table = table
        self.pruned = np.zeros(len(table.slope), dtype=bool)
        self.pruned[list(pruned)] = True
        self.rebuild()

    def forget(self) -> None:
        """Another model: its dimensions are other ones, so the cursor goes to the first row."""
        self.table, self.filter, self.range_from, self.cursor, self.top = None, "", None, 0, 0
        self.bookmarks.clear()
        self.order = np.empty(0, dtype=np.int64)

    def rebuild(self) -> None:
        """Order and filter anew, keeping the cursor on its dimension."""
        if self.table is None:
            return
        dim = self.dim
        self.rank = np.empty(len(self.table.slope), dtype=np.int64)
        ranked = self.table.order(self.sort if self.sort != "dim" else "slope")
        self.rank[ranked] = np.arange(1, len(ranked) + 1)
        self._largest = float(np.max(np.abs(self.table.slope), initial=1e-300))
        order = self.table.order(self.sort, self.descending)
        keep = parse_filter(self.filter, self.bookmarks)
        self.order = order[keep(self.table, self.sort, self.pruned)[order]] if keep else order
        self.select(dim if dim is not None else -1)
        self.repaint()

    def mark(self, pruned: tuple[int, ...]) -> None:
        """Show another mask, repainting the rows that changed only."""
        now = np.zeros_like(self.pruned)
        now[list(pruned)] = True
        changed = now != self.pruned
        self.pruned = now
        if re.search(r"\b(pruned|kept)\b", self.filter) and changed.any():
            self.rebuild()
            return
        seen = self.order[self.top : self.top + self.page]
        self.repaint([1 + int(row) for row in np.flatnonzero(changed[seen])])

    def bookmark(self, dim: int) -> None:
        """Bookmark a dimension, or remove its bookmark."""
        self.bookmarks ^= {dim}
        if self.filter.strip().lower() == BOOKMARKED:
            self.rebuild()
        else:
            self.repaint()

    def select(self, dim: int) -> bool:
        """Put the cursor on a dimension; False (and the first row) where it is not in view."""
        rows = np.flatnonzero(self.order == dim)
        self.go(int(rows[0]) if len(rows) else 0)
        return bool(len(rows))

    def range_dims(self, count: int = 1) -> tuple[int, ...]:
        """The dimensions between the range's start and the cursor; without a range `count` from the cursor down."""
        if not self.n_rows:
            return ()
        low, high = self._range_rows()
        high += 0 if self.range_from is not None else count - 1
        return tuple(int(dim) for dim in self.order[low : high + 1])

    def set_range(self, on: bool) -> None:
        """Begin a range at the cursor, or drop it."""
        self.range_from = self.dim if on else None
        self.repaint()

    def lines_between(self, old: int, new: int) -> Iterator[int]:
        """With a range, every row between as well."""
        if self.range_from is None:
            return super().lines_between(old, new)
        return iter(range(min(old, new) - self.top + 1, max(old, new) - self.top + 2))

    def _range_rows(self) -> tuple[int, int]:
        start = self.cursor
        if self.range_from is not None:
            found = np.flatnonzero(self.order == self.range_from)
            start = int(found[0]) if len(found) else start
        return min(start, self.cursor), max(start, self.cursor)

    def title(self) -> str:
        """What the pane's title adds: sort key, direction, filter."""
        heading = next((column.header for column in COLUMNS if column.name == self.sort), self.sort)
        text = f"{heading} {'↓' if self.descending else '↑'}"
        return f"{text}  {self.filter} ({self.n_rows})" if self.filter else text

    def _columns(self, width: int) -> tuple[list[Column], int]:
        """The columns that fit, the sort key's always, and the cells left for the bar."""
        left = width - HEADER_CELLS
        wanted = [self.sort, *PRIORITY] if self.sort != "dim" else list(PRIORITY)
        chosen: set[str] = set()
        for name in wanted:
            cells = next(column.width for column in COLUMNS if column.name == name)
            if name not in chosen and cells <= left:
                chosen.add(name)
                left -= cells
        for name in WIDE:
            cells = next(column.width for column in COLUMNS if column.name == name)
            if name not in chosen and cells + BAR_CELLS < left:
                chosen.add(name)
                left -= cells
        return [column for column in COLUMNS if column.name in chosen], left - 1

    def header(self, width: int) -> Line:
        """Column names; an arrow on the sort key."""
        columns, _ = self._columns(width)
        arrow = "↓" if self.descending else "↑"
        names = [
            (column.header + arrow if column.name == self.sort else column.header, column.width) for column in columns
        ]
        dim = "dim" + arrow if self.sort == "dim" else "dim"
        return [
            (
                fit("", 2) + fit("rank", 5, True) + fit(dim, 5, True) + "".join(fit(*name, True) for name in names),
                "head",
            )
        ]

    def row(self, index: int, width: int) -> tuple[Line, str]:
        """One dimension: a cross and dimmed where pruned, a star where it is bookmarked."""
        if self.table is None:
            return [], "row"
        dim = int(self.order[index])
        columns, left = self._columns(width)
        pruned = bool(self.pruned[dim])
        low, high = self._range_rows()
        in_range = self.range_from is not None and low <= index <= high
        mark = "✗" if pruned else "▏" if in_range else " "
        text = fit(str(self.rank[dim]), 4, True) + fit(str(dim), 5, True)
        text += "".join(
            fit(column.write(float(getattr(self.table, column.name)[dim])), column.width, True) for column in columns
        )
        role = "muted" if pruned else "row"
        star = "*" if dim in self.bookmarks else " "
        runs: Line = [(star + mark + " ", "down" if pruned else role), (text, role)]
        if left >= BAR_CELLS:
            share = abs(float(self.table.slope[dim])) / self._largest
            runs.append((" " + bar(share, left), "muted" if pruned else "bar"))
        else:
            runs.append((" " * (left + 1), role))
        return runs, "cursor" if index == self.cursor else "range" if in_range else "row"

    def next_sort(self) -> None:
        """Order by the next key; from a column that is no such key by the first."""
        at = SORT_KEYS.index(self.sort) + 1 if self.sort in SORT_KEYS else 0
        self.sort = SORT_KEYS[at % len(SORT_KEYS)]
        self.rebuild()

    def column_at(self, x: int, width: int) -> str | None:
        """The sort key of the column whose header stands at cell `x`; None where none does."""
        if 7 <= x < HEADER_CELLS:
            return "dim"
        right = HEADER_CELLS
        for column in self._columns(width)[0]:
            right += column.width
            if right - column.width <= x < right:
                return column.name
        return None

    def header_clicked(self, x: int) -> None:
        """Order by the column that was clicked; the one that it is ordered by the other way round."""
        name = self.column_at(x, self.size.width - 1)
        if name is None or self.table is None:
            return
        self.descending = not self.descending if name == self.sort else True
        self.sort = name
        self.rebuild()
        self.post_message(self.Sorted(self))

    def copy_text(self) -> str:
        """The row under the cursor as two tab-separated lines: names, then full-precision values."""
        if self.table is None or self.dim is None:
            return ""
        names = ("slope", "slope_std", "stderr", "t", "p", "q", "r")
        values = [repr(float(getattr(self.table, name)[self.dim])) for name in names]
        pruned = str(bool(self.pruned[self.dim])).lower()
        return "\t".join(("dim", "pruned", *names)) + "\n" + "\t".join((str(self.dim), pruned, *values))
