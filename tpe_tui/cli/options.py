"""The options that subcommands share: how each is written on the command line, and the `RunOptions` they make."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Set
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import OptionInfo

from tpe_core.errors import ExistsError, TpeError
from tpe_core.options import RunOptions
from tpe_core.outputs import shown_path
from tpe_tui.cli.completion import complete_model, one_of
from tpe_tui.cli.table_output import TABLE_FORMATS, TableOf, as_table

__all__ = [
    "LOADING",
    "OUTPUT",
    "READING",
    "SHARED",
    "TABLE",
    "Chat",
    "Force",
    "Model",
    "NamesOption",
    "Outside",
    "check_save",
    "refuse_existing",
    "run_options",
    "takes",
]


class NamesOption(OptionInfo):
    """An option that takes names out of a table: its help and its completion list what the table holds when asked.

    `text` makes the help.
    """

    def __init__(self, names: Iterable[str], text: Callable[[], str]) -> None:
        self._text = text
        super().__init__(default=..., autocompletion=one_of(names))

    @property
    def help(self) -> str:
        """The help, with the names in it."""
        return self._text()

    @help.setter
    def help(self, _unused: str | None) -> None:
        """Ignore what the base class sets."""


Model = Annotated[
    str,
    typer.Argument(help="Hub id, local folder, GGUF file, or demo.", show_default=True, autocompletion=complete_model),
]
Outside = Annotated[
    list[str] | None, typer.Option(help="Out-of-domain text file or folder; repeatable. Default: built-in code.")
]
Chat = Annotated[
    bool, typer.Option("--chat", help="Put the prompt into the model's chat template, as one message to be answered.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace what is there, where it is of the same kind; anything else never is.")
]

LARGEST = 2**31 - 1
"""Of every count and seed on the command line: what every library below takes."""

SHARED: dict[str, tuple[Any, Any]] = {  # by parameter, in the order of the help: type, then default and help
    "revision": (str | None, typer.Option(None, help="Branch, tag or commit on the hub.")),
    "adapter": (str | None, typer.Option(None, help="Folder or hub id of a PEFT adapter to put on the model.")),
    "task": (
        str | None,
        typer.Option(
            None,
            help="What the model predicts: causal, masked, seq2seq; default: as it was saved.",
            autocompletion=one_of("causal", "masked", "seq2seq"),
        ),
    ),
    "device": (str | None, typer.Option(None, help="cpu, cuda, cuda:1; default: a GPU where there is one.")),
    "device_map": (
        str | None,
        typer.Option(
            None, help="auto spreads the model over all GPUs, main memory and disk; or a JSON map of modules."
        ),
    ),
    "dtype": (
        str | None,
        typer.Option(
            None,
            help="float32, bfloat16, float16; default: the checkpoint's on a GPU, float32 on a CPU.",
            autocompletion=one_of("float32", "bfloat16", "float16"),
        ),
    ),
    "quantize": (
        str | None,
        typer.Option(
            None,
            help="8bit or 4bit: pack the body, not the head; needs bitsandbytes.",
            autocompletion=one_of("8bit", "4bit"),
        ),
    ),
    "gguf_file": (
        str | None,
        typer.Option(None, help="The GGUF file to load, where a folder or hub repository has several."),
    ),
    "vocabulary": (
        str | None,
        typer.Option(
            None,
            help="A file that names token ids (a line each, or JSON), or ids: their numbers; no tokenizer is used.",
        ),
    ),
    "text": (
        list[str] | None,
        typer.Option(
            None, help="A file or folder of text, a file of token ids, or - for stdin; repeatable. Default: built-in."
        ),
    ),
    "text_field": (
        str | None,
        typer.Option(
            None, help="Of records (JSON, CSV, Parquet, Arrow): the field read; default: text, or the only one."
        ),
    ),
    "positions": (int, typer.Option(RunOptions().positions, min=1, help="Predicted positions to average over.")),
    "seed": (int, typer.Option(0, min=0, help="Of every random choice.")),
    "threads": (
        int | None,
        typer.Option(None, min=1, help="Torch threads. Default: as many as cores are idle."),
    ),
    "no_cache": (bool, typer.Option(False, "--no-cache", help="Neither read nor write cached detections.")),
    "offline": (bool, typer.Option(False, "--offline", help="Never ask the hub; use what is in its local cache.")),
    "trust_remote_code": (
        bool,
        typer.Option(False, "--trust-remote-code", help="Run code that comes with the model. Read it first."),
    ),
    "json_": (bool, typer.Option(False, "--json", help="Print one JSON document on stdout and nothing else there.")),
    "format_": (
        str | None,
        typer.Option(
            None,
            "--format",
            help=f"Print the table alone: {', '.join(TABLE_FORMATS[:-1])} or {TABLE_FORMATS[-1]}.",
            autocompletion=one_of(*TABLE_FORMATS),
        ),
    ),
    "debug": (bool, typer.Option(False, "--debug", help="Show a traceback where something fails.")),
}

OUTPUT = frozenset({"json_", "debug"})
TABLE = frozenset({"format_"})  # of a command with a table: see `takes`
READING = frozenset({"text", "text_field", "positions", "seed", "no_cache"})  # what is detected over, and how
LOADING = SHARED.keys() - READING - OUTPUT - TABLE  # which model, and where it runs


def takes(names: Set[str], table_of: TableOf | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the shared options of these names, after its own and in the order of `SHARED`.

    The command declares, keyword-only, those that it uses by name; the others reach it through `run_options`.
    With `table_of`, what makes a table of its JSON document, it takes ``--format``: the command runs as with
    ``--json``, and the table is printed in place of the document. Raises ValueError for a name that `SHARED` has not.
    """
    if table_of is not None:
        names = names | TABLE
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=SHARED[name][0], default=SHARED[name][1])
        for name in sorted(names, key=list(SHARED).index)
    ]

    def extend(command: Callable[..., None]) -> Callable[..., None]:
        declared = inspect.signature(command, eval_str=True)
        positional = [each for each in declared.parameters.values() if each.kind is not inspect.Parameter.KEYWORD_ONLY]

        @functools.wraps(command)
        def run(**given: Any) -> None:
            for name, value in given.items():
                if type(value) is int and not 0 <= value <= LARGEST:
                    option = f"--{name.replace('_', '-')}"
                    raise typer.BadParameter(f"{option} takes a whole number from 0 to {LARGEST}, not {value}.")
            chosen = given.pop("format_", None)
            values = {name: value for name, value in given.items() if name in declared.parameters}
            if chosen is None or table_of is None:
                command(**values)
                return
            if given.get("json_"):
                raise typer.BadParameter("--json prints everything and --format the table alone: give one of them.")
            with as_table(chosen, table_of):
                command(**{**values, "json_": True})

        run.__signature__ = declared.replace(parameters=[*positional, *shared])  # type: ignore[attr-defined]  # typer reads it
        return run

    return extend


def refuse_existing(check: Callable[[], object]) -> None:
    """Run a check of where output goes; that something is there already is said with the option that replaces it."""
    try:
        check()
    except ExistsError as error:
        raise TpeError(f"{shown_path(error.path)} exists: choose another name, or add --force to replace it.") from None


def check_save(save: Path | None, force: bool) -> None:
    """Refuse a place where no intervention can be saved, if one is given. Raises `TpeError`."""
    from tpe_core.manifest.manifest import check_destination

    if save is not None:
        refuse_existing(lambda: check_destination(save, replace=force))


def run_options(context: typer.Context) -> RunOptions:
    """The `RunOptions` of a command line; what a command does not take keeps its default.

    Texts (`--text`, `--ood`) that are not there are refused here, before a model is loaded: raises `CorpusError`.
    """
    given = context.params
    for paths, text_field in ((given.get("text"), given.get("text_field")), (given.get("ood"), None)):
        if "-" not in map(str, paths or ()) and (paths or text_field):  # standard input is read once, by who uses it
            from tpe_core.corpus.sources import text_source

            text_source(tuple(paths or ()), text_field=text_field)
    chosen = {field.name: given[field.name] for field in fields(RunOptions) if field.name in given}
    return RunOptions(**{**chosen, "text": tuple(given.get("text") or ()), "cache": not given.get("no_cache", False)})
