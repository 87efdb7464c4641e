"""Trajectories as files: JSON with everything, or CSV with a checkpoint a line and a figure a column.

Plain values in, one whole file out: it is there completely or not at all. The JSON is read back; nothing is measured.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpe_core.dynamics.trajectory import Point, Skipped, Trajectory
from tpe_core.errors import TpeError
from tpe_core.json_text import json_text, nulled, parse_json
from tpe_core.outputs import beginning, check_output, shown_path

__all__ = [
    "SUFFIXES", "check_destination", "document", "figures", "is_trajectories", "read_trajectories", "table",
    "write_trajectories",
]  # fmt: skip

SUFFIXES = (".json", ".csv")
SINGLE = ("r2_adjusted", "r2", "r2_heldout_vocab", "top_overlap", "gini", "participation_ratio", "loss", "kl_unigram")
GROUPED = ("convergence", "change", "travel")


def figures(point: Point) -> dict[str, float]:
    """Everything measured at a checkpoint by one flat name: ``r2_adjusted``, ``pc_correlation.1``, ``convergence.mlp``.

    What was not measured, or is no finite number, is left out.
    """
    values = {name: getattr(point, name) for name in SINGLE}
    values |= {f"pc_correlation.{at}": value for at, value in enumerate(point.pc_correlations, 1)}
    values |= {f"{kind}.{group}": value for kind in GROUPED for group, value in getattr(point, kind).items()}
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}


def document(trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    """One trajectory as `tpe dynamics --json` prints it, several under ``sources``."""
    if len(trajectories) == 1:
        return trajectories[0].to_dict()
    return {"schema": 1, "sources": [trajectory.to_dict() for trajectory in trajectories]}


def table(trajectories: Sequence[Trajectory]) -> str:
    """CSV: source, name, step, what it duplicates, whether it is suspected, then every figure that any checkpoint has.

    A cell is empty where a checkpoint lacks the figure.
    Numbers have every digit they were measured with.
    """
    rows = [(one.source, point, figures(point)) for one in trajectories for point in one.points]
    names = list(dict.fromkeys(name for *_, values in rows for name in values))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["source", "name", "step", "duplicate_of", "suspected", *names])
    for source, point, values in rows:
        cells = [repr(values[name]) if name in values else "" for name in names]
        suspected = "yes" if point.suspected else ""
        writer.writerow([source, point.name, point.step, point.duplicate_of or "", suspected, *cells])
    return stream.getvalue()


def is_trajectories(path: Path) -> bool:
    """Whether a file begins as `write_trajectories` writes one, JSON or CSV. Raises OSError."""
    text = beginning(path)
    if text.startswith("source,name,step,duplicate_of"):
        return True
    several = re.match(r'\{\s*"schema"\s*:\s*\d+\s*,\s*"sources"\s*:\s*\[', text) is not None
    return several or (text.startswith("{") and all(f'"{name}":' in text for name in ("source", "frequencies")))


def check_destination(path: Path, *, replace: bool = True) -> None:
    """Refuse a name that says nothing of what is written, and see `check_output`: only earlier data are replaced."""
    if path.suffix.lower() not in SUFFIXES:
        raise TpeError(f"{path} ends in neither {' nor '.join(SUFFIXES)}: its name says what is written.")
    check_output(path, "an export of training dynamics", is_trajectories, replace=replace, folder_is_made=True)


def write_trajectories(path: Path, trajectories: Sequence[Trajectory], *, replace: bool = True) -> Path:
    """Write them as the name of `path` says; the path written.

    Earlier data are replaced unless `replace` is False, other files never. Raises `ExistsError`, or `TpeError` where
    there is nothing to write, the name ends otherwise, or the disk does not take it.
    """
    from tpe_core.store import write_file

    suffix = path.suffix.lower()
    if not trajectories:
        raise TpeError("there is no trajectory to write yet: read a source first.")
    text = table(trajectories) if suffix == ".csv" else json_text(nulled(document(trajectories)), 1) + "\n"
    check_destination(path, replace=replace)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, [text.encode("utf-8", "backslashreplace")])
    except OSError as error:
        raise TpeError(f"{shown_path(path)} could not be written ({error.strerror}): choose another place.") from error
    return path


def read_trajectories(path: Path) -> tuple[Trajectory, ...]:
    """The trajectories of a file that `tpe dynamics --json` or `write_trajectories` wrote, as JSON.

    Raises `TpeError` where it cannot be read, or holds something else.
    """
    shown = shown_path(path)
    try:
        values = parse_json(path.read_bytes())
        return tuple(_trajectory(one) for one in values.get("sources", [values]))
    except OSError as error:
        raise TpeError(
            f"{shown} cannot be read ({error.strerror or error}): name a file of tpe dynamics --json."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TpeError(f"{shown} holds no training dynamics: name a file that tpe dynamics --json wrote.") from None


def _trajectory(values: Any) -> Trajectory:
    points = tuple(map(Point.from_dict, values["checkpoints"]))
    for point in points:
        figures(point)  # what a drawing reads: raises where a figure is no number
        if not isinstance(point.step, int):
            raise TypeError(f"{point.step!r} is no step")
    return Trajectory(
        source=str(values["source"]),
        frequencies=str(values["frequencies"]),
        tokens=int(values["tokens"]),
        unseen=None if values.get("unseen") is None else int(values["unseen"]),
        points=points,
        skipped=tuple(Skipped(**entry) for entry in values.get("skipped", ())),
        warnings=tuple(map(str, values.get("warnings", ()))),
    )
