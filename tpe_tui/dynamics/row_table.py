"""A table whose rows are keys of a state: the cursor is the state's, and follows its row when others come or go."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import ClassVar, Generic, TypeVar

from textual import events
from textual.message import Message

from tpe_tui.widgets.curve_style import CURVE_ROLES
from tpe_tui.widgets.line_widget import Line, LineWidget

__all__ = ["RowTable"]

RowKey = TypeVar("RowKey", bound=Hashable)


class RowTable(LineWidget, Generic[RowKey]):
    """`HEAD_ROWS` lines of head, then a row a line; a click puts the cursor on one, the wheel moves it.

    Subclasses say `row_keys` and `here`, and draw `head` and `row`; those with columns to choose from, `column_at`.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = CURVE_ROLES
    HEAD_ROWS: ClassVar[int]

    can_focus = True

    class Picked(Message):
        """A row was chosen with the mouse, None on the head; and in it perhaps a column."""

        def __init__(self, row: Hashable, column: int | None) -> None:
            super().__init__()
            self.row = row
            self.column = column

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.top = 0
        self._keys: Sequence[RowKey] = ()

    def row_keys(self) -> Sequence[RowKey]:
        """The rows, as the state has them now."""
        raise NotImplementedError

    @property
    def here(self) -> RowKey | None:
        """The row under the cursor."""
        raise NotImplementedError

    def head(self, y: int, width: int) -> Line:
        """Line `y` of the head."""
        raise NotImplementedError

    def row(self, key: RowKey, width: int, thumb: str) -> Line:
        """A row without the mark of the cursor; `thumb` is its cell of the scroll bar."""
        raise NotImplementedError

    def column_at(self, x: int) -> int | None:
        """The column at cell `x`, where there are any to choose from."""
        return None

    @property
    def room(self) -> int:
        """Lines below the head."""
        return max(1, self.size.height - self.HEAD_ROWS)

    def renew(self) -> None:
        """The state is another one: keep its row in view, and paint."""
        self._keys = self.row_keys()
        room = self.room
        at = self._keys.index(self.here) if self.here in self._keys else 0
        self.top = max(0, min(self.top, at, len(self._keys) - room), at - room + 1)
        self.repaint()

    def on_resize(self) -> None:
        """The row under the cursor stays in view."""
        super().on_resize()
        self.renew()

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """The head, or a row."""
        if y < self.HEAD_ROWS:
            return self.head(y, width), "row"
        index = self.top + y - self.HEAD_ROWS
        if index >= len(self._keys):
            return [], "row"
        key = self._keys[index]
        is_here = key == self.here
        line = [("▸" if is_here else " ", "key"), *self.row(key, width - 1, self._thumb(y - self.HEAD_ROWS))]
        return line, "cursor" if is_here else "row"

    def _thumb(self, y: int) -> str:
        """The scroll bar's cell in line `y` below the head."""
        rows, room = len(self._keys), self.room
        if rows <= room:
            return " "
        size = max(1, room * room // rows)
        start = round((room - size) * self.top / max(1, rows - room))
        return "▐" if start <= y < start + size else " "

    def on_click(self, event: events.Click) -> None:
        """Put the cursor there."""
        at = event.get_content_offset(self)
        if at is None:
            return
        index = self.top + at.y - self.HEAD_ROWS
        key = self._keys[index] if at.y >= self.HEAD_ROWS and index < len(self._keys) else None
        self.post_message(self.Picked(key, self.column_at(at.x)))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The next row."""
        event.stop()
        self._go(1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The row before."""
        event.stop()
        self._go(-1)

    def _go(self, rows: int) -> None:
        if self.here in self._keys:
            at = max(0, min(self._keys.index(self.here) + rows, len(self._keys) - 1))
            self.post_message(self.Picked(self._keys[at], None))
