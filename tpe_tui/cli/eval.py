"""`tpe eval`: an exported edit on the tasks of lm-evaluation-harness, beside the unedited model on the same items."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpe_core.options import DEMO
from tpe_tui.cli.console import drive, load
from tpe_tui.cli.measuring import open_store
from tpe_tui.cli.options import LOADING, OUTPUT, Model, run_options, takes
from tpe_tui.cli.table_output import print_json, rows_of

__all__ = ["evaluate"]


@takes(LOADING | {"no_cache"} | OUTPUT, rows_of("scores"))
def evaluate(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="An exported intervention (JSON).", show_default=False)],
    model: Model = DEMO,
    tasks: Annotated[
        list[str], typer.Option(help="Names or patterns, several between commas; repeatable.", show_default=False)
    ] = ...,  # type: ignore[assignment]
    tasks_path: Annotated[
        Path | None, typer.Option(help="A folder of tasks (.yaml); what it names as code runs: read it first.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="So many items of each task; default: all.")] = None,
    fewshot: Annotated[int | None, typer.Option(min=0, help="Examples before each item; default: the task's.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences at once.")] = 8,
    force: Annotated[
        bool, typer.Option("--force", help="Apply it to another head of the same shape than it was made for.")
    ] = False,
    *,
    offline: bool,
    json_: bool,
) -> None:
    """Put the tasks to the model unedited and edited, and print both with standard errors."""
    from tpe_core.evaluation.harness import find_tasks
    from tpe_core.manifest.manifest import read_edit

    read_edit(file)  # what can be refused before anything is loaded
    names = [name.strip() for some in tasks for name in some.split(",") if name.strip()]
    matching = find_tasks(names, tasks_path, offline=offline)

    from tpe_core.evaluation.tasks import evaluate_tasks
    from tpe_tui.cli.eval_tables import print_scores

    options = run_options(context)
    loaded = load(options, reads_text=False)
    store = open_store(options)
    scores = drive(
        evaluate_tasks(loaded, file, matching, force=force, limit=limit, shots=fewshot, batch=batch_size, store=store)
    )
    if json_:
        print_json(scores.to_dict())
    else:
        print_scores(scores)
