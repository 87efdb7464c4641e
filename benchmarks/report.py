"""Rows of measurements and the plain table they are printed as; nothing is measured here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Row", "at_least", "at_most", "milliseconds", "seconds", "table"]

HEADER = ("name", "measured", "baseline", "ratio", "budget", "")


@dataclass(frozen=True)
class Row:
    """One line: what was measured beside what, and the budget; `met` is None where a row has no budget of its own."""

    name: str
    measured: str
    baseline: str = "-"
    ratio: float | None = None
    budget: str = "-"
    met: bool | None = None

    def cells(self) -> tuple[str, ...]:
        """The line's six cells."""
        ratio = "-" if self.ratio is None else f"{self.ratio:.2f}" if self.ratio < 10 else f"{self.ratio:,.0f}"
        verdict = "" if self.met is None else "met" if self.met else "MISSED"
        return self.name, self.measured, self.baseline, ratio, self.budget, verdict


def at_least(name: str, measured: float, baseline: float, times: float) -> Row:
    """Seconds against seconds: the baseline must take at least `times` as long."""
    ratio = baseline / measured
    return Row(name, milliseconds(measured), milliseconds(baseline), ratio, f">= {times:g}x cheaper", ratio >= times)


def at_most(name: str, measured: float, baseline: float, times: float) -> Row:
    """Seconds against seconds: at most `times` the baseline's."""
    ratio = measured / baseline
    return Row(name, milliseconds(measured), milliseconds(baseline), ratio, f"<= {times:g}x its time", ratio <= times)


def milliseconds(value: float) -> str:
    """Seconds as milliseconds, three digits."""
    return f"{value * 1000:.3g} ms" if value < 1 else seconds(value)


def seconds(value: float) -> str:
    """Seconds."""
    return f"{value:.2f} s"


def table(rows: Sequence[Row]) -> str:
    """The rows under a header, columns aligned."""
    lines = [HEADER, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)
