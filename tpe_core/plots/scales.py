"""Columns of a table as numbers, and axes whose ticks are plain numbers: no formulas, no offsets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tpe_core.lazy import Deferred

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from tpe_core.tables import Table

    Floats = NDArray[np.float64]
else:
    np = Deferred("numpy")

__all__ = ["log_axis", "number_text", "numbers", "plain_axis", "words"]

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
FEW_DECADES = 2.0


def numbers(table: Table, name: str) -> Floats:
    """[rows] a column as float64; NaN where a cell is empty."""
    values: Sequence[Any] = table.column(name)
    return np.array([math.nan if value is None or value == "" else float(value) for value in values], dtype=np.float64)


def words(table: Table, name: str) -> list[str]:
    """A column as texts; empty where a cell is empty."""
    return ["" if value is None else str(value) for value in table.column(name)]


def number_text(value: float) -> str:
    """A tick's number: ``0.5``, ``20,000``, and ``10⁻⁶`` for far powers of ten."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    power = math.log10(abs(value))
    if not -3 < power < 5 and abs(power - round(power)) < 1e-9:
        return ("−" if value < 0 else "") + "10" + str(round(power)).translate(RAISED)
    if abs(value) >= 1e6:
        return f"{value / 1e6:,g}M".replace("-", "−")
    if abs(value) >= 1000 or float(value).is_integer():
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.4g}".replace("-", "−")


def _formatter() -> Any:
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: number_text(value))


def log_axis(axes: Axes, which: str, values: Floats | Sequence[float] = (), base: float = 10.0) -> None:
    """Make an axis (``x`` or ``y``) logarithmic, with ticks at 1, 2 and 5 where `values` span few decades.

    With base 2, ticks are powers of 2.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known) & (known > 0)]
    decades = float(np.log10(known.max() / known.min())) if len(known) else math.inf
    getattr(axes, f"set_{which}scale")("log", base=base)
    axis = getattr(axes, f"{which}axis")
    steps = (1.0,) if base != 10 or decades > FEW_DECADES else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(base=base, subs=steps, numticks=9))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(_formatter())


def plain_axis(axes: Axes, which: str, ticks: int = 6) -> None:
    """A linear axis with at most about `ticks` ticks."""
    from matplotlib.ticker import MaxNLocator

    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(MaxNLocator(nbins=ticks, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(_formatter())
