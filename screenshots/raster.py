"""Draws a terminal's cells as a PNG: exact columns, block characters as rectangles, braille as dots.

SVG renderers stretch text by the font they happen to find; a grid of cells has no such freedom.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from rich.cells import cell_len
from rich.color import ColorTriplet
from rich.segment import Segment
from rich.style import Style

__all__ = ["draw"]

CELL = (10, 21)  # pixels
SIZE = 16  # points, so that a character is as wide as a cell
FONT_FOLDERS = ("/usr/share/fonts/truetype/dejavu", "/usr/share/fonts/TTF", "/usr/share/fonts/dejavu-sans-mono-fonts")
COLOURS = 256  # of a picture: the theme's, and what smooths the edges of letters
FOREGROUND, BACKGROUND = ColorTriplet(212, 216, 220), ColorTriplet(20, 24, 28)
CORNERS = {
    "╭": (1, 1),
    "╮": (-1, 1),
    "╰": (1, -1),
    "╯": (-1, -1),
    "┌": (1, 1),
    "┐": (-1, 1),
    "└": (1, -1),
    "┘": (-1, -1),
}
"""A corner by where its lines go: right or left, down or up."""

EIGHTHS = {chr(0x2588 + i): (8 - i) / 8 for i in range(8)}  # full block to left eighth


@cache
def _font(bold: bool) -> ImageFont.FreeTypeFont:
    name = f"DejaVuSansMono{'-Bold' if bold else ''}.ttf"
    for folder in FONT_FOLDERS:
        if (Path(folder) / name).exists():
            return ImageFont.truetype(str(Path(folder) / name), SIZE)
    raise SystemExit(f"{name} was not found: install the DejaVu fonts (Debian: fonts-dejavu-core).")


def _colours(style: Style | None) -> tuple[ColorTriplet, ColorTriplet]:
    """(foreground, background), dimmed and reversed as a terminal would."""
    front, back = FOREGROUND, BACKGROUND
    if style is None:
        return front, back
    if style.color is not None and not style.color.is_default:
        front = style.color.get_truecolor()
    if style.bgcolor is not None and not style.bgcolor.is_default:
        back = style.bgcolor.get_truecolor(foreground=False)
    if style.dim:
        front = ColorTriplet(*((a + b) // 2 for a, b in zip(front, back, strict=True)))
    return (back, front) if style.reverse else (front, back)


def draw(lines: Sequence[Sequence[Segment]], path: Path) -> None:
    """Write lines of segments as a picture."""
    width = max(sum(cell_len(segment.text) for segment in line) for line in lines)
    image = Image.new("RGB", (width * CELL[0], len(lines) * CELL[1]), BACKGROUND)
    canvas = ImageDraw.Draw(image)
    for row, line in enumerate(lines):
        column = 0
        for segment in line:
            front, back = _colours(segment.style)
            bold = bool(segment.style and segment.style.bold)
            for character in segment.text:
                cells = cell_len(character)
                if cells:  # a mark that attaches to the character before it is not drawn
                    _cell(canvas, (column * CELL[0], row * CELL[1]), character, cells, front, back, bold)
                column += cells
    few = image.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def _cell(
    canvas: ImageDraw.ImageDraw,
    at: tuple[int, int],
    character: str,
    cells: int,
    front: ColorTriplet,
    back: ColorTriplet,
    bold: bool,
) -> None:
    x, y = at
    width, height = CELL[0] * cells, CELL[1]
    canvas.rectangle((x, y, x + width - 1, y + height - 1), fill=back)
    code = ord(character)
    if character in EIGHTHS:
        canvas.rectangle((x, y, x + round(width * EIGHTHS[character]) - 1, y + height - 1), fill=front)
    elif 0x2581 <= code < 0x2588:
        canvas.rectangle(
            (x, y + height - round(height * (code - 0x2580) / 8), x + width - 1, y + height - 1), fill=front
        )
    elif character in CORNERS:
        across, down = CORNERS[character]
        middle, centre = y + height // 2, x + width // 2
        canvas.line((centre, middle, x + width - 1 if across > 0 else x, middle), fill=front)
        canvas.line((centre, middle, centre, y + height - 1 if down > 0 else y), fill=front)
    elif character == "▐":
        canvas.rectangle((x + width // 2, y, x + width - 1, y + height - 1), fill=front)
    elif 0x2800 <= code < 0x2900:
        for bit, (dx, dy) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)]):
            if code >> bit & 1:
                cx, cy = x + width * (2 * dx + 1) / 4, y + height * (2 * dy + 1) / 8
                canvas.ellipse((cx - 1.5, cy - 1.5, cx + 1.5, cy + 1.5), fill=front)
    elif character in "━─":
        middle = y + height // 2
        canvas.line((x, middle, x + width - 1, middle), fill=front, width=3 if character == "━" else 1)
    elif character in "│┃":
        middle = x + width // 2
        canvas.line((middle, y, middle, y + height - 1), fill=front, width=1 if character == "│" else 3)
    elif character.strip():
        canvas.text((x, y + height * 0.78), character, font=_font(bold), fill=front, anchor="ls")
