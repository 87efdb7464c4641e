"""`--format`: the table of a command alone, in a format that other programs read.

A table is a view of the command's JSON document (`--json`), so that both hold the same numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import typer

from tpe_core.errors import TpeError
from tpe_core.json_text import json_text, nulled

if TYPE_CHECKING:
    from tpe_core.tables import Table

__all__ = ["TABLE_FORMATS", "Document", "TableOf", "as_table", "facts_of", "print_json", "rows_of"]

TABLE_FORMATS = ("csv", "json", "markdown", "parquet")
"""What `--format` takes: the names of `tpe_core.tables.FORMATS`, which the help does not wait for."""

Document = Mapping[str, Any]
TableOf = Callable[[Document], "Table"]
"""What makes a command's table out of its JSON document."""

_chosen: ContextVar[tuple[str, TableOf] | None] = ContextVar("chosen", default=None)


@contextmanager
def as_table(name: str, table_of: TableOf) -> Iterator[None]:
    """Inside, `print_json` prints the table of its document in this format. Raises for a format that there is not."""
    if name not in TABLE_FORMATS:
        raise typer.BadParameter(f"--format takes one of {', '.join(TABLE_FORMATS)}, not {name!r}.")
    if name == "parquet" and sys.stdout.isatty():
        raise typer.BadParameter("--format parquet writes bytes: send them to a file, with > table.parquet.")
    token = _chosen.set((name, table_of))
    try:
        yield
    finally:
        _chosen.reset(token)


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON document on stdout, or its table where `--format` asks for one."""
    if (chosen := _chosen.get()) is None:
        sys.stdout.write(json_text(nulled(document), 1) + "\n")
        return
    from tpe_core.tables import FORMATS

    encoded = FORMATS.choose(chosen[0]).encode(chosen[1](nulled(document)))
    stream = getattr(sys.stdout, "buffer", None)
    if stream is None:
        sys.stdout.write(encoded.decode())
        return
    sys.stdout.flush()
    stream.write(encoded)
    stream.flush()


def rows_of(*lists: str) -> TableOf:
    """The rows are the entries of the first of these lists that the document has.

    ``curves.points`` goes down twice: each point is a row, with what its curve says of itself before it.
    """

    def table_of(document: Document) -> Table:
        from tpe_core.tables import Table

        for path in lists:
            first, _, second = path.partition(".")
            if (entries := document.get(first)) is None:
                continue
            if second:
                entries = [
                    {**{name: value for name, value in entry.items() if name != second}, **inner}
                    for entry in entries
                    for inner in entry.get(second, ())
                ]
            return Table.of(entries)
        raise TpeError(f"this result is no table (it has no {' or '.join(lists)}): use --json.")

    return table_of


def facts_of(document: Document) -> Table:
    """Two columns, name and value, for a document about one thing."""
    from tpe_core.tables import facts

    return facts(document)
