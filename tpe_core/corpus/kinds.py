"""Which files are texts and how each is read: one table, by suffix and by first bytes.

A kind of file is one entry of `KINDS`; what makes a source of such files may import what it needs when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from tpe_core.corpus.compression import bare_name, compression_of
from tpe_core.corpus.files import FileSource
from tpe_core.corpus.formats import Reader, read_arrow, read_csv, read_json, read_json_lines, read_parquet
from tpe_core.corpus.id_files import NUMPY_MAGIC, IdFiles
from tpe_core.corpus.text_source import TextSource, unreadable

__all__ = ["KINDS", "PLAIN", "Kind", "Open", "are_ids", "kind_of", "searched"]

Open = Callable[[tuple[Path, ...], str | None], TextSource]
"""Files of such a kind and the field of their records that is read (None: choose it): a source."""


def _text(files: tuple[Path, ...], text_field: str | None) -> TextSource:
    return FileSource(files, text_field=text_field, records=tuple(kind_of(path).records for path in files))


def _ids(files: tuple[Path, ...], _: str | None) -> TextSource:
    return IdFiles.open(files)


class Kind(NamedTuple):
    """One kind of file; kinds with the same `open` can be read together."""

    name: str  # with its article, for a sentence
    suffixes: tuple[str, ...]  # in lower case, without what compression adds
    magic: bytes = b""  # what such a file begins with, whatever it is called; nothing: only its name tells
    open: Open = _text
    records: Reader | None = None  # reads a record at a time; None: the file is one document
    in_folders: Callable[[Path], bool] = lambda _: True  # whether a file that a folder holds is taken
    only_named: bool = False  # whether a folder is not even searched for it


def _is_array(path: Path) -> bool:
    """Whether a JSON file holds an array: of records, not the settings of a program."""
    try:
        with path.open("rb") as stream:
            return (
                compression_of(first := stream.read(256)) is not None
                or first.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"["
            )
    except OSError as error:
        raise unreadable(path, error) from error


PLAIN = Kind("plain text", (".txt", ".md", ".rst", ".py"))
"""What a file is whose name and first bytes say nothing else."""

KINDS = (
    PLAIN,
    Kind("JSON lines", (".jsonl", ".ndjson"), records=read_json_lines),
    Kind("JSON", (".json",), records=read_json, in_folders=_is_array),
    Kind("CSV", (".csv", ".tsv"), records=read_csv),
    Kind("a Parquet table", (".parquet",), b"PAR1", records=read_parquet),
    Kind("an Arrow table", (".arrow",), b"ARROW1", records=read_arrow),
    Kind("token ids", (".npy", ".bin", ".idx"), NUMPY_MAGIC, open=_ids, only_named=True),
)

FIRST = 16  # bytes read to recognise a file


def kind_of(path: Path) -> Kind:
    """The kind of a file: by its name, else by its first bytes, else plain text. Raises `CorpusError`."""
    suffix = Path(bare_name(path.name)).suffix
    for kind in KINDS:
        if suffix in kind.suffixes:
            return kind
    try:
        with path.open("rb") as stream:
            first = stream.read(FIRST)
    except OSError as error:
        raise unreadable(path, error) from error
    return next((kind for kind in KINDS if kind.magic and first.startswith(kind.magic)), PLAIN)


def searched(path: Path) -> bool:
    """Whether a path inside a folder is a file taken where the folder is named. Raises `CorpusError`, OSError."""
    suffix = Path(bare_name(path.name)).suffix
    kinds = [kind for kind in KINDS if suffix in kind.suffixes and not kind.only_named]
    return bool(kinds) and path.is_file() and any(kind.in_folders(path) for kind in kinds)


def are_ids(paths: Iterable[str]) -> bool:
    """Whether what is named as a text is files of token ids, and nothing else."""
    files = [Path(path) for path in paths]
    return bool(files) and all(path.is_file() and kind_of(path).open is _ids for path in files)
