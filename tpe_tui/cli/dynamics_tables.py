"""The table of `tpe dynamics`: a line for every checkpoint, with the figures that any of them has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tpe_tui.cells import count, number
from tpe_tui.cli.console import line

if TYPE_CHECKING:
    from tpe_core.dynamics.trajectory import Point, Trajectory

__all__ = ["PointRows", "TrajectoryTable", "print_halfway", "print_source"]

COLUMNS = (
    ("R2 adj.", 9), ("held-out", 10), ("top dims", 10), ("|PC1 r|", 9), ("Gini", 8), ("eff. dims", 11), ("left", 8),
    ("change", 8), ("loss", 8), ("KL", 8),
)  # fmt: skip
LEGEND = {
    "R2 adj.": "R2 of -log frequency on the output embedding's rows, adjusted",
    "held-out": "the same, scored on rows held out",
    "top dims": "share of the first ten by |slope| that are the last checkpoint's",
    "|PC1 r|": "correlation of the first principal component with -log frequency",
    "Gini": "of the slopes: 0 where all dimensions count alike, towards 1 where one does",
    "eff. dims": "how many dimensions carry the fit (participation ratio)",
    "left": "distance to the last weights over the first checkpoint's",
    "change": "of the weights since the checkpoint before, relative",
    "loss": "nats a token",
    "KL": "of the frequencies from the mean prediction, nats",
}

NOT_LIVE = ("top dims", "left", "KL")  # against the last checkpoint, or of a text: no probe's log has them


def print_source(trajectory: Trajectory) -> None:
    """What was measured, on which frequencies."""
    unseen = "" if trajectory.unseen is None else f"; {count(trajectory.unseen)} of the vocabulary never seen"
    line(f"{trajectory.source}: {len(trajectory.points)} checkpoints")
    line(f"frequencies of {trajectory.frequencies}{unseen}")
    titles = [title for (title, _), wanted in zip(COLUMNS, _shown(trajectory), strict=True) if wanted]
    for title in titles if trajectory.points else ():
        line(f"  {title:<9}  {LEGEND[title]}")
    line()


def print_halfway(trajectory: Trajectory) -> None:
    """The steps at which encoding and parameters were half-way."""
    half = trajectory.halfway()
    encoding, parameters = half["encoding"], half["parameters"]
    line()
    if encoding is not None:
        line(f"R2 passes half of its last value at step {count(encoding)}")
    elif any(point.r2_adjusted is not None for point in trajectory.points):
        line("the last R2 is not above 0, so there is no half-way step")
    if parameters is not None:
        line(f"all parameters are half-way to their last values at step {count(parameters)}")
    suspected = sum(point.suspected for point in trajectory.points)
    if suspected:
        line(f"(without {suspected} suspected checkpoint{'' if suspected == 1 else 's'}: see the warnings)")


class TrajectoryTable:
    """Prints points as they come, each once; only figures that `whole` has somewhere, or those that a log can have."""

    def __init__(self, whole: Trajectory | None = None) -> None:
        self._printed: set[int] = set()
        self._shown = [title not in NOT_LIVE for title, _ in COLUMNS] if whole is None else _shown(whole)

    def has_new(self, trajectory: Trajectory) -> bool:
        """Whether there are points that were not printed."""
        return any(point.step not in self._printed for point in trajectory.points)

    def print_new(self, trajectory: Trajectory) -> None:
        """The points that were not printed, under a head before the first of them."""
        for point in trajectory.points:
            if point.step in self._printed:
                continue
            if not self._printed:
                self._row("step", [title for title, _ in COLUMNS])
            self._printed.add(point.step)
            same = f"  the weights of {point.duplicate_of}" if point.duplicate_of else ""
            same = same or ("  suspected: see the warnings" if point.suspected else "")
            cells = ["-" if value is None else number(value) for value in _figures(point)]
            self._row(count(point.step), cells, same)

    def _row(self, step: str, cells: Sequence[str], note: str = "") -> None:
        shown = [
            f"{cell:>{width}}" for cell, (_, width), wanted in zip(cells, COLUMNS, self._shown, strict=True) if wanted
        ]
        line(f"{step:>9}{''.join(shown)}{note}")


class PointRows:
    """A line for every checkpoint as it is measured, for a log: the table's columns are known at the end."""

    def __init__(self) -> None:
        self._printed: set[int] = set()

    def new(self, trajectory: Trajectory) -> list[str]:
        """The lines of the checkpoints that were measured since the last time."""
        points = [point for point in trajectory.points if point.step not in self._printed]
        self._printed |= {point.step for point in points}
        return [_log_row(point) for point in points]


def _log_row(point: Point) -> str:
    figures = zip(COLUMNS, _figures(point), strict=True)
    known = [f"{title} {number(value)}" for (title, _), value in figures if value is not None and title not in NOT_LIVE]
    return f"step {count(point.step)}: {', '.join(known)}"


def _shown(trajectory: Trajectory) -> list[bool]:
    """Of `COLUMNS`: whether any checkpoint has the figure."""
    rows = [_figures(point) for point in trajectory.points]
    return [any(row[at] is not None for row in rows) for at in range(len(COLUMNS))]


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
