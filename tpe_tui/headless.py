"""The command lines that give the current view without a screen.

Only text: nothing is run, and every word is quoted for a POSIX shell.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from tpe_core.intervention import Intervention
from tpe_core.options import RunOptions
from tpe_core.swept import ROTATE, SweepRequest

if TYPE_CHECKING:
    from tpe_tui.sweep_state import SweepState

__all__ = ["EXPORT_NAME", "command_lines", "common_options", "sweep_lines"]

EXPORT_NAME = "tpe-mask.json"


def common_options(options: RunOptions) -> list[str]:
    """The model and those options that differ from the defaults."""
    default = RunOptions()
    words = [options.model]
    named = ("revision", "task", "device", "device_map", "dtype", "quantize", "positions", "seed", "threads")
    for name in named:
        value = getattr(options, name)
        if value != getattr(default, name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    for path in options.text:
        words += ["--text", path]
    flags = {"--no-cache": not options.cache, "--offline": options.offline}
    flags["--trust-remote-code"] = options.trust_remote_code
    return [*words, *(flag for flag, given in flags.items() if given)]


def command_lines(options: RunOptions, prompt: str, edit: Intervention, exported: str) -> str:
    """One command a line, each under a comment that says what it gives; `exported` is the manifest's path."""
    common = common_options(options)
    lines = ["# the table and the plots, as text or with --json", shlex.join(["tpe", "analyze", *common])]
    words = ["tpe", *common, "--prompt", prompt]
    if edit.is_empty:
        lines.append("# this prompt: in a terminal the inspector, in a pipe its next tokens")
    else:
        parts = [f"{len(edit.pruned)} pruned, {edit.replacement}"] if edit.pruned else []
        parts += [f"{len(edit.steering)} steered"] if edit.steering else []
        lines.append(f"# this prompt and edit ({'; '.join(parts)}); write the file with e first")
        words += ["--mask", exported]
    return "\n".join([*lines, shlex.join(words)])


def sweep_lines(options: RunOptions, state: SweepState) -> str:
    """The commands that measure what the sweep screen shows, and write the mask under its cursor."""
    words, request = ["tpe", "prune", *common_options(options)], state.request
    ways = [*request.replacements, *([ROTATE] if request.reference else [])]
    steps = ",".join(f"{fraction:g}" for fraction in request.fractions)
    asked = ["--order", ",".join(request.orders), "--replace", ",".join(ways), "--fractions", steps]
    if request.draws != SweepRequest().draws:
        asked += ["--seeds", str(request.draws)]
    lines = ["# every curve, as tables or with --json", shlex.join([*words, *asked])]
    if state.selected != ROTATE:
        fraction = f"{request.fractions[min(state.at, len(request.fractions) - 1)]:g}"
        one = ["--order", state.selected, "--replace", state.replacement, "--fractions", fraction]
        lines += ["# the point under the cursor, and its mask", shlex.join([*words, *one, "--save", EXPORT_NAME])]
    return "\n".join(lines)
