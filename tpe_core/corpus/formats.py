"""Records out of files: JSON, JSON lines, CSV, Parquet, Arrow; each lazily, each bounded in what it holds at once.

A reader yields a record's text and where it stands, so that whoever reads it can say which one is broken.
"""

from __future__ import annotations

import csv
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tpe_core.clamping import at_most
from tpe_core.corpus.compression import DamagedError, needs
from tpe_core.corpus.records import CHAT, STRING, TEXT, FieldChoice, names_of
from tpe_core.errors import CorpusError, reason_of
from tpe_core.json_text import parse_json

__all__ = ["LARGEST", "Document", "Opened", "read_arrow", "read_csv", "read_json", "read_json_lines", "read_parquet"]

LARGEST = 2**26
"""Characters of the longest record that is read."""

ROWS = 256  # of a table held at once
BUFFER = 2**20  # bytes of a table's column read at once
BLANK = re.compile(r"[ \t\n\r]*")
DECODER = json.JSONDecoder()


class Document(NamedTuple):
    """A record's text."""

    text: str
    place: str  # "line 3"
    share: float | None = None  # of the file, read by then, where the format knows it better than the bytes do


class Opened(NamedTuple):
    """A file being read, as text for formats of text and as bytes for the others."""

    path: Path
    text: Callable[[], Iterator[str]]
    unpacked: Callable[[], Iterator[bytes]]
    compressed: bool


Reader = Callable[[Opened, FieldChoice], Iterator[Document]]


def read_json_lines(file: Opened, choice: FieldChoice) -> Iterator[Document]:
    """One JSON value a line; empty lines are skipped."""
    for number, line in enumerate(_lines(file.text(), str(file.path)), 1):
        if line.strip():
            place = f"line {number}"
            try:
                record = parse_json(line, finite=False)
            except ValueError as error:
                raise CorpusError(f"{place} of {file.path} is not JSON: {_json_reason(error)}.") from None
            yield Document(choice.text(record, place), place)


def read_json(file: Opened, choice: FieldChoice) -> Iterator[Document]:
    """The items of a JSON array, or the JSON values that follow each other; one at a time, never the whole file."""
    text = _Window(file.text())
    if array := text.next() == "[":
        text.at += 1
    number = 0
    while (char := text.next()) and not (array and char == "]"):
        place = f"record {number + 1}"
        if array and number:
            if char != ",":
                raise CorpusError(f"{place} of {file.path} is not JSON: there is no comma before it.")
            text.at += 1
        try:
            record = text.value()
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{place} of {file.path} is not JSON: {_json_reason(error)}.") from None
        number += 1
        yield Document(choice.text(record, place), place)
    if array:
        text.at += 1
        if not char:
            raise CorpusError(f"{file.path} breaks off after record {number}: the array has no end.")
        if text.next():
            raise CorpusError(f"{file.path} goes on after the array that ends with record {number}: make it one array.")


class _Window:
    """The part of a JSON text that is being looked at, from `at` on; it grows as far as one value needs."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces, self._text, self.at = pieces, "", 0

    def next(self) -> str:
        """The next character that is no blank, which `at` is then put to; nothing at the end."""
        while True:
            self.at = BLANK.match(self._text, self.at).end()  # type: ignore[union-attr]  # it matches nothing, too
            if self.at < len(self._text) or not self._grow():
                return self._text[self.at : self.at + 1]

    def value(self) -> Any:
        """The value that begins with the next character that is no blank; `at` goes behind it. Raises `ValueError`."""
        self.next()
        while True:
            left = len(self._text) - self.at
            try:
                value, end = DECODER.raw_decode(self._text, self.at)
            except ValueError:
                if left > LARGEST:
                    raise ValueError(f"no end of it in {LARGEST:,} characters") from None
                if not self._grow(left):
                    raise
            else:
                if end < len(self._text) or not self._grow():  # a number at the end may go on
                    self.at = end
                    return value

    def _grow(self, characters: int = 1) -> bool:
        """Forget what is behind `at` and take so many more; False where nothing more comes."""
        parts, size = [self._text[self.at :]], 0
        while size < characters and (piece := next(self._pieces, "")):
            parts.append(piece)
            size += len(piece)
        self._text, self.at = "".join(parts), 0
        return size > 0


def read_csv(file: Opened, choice: FieldChoice) -> Iterator[Document]:
    """One record a row, its fields named by the first row and separated by what that row has most of: , ; or tab."""
    lines = _lines(file.text(), str(file.path), ends=True)
    first = next(lines, "")
    separator = max(",;\t", key=first.count)
    csv.field_size_limit(max(csv.field_size_limit(), LARGEST))  # the library's limit is one for the whole process
    rows = csv.reader(_chained(first, lines), delimiter=separator, strict=True)
    at = 1
    try:
        names = next(rows, [])
        if (twice := names_of(names)) is not None:
            raise CorpusError(f"line 1 of {file.path} names the field {twice} twice: rename one.")
        at = rows.line_num + 1
        for row in rows:
            place = f"line {at}"
            if row:
                if len(row) != len(names):
                    raise CorpusError(
                        f"{place} of {file.path} has {len(row)} fields and its first line names {len(names)}: "
                        "quote what holds a separator."
                    )
                record = dict(zip(names, row, strict=True))
                if choice.chosen is None:
                    choice.choose({name: _csv_kind(name, value) for name, value in record.items()}, place)
                yield Document(choice.text(record, place), place)
            at = rows.line_num + 1
    except csv.Error as error:
        raise CorpusError(f"line {at} of {file.path} is not CSV: {reason_of(error)}.") from None


def read_parquet(file: Opened, choice: FieldChoice) -> Iterator[Document]:
    """One record a row, a few hundred at a time, of the one column that is read."""
    needs("pyarrow", "a Parquet table")
    from pyarrow import parquet

    with _seekable(file) as stream, _broken_tables():
        table = parquet.ParquetFile(stream, buffer_size=BUFFER, pre_buffer=False)
        column = choice.choose(_kinds(table.schema_arrow), "the schema")
        rows = max(1, table.metadata.num_rows)
        number = 0
        for batch in table.iter_batches(batch_size=ROWS, columns=[column]):
            for document in _column(batch, column, choice, number):
                yield document._replace(share=at_most(1.0, (number := number + 1) / rows))


def read_arrow(file: Opened, choice: FieldChoice) -> Iterator[Document]:
    """One record a row of an Arrow file or stream, batch after batch."""
    needs("pyarrow", "an Arrow table")
    import pyarrow

    with _seekable(file) as stream, _broken_tables():
        magic = stream.read(6)
        stream.seek(0)
        size = max(1, stream.seek(0, 2))
        stream.seek(0)
        if magic == b"ARROW1":
            table = pyarrow.ipc.open_file(stream)
            batches = (table.get_batch(at) for at in range(table.num_record_batches))
        else:
            table = pyarrow.ipc.open_stream(stream)
            batches = iter(table)
        column = choice.choose(_kinds(table.schema), "the schema")
        number, before = 0, 0.0
        for batch in batches:
            after = at_most(1.0, stream.tell() / size)
            for at, document in enumerate(_column(batch, column, choice, number), 1):
                yield document._replace(share=before + (after - before) * at / max(1, batch.num_rows))
            number, before = number + batch.num_rows, after


def _column(batch: Any, column: str, choice: FieldChoice, before: int) -> Iterator[Document]:
    for at, value in enumerate(batch.column(column), before + 1):
        place = f"record {at}"
        yield Document(choice.text({column: value.as_py()}, place), place)


def _kinds(schema: Any) -> dict[str, str]:
    """What the columns of a table hold, in the words of `tpe_core.corpus.records.kind_of_value`."""
    from pyarrow import types

    def kind(of: Any) -> str:
        of = of.value_type if types.is_dictionary(of) else of
        if types.is_string(of) or types.is_large_string(of) or types.is_string_view(of):
            return STRING
        if (types.is_list(of) or types.is_large_list(of)) and types.is_struct(of.value_type):
            names = {field.name for field in of.value_type}
            return CHAT if {"role", "content"} <= names or {"from", "value"} <= names else str(of)
        return str(of)

    if (twice := names_of(schema.names)) is not None:
        raise CorpusError(f"the table has two columns {twice}: rename one.")
    return {field.name: kind(field.type) for field in schema}


class _broken_tables:  # noqa: N801 (a context manager)
    """Errors of pyarrow as `DamagedError`."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        import pyarrow

        if isinstance(error, pyarrow.ArrowException | OSError | ValueError):
            raise DamagedError(reason_of(error).rstrip(".")) from error


def _seekable(file: Opened) -> BinaryIO:
    """The file's bytes with random access; unpacked to a temporary file where they are compressed."""
    if not file.compressed:
        return file.path.open("rb")
    stream = tempfile.TemporaryFile()  # noqa: SIM115 (who asked for it closes it)
    try:
        for data in file.unpacked():
            stream.write(data)
        stream.seek(0)
    except BaseException:
        stream.close()
        raise
    return stream


def _lines(pieces: Iterable[str], name: str, ends: bool = False) -> Iterator[str]:
    """Lines of a text in pieces, with their ends on request. Raises `CorpusError` for one beyond `LARGEST`."""
    held: list[str] = []
    size = number = 0
    for piece in pieces:
        *whole, rest = piece.split("\n")
        for line in whole:
            number += 1
            yield "".join([*held, line]) + "\n" * ends
            held, size = [], 0
        if rest:
            held.append(rest)
            size += len(rest)
        if size > LARGEST:
            raise CorpusError(
                f"line {number + 1} of {name} has more than {LARGEST:,} characters: give one record a line, "
                "or name the text itself as plain text (.txt)."
            )
    if held:
        yield "".join(held)


def _chained(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _csv_kind(name: str, value: str) -> str:
    """What a field of other formats would hold: numbers are no text, unless the field's name says so."""
    try:
        float(value)
    except ValueError:
        return STRING
    return STRING if name == TEXT else "number"


def _json_reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return error.msg.removesuffix(" at") if isinstance(error, json.JSONDecodeError) else reason_of(error)
