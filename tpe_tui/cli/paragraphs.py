"""Text in lines of a width: as wide as the terminal, 80 cells where the output is a file or a pipe."""

from __future__ import annotations

import shutil
import sys
import textwrap

__all__ = ["report_width", "wrapped"]

NARROWEST, WIDEST, PLAIN = 60, 120, 80


def report_width() -> int:
    """Cells of a line of a report on stdout."""
    columns = shutil.get_terminal_size((PLAIN, 24)).columns if sys.stdout.isatty() else PLAIN
    return max(NARROWEST, min(WIDEST, columns))


def wrapped(text: str, width: int, hanging: str = "") -> list[str]:
    """`text` in lines of at most `width` cells, at least one; all but the first begin with `hanging`.

    A word that is longer stands on a line of its own, whole: a path can be copied.
    """
    return textwrap.wrap(
        text, max(8, width), subsequent_indent=hanging, break_on_hyphens=False, break_long_words=False
    ) or [""]
