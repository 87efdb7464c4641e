"""`tpe keys`: every key of the inspector and its screens, with the user's own keys in force."""

from __future__ import annotations

import typer

from tpe_core.errors import FAILED
from tpe_tui.cli.console import print_json, print_lines
from tpe_tui.cli.options import OUTPUT, takes

__all__ = ["keys"]


@takes(OUTPUT)
def keys(*, json_: bool) -> None:
    """Print the keys by group with the ids that keys.toml takes; exit code 1 where keys.toml has mistakes."""
    from tpe_tui.cli.keys_tables import key_table, report
    from tpe_tui.keymap import default_keys_file

    table = key_table(default_keys_file())
    if json_:
        print_json(table.to_dict())
    else:
        print_lines(report(table))
    if table.problems:
        raise typer.Exit(FAILED)
