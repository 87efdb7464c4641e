"""Where text comes from: files, folders, standard input, or the text that every installation already has.

It reads lazily and in pieces, never guesses an encoding, and never tokenises.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tpe_core.corpus.compression import DamagedError, decompressed
from tpe_core.corpus.decoding import decode
from tpe_core.corpus.files import READ, FileSource
from tpe_core.corpus.hub_datasets import PREFIX, HubDataset
from tpe_core.corpus.kinds import KINDS, kind_of, searched
from tpe_core.corpus.saved_datasets import saved_files
from tpe_core.corpus.text_source import TextSource, unreadable
from tpe_core.errors import CorpusError
from tpe_core.options import several

__all__ = ["BuiltinCode", "BuiltinSource", "FileSource", "StdinSource", "TextSource", "text_source"]


@dataclass(frozen=True, slots=True)
class StdinSource(TextSource):
    """Standard input, read once: one document."""

    text: str = field(repr=False)

    @classmethod
    def read(cls, stream: BinaryIO) -> StdinSource:
        """Everything that `stream` holds. Raises `CorpusError` where that is nothing, binary or not UTF-8."""
        if stream.isatty():
            raise CorpusError("standard input is a terminal, not text: pipe text into it, or name a file instead of -.")
        try:
            text = "".join(decode(decompressed(iter(lambda: stream.read(READ), b"")), "standard input"))
        except DamagedError as error:
            raise CorpusError(f"standard input is cut or broken ({error}): send it again.") from error
        if not text:
            raise CorpusError("standard input is empty: pipe text into it, or name a file instead of -.")
        return cls(text)

    @property
    def label(self) -> str:
        """Always ``standard input``."""
        return "standard input"

    def fingerprint(self) -> str:
        """sha256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """The one document."""
        yield self.text, True


@dataclass(frozen=True, slots=True)
class BuiltinSource(TextSource):
    """The held-out docstrings of the installed packages: the text used where none is named."""

    @property
    def label(self) -> str:
        """Always ``held-out docstrings``."""
        return "held-out docstrings"

    def fingerprint(self) -> str:
        """Names the installed versions, without reading a file."""
        from tpe_core.demo import corpus

        return corpus.fingerprint()

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """One document for every docstring."""
        from tpe_core.demo import corpus

        return ((text, True) for text in corpus.held_out_sample())


@dataclass(frozen=True, slots=True)
class BuiltinCode(TextSource):
    """Source code of the standard library: out of the docstrings' domain."""

    @property
    def label(self) -> str:
        """Always ``standard-library source code``."""
        return "standard-library source code"

    def fingerprint(self) -> str:
        """Names the installed versions, without reading a file."""
        from tpe_core.demo import corpus

        return hashlib.sha256(f"source code 1\n{corpus.fingerprint()}".encode()).hexdigest()

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """One document for every source file."""
        from tpe_core.demo import corpus

        return ((text, True) for text in corpus.source_code())


def text_source(
    paths: str | Path | Sequence[str | Path],
    stdin: BinaryIO | None = None,
    *,
    text_field: str | None = None,
    offline: bool = False,
) -> TextSource:
    """The text that `paths` name: files, folders, a data set of the hub (``hf://datasets/...``), ``-`` for `stdin`.

    A folder is searched for files of every kind that `tpe_core.corpus.kinds.KINDS` knows by suffix, or is what the
    datasets library saved. Of records `text_field` is read, or the field that their text stands in by all signs; each
    record is a document. Nothing named means `BuiltinSource`. Files are taken in the order of their paths, each once.
    Raises `CorpusError` where a path is missing, is neither a file nor a folder, is empty, or is a folder without text.

    Example:
        >>> written = Path("some.txt").write_text("Return the number of items.")
        >>> tpe.text_source(["some.txt"]).label
        'some.txt'
    """
    names = several(paths)
    if "-" in names or not names:
        if len(names) > 1:
            raise CorpusError("standard input (-) cannot be mixed with other paths: name one or the other.")
        if text_field is not None:
            what = "standard input" if names else "the built-in text"
            raise CorpusError(f"{what} has no records and so no field {text_field}: leave --text-field out.")
        if not names:
            return BuiltinSource()
        stream = stdin if stdin is not None else getattr(sys.stdin, "buffer", None)
        if stream is None:
            raise CorpusError("there is no standard input to read: name a file instead of -.")
        return StdinSource.read(stream)
    if any(name.startswith(PREFIX) for name in names):
        if len(names) > 1:
            raise CorpusError("a data set of the hub cannot be mixed with other texts: name one or the other.")
        return HubDataset.parse(names[0], text_field, offline)
    files: dict[Path, None] = {}
    for name in names:
        files.update(dict.fromkeys(_files(Path(name))))
    ordered = tuple(sorted(files))
    kinds = [kind_of(path) for path in ordered]
    if other := next((kind for kind in kinds if kind.open is not kinds[0].open), None):
        raise CorpusError(f"{kinds[0].name} and {other.name} cannot be read as one text: name one or the other.")
    if text_field is not None and all(kind.records is None for kind in kinds):
        raise CorpusError(f"{ordered[0]} is {kinds[0].name} and has no field {text_field}: leave --text-field out.")
    return kinds[0].open(ordered, text_field)


def _files(path: Path) -> list[Path]:
    try:
        mode, size = path.stat().st_mode, path.stat().st_size
    except FileNotFoundError:
        raise CorpusError(f"there is no text at {path}: check the path.") from None
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if stat.S_ISDIR(mode):
        try:
            files = list(_walk(path))
            kept = [file for file in files if file.stat().st_size > 0]
        except OSError as error:
            raise unreadable(Path(error.filename or path), error) from error
        if not kept:
            suffixes = " ".join(sorted(suffix for kind in KINDS if not kind.only_named for suffix in kind.suffixes))
            what = f"only {len(files)} empty files" if files else f"no {suffixes} file"
            raise CorpusError(f"the folder {path} holds {what}: name files one by one, or another folder.")
        return kept
    if not stat.S_ISREG(mode):
        raise CorpusError(f"{path} is neither a file nor a folder: pipe its text in and name - instead.")
    if size == 0:
        raise CorpusError(f"the file {path} is empty: name one that holds text.")
    return [path]


def _walk(folder: Path) -> Iterator[Path]:
    """Text files under `folder`; links to folders are not followed, hidden names are left out. Raises OSError."""

    def stop(error: OSError) -> None:
        raise error

    for root, folders, names in os.walk(folder, onerror=stop):
        if (saved := saved_files(Path(root))) is not None:
            folders[:] = []
            yield from saved
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(root, name)
            if not name.startswith(".") and searched(path):
                yield path
