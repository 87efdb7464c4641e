"""The command lines that measure what the sweep screen shows."""

from __future__ import annotations

import shlex

from tpe_core.edits.replacements import ROTATE
from tpe_core.options import RunOptions
from tpe_core.pruning.results import PruningRequest
from tpe_tui.command_line import common_options, mask_name
from tpe_tui.sweep.state import SweepState

__all__ = ["sweep_lines"]


def sweep_lines(options: RunOptions, state: SweepState) -> str:
    """The commands that measure what the sweep screen shows, and write the mask under its cursor."""
    words, request = ["tpe", "prune", *common_options(options)], state.request
    ways = [*request.replacements, *([ROTATE] if request.reference else [])]
    steps = ",".join(f"{fraction:g}" for fraction in request.fractions)
    all_curves = ["--order", ",".join(request.orders), "--replace", ",".join(ways), "--fractions", steps]
    if request.draws != PruningRequest().draws:
        all_curves += ["--seeds", str(request.draws)]
    lines = ["# every curve, as tables or with --json", shlex.join([*words, *all_curves])]
    if state.selected != ROTATE:
        fraction = f"{request.fractions[min(state.at, len(request.fractions) - 1)]:g}"
        one_point = ["--order", state.selected, "--replace", state.replacement, "--fractions", fraction]
        lines += [
            "# the point under the cursor, and its mask",
            shlex.join([*words, *one_point, "--save", mask_name(options)]),
        ]
    return "\n".join(lines)
