"""Where text comes from: files, folders, standard input, or the text that every installation already has.

It reads lazily and in pieces, never guesses an encoding, and never tokenises.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import os
import stat
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tpe_core.errors import CorpusError

__all__ = ["BuiltinCode", "BuiltinSource", "FileSource", "StdinSource", "TextSource", "text_source"]

SUFFIXES = frozenset({".txt", ".md", ".rst", ".py"})
"""What is read from a folder; a file named by itself is read whatever its name."""

READ = 1 << 20  # bytes


class TextSource(ABC):
    """Where text comes from. `label` is for people; reading raises `CorpusError`."""

    @property
    @abstractmethod
    def label(self) -> str:
        """A few words that name the text."""

    @abstractmethod
    def fingerprint(self) -> str:
        """sha256 (hex) that changes when the text does."""

    @abstractmethod
    def pieces(self) -> Iterator[tuple[str, bool]]:
        """The text in order, lazily, in pieces that fit in memory, and whether each one begins a document."""

    def documents(self) -> Iterator[str]:
        """Whole documents, lazily."""
        held: list[str] = []
        for text, begins in self.pieces():
            if begins and held:
                yield "".join(held)
                held = []
            held.append(text)
        if held:
            yield "".join(held)


@dataclass(frozen=True, slots=True)
class FileSource(TextSource):
    """UTF-8 files, each one document, in the order of `files`. Their names do not enter the fingerprint."""

    files: tuple[Path, ...]

    @property
    def label(self) -> str:
        """The file's name, or how many files there are."""
        return self.files[0].name if len(self.files) == 1 else f"{len(self.files)} files from {self.files[0].name}"

    def fingerprint(self) -> str:
        """sha256 over the contents' sha256, read once in pieces."""
        total = hashlib.sha256()
        for path in self.files:
            try:
                with path.open("rb") as stream:
                    total.update(hashlib.file_digest(stream, "sha256").digest())
            except OSError as error:
                raise _unreadable(path, error) from error
        return total.hexdigest()

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """Every file in pieces of about a megabyte."""
        for path in self.files:
            try:
                with path.open("rb") as stream:
                    yield from _decode(stream, str(path))
            except OSError as error:
                raise _unreadable(path, error) from error


@dataclass(frozen=True, slots=True)
class StdinSource(TextSource):
    """Standard input, read once: one document."""

    text: str = field(repr=False)

    @classmethod
    def read(cls, stream: BinaryIO) -> StdinSource:
        """Everything that `stream` holds. Raises `CorpusError` where that is nothing, binary or not UTF-8."""
        if stream.isatty():
            raise CorpusError("standard input is a terminal, not text: pipe text into it, or name a file instead of -.")
        text = "".join(text for text, _ in _decode(stream, "standard input"))
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


def text_source(paths: Sequence[str | Path], stdin: BinaryIO | None = None) -> TextSource:
    """The text that `paths` name: files, folders (searched for ``.txt .md .rst .py``), ``-`` for `stdin`.

    Nothing named means `BuiltinSource`. Files are taken in the order of their paths, each once. Raises `CorpusError`
    where a path is missing, is neither a file nor a folder, is empty, or is a folder without text files.

    Example:
        >>> written = Path("some.txt").write_text("Return the number of items.")
        >>> tpe.text_source(["some.txt"]).label
        'some.txt'
    """
    if not paths:
        return BuiltinSource()
    if any(str(path) == "-" for path in paths):
        if len(paths) > 1:
            raise CorpusError("standard input (-) cannot be mixed with other paths: name one or the other.")
        stream = stdin if stdin is not None else getattr(sys.stdin, "buffer", None)
        if stream is None:
            raise CorpusError("there is no standard input to read: name a file instead of -.")
        return StdinSource.read(stream)
    files: set[Path] = set()
    for name in paths:
        files.update(_files(Path(name)))
    return FileSource(tuple(sorted(files)))


def _files(path: Path) -> list[Path]:
    try:
        mode, size = path.stat().st_mode, path.stat().st_size
    except FileNotFoundError:
        raise CorpusError(f"there is no text at {path}: check the path.") from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if stat.S_ISDIR(mode):
        files = list(_walk(path))
        kept = [file for file in files if file.stat().st_size > 0]
        if not kept:
            what = f"only {len(files)} empty files" if files else f"no {' '.join(sorted(SUFFIXES))} file"
            raise CorpusError(f"the folder {path} holds {what}: name files one by one, or another folder.")
        return kept
    if not stat.S_ISREG(mode):
        raise CorpusError(f"{path} is neither a file nor a folder: pipe its text in and name - instead.")
    if size == 0:
        raise CorpusError(f"the file {path} is empty: name one that holds text.")
    return [path]


def _walk(folder: Path) -> Iterator[Path]:
    """Text files under `folder`; links to folders are not followed, hidden names are left out."""

    def stop(error: OSError) -> None:
        raise _unreadable(Path(error.filename or folder), error) from error

    for root, folders, names in os.walk(folder, onerror=stop):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(root, name)
            if path.suffix.lower() in SUFFIXES and not name.startswith(".") and path.is_file():
                yield path


def _unreadable(path: Path, error: Exception) -> CorpusError:
    reason = getattr(error, "strerror", None) or str(error)
    return CorpusError(f"the text at {path} cannot be read ({reason}): check the path and its permissions.")


MARKS = (  # the longer mark first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"),
    (b"+/v8", "UTF-7"), (b"+/v9", "UTF-7"),
)  # fmt: skip
PACKED = (
    (b"\x1f\x8b", "gzip", "gunzip"), (b"BZh", "bzip2", "bunzip2"), (b"\xfd7zXZ\x00", "xz", "unxz"),
    (b"\x28\xb5\x2f\xfd", "zstandard", "unzstd"), (b"PK\x03\x04", "zip", "unzip"),
)  # fmt: skip
OTHERS = (
    (b"%PDF-", "a PDF"), (b"PAR1", "a Parquet table"), (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x89PNG", "a PNG picture"), (b"ARROW1", "an Arrow table"), (b"\x89HDF", "an HDF5 file"),
    (b"\x80\x02", "a pickle"), (b"\x80\x04", "a pickle"), (b"\x7fELF", "a program"),
)  # fmt: skip
WITHOUT_A_MARK = 4096  # first bytes looked at for an encoding of fixed width that does not say so


def _another_kind(data: bytes) -> str | None:
    """What a text's first bytes say that it is, if that is no UTF-8, and what to do; None where they say nothing."""
    for mark, encoding in MARKS:
        if data.startswith(mark):
            return _to_convert(encoding)
    for magic, kind, tool in PACKED:
        if data.startswith(magic):
            return f"compressed ({kind}), not text: unpack it first with {tool}"
    for magic, kind in OTHERS:
        if data.startswith(magic):
            return f"{kind}, not text: name a text file"
    first = data[:WITHOUT_A_MARK]
    first = first[: len(first) // 4 * 4]
    for encoding in ("UTF-32LE", "UTF-32BE", "UTF-16LE", "UTF-16BE") if 0 in first else ():
        try:
            text = first.decode(encoding)
        except UnicodeDecodeError:
            continue
        if sum(char.isascii() and (char.isprintable() or char in "\n\r\t") for char in text) > len(text) / 2:
            return _to_convert(encoding)
    return None


def _to_convert(encoding: str) -> str:
    return f"{encoding}, not UTF-8: convert it first, for example with iconv -f {encoding} -t UTF-8"


def _decode(stream: BinaryIO, name: str) -> Iterator[tuple[str, bool]]:
    """UTF-8 text of a stream in pieces, line ends as ``\\n``, without a byte order mark."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(), translate=True)
    read = 0
    begins = True
    while True:
        data = stream.read(READ)
        if begins and not read and (reason := _another_kind(data)):
            raise CorpusError(f"{name} is {reason}.")
        if (zero := data.find(0)) >= 0:
            raise CorpusError(f"{name} is binary, not text (a zero byte at offset {read + zero}): name a text file.")
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            at = read + len(data) - len(error.object) + error.start
            raise CorpusError(
                f"{name} is not UTF-8 (byte 0x{error.object[error.start]:02x} at offset {at}): "
                "convert it first, for example with iconv -f LATIN1 -t UTF-8."
            ) from None
        read += len(data)
        text = text.removeprefix("\ufeff") if begins else text
        if text:
            yield text, begins
            begins = False
        if not data:
            return
