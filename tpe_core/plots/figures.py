"""A table in, a figure out: drawn in a style, shown in a notebook, written as PNG or SVG with the same bytes each time.

Settings of matplotlib that a user made do not count, and none are changed.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpe_core.errors import TpeError
from tpe_core.plots import comparison, dynamics, edit, encoding, experiments, generation, pruning, steering
from tpe_core.plots.drawing import DRAWINGS
from tpe_core.plots.scales import numbers
from tpe_core.plots.style import STYLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tpe_core.tables import Table

__all__ = ["DRAWINGS", "FORMATS", "PHONE", "WIDTH", "check_matplotlib", "draw", "png", "svg", "write_figure"]

FAMILIES = (encoding, steering, pruning, generation, dynamics, comparison, edit, experiments)
FORMATS = (".png", ".svg")
WIDTH, PHONE = 7.0, 3.75
"""Inches: a figure for a page or a slide, and one that is read on a phone, whose panels stand under one another."""
LOOKS = (
    *("agg.", "axes.", "figure.", "font.", "grid.", "hatch.", "image.", "legend.", "lines.", "markers.", "mathtext."),
    *("patch.", "path.", "pcolor.", "savefig.", "scatter.", "svg.", "text.", "xaxis.", "xtick.", "yaxis.", "ytick."),
)
"""Beginnings of the names of settings that change how a figure looks."""
SCREEN_DPI, FILE_DPI = 100, 200


def check_matplotlib() -> None:
    """Raise `TpeError` where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise TpeError("figures need matplotlib, which is not installed: pip install 'tpe-tui[plots]'.") from None


@contextmanager
def _settings(style: str) -> Iterator[None]:
    """matplotlib's own settings with those of a style, for the time of a block."""
    import matplotlib

    defaults = {name: value for name, value in matplotlib.rcParamsDefault.items() if name.startswith(LOOKS)}
    with matplotlib.rc_context({**defaults, **STYLES.choose(style).parameters}):
        yield


@cache
def _figure_class() -> type[Figure]:
    """matplotlib's Figure that notebooks show as a picture, whether or not pyplot was imported."""
    from matplotlib.figure import Figure

    return type("Figure", (Figure,), {"_repr_png_": lambda self: png(self, SCREEN_DPI), "__module__": __name__})


def draw(name: str, table: Table, style: str = "light", *, width: float = WIDTH, subject: str = "") -> Figure:
    """Draw a table: see `DRAWINGS` for the names of figures and their columns.

    `width` is in inches; below 5, as for a phone (`PHONE`), panels stand under one another. `subject` says what was
    measured and stands under the title. Raises `TpeError` where matplotlib is missing, a name is unknown, or the table
    lacks a column or holds nothing that can be drawn.
    """
    entry = DRAWINGS.choose(name)
    chosen = STYLES.choose(style)
    missing = [column for column in entry.columns if column not in table.columns]
    if missing:
        raise TpeError(f"the figure {name} cannot be drawn: its table has no column {', '.join(missing)}.")
    if not len(table):
        raise TpeError(f"the figure {name} cannot be drawn: its table has no rows.")
    columns = [numbers(table, column) for column in entry.numbers]
    if not any(all(map(math.isfinite, row)) for row in zip(*(each.tolist() for each in columns), strict=True)):
        raise TpeError(f"the figure {name} cannot be drawn: no row of its table has {' and '.join(entry.numbers)}.")
    check_matplotlib()
    from tpe_core.plots.canvas import Canvas

    with _settings(style):
        figure = _figure_class()(figsize=(width, width / 2), dpi=SCREEN_DPI, layout="constrained")
        figure.set_label(style)
        canvas = Canvas(figure, chosen, subject)
        entry.draw(table, canvas)
        canvas.finish()
    return figure


def png(figure: Figure, dpi: int = FILE_DPI) -> bytes:
    """A figure as PNG: the same bytes for the same figure, without a date or the name of a program."""
    return _saved(figure, format="png", dpi=dpi, metadata={"Software": None})


def svg(figure: Figure) -> bytes:
    """A figure as SVG, its text as outlines: the same bytes for the same figure, without a date."""
    return _saved(figure, format="svg", dpi=FILE_DPI, metadata={"Date": None, "Creator": None})


def _saved(figure: Figure, **how: Any) -> bytes:
    stream = io.BytesIO()
    style = figure.get_label()
    with _settings(style if style in STYLES else "light"):
        figure.savefig(stream, **how)
    return stream.getvalue()


def write_figure(figure: Figure, path: Path, *, replace: bool = False) -> Path:
    """Write a figure as PNG or SVG by the name's end, atomically; the path written.

    Raises `ExistsError` where a picture is there and is not to be replaced, `TpeError` where it cannot be written.
    """
    from tpe_core.outputs import check_output, shown_path
    from tpe_core.store import write_file

    if path.suffix.lower() not in FORMATS:
        raise TpeError(f"{shown_path(path)} says neither PNG nor SVG: end the name in {' or '.join(FORMATS)}.")
    check_output(path, "a figure", _is_picture, replace=replace)
    content = png(figure) if path.suffix.lower() == ".png" else svg(figure)
    try:
        write_file(path, [content])
    except OSError as error:
        raise TpeError(
            f"{shown_path(path)} cannot be written ({error.strerror or error}): choose another place."
        ) from None
    return path


def _is_picture(path: Path) -> bool:
    with path.open("rb") as file:
        beginning = file.read(400)
    return beginning.startswith(b"\x89PNG") if path.suffix.lower() == ".png" else b"<svg" in beginning
