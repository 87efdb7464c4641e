"""Tables that other programs read: named columns as CSV, JSON, Markdown, Parquet or a pandas DataFrame.

The table of a command, of a figure and of a notebook is one of these, so that all three hold the same numbers.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpe_core.errors import TpeError
from tpe_core.json_text import json_text, nulled
from tpe_core.lazy import Deferred
from tpe_core.outputs import beginning, check_output, shown_path
from tpe_core.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = Deferred("numpy")

__all__ = ["FORMATS", "Table", "TableFormat", "Value", "check_table_file", "facts", "write_table"]

Value = float | int | bool | str | None

MARKUP = re.compile(r"([\\`*_{}\[\]<>|~&#])")
DIGITS = 6
"""Significant digits of a number in Markdown, which people read; the other formats hold all of them."""


@dataclass(frozen=True, eq=False)
class Table:
    """Columns by name, all of one length: numbers, texts, truth values, or None where a row has no value.

    `columns` may hold NumPy arrays of one dimension; they become Python's own values. Raises ValueError where lengths
    differ.

    Example:
        >>> table = tpe.Table({"dim": [7, 3], "slope": [1.5, -0.25]})
        >>> print(table.csv(), end="")
        dim,slope
        7,1.5
        3,-0.25
    """

    columns: Mapping[str, Sequence[Value] | NDArray[Any]]

    def __post_init__(self) -> None:
        plain = {name: _plain(values) for name, values in self.columns.items()}
        lengths = {name: len(values) for name, values in plain.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the columns of a table have one length, not {lengths}")
        object.__setattr__(self, "columns", plain)

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> Table:
        """A row for each record, such as those of a JSON document.

        What is nested becomes a column with a dot in its name (``achieved.heldout``); a list becomes its JSON. A record
        without a name that others have holds None there.
        """
        rows = [dict(_flat(record)) for record in records]
        names = list(dict.fromkeys(name for row in rows for name in row))
        return cls({name: [row.get(name) for row in rows] for name in names})

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in their order."""
        return tuple(self.columns)

    def __len__(self) -> int:
        """Count the rows."""
        return next((len(values) for values in self.columns.values()), 0)

    def column(self, name: str) -> list[Value]:
        """The values of a column. Raises KeyError for a name that there is not."""
        return list(self.columns[name])

    def rows(self) -> Iterator[tuple[Value, ...]]:
        """The rows, values in the order of `names`."""
        return zip(*self.columns.values(), strict=True)

    def records(self) -> list[dict[str, Value]]:
        """The rows as dicts."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows()]

    def csv(self) -> str:
        """Comma-separated values (RFC 4180, lines ended by a newline); no value and NaN are empty cells."""
        if not self.columns:
            return ""
        lines = [_csv_line(self.columns), *(_csv_line([_cell(value) for value in row]) for row in self.rows())]
        return "".join(lines)

    def json(self) -> str:
        """A list of objects, one a row; numbers that JSON does not have are null."""
        rows = [json_text(nulled(record)) for record in self.records()]
        return "[\n" + ",\n".join(rows) + "\n]\n" if rows else "[]\n"

    def markdown(self) -> str:
        """A table as Markdown dialects have it, numbers to the right with `DIGITS` significant digits."""
        if not self.columns:
            return ""
        aligned = ["---:" if _is_numeric(values) else "---" for values in self.columns.values()]
        rows = [[_escaped(name) for name in self.columns], aligned]
        rows += [[_readable(value) for value in row] for row in self.rows()]
        return "".join(f"| {' | '.join(row)} |\n" for row in rows)

    def parquet(self) -> bytes:
        """The bytes of a Parquet file. A column of values of several types becomes one of texts. Needs pyarrow."""
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise TpeError("Parquet is written by pyarrow, which is not there: pip install 'tpe-tui[texts]'.") from None
        sink = pyarrow.BufferOutputStream()
        columns = {name: pyarrow.array(_one_type(values)) for name, values in self.columns.items()}
        pyarrow.parquet.write_table(pyarrow.table(columns), sink)
        return bytes(sink.getvalue().to_pybytes())

    def to_frame(self) -> Any:
        """A `pandas.DataFrame` of the same columns. Raises `TpeError` where pandas is not installed."""
        try:
            import pandas
        except ImportError:
            raise TpeError("a data frame is made by pandas, which is not there: pip install pandas.") from None
        return pandas.DataFrame({name: [_utf8(value) for value in values] for name, values in self.columns.items()})


def facts(document: Mapping[str, Any]) -> Table:
    """A document that is no list of alike things as two columns, ``name`` and ``value``."""
    pairs = list(_flat(document))
    return Table({"name": [name for name, _ in pairs], "value": [value for _, value in pairs]})


@dataclass(frozen=True)
class TableFormat:
    """A way to write tables: its name on the command line, the ending of its files, and the beginning of one."""

    name: str
    about: str
    suffix: str
    begins: str

    def encode(self, table: Table) -> bytes:
        """The bytes of a file. Raises `TpeError` where the library that writes it is missing."""
        made: str | bytes = getattr(table, self.name)()
        return made if isinstance(made, bytes) else made.encode("utf-8", "backslashreplace")


FORMATS: Registry[TableFormat] = Registry(
    "format",
    TableFormat("csv", "comma-separated values", ".csv", ""),
    TableFormat("json", "a list of objects", ".json", "["),
    TableFormat("markdown", "a table for a text", ".md", "|"),
    TableFormat("parquet", "columns for pandas, polars and DuckDB", ".parquet", "PAR1"),
)


def _format_of(path: Path) -> TableFormat:
    for each in FORMATS.values():
        if path.suffix.lower() == each.suffix:
            return each
    endings = ", ".join(each.suffix for each in FORMATS.values())
    raise TpeError(f"{path.name} does not say how to write the table: end the name in one of {endings}.")


def check_table_file(path: Path, table: Table | None = None, *, replace: bool) -> None:
    """Refuse a place that no table should be written to: see `tpe_core.outputs.check_output`.

    A CSV file is replaced only where its first line is that of `table`.
    """
    chosen = _format_of(path)
    head = chosen.begins or ("" if table is None else table.csv().split("\n", 1)[0])
    check_output(path, "a table", lambda there: beginning(there).startswith(head), replace=replace)


def write_table(table: Table, path: Path, *, replace: bool = False) -> Path:
    """Write a table as CSV, JSON, Markdown or Parquet by the end of the name, whole or not at all.

    Raises `ExistsError` where a table is there and `replace` is False, `TpeError` where it cannot be written.

    Example:
        >>> path = tpe.write_table(tpe.Table({"dim": [7], "slope": [1.5]}), Path("slopes.md"))
        >>> print(path.read_text(), end="")
        | dim | slope |
        | ---: | ---: |
        | 7 | 1.5 |
    """
    from tpe_core.store import write_file

    check_table_file(path, table, replace=replace)
    try:
        write_file(path, [_format_of(path).encode(table)])
    except OSError as error:
        reason = error.strerror or error
        raise TpeError(f"{shown_path(path)} cannot be written ({reason}): choose another place.") from None
    return path


def _plain(values: Sequence[Value] | NDArray[Any]) -> list[Value]:
    if isinstance(values, np.ndarray):
        return list(values.tolist())
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Value]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{name}", json.dumps(nulled(value), ensure_ascii=False, allow_nan=False)
        else:
            yield f"{prefix}{name}", value


def _is_number(value: Value) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _is_numeric(values: Iterable[Value]) -> bool:
    """Whether a column holds numbers, and nothing else but missing values."""
    present = [value for value in values if value is not None]
    return bool(present) and all(map(_is_number, present))


def _csv_line(cells: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(cells)  # with it, a carriage return in a cell is quoted, too
    return out.getvalue().removesuffix("\r\n") + "\n"


def _cell(value: Value) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _readable(value: Value) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.{DIGITS}g}"
    return _cell(value) if value is None or isinstance(value, bool | int) else _escaped(value)


def _escaped(text: str) -> str:
    return MARKUP.sub(r"\\\1", " ".join(text.split("\n")))


def _utf8(value: Value) -> Value:
    """A value that UTF-8 can hold: half of a surrogate pair, which a token's text may be, is written as an escape."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _one_type(values: Iterable[Value]) -> list[Value]:
    values = list(values)
    present = [value for value in values if value is not None]
    if all(map(_is_number, present)):
        return [None if value is None else float(value) for value in values] if _has_float(present) else list(values)
    if all(isinstance(value, bool) for value in present):
        return list(values)
    return [None if value is None else _utf8(_cell(value)) for value in values]


def _has_float(values: Iterable[Value]) -> bool:
    return any(isinstance(value, float) for value in values)
