"""`tpe compare`: how several models encode token probability, side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tpe_core.errors import FAILED
from tpe_tui.cli.completion import complete_model
from tpe_tui.cli.console import drive, leave_stopped, on_terminal, print_lines, say, stopped_by_signals
from tpe_tui.cli.options import LOADING, OUTPUT, READING, Force, refuse_existing, run_options, takes
from tpe_tui.cli.table_output import print_json, rows_of

if TYPE_CHECKING:
    from tpe_core.options import RunOptions

__all__ = ["compare", "source_of"]


@takes((LOADING | READING | OUTPUT) - {"revision", "adapter", "gguf_file"}, rows_of("models"))
def compare(
    context: typer.Context,
    models: Annotated[
        list[str],
        typer.Argument(
            help="Hub ids (NAME@REVISION for one of its revisions), local folders, GGUF files, demo, or files that "
            "tpe analyze --json wrote.",
            autocompletion=complete_model,
            show_default=False,
        ),
    ],
    budget: Annotated[
        float | None,
        typer.Option(help="Also measure the share of dimensions that can go under this KL, in nats, on held-out text."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the table too, by its ending: .csv, .json or .md.")] = None,
    force: Force = False,
    screen: Annotated[bool, typer.Option("--screen", help="Draw it: the comparison screen.")] = False,
    *,
    json_: bool,
) -> None:
    """Analyse every model, or find it in the cache, and print the figures side by side."""
    from tpe_core.encoding_comparison import check_comparison_file, compare_encodings, write_comparison
    from tpe_core.outputs import shown_path
    from tpe_core.pruning.budget import check_budget
    from tpe_tui.cli.compare_tables import report
    from tpe_tui.comparison.values import shown_value

    if screen and (json_ or out is not None):
        raise typer.BadParameter("--screen draws, --json, --format and --out write: give one of them.")
    if screen and not on_terminal():
        raise typer.BadParameter("--screen needs a terminal to draw on: leave it out, and figures are printed.")
    if budget is not None:
        check_budget(budget)
    if out is not None:
        refuse_existing(lambda: check_comparison_file(out, replace=force))
    options = run_options(context)
    sources = [source_of(name, options) for name in models]
    if screen:
        from tpe_tui.comparison.app import run_comparison

        raise typer.Exit(run_comparison(sources, budget))
    try:
        with stopped_by_signals():
            result = drive(compare_encodings(sources, budget))
    except KeyboardInterrupt:
        leave_stopped("nothing is compared.", out)
    for problem in result.problems:
        say(problem)
    if json_:
        print_json(result.to_dict())
    else:
        print_lines(report(result))
    if out is not None:
        say(f"wrote {shown_path(write_comparison(result, out, shown_value, replace=force))}.")
    if len(result.models) < len(models):
        raise typer.Exit(FAILED)


def source_of(name: str, options: RunOptions) -> RunOptions | Path:
    """What an argument names: the file of an analysis, or a model, of which ``@`` begins a revision."""
    path = Path(name).expanduser()
    if path.suffix == ".json" and path.is_file():
        return path
    if not path.exists() and "@" in name:
        name, revision = name.rsplit("@", 1)
        return replace(options, model=name, revision=revision)
    return replace(options, model=name)
