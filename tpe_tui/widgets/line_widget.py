"""The base of every widget here: it draws line by line and repaints only the cells that changed.

A change of data never refreshes a whole widget, so that a key costs a few hundred bytes on the wire.
Text goes to the screen as segments only, never as markup.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.css.styles import RenderStyles
from textual.dom import DOMNode
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

__all__ = ["Line", "LineWidget", "ListPane", "changed_cells"]

Line = list[tuple[str, str]]
"""One line as (text, role) runs; a role names a component class ``line--<role>``."""

ROLES = (
    "row", "muted", "head", "bar", "mark", "up", "down", "steered", "good", "warn", "bad",
    "ramp0", "ramp1", "ramp2", "ramp3", "ramp4", "cursor", "range", "key", "title",
)  # fmt: skip


def _cells(strip: Strip) -> list[tuple[str, Style | None]]:
    """One entry per cell; the second cell of a wide character is an empty text."""
    cells: list[tuple[str, Style | None]] = []
    for text, style, _ in strip:
        if text.isascii():
            cells.extend((char, style) for char in text)
            continue
        for char in text:
            width = cell_len(char)
            if width == 0 and cells:
                cells[-1] = (cells[-1][0] + char, cells[-1][1])
            elif width:
                cells.append((char, style))
                cells.extend([("", style)] * (width - 1))
    return cells


def changed_cells(old: Strip, new: Strip) -> tuple[int, int] | None:
    """The first and one past the last cell in which two lines differ; None where they are equal."""
    if old == new:
        return None
    before, after = _cells(old), _cells(new)
    length = max(len(before), len(after))
    before += [("", None)] * (length - len(before))
    after += [("", None)] * (length - len(after))
    changed = [x for x in range(length) if before[x] != after[x]]
    if not changed:
        return None
    end = changed[-1] + 1
    while end < length and (before[end][0] == "" or after[end][0] == ""):
        end += 1
    return changed[0], end


class LineWidget(Widget):
    """A widget of lines. Subclasses write `line`; whoever changes data calls `repaint`."""

    ALLOW_SELECT = False
    OWN_SPACES: ClassVar[bool] = False  # whether a space keeps its own role: costs bytes where styles change often
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"line--{role}" for role in ROLES}

    def __init__(self, id: str) -> None:
        super().__init__(id=id, markup=False)
        self._painted: dict[int, Strip] = {}
        self._styles_by_role: dict[tuple[str, str], Style] = {}
        self._drawn_roles: set[str] = set()  # component classes
        self._drawn_size: Size | None = None  # while lines are built

    @property
    def size(self) -> Size:
        """Textual's size of the content, looked up once for lines that are built together: it asks the whole tree."""
        return super().size if self._drawn_size is None else self._drawn_size

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """Line `y` of `width` cells as runs, and the role of its background: ``row``, ``range`` or ``cursor``."""
        raise NotImplementedError

    def render_line(self, y: int) -> Strip:
        """Textual's hook: the cached line, built once."""
        strip = self._painted.get(y)
        if strip is None or strip.cell_length != self.size.width:
            strip = self._painted[y] = self._build(y)
        return strip

    def repaint(self, rows: Iterable[int] | None = None) -> None:
        """Rebuild lines (all by default) and send those cells to the screen that changed."""
        size = self.size
        if not self.is_mounted or not size.area:
            self._painted.clear()
            return
        burst = getattr(self.app, "burst", None)
        if burst is not None and burst.postpone(self):
            return
        self._drawn_size = size
        try:
            regions = self._rebuilt(range(size.height) if rows is None else rows, size)
        finally:
            self._drawn_size = None
        if regions:
            self.refresh(*regions)

    def _rebuilt(self, rows: Iterable[int], size: Size) -> list[Region]:
        """Build lines anew; the cells that are others now."""
        regions: list[Region] = []
        for y in rows:
            if not 0 <= y < size.height:
                continue
            old, new = self._painted.get(y), self._build(y)
            span = (0, size.width) if old is None else changed_cells(old, new)
            self._painted[y] = new
            if span is not None:
                regions.append(Region(span[0], y, span[1] - span[0], 1))
        return regions

    def notify_style_update(self) -> None:
        """Textual's hook: colours or focus changed, so every line is built again."""
        self._styles_by_role.clear()
        self._painted.clear()
        super().notify_style_update()

    def on_resize(self) -> None:
        """Every line has another width now."""
        self._painted.clear()

    def _get_component_classes(self) -> frozenset[str]:  # type: ignore[override]
        """Textual's hook: what it styles anew with the widget; of some twenty roles the few that were drawn.

        Textual styles all of them, at the start and whenever the focus moves: a tenth of the time to the first frame.
        """
        return frozenset(self._drawn_roles)

    def get_component_styles(self, *names: str) -> RenderStyles:
        """Textual's hook: the styles of component classes, which are worked out when they are asked for at first."""
        for name in set(names) - self._component_styles.keys():
            if name in super()._get_component_classes():
                component = DOMNode(classes=name)
                component._attach(self)
                self.app.stylesheet.apply(component)
                self._component_styles[name] = component.styles
                self._drawn_roles.add(name)
        return super().get_component_styles(*names)

    def _style(self, role: str, ground: str) -> Style:
        style = self._styles_by_role.get((role, ground))
        if style is None:
            style = self.get_component_rich_style(f"line--{role}")
            if ground != "row":
                over = self.get_component_rich_style(f"line--{ground}")
                style = style + Style(bgcolor=over.bgcolor, bold=over.bold or style.bold)
                if getattr(self.app, "few_colours", False):  # no background that is told apart: by what every one has
                    style = style + (Style(reverse=True) if ground == "cursor" else Style(underline=True))
            self._styles_by_role[role, ground] = style
        return style

    def _build(self, y: int) -> Strip:
        width = self.size.width
        runs, ground = self.line(y, width)
        segments: list[Segment] = []
        for text, role in runs:
            blank = text.isspace() and not self.OWN_SPACES
            if blank and segments:  # spaces take their neighbour's style: each change of style costs 40 bytes
                segments.append(Segment(text, segments[-1].style))
            elif text:
                segments.append(Segment(text, self._style("row" if blank else role, ground)))
        strip = Strip(segments)
        return strip.simplify().adjust_cell_length(width, self._style("row", ground))


class ListPane(LineWidget):
    """A scrolled list with one header line, a cursor, and a thin scroll mark at the right edge.

    Subclasses write `header`, `row` and `n_rows`. The cursor is a row of the list as ordered now.
    """

    can_focus = True

    class Moved(Message):
        """The cursor is on another row."""

        def __init__(self, pane: ListPane) -> None:
            super().__init__()
            self.pane = pane

        @property
        def control(self) -> ListPane:
            """The pane that moved."""
            return self.pane

    class Sorted(Message):
        """The rows stand in another order, by a click."""

        def __init__(self, pane: ListPane) -> None:
            super().__init__()
            self.pane = pane

        @property
        def control(self) -> ListPane:
            """The pane that was sorted."""
            return self.pane

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.cursor = 0
        self.top = 0

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        raise NotImplementedError

    def header(self, width: int) -> Line:
        """The header line."""
        raise NotImplementedError

    def row(self, index: int, width: int) -> tuple[Line, str]:
        """One row as runs and its background."""
        raise NotImplementedError

    def empty(self) -> str:
        """What an empty list says; it is wrapped to the pane."""
        return ""

    @property
    def page(self) -> int:
        """Rows that fit below the header."""
        return max(1, self.size.height - 1)

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """The header, a row, or the empty list's sentence."""
        if y == 0:
            return self.header(width - 1), "row"
        index = self.top + y - 1
        if index >= self.n_rows:
            return [(" " + self._empty_line(y - 1, width - 2), "muted")], "row"
        runs, ground = self.row(index, width - 1)
        return [*runs, (self._thumb(y), "muted")], ground

    def _empty_line(self, number: int, width: int) -> str:
        """One line of what an empty list says; nothing where there are rows."""
        lines = [] if self.n_rows else textwrap.wrap(self.empty(), max(10, width))
        return lines[number] if number < len(lines) else ""

    def _thumb(self, y: int) -> str:
        if self.n_rows <= self.page:
            return " "
        size = max(1, self.page * self.page // self.n_rows)
        start = (self.page - size) * self.top // max(1, self.n_rows - self.page)
        return "▐" if start <= y - 1 < start + size else " "

    def go(self, index: int, quiet: bool = False) -> None:
        """Put the cursor on a row, scroll it into view and say so."""
        old = self.cursor
        self.cursor = max(0, min(index, self.n_rows - 1))
        top = min(self.top, self.cursor)
        top = max(min(top, self.n_rows - self.page), self.cursor - self.page + 1, 0)
        scrolled = top != self.top
        self.top = top
        self.repaint(None if scrolled else self.lines_between(old, self.cursor))
        if not quiet and old != self.cursor:
            self.post_message(self.Moved(self))

    def lines_between(self, old: int, new: int) -> Iterator[int]:
        """The lines to repaint when the cursor leaves `old` for `new`."""
        return iter({old - self.top + 1, new - self.top + 1})

    def scroll_rows(self, rows: int) -> None:
        """Scroll without moving the cursor."""
        self.top = max(0, min(self.top + rows, self.n_rows - self.page))
        self.repaint()

    def on_resize(self) -> None:
        """Keep the cursor in view."""
        super().on_resize()
        if self.size.area:
            self.top = max(0, min(self.top, self.n_rows - self.page))
            self.go(self.cursor, quiet=True)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Three rows down."""
        event.stop()
        self.scroll_rows(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Three rows up."""
        event.stop()
        self.scroll_rows(-3)

    def on_click(self, event: events.Click) -> None:
        """Put the cursor where the mouse is; on the header, order by that column."""
        at = event.get_content_offset(self)
        if at is not None and at.y == 0:
            self.header_clicked(at.x)
        if at is not None and at.y > 0 and self.top + at.y - 1 < self.n_rows:
            self.go(self.top + at.y - 1)

    def header_clicked(self, x: int) -> None:
        """The header was clicked at cell `x`; nothing happens where the list has one order."""

    def get_content_width(self, container: Size, viewport: Size) -> int:
        """As wide as it is let be."""
        return container.width
