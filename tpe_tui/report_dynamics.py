"""The table of `tpe dynamics`: a line for every checkpoint, with the figures that any of them has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tpe_tui.console import line
from tpe_tui.format import count, number

if TYPE_CHECKING:
    from tpe_core.training.trajectory import Point, Trajectory

__all__ = ["TrajectoryTable", "print_halfway", "print_source"]

COLUMNS = (
    ("R2 adj.", 9), ("held-out", 10), ("top dims", 10), ("|PC1 r|", 9), ("Gini", 8), ("eff. dims", 11), ("left", 8),
    ("change", 8), ("loss", 8), ("KL", 8),
)  # fmt: skip
LEGEND = (
    "R2: of -log frequency on the output embedding's rows, adjusted, and scored on rows held out",
    "top dims: share of the first ten by |slope| that are the last checkpoint's; PC1 r: with -log frequency",
    "left: distance to the last weights over the first checkpoint's; change: relative, since the one before",
)


def print_source(found: Trajectory) -> None:
    """What was measured, on which frequencies."""
    unseen = "" if found.unseen is None else f"; {count(found.unseen)} of the vocabulary never seen"
    line(f"{found.source}: {len(found.points)} checkpoints")
    line(f"frequencies of {found.frequencies}{unseen}")
    for words in LEGEND:
        line(words)
    line()


def print_halfway(found: Trajectory) -> None:
    """The steps at which encoding and parameters were half-way."""
    half = found.halfway()
    said = {name: "not reached" if step is None else f"step {count(step)}" for name, step in half.items()}
    line()
    line(f"R2 passes half of its last value at {said['encoding']}")
    if any("all" in point.convergence for point in found.points):
        line(f"all parameters are half-way to their last values at {said['parameters']}")


class TrajectoryTable:
    """Prints points as they come, each once; only figures that `whole` has somewhere, where that is known already."""

    def __init__(self, whole: Trajectory | None = None) -> None:
        self._printed: set[int] = set()
        rows = [] if whole is None else [_figures(point) for point in whole.points]
        self._shown = [not rows or any(row[at] is not None for row in rows) for at in range(len(COLUMNS))]

    def has_new(self, found: Trajectory) -> bool:
        """Whether there are points that were not printed."""
        return any(point.step not in self._printed for point in found.points)

    def print_new(self, found: Trajectory) -> None:
        """The points that were not printed, under a head before the first of them."""
        for point in found.points:
            if point.step in self._printed:
                continue
            if not self._printed:
                self._row("step", [title for title, _ in COLUMNS])
            self._printed.add(point.step)
            same = f"  the weights of {point.duplicate_of}" if point.duplicate_of else ""
            cells = ["-" if value is None else number(value) for value in _figures(point)]
            self._row(count(point.step), cells, same)

    def _row(self, step: str, cells: Sequence[str], note: str = "") -> None:
        shown = [
            f"{cell:>{width}}" for cell, (_, width), wanted in zip(cells, COLUMNS, self._shown, strict=True) if wanted
        ]
        line(f"{step:>9}{''.join(shown)}{note}")


def _figures(point: Point) -> tuple[float | None, ...]:
    """What stands under `COLUMNS`."""
    return (
        point.r2_adjusted,
        point.r2_heldout_vocab,
        point.top_overlap,
        abs(point.pc_correlations[0]) if point.pc_correlations else None,
        point.gini,
        point.participation_ratio,
        _overall(point.convergence),
        _overall(point.change),
        point.loss,
        point.kl_unigram,
    )


def _overall(groups: Mapping[str, float]) -> float | None:
    """Of all parameters, or of the head where nothing else was read."""
    return groups.get("all", next(iter(groups.values()), None))
