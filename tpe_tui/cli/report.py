"""`tpe report`: every figure of the paper for a model, as a page with its data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpe_core.options import DEMO
from tpe_core.outputs import shown_path
from tpe_core.report.parts import PARTS
from tpe_core.report.settings import PROMPTS
from tpe_tui.cli.console import drive, leave_stopped, print_lines, say, stopped_by_signals
from tpe_tui.cli.options import (
    LOADING,
    OUTPUT,
    READING,
    Force,
    Model,
    NamesOption,
    Outside,
    refuse_existing,
    run_options,
    takes,
)
from tpe_tui.cli.table_output import print_json

__all__ = ["report"]

LEAST_PROMPTS = 32

Words = list[str] | None


@takes(LOADING | READING | OUTPUT)
def report(
    context: typer.Context,
    model: Model = DEMO,
    out: Annotated[
        Path | None, typer.Option(help="The folder that the report is written to.", show_default=False)
    ] = None,
    only: Annotated[Words, NamesOption(PARTS, lambda: f"{', '.join(PARTS)}; repeatable. Default: all.")] = None,
    without: Annotated[Words, NamesOption(PARTS, lambda: "A part that is left out; repeatable.")] = None,
    dynamics: Annotated[
        Words, typer.Option(help="A file of tpe dynamics --json, or a probe's log (.jsonl); repeatable.")
    ] = None,
    experiments: Annotated[
        Words, typer.Option(help="A folder of tpe train-on, tpe sparsity or tpe demo train; repeatable.")
    ] = None,
    prompts: Annotated[
        int, typer.Option(min=LEAST_PROMPTS, help="Held-out prompts that pruned heads continue; MAUVE needs 128.")
    ] = PROMPTS,
    ood: Outside = None,
    force: Force = False,
    *,
    json_: bool,
) -> None:
    """Measure, draw and write; say what could not be made."""
    if out is None:
        raise typer.BadParameter("name the folder that the report goes to: --out FOLDER.")
    from tpe_core.report.folder import check_folder
    from tpe_core.report.report import ReportRequest
    from tpe_core.report.report import report as steps

    request = ReportRequest(
        out=out.expanduser(),
        only=_words(only),
        without=_words(without),
        ood=tuple(ood or ()),
        dynamics=tuple(dynamics or ()),
        experiments=tuple(experiments or ()),
        prompts=prompts,
        replace=force,
    )
    parts = request.parts
    refuse_existing(lambda: check_folder(request.out, replace=force))
    try:
        with stopped_by_signals():
            result = drive(steps(request, run_options(context)))
    except KeyboardInterrupt:
        leave_stopped("what was measured is kept, and the same command goes on.", request.out / "index.html")
    for warning in result.warnings:
        say(warning)
    for title, reason in result.missing:
        say(f"{title}: not made: {reason}")
    if json_:
        print_json(result.record)
        return
    sentences = [(part["title"], part["sentence"]) for part in result.record["parts"] if part["sentence"]]
    print_lines(line for title, sentence in sentences for line in (title, f"  {sentence}"))
    print_lines([f"{len(result.made)} of {len(parts)} parts are in {shown_path(result.page)}"])


def _words(given: Words) -> tuple[str, ...]:
    """Values of an option that is repeated, or holds several between commas."""
    return tuple(word.strip() for some in given or () for word in some.split(",") if word.strip())
