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
    for name in ("revision", "device", "dtype", "positions", "seed", "threads"):
        value = getattr(options, name)
        if value != getattr(default, name):
            words += [f"--{name}", str(value)]
    for path in options.text:
        words += ["--text", path]
    return words if options.cache else [*words, "--no-cache"]


def command_lines(options: RunOptions, prompt: str, edit: Intervention, tokens: dict[int, str], exported: str) -> str:
    """One command a line, each under a comment that says what it gives.

    `tokens` are the printable texts of steered tokens, `exported` the manifest's path.
    """
    common = common_options(options)
    lines = ["# the table and the plots", shlex.join(["tpe", "analyze", *common])]
    if not edit.is_empty:
        parts = [f"{len(edit.pruned)} pruned, {edit.replacement}"] if edit.pruned else []
        parts += [f"{len(edit.steering)} steered"] if edit.steering else []
        lines.append(f"# this edit ({'; '.join(parts)}); write its file with e first")
        lines.append(shlex.join(["tpe", "generate", *common, "--prompt", prompt, "--intervention", exported]))
    else:
        lines += ["# text after this prompt", shlex.join(["tpe", "generate", *common, "--prompt", prompt])]
    for entry in edit.steering:
        lines.append(
            f"# token {entry.token_id} ({tokens[entry.token_id]}) asked to be {entry.ratio:.4g} times as probable"
        )
        words = ["--token", str(entry.token_id), "--ratio", f"{entry.ratio:.6g}", "--method", entry.method]
        lines.append(shlex.join(["tpe", "steer", *common, *words]))
    return "\n".join(lines)
