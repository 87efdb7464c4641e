"""The part about training: when the encoding appears, when the parameters arrive, and by layer (section 5)."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpe_core.dynamics.recorded import is_recorded, read_recorded
from tpe_core.dynamics.trajectory import Trajectory
from tpe_core.dynamics.trajectory_file import read_trajectories
from tpe_core.errors import TpeError
from tpe_core.options import DEMO
from tpe_core.progress import Progress, Steps
from tpe_core.report.material import Material
from tpe_core.report.recipes import RECIPES, Measured, Recipe
from tpe_core.tables import Table

__all__ = ["read_all"]


def read_all(names: Sequence[str]) -> tuple[Trajectory, ...]:
    """The trajectories of files of `tpe dynamics --json`, of probes' logs, and of the bundled model (``demo``).

    Raises `TpeError` where one cannot be read.
    """
    trajectories: list[Trajectory] = []
    for name in names:
        recorded = is_recorded(name)
        trajectories += [read_recorded(name)] if recorded else read_trajectories(Path(os.path.expanduser(name)))
    return tuple(trajectories)


def _names(material: Material) -> tuple[str, ...]:
    """What was given; of the bundled model its own record otherwise."""
    return material.dynamics or ((DEMO,) if material.options.model == DEMO else ())


def _measure(material: Material) -> Steps[Measured]:
    yield Progress("tables", 0)
    names = _names(material)
    if not names:
        raise TpeError(
            "no checkpoints are given: measure them with tpe dynamics SOURCE --weights --json > run.json, and add "
            "--dynamics run.json."
        )
    trajectories = read_all(names)
    table = Table.of(row for one in trajectories for row in one.to_table("dynamics").records())
    tables = {"dynamics": table}
    if any(table.column("layer")):
        tables["dynamics_layers"] = table
    halves = [{"source": one.source, **one.halfway()} for one in trajectories]
    summary = Table({
        "model": [each["source"] for each in halves],
        "half of R² by step": [each["encoding"] for each in halves],
        "parameters half-way by step": [each["parameters"] for each in halves],
    })  # fmt: skip
    return Measured(tables=tables, facts={"halves": halves}, summary=summary)


def _say(measured: Measured) -> str:
    return " ".join(_say_of(each) for each in measured.facts["halves"])


def _say_of(half: dict[str, Any]) -> str:
    encoding, parameters, source = half["encoding"], half["parameters"], half["source"]
    if encoding is None:
        return f"In {source} no encoding of frequency appears."
    if parameters is None:
        return (
            f"In {source} half of the encoding is there by step {encoding:,}; how its parameters came to rest was not "
            "measured."
        )
    when = "earlier than" if encoding < parameters else "no earlier than"
    return (
        f"In {source} the encoding appears {when} the parameters settle: half of its R² is there by step "
        f"{encoding:,}, half of "
        f"the parameters' way by step {parameters:,}."
    )


def _command(material: Material) -> str:
    try:
        sources = dict.fromkeys(one.source for one in read_all(_names(material)))
    except TpeError:
        sources = {}
    return shlex.join(["tpe", "dynamics", *(sources or ("SOURCE",)), "--json"])


RECIPES.register(
    Recipe(
        name="dynamics",
        command=_command,
        measure=_measure,
        sentence=_say,
    )
)
