"""`tpe cache`: what is stored on this machine, and removing it."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from tpe_core.errors import FAILED
from tpe_tui.cli.completion import one_of
from tpe_tui.cli.console import print_lines
from tpe_tui.cli.options import OUTPUT, takes
from tpe_tui.cli.table_output import print_json, rows_of

__all__ = ["cache", "read_age", "read_size"]

LIST, PRUNE = "list", "prune"
SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
BYTES = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}


@takes(OUTPUT, rows_of("entries", "removed"))
def cache(
    action: Annotated[
        str,
        typer.Argument(
            help="list what is stored; or prune: remove what is broken and what the options say.",
            autocompletion=one_of(LIST, PRUNE),
        ),
    ] = LIST,
    older_than: Annotated[
        str | None, typer.Option(help="Of prune: what was last used longer ago, such as 30d (m, h, d, w).")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(help="Of prune: what was used longest ago, until the rest takes 2G (k, M, G, T).")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Of prune: everything.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Of prune: only say what would be removed.")] = False,
    *,
    json_: bool,
) -> None:
    """List what is stored, the last used first, or prune it. Nothing but tpe's own files is ever removed."""
    from tpe_core.stored import prune_entries, stored_entries
    from tpe_tui.cli.cache_tables import listing, listing_document, pruned_document, pruned_report

    if action not in (LIST, PRUNE):
        raise typer.BadParameter(f"{action!r} is neither {LIST} nor {PRUNE}.")
    if action == LIST:
        if older_than is not None or max_size is not None or all_ or dry_run:
            raise typer.BadParameter("--older-than, --max-size, --all and --dry-run are of `tpe cache prune`.")
        entries = stored_entries()
        if json_:
            print_json(listing_document(entries))
        else:
            print_lines(listing(entries))
        return
    if all_ and (older_than is not None or max_size is not None):
        raise typer.BadParameter("--all removes everything: leave out --older-than and --max-size.")
    limit = None if max_size is None else read_size(max_size)
    age = None if older_than is None else read_age(older_than)
    pruned = prune_entries(older_than=age, max_size=limit, everything=all_, dry_run=dry_run)
    if json_:
        print_json(pruned_document(pruned, dry_run=dry_run))
    else:
        print_lines(pruned_report(pruned, limit, dry_run=dry_run))
    if pruned.refused:
        raise typer.Exit(FAILED)


def read_age(text: str) -> float:
    """Seconds of an age such as 30d or 12h. Raises `typer.BadParameter`."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([mhdw])", text.strip().lower())
    if match is None:
        raise typer.BadParameter(f"--older-than {text!r} is no age: write 30d, 12h, 2w or 90m.")
    return float(match[1]) * SECONDS[match[2]]


def read_size(text: str) -> int:
    """Bytes of a size such as 2G or 500M, in powers of ten. Raises `typer.BadParameter`."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([kmgt]?)b?", text.strip().lower())
    if match is None:
        raise typer.BadParameter(f"--max-size {text!r} is no size: write 2G, 500M or a number of bytes.")
    return int(float(match[1]) * BYTES[match[2]])
