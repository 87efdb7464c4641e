"""`tpe vocabulary`: the rows that a draft head for speculative decoding keeps, with what they hold on three texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpe_core.options import DEMO
from tpe_core.outputs import shown_path
from tpe_core.vocabulary.files import FILES, check_vocabulary_file, write_vocabulary
from tpe_core.vocabulary.orders import ORDERS
from tpe_tui.cli.console import drive, load, say
from tpe_tui.cli.measuring import open_store, read_texts
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
from tpe_tui.cli.table_output import print_json, rows_of

__all__ = ["vocabulary"]

COVERAGE = 0.95
"""What is asked for where nothing is."""


def _orders() -> str:
    named = "; ".join(f"{each.name}: {each.about}" for each in ORDERS.values())
    return f"{named}. Default: the best on held-out text."


Order = Annotated[str | None, NamesOption(ORDERS, _orders)]
OUT = f"Write the rows kept, by its ending: {'; '.join(f'{each.name}: {each.about}' for each in FILES.values())}."


@takes(LOADING | READING | OUTPUT, rows_of("ladder"))
def vocabulary(
    context: typer.Context,
    model: Model = DEMO,
    keep: Annotated[int | None, typer.Option(min=1, help="Rows to keep, special tokens among them.")] = None,
    coverage: Annotated[
        float | None,
        typer.Option(help=f"Instead: as few rows as hold this share of held-out probability.  [default: {COVERAGE}]"),
    ] = None,
    order: Order = None,
    ood: Outside = None,
    out: Annotated[list[Path] | None, typer.Option(help=f"{OUT} Repeatable.")] = None,
    force: Force = False,
    *,
    seed: int,
    json_: bool,
) -> None:
    """Choose the vocabulary of a draft model and measure what it holds."""
    if keep is not None and coverage is not None:
        raise typer.BadParameter("--keep and --coverage exclude each other: give one of them.")
    if coverage is not None and not 0 < coverage < 1:
        raise typer.BadParameter(f"--coverage takes a share between 0 and 1, such as 0.95, not {coverage:g}.")
    if order is not None:
        ORDERS.choose(order)
    paths = list(dict.fromkeys(out or []))
    for path in paths:  # what can be refused before the model is loaded
        refuse_existing(lambda path=path: check_vocabulary_file(path, replace=force))  # type: ignore[misc]

    from tpe_core.analysis import analyze
    from tpe_core.vocabulary.coverage import draft_vocabulary
    from tpe_tui.cli.vocabulary_tables import print_vocabulary

    options = run_options(context)
    analysis = drive(analyze(options, model=load(options)))
    samples = read_texts(analysis, options, ood, open_store(options))
    share = None if keep is not None else COVERAGE if coverage is None else coverage
    draft = drive(draft_vocabulary(analysis, samples, keep=keep, coverage=share, order=order, seed=seed))
    for path in paths:
        say(f"wrote {shown_path(write_vocabulary(path, draft, replace=force))}.")
    if json_:
        print_json({**draft.to_dict(), "asked": {"keep": keep, "coverage": share, "order": order}})
    else:
        print_vocabulary(draft)
