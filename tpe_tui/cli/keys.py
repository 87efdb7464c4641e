"""`tpe keys`: every key of the inspector and its screens, with the user's own keys in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from tpe_core.errors import FAILED
from tpe_tui.cli.console import print_lines
from tpe_tui.cli.options import OUTPUT, takes
from tpe_tui.cli.table_output import Document, print_json

if TYPE_CHECKING:
    from tpe_core.tables import Table

__all__ = ["keys"]


def keys_of(document: Document) -> Table:
    """A row for each key: where it works, its group there, its id in keys.toml, the keys, what they do and count."""
    from tpe_core.tables import Table

    groups = [("inspector", name, rows) for name, rows in document["inspector"].items()]
    groups += [(name, "", rows) for name, rows in document["studies"].items()]
    return Table.of(
        {"screen": screen, "group": group, "id": row["id"], "keys": " ".join(row["keys"]), "help": row["help"],
         "counted": row["counted"], "is_changed": row["is_changed"]}
        for screen, group, rows in groups
        for row in rows
    )  # fmt: skip


@takes(OUTPUT, keys_of)
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
