"""Rows of a result that is still growing: printed as they come, each once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tpe_tui.cli.progress_line import ProgressLine

__all__ = ["Rows", "table_rows"]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """`new` makes lines of what a result so far has and the last one had not.

    `place` is where they are printed: ``stdout`` (a table that grows), ``stderr`` (the same beside a JSON document) or
    ``log`` (for a table that is only known at the end: nothing on a terminal).
    """

    new: Callable[[Any], list[str]]
    place: str

    def show(self, partial: object, shown: ProgressLine) -> None:
        """Print what is new in `partial`."""
        rows = self.new(partial)
        if self.place == "log":
            shown.log_rows(rows)
        else:
            shown.print_rows(rows, sys.stdout if self.place == "stdout" else sys.stderr)


def table_rows(new: Callable[[Any], list[str]], *, json: bool) -> Rows:
    """Rows of a table on stdout, or on stderr where stdout is one JSON document."""
    return Rows(new=new, place="stderr" if json else "stdout")
