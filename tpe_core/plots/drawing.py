"""The table of figures: what each is called, which table it draws, and the function that draws it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpe_core.registry import Registry

if TYPE_CHECKING:
    from tpe_core.plots.canvas import Canvas
    from tpe_core.tables import Table

__all__ = ["DRAWINGS", "Draw", "Drawing", "drawing"]

Draw = Callable[["Table", "Canvas"], None]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One figure. Its table has at least the columns in `columns`, and may have others, which some figures use."""

    name: str
    table: str  # the name of the table it draws; some tables are drawn twice
    about: str  # what it shows, for people
    columns: tuple[str, ...]
    numbers: tuple[str, ...]  # those of them that must be finite in at least one row
    draw: Draw


DRAWINGS: Registry[Drawing] = Registry("figure")
"""Every figure by name, filled by the modules that `tpe_core.plots.figures` imports."""


def drawing(
    name: str, table: str, about: str, *, columns: tuple[str, ...] = (), numbers: tuple[str, ...]
) -> Callable[[Draw], Draw]:
    """Register the function below as the figure `name`; `columns` are those beside `numbers`."""

    def register(draw: Draw) -> Draw:
        every = (*columns, *numbers)
        DRAWINGS.register(Drawing(name=name, table=table, about=about, columns=every, numbers=numbers, draw=draw))
        return draw

    return register
