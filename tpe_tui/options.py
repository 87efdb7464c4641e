"""The options that subcommands share: how each is written on the command line, and the `RunOptions` they make."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated

import typer

from tpe_core.options import RunOptions

__all__ = [
    "POSITIONS",
    "Debug",
    "Device",
    "DeviceMap",
    "Dtype",
    "Json",
    "Model",
    "NoCache",
    "Offline",
    "Positions",
    "Quantize",
    "Revision",
    "Seed",
    "Task",
    "Texts",
    "Threads",
    "Trust",
    "run_options",
]

Model = Annotated[str, typer.Argument(help="Hub id, local folder, or demo.", show_default=True)]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")]
Task = Annotated[
    str | None, typer.Option(help="What the model predicts: causal, masked, seq2seq; default: as it was saved.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; default: a GPU where there is one.")]
DeviceMap = Annotated[
    str | None,
    typer.Option(help="auto spreads the model over all GPUs, main memory and disk; or a JSON map of modules."),
]
Dtype = Annotated[
    str | None, typer.Option(help="float32, bfloat16, float16; default: the checkpoint's on a GPU, float32 on a CPU.")
]
Quantize = Annotated[str | None, typer.Option(help="8bit or 4bit: pack the body, not the head; needs bitsandbytes.")]
Texts = Annotated[
    list[str] | None,
    typer.Option("--text", help="A text file or folder, or - for stdin; repeatable. Default: built-in."),
]
Positions = Annotated[int, typer.Option(min=1, help="Predicted positions to average over.")]
Seed = Annotated[int, typer.Option(help="Of every random choice.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Torch threads; on a shared machine fewer can be much faster.")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither read nor write cached detections.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never ask the hub; use what is in its local cache.")]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with the model. Read it first.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback where something fails.")]

POSITIONS = RunOptions().positions


def run_options(context: typer.Context) -> RunOptions:
    """The `RunOptions` of a command line; what a command does not take keeps its default."""
    given = context.params
    chosen = {field.name: given[field.name] for field in fields(RunOptions) if field.name in given}
    return RunOptions(**{**chosen, "text": tuple(given.get("text") or ()), "cache": not given.get("no_cache", False)})
