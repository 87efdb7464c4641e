"""Text that a figure can draw: what the font lacks is shown by its number, and nothing is read as a formula."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tpe_core.printable import fit

__all__ = ["drawable"]

LONGEST = 18  # cells of a token's label


@cache
def _drawn_characters() -> frozenset[int]:
    """Code points of the DejaVu Sans that comes with matplotlib."""
    import matplotlib
    from matplotlib.ft2font import FT2Font

    font = FT2Font(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"))
    return frozenset(font.get_charmap())


def drawable(text: str, longest: int | None = LONGEST) -> str:
    """A printable text with every character that the font lacks as its number, cut to `longest` cells.

    Example: ``drawable("漢")`` is ``⟨U+6F22⟩``.
    """
    known = _drawn_characters()
    shown = "".join(char if ord(char) in known else f"⟨U+{ord(char):04X}⟩" for char in text)
    return shown if longest is None else fit(shown, longest)
