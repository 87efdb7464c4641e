"""The command lines that give the current view without a screen.

Only text: nothing is run, and every word is quoted for a POSIX shell.
"""

from __future__ import annotations

import shlex

from tpe_core.intervention import Intervention
from tpe_core.options import RunOptions

__all__ = ["EXPORT_NAME", "command_lines", "common_options"]

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
