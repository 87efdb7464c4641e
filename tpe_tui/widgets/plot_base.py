"""The base of the plots: a picture that is a pure function of a size, or a few lines of text in its place.

It paints a picture once for every size and change; what is on it is its subclasses'.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from textwrap import wrap

from textual import events
from textual.message import Message

from tpe_tui.cells import fit
from tpe_tui.widgets.canvas import GUTTER
from tpe_tui.widgets.line_widget import Line, LineWidget

__all__ = ["FigurePlot"]


LABEL = re.compile(r"\s*(?:\S(?:.*?\S)?\s{2,})?")
"""What a line begins with that is no text: spaces, and a label with two spaces or more behind it."""


def wrapped(lines: Sequence[str], width: int) -> list[str]:
    """The lines in `width` cells; what does not fit goes on below itself, beside its label where it has one."""
    found: list[str] = []
    for line in lines:
        begin = LABEL.match(line)
        indent = 0 if begin is None or begin.end() > width // 2 else begin.end()
        head = line[:indent]
        parts = wrap(line[indent:], max(8, width - indent), break_on_hyphens=False) or [""]
        found += [head + parts[0], *(" " * indent + part for part in parts[1:])]
    return found


class FigurePlot(LineWidget):
    """Draws what `paint` gives. `text` stands in the place of a picture: a title and the lines below it."""

    class Pointed(Message):
        """The mouse pointed at a place along the x axis, in [0, 1]."""

        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.text: tuple[str, ...] = ()
        self._drawn: tuple[tuple[int, int], list[Line]] | None = None

    def paint(self, width: int, height: int) -> list[Line]:
        """The picture: at most `height` lines of `width` cells."""
        raise NotImplementedError

    def renew(self, text: tuple[str, ...] = ()) -> None:
        """The picture is another one, or `text`."""
        self.text, self._drawn = text, None
        self.repaint()

    def on_resize(self) -> None:
        """A picture of another height is another one on every line."""
        super().on_resize()
        self.refresh()

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """A line of the picture, or of the text."""
        size = (width, self.size.height)
        if self._drawn is None or self._drawn[0] != size:
            self._drawn = size, self._explain(*size) if self.text else self.paint(*size)
        lines = self._drawn[1]
        return (lines[y] if y < len(lines) else []), "row"

    def _explain(self, width: int, height: int) -> list[Line]:
        """The text in the middle of the height, wrapped."""
        text = wrapped(self.text, width - 2)
        above = max(0, (height - len(text)) // 2)
        blank: list[Line] = [[] for _ in range(above)]
        return [*blank, *([(fit("  " + line, width), "row" if at else "title")] for at, line in enumerate(text))]

    def on_click(self, event: events.Click) -> None:
        """Point at a place along the axis."""
        at = event.get_content_offset(self)
        columns = self.size.width - GUTTER - 2
        if at is not None and not self.text and columns > 0 and at.x > GUTTER:
            self.pointed(min(1.0, (at.x - GUTTER - 1) / columns))

    def pointed(self, share: float) -> None:
        """The mouse pointed at a place along the x axis."""
        self.post_message(self.Pointed(share))
