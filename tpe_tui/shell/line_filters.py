"""What is done to every painted line before it reaches the terminal: glyphs that it cannot draw become ASCII."""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from tpe_tui.glyphs import ascii_cells

__all__ = ["AsciiFilter"]


class AsciiFilter(LineFilter):
    """Every cell in ASCII: text, borders, scroll bars, whatever widget drew it."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same cells and styles."""
        return [
            segment if segment.control or segment.text.isascii() else Segment(ascii_cells(segment.text), segment.style)
            for segment in segments
        ]
