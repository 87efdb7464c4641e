"""`tpe sparsity`: which choices of a model and its training decide how sparse the encoding is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tpe_core.errors import FAILED
from tpe_tui.cli.completion import complete_model
from tpe_tui.cli.console import drive, leave_stopped, print_lines, say, stopped_by_signals
from tpe_tui.cli.options import LOADING, OUTPUT, READING, run_options, takes
from tpe_tui.cli.table_output import print_json, rows_of

if TYPE_CHECKING:
    from tpe_core.sparsity.design import Plan
    from tpe_core.sparsity.results import SparsityGrid

__all__ = ["sparsity"]

OTHERS = {"revision", "adapter", "gguf_file", "vocabulary", "positions", "seed"}  # of which each model has its own


@takes((LOADING | READING | OUTPUT) - OTHERS, rows_of("runs", "effects"))
def sparsity(
    context: typer.Context,
    out: Annotated[
        Path | None,
        typer.Option(help="Train a grid in this folder, or go on with the one there. Default: show the shipped grid."),
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            help="A model to put beside the grid's runs, as tpe compare takes it; repeatable.",
            autocompletion=complete_model,
        ),
    ] = None,
    levels: Annotated[
        list[str] | None,
        typer.Option(help="Both levels of a factor: width=32,64. Also depth, vocabulary, decay, steps; repeatable."),
    ] = None,
    runs: Annotated[
        int | None, typer.Option(help="Combinations of levels: 8, 12, 16 or 32.", show_default="16")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Runs of each combination, each of another seed.", show_default="2")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="KL in nats of the prunable share, on held-out text.", show_default="0.1")
    ] = None,
    positions: Annotated[
        int | None, typer.Option(min=1, help="Predicted positions to average over.", show_default="16384")
    ] = None,
    documents: Annotated[
        int | None, typer.Option(min=10, help="Docstrings that are trained on.", show_default="8000")
    ] = None,
    keep_models: Annotated[
        bool, typer.Option("--keep-models", help="Keep each run's model, in model/ of its folder.")
    ] = False,
    effects: Annotated[bool, typer.Option("--effects", help="Print the effects alone, all of them.")] = False,
    *,
    threads: int | None,
    json_: bool,
) -> None:
    """Train and measure a designed grid of small models, and print what each factor did to the encoding."""
    from tpe_core.pruning.budget import check_budget
    from tpe_tui.cli.sparsity_tables import effects_report, report

    given: dict[str, Any] = {
        "runs": runs, "seeds": seeds, "budget": budget, "positions": positions, "documents": documents,
        "levels": levels,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    plans = given.keys() - {"positions"} if beside else given.keys()
    if out is None and (plans or keep_models):
        named = ", ".join(f"--{name}" for name in sorted(plans)) or "--keep-models"
        raise typer.BadParameter(f"{named} is for a grid that is trained: name its folder with --out.")
    if budget is not None:
        check_budget(budget)
    options = run_options(context)
    grid = _grid(out, given, keep_models, threads)
    if beside:
        grid = _with_models(grid, beside, replace(options, positions=positions or grid.plan.positions))
    for problem in grid.problems:
        say(problem)
    if json_:
        document = grid.to_dict()
        print_json({name: value for name, value in document.items() if name != "runs"} if effects else document)
    else:
        print_lines(effects_report(grid) if effects else report(grid))
    if grid.problems and len(grid.models) < len(beside or ()):
        raise typer.Exit(FAILED)


def _grid(out: Path | None, given: dict[str, Any], keep_models: bool, threads: int | None) -> SparsityGrid:
    from tpe_core.sparsity.results import shipped_grid

    if out is None:
        return shipped_grid()
    from tpe_core.sparsity.grid import read_plan, train_grid

    plan = _plan(read_plan(out), given)
    try:
        with stopped_by_signals():
            return drive(train_grid(out, plan, threads=threads or 1, keep_models=keep_models))
    except KeyboardInterrupt:
        leave_stopped(f"the same command goes on with the grid in {out}.")


def _plan(earlier: Plan | None, given: dict[str, Any]) -> Plan:
    """The plan of a command line: that of the folder, or the default, with what was given in its place."""
    from tpe_core.sparsity.design import Plan, parse_levels

    plan = earlier or Plan()
    levels = given.pop("levels", ())
    return replace(plan, factors=parse_levels(levels, plan.factors), **given)


def _with_models(grid: SparsityGrid, names: list[str], options: Any) -> SparsityGrid:
    from tpe_core.encoding_comparison import compare_encodings
    from tpe_tui.cli.compare import source_of

    try:
        with stopped_by_signals():
            sources = [source_of(name, options) for name in names]
            compared = drive(compare_encodings(sources, grid.plan.budget))
    except KeyboardInterrupt:
        leave_stopped("no model is put beside the grid.")
    return grid.beside(compared.models, compared.problems)
