"""Trajectories that need no measuring: the bundled model's, which its own training recorded, and a probe's log.

Nothing here imports torch.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tpe_core.dynamics.probe_log import read_log
from tpe_core.dynamics.trajectory import Point, Trajectory
from tpe_core.errors import ModelError
from tpe_core.json_text import parse_json
from tpe_core.options import DEMO

__all__ = ["bundled_trajectory", "is_log", "is_recorded", "read_recorded"]

RECORD = Path(__file__).parents[1] / "demo" / "model" / "training.json"


def is_log(source: str) -> bool:
    """Whether a source is a probe's log, which can grow."""
    return source.lower().endswith(".jsonl")


def is_recorded(source: str) -> bool:
    """Whether a source is a trajectory already: the bundled model, or a probe's log."""
    return source == DEMO or is_log(source)


def read_recorded(source: str) -> Trajectory:
    """Such a source's trajectory. Raises `TpeError` where it cannot be read."""
    return bundled_trajectory() if source == DEMO else read_log(Path(os.path.expanduser(source)))


def bundled_trajectory(path: Path = RECORD) -> Trajectory:
    """The bundled model's training, from its record. Raises `ModelError` where that cannot be read."""
    try:
        record: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
        points = tuple(_point(entry) for entry in record["checkpoints"])
        tokens = int(record["training_tokens"])
        unseen = record.get("unseen")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"the bundled model's training record {path} cannot be read ({error}): reinstall.") from error
    return Trajectory(
        source=DEMO,
        frequencies=f"{tokens:,} tokens of its training text, add-one smoothing",
        tokens=tokens,
        unseen=None if unseen is None else int(unseen),
        points=points,
    )


def _point(entry: dict[str, Any]) -> Point:
    """A point from a record's entry; the held-out loss is its loss."""
    return Point.from_dict({"name": f"step{entry['step']}", "loss": entry.get("held_out_loss"), **entry})
