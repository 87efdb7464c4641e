"""The command lines that give the current view without a screen.

Only text: nothing is run, and every word is quoted for a POSIX shell.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tpe_core.edits.intervention import METHODS, Intervention
from tpe_core.generation.decoding import Decoding
from tpe_core.options import RunOptions
from tpe_core.steering.results import DoseRequest

if TYPE_CHECKING:
    pass

__all__ = [
    "command_lines",
    "common_options",
    "default_name",
    "dynamics_lines",
    "experiment_lines",
    "generate_lines",
    "mask_name",
    "steer_lines",
]


def mask_name(options: RunOptions) -> str:
    """The name that a mask of this model is saved under where none was typed."""
    return default_name("tpe-mask", options.model, options.revision, options.adapter)


def default_name(stem: str, model: str, revision: str | None = None, adapter: str | None = None) -> str:
    """A file's name to offer, which says the model: ``tpe-mask-pythia-160m.json``."""
    parts = [
        _last(model).removesuffix(".gguf"),
        *([revision] if revision else []),
        *([_last(adapter)] if adapter else []),
    ]
    words = "-".join("".join(char if char.isalnum() or char in "._-" else "-" for char in part) for part in parts)
    return f"{stem}-{words.strip('.-')[:80] or 'model'}.json"


def _last(name: str) -> str:
    """The last part of a hub id or a path."""
    return Path(os.path.abspath(name)).name if name.startswith((".", "~", "/")) else name.rsplit("/", 1)[-1]


def common_options(options: RunOptions) -> list[str]:
    """The model and those options that differ from the defaults."""
    default = RunOptions()
    words = [options.model]
    named = (
        "revision",
        "adapter",
        "task",
        "device",
        "device_map",
        "dtype",
        "quantize",
        "gguf_file",
        "vocabulary",
        "positions",
        "seed",
        "threads",
    )
    for name in named:
        value = getattr(options, name)
        if value != getattr(default, name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    for path in options.text:
        words += ["--text", path]
    words += [] if options.text_field is None else ["--text-field", options.text_field]
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


def dynamics_lines(names: Sequence[str], words: Sequence[str]) -> str:
    """The commands that measure what the dynamics screen shows, watch its logs, and open it again."""
    if not names:
        return "# no source is open"
    logs = [name for name in names if name.endswith(".jsonl")]
    lines = ["# every checkpoint, as tables or with --json"]
    lines += [shlex.join(["tpe", "dynamics", name, *(() if name in logs else words)]) for name in names]
    for name in logs:
        lines += ["# watched while it grows", shlex.join(["tpe", "dynamics", "--follow", name])]
    return "\n".join([*lines, "# this screen", shlex.join(["tpe", "dynamics", *names, *words, "--screen"])])


def experiment_lines(folder: str, logs: Sequence[str]) -> str:
    """The commands about an experiment's folder: its screen, and the logs of its runs."""
    lines = ["# the figures of every run by step, with their bands, are in", f"# {Path(folder) / 'train-on.json'}"]
    lines += ["# the command that began it goes on with it; with --json or --format csv it prints them"]
    lines += [line for log in logs for line in (shlex.join(["tpe", "dynamics", log]),)]
    return "\n".join([*lines, "# this screen", shlex.join(["tpe", "train-on", "--screen", "--out", folder])])


def generate_lines(
    options: RunOptions, prompt: str, edit: Intervention, decoding: Decoding, changed: bool = False
) -> str:
    """The commands that write what the generate screen shows; `changed` where another edit wrote some."""
    default = RunOptions()
    model_only = replace(options, task=None, text=(), positions=default.positions, seed=default.seed, cache=True)
    words = ["tpe", "generate", *common_options(model_only), "--prompt", prompt]
    lines = ["# both texts; --json has every token's probability, --save NAME writes both"]
    if not edit.is_empty:
        lines.append("# write the edit's file in the inspector first")
        words += ["--intervention", mask_name(options)]
    if changed:
        lines.append("# the edit has changed since the first token; there the one in force holds from then on")
    settings = {"length": decoding.length, "temperature": decoding.temperature, "top-k": decoding.top_k}
    settings |= {"top-p": decoding.top_p, "seed": decoding.seed}
    plain = {"temperature": 1.0, "top-k": 0, "top-p": 1.0, "seed": 0}
    for name, value in settings.items():
        words += [f"--{name}", str(value)] if value != plain.get(name) else []
    return "\n".join([*lines, shlex.join(words)])


def steer_lines(options: RunOptions, request: DoseRequest) -> str:
    """The commands that measure what the steering study shows, and write its edit where one command can."""
    words, ratios = ["tpe", "steer", *common_options(options)], request.ratios
    tokens_by_ratio: dict[float, list[str]] = {}
    for steered, ratio in zip(request.steered, ratios, strict=True):
        named = ["--token", f"#{steered}"] if isinstance(steered, int) else ["--set", steered.written]
        tokens_by_ratio.setdefault(ratio, []).extend(named)
    lines = ["# asked and achieved by every method, with the dose-response, as tables or with --json"]
    for ratio, tokens in tokens_by_ratio.items():
        together = ["--together"] if len(tokens) > 2 else []
        command = [*words, *tokens, "--ratio", f"{ratio:.6g}", *together]
        lines.append(shlex.join([*command, "--method", ",".join(METHODS), "--dose"]))
        if len(tokens_by_ratio) == 1:
            lines += [
                "# this edit, by the method in force",
                shlex.join([*command, "--method", request.method, "--save", mask_name(options)]),
            ]
    if len(tokens_by_ratio) > 1:
        lines.append("# tokens at different ratios are measured one ratio at a time there")
    if request.edit.pruned:
        lines.append("# the figures there are of the whole head, without what is pruned here")
    return "\n".join(lines)
