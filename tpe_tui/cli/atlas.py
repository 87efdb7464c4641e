"""`tpe atlas`: the tokens with something odd about them, in a model's head or in the head under a saved edit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tpe_core.options import DEMO
from tpe_core.outputs import shown_path
from tpe_tui.cli.completion import one_of
from tpe_tui.cli.console import drive, leave_stopped, say, stopped_by_signals
from tpe_tui.cli.options import LOADING, OUTPUT, READING, Force, Model, refuse_existing, run_options, takes
from tpe_tui.cli.table_output import Document, print_json

if TYPE_CHECKING:
    from tpe_core.tables import Table

__all__ = ["atlas"]

LIST_NAMES = ("residual", "unseen", "untrained", "unreachable", "cosine", "distance")
"""What `--sort` takes: the names of `tpe_core.atlas.sections.SECTIONS`, which the help does not wait for."""

REGION_NAMES = ("any", "observed")
"""What `--hidden` takes: the names of `tpe_core.atlas.region.REGIONS`."""

ALL, ONE = 8, 24  # tokens of each list where all are printed, and of one alone


def _table(document: Document) -> Table:
    """The tokens of every list in the document, a row each."""
    from tpe_core.tables import Table

    return Table.of({"list": name, **token} for name, one in document["lists"].items() for token in one["tokens"])


@takes(LOADING | READING | OUTPUT, _table)
def atlas(
    context: typer.Context,
    model: Model = DEMO,
    mask: Annotated[Path | None, typer.Option(help="Judge the head under a saved edit (JSON).")] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            help=f"Print one list alone: {', '.join(LIST_NAMES)}.",
            autocompletion=one_of(*LIST_NAMES),
        ),
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help=f"Tokens of each list.  [default: {ALL}; of one list {ONE}]")
    ] = None,
    hidden: Annotated[
        str,
        typer.Option(
            help="Which hidden states can make a token the top one: any at all, or those within the values that each "
            "dimension takes on the text (observed).",
            autocompletion=one_of(*REGION_NAMES),
        ),
    ] = "any",
    out: Annotated[
        Path | None,
        typer.Option(help="Write every token's figures too, by its ending: .csv, .json, .md or .parquet."),
    ] = None,
    force: Force = False,
    *,
    json_: bool,
) -> None:
    """Print the worst fitted, never seen, barely trained, unreachable and entangled tokens."""
    from tpe_core.tables import Table, check_table_file, write_table

    if sort is not None and sort not in LIST_NAMES:
        raise typer.BadParameter(f"--sort takes one of {', '.join(LIST_NAMES)}, not {sort!r}.")
    if hidden not in REGION_NAMES:
        raise typer.BadParameter(f"--hidden takes one of {', '.join(REGION_NAMES)}, not {hidden!r}.")
    if out is not None:
        refuse_existing(lambda: check_table_file(out, replace=force))
    if mask is not None:
        from tpe_core.manifest.manifest import read_manifest

        read_manifest(mask)  # what can be refused before the model is loaded

    from tpe_core.atlas.token_atlas import token_atlas
    from tpe_core.session import open_session
    from tpe_tui.cli.atlas_tables import report

    session = drive(open_session(run_options(context)))
    for warning in session.warnings:
        say(warning)
    edit = None if mask is None else session.resolved(session.load(mask))
    try:
        with stopped_by_signals():
            result = drive(token_atlas(session.analysis, edit, region="any" if hidden == "any" else "observed"))
    except KeyboardInterrupt:
        leave_stopped("the atlas is not finished.", out)
    count = top or (ALL if sort is None else ONE)
    document = result.to_dict(count, None if sort is None else [sort])
    if json_:
        print_json(document)
    else:
        report(document)
    if out is not None:
        say(f"wrote {shown_path(write_table(Table(result.columns()), out, replace=force))}.")
