"""Results that show themselves: as HTML in a notebook, as figures, as tables and as data frames.

One base class for all of them, which knows no result. matplotlib and pandas are imported when they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from tpe_core.errors import TpeError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tpe_core.tables import Table

__all__ = ["Shown", "figure_text"]

SHOWN_ROWS = 24  # of a summary; a longer one says how many there are


class Shown:
    """A result with `to_table`, `to_frame` and `plot`, and a summary where a notebook shows it.

    A class says by `_tables` which tables it has, the first being the one that is meant where none is named, and by
    `_summary` what a reader wants to know first.
    """

    __slots__ = ()

    def _tables(self) -> Mapping[str, Callable[[], Table]]:
        """What makes each table, by name."""
        raise NotImplementedError

    def _summary(self) -> Mapping[str, object]:
        """Key figures by what they are called."""
        raise NotImplementedError

    def _subject(self) -> str:
        """What was measured, for the figures; empty where nothing says it."""
        return ""

    def to_table(self, name: str = "") -> Table:
        """One of the result's tables, the main one where none is named.

        Raises `TpeError` for a name that there is not.
        """
        tables = self._tables()
        chosen = name or next(iter(tables))
        if chosen not in tables:
            raise TpeError(f"unknown table {name!r}: choose one of {', '.join(tables)}.")
        return tables[chosen]()

    def to_frame(self, name: str = "") -> Any:
        """The same as `to_table` as a `pandas.DataFrame`. Raises `TpeError` where pandas is not installed."""
        return self.to_table(name).to_frame()

    def plots(self) -> tuple[str, ...]:
        """The names of the figures that `plot` can draw."""
        from tpe_core.plots.figures import DRAWINGS

        tables = self._tables()
        return tuple(drawing.name for table in tables for drawing in DRAWINGS.values() if drawing.table == table)

    def plot(self, figure: str = "", style: str = "light", width: float = 7.0) -> Figure:
        """Draw one of `plots`, the first where none is named, as a `matplotlib.figure.Figure`.

        Args:
            figure: One of `plots`.
            style: ``light`` or ``dark``.
            width: Inches; below 5 panels stand under one another.

        Raises `TpeError` where matplotlib is not installed, or for a name that there is not.
        """
        from tpe_core.plots.figures import DRAWINGS, draw

        names = self.plots()
        if not names:
            raise TpeError(f"there is no figure of {type(self).__name__}: to_table() has what it holds.")
        chosen = figure or names[0]
        if chosen not in names:
            raise TpeError(f"unknown figure {figure!r}: choose one of {', '.join(names)}.")
        return draw(chosen, self.to_table(DRAWINGS[chosen].table), style, width=width, subject=self._subject())

    def _repr_html_(self) -> str:
        """The summary as a small table, in the notebook's own colours."""
        summary = [(escape(name), escape(figure_text(value))) for name, value in self._summary().items()]
        rows = [
            f'<tr><td style="text-align:left">{name}</td><td style="text-align:right">{value}</td></tr>'
            for name, value in summary[:SHOWN_ROWS]
        ]
        if len(summary) > SHOWN_ROWS:
            rows.append(f"<tr><td>… and {len(summary) - SHOWN_ROWS} more</td><td></td></tr>")
        title = escape(self._title())
        hints = [f"<code>.plot()</code>: {escape(', '.join(self.plots()))}"] if self.plots() else []
        hints.append(f"<code>.to_table()</code>, <code>.to_frame()</code>: {escape(', '.join(self._tables()))}")
        return (
            f'<table><caption style="text-align:left"><b>{title}</b></caption><tbody>{"".join(rows)}</tbody></table>'
            f'<p style="opacity:.75;font-size:85%">{"<br>".join(hints)}</p>'
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """The summary as HTML, and as text where that is shown: the plain representation would be every array."""
        lines = [f"  {label}: {figure_text(value)}" for label, value in self._summary().items()]
        text = "\n".join([self._title(), *lines[:SHOWN_ROWS]])
        return {"text/plain": text, "text/html": self._repr_html_()}

    def _title(self) -> str:
        return " · ".join(part for part in (type(self).__name__, self._subject()) if part)


def figure_text(value: object) -> str:
    """A figure for people: four digits, ``yes`` and ``no``, and a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
