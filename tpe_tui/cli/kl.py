"""`tpe kl`: exact KL between two models of one tokenizer over a text."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tpe_core.options import DEMO
from tpe_tui.cli.completion import complete_model, one_of
from tpe_tui.cli.console import drive, leave_stopped, print_lines, say, stopped_by_signals
from tpe_tui.cli.options import LOADING, OUTPUT, READING, Force, refuse_existing, run_options, takes
from tpe_tui.cli.sessions import is_given
from tpe_tui.cli.table_output import facts_of, print_json

if TYPE_CHECKING:
    from tpe_core.options import RunOptions

__all__ = ["kl"]

OF_BASE = ("revision", "adapter", "gguf_file", "quantize", "text", "text_field")


@takes((LOADING | READING | OUTPUT) - {"seed"}, facts_of)
def kl(
    context: typer.Context,
    base: Annotated[
        str,
        typer.Argument(
            help="The base: hub id, local folder, GGUF file, demo, or what --save wrote.",
            show_default=False,
            autocompletion=complete_model,
        ),
    ],
    other: Annotated[
        str | None,
        typer.Argument(
            help="The model compared with it; default: the base, as the --other- options say.",
            show_default=False,
            autocompletion=complete_model,
        ),
    ] = None,
    other_revision: Annotated[
        str | None, typer.Option(help="Of OTHER: branch, tag, commit, or adapter:FOLDER.")
    ] = None,
    other_adapter: Annotated[str | None, typer.Option(help="Of OTHER: folder or hub id of a PEFT adapter.")] = None,
    other_gguf_file: Annotated[str | None, typer.Option(help="Of OTHER: the GGUF file among several.")] = None,
    other_dtype: Annotated[
        str | None,
        typer.Option(
            help="Of OTHER: float32, bfloat16, float16; default: as --dtype.",
            autocompletion=one_of("float32", "bfloat16", "float16"),
        ),
    ] = None,
    other_quantize: Annotated[
        str | None, typer.Option(help="Of OTHER: 8bit or 4bit.", autocompletion=one_of("8bit", "4bit"))
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(help="Keep the base's hidden states and head in this file (safetensors), to be named as BASE."),
    ] = None,
    force: Force = False,
    *,
    json_: bool,
) -> None:
    """Compare OTHER's next-token distributions with BASE's, position by position."""
    of_other: dict[str, Any] = {
        "revision": other_revision, "adapter": other_adapter, "gguf_file": other_gguf_file, "quantize": other_quantize,
    }  # fmt: skip
    if other is None and other_dtype is None and not any(of_other.values()):
        raise typer.BadParameter("name the other model, or what is different about it with an --other- option.")
    options = run_options(context)
    path = Path(base).expanduser()
    is_file = base != DEMO and path.is_file()
    given = _named(context, is_file, save)
    from tpe_core.comparison.divergence import compare_models
    from tpe_core.comparison.states import check_states, is_states, read_facts
    from tpe_tui.cli.kl_tables import report

    first: RunOptions | Path = replace(options, model=base)
    alike: dict[str, Any] = {name: getattr(options, name) for name in of_other} if other is None else {}
    name = base if other is None else other
    if is_file and is_states(path):
        if given:
            raise typer.BadParameter(f"{base} holds hidden states and their text: leave out {', '.join(given)}.")
        facts = read_facts(path)
        first = path
        if other is None:
            name, alike["revision"] = facts.model, None if other_adapter else facts.revision
    if save is not None:
        refuse_existing(lambda: check_states(save, replace=force))
    of_other = {**alike, **{name: value for name, value in of_other.items() if value is not None}}
    plain = replace(options, text=(), text_field=None, revision=None, adapter=None, gguf_file=None, quantize=None)
    second = replace(plain, model=name, dtype=other_dtype or options.dtype, **of_other)
    stdin = getattr(sys.stdin, "buffer", None) if options.text == ("-",) else None
    try:
        with stopped_by_signals():
            result = drive(compare_models(first, second, save=save, replace=force, stdin=stdin))
    except KeyboardInterrupt:
        leave_stopped("nothing is compared.")
    for warning in result.warnings:
        say(warning)
    if json_:
        print_json(result.to_dict())
    else:
        print_lines(report(result))


def _named(context: typer.Context, is_file: bool, save: Path | None) -> list[str]:
    """The options on a command line that say something of the base or its text."""
    values: dict[str, Any] = {**{name: context.params.get(name) for name in OF_BASE}, "save": save}
    given = [name for name, value in values.items() if value]
    given += ["positions"] if is_given(context, "positions") else []  # a file of states has as many as it has
    return [f"--{name.replace('_', '-')}" for name in given] if is_file else []
