"""Files as text: plain ones a document each, of the others a document for every record, compressed or not.

It reads lazily and in pieces and hashes each file once; it never holds more than a record.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from tpe_core.clamping import at_most
from tpe_core.corpus.chats import ChatTemplate
from tpe_core.corpus.compression import DamagedError, compression_of, decompressed
from tpe_core.corpus.decoding import NotTextError, decode
from tpe_core.corpus.formats import Opened, Reader
from tpe_core.corpus.records import FieldChoice
from tpe_core.corpus.text_source import Piece, TextSource, unreadable
from tpe_core.errors import CorpusError

__all__ = ["FileSource"]

READ = 1 << 20
"""The most bytes read at once."""

SMALL, PARTS = 1024, 256  # a small file is read in smaller parts, so that the share that was read is known closely
LEAST, PIECES = 256, 64
"""Readers of records get decoded text in so many parts, of at least so many characters, for the same reason."""


@dataclass(frozen=True, slots=True)
class FileSource(TextSource):
    """Text files in the order of `files`. Their names do not enter the fingerprint; the field that is read does."""

    files: tuple[Path, ...]
    _: KW_ONLY
    text_field: str | None = None
    records: tuple[Reader | None, ...] = ()  # how each file's records are read; None or nothing: it is one document
    template: ChatTemplate | None = None
    _hashed: dict[Path, tuple[int, int, bytes]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def label(self) -> str:
        """The file's name, or how many files there are."""
        return self.files[0].name if len(self.files) == 1 else f"{len(self.files)} files from {self.files[0].name}"

    def fingerprint(self) -> str:
        """sha256 over the files' sha256 as they lie on the disk, each read once in pieces, and how records are read."""
        total = hashlib.sha256()
        for path in self.files:
            total.update(self._digest(path))
        if any(self.records):
            readers = [reader.__name__ if reader else "" for reader in self.records]
            total.update(repr(("records 1", readers, self.text_field)).encode())
            if self.template is not None:
                total.update(self.template.fingerprint.encode())
        return total.hexdigest()

    def for_tokenizer(self, tokenizer: Any) -> FileSource:
        """The same files, chat records written by the tokenizer's chat template."""
        return replace(self, template=ChatTemplate(tokenizer)) if any(self.records) else self

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """Every file in pieces of about a megabyte, or every record."""
        return ((text, begins) for text, begins, _ in self.measured())

    def measured(self) -> Iterator[Piece]:
        """`pieces`, with the share of all files' bytes that was read by then."""
        sizes = []
        for path in self.files:
            try:
                sizes.append(path.stat().st_size)
            except OSError as error:
                raise unreadable(path, error) from error
        total, before = max(1, sum(sizes)), 0
        for path, size, reader in zip(self.files, sizes, self.records or (None,) * len(sizes), strict=True):
            try:
                with path.open("rb", buffering=0) as raw:
                    for text, begins, share in self._documents(path, raw, size, reader):
                        yield Piece(text, begins, at_most(1.0, (before + share * size) / total))
            except OSError as error:
                raise unreadable(path, error) from error
            before += size

    def _documents(
        self, path: Path, raw: BinaryIO, size: int, reader: Reader | None
    ) -> Iterator[tuple[str, bool, float]]:
        """The texts of one file, and the share of it that was read."""
        step = min(READ, max(SMALL, size // PARTS))
        compressed = compression_of(raw.read(8)) is not None
        raw.seek(0)

        def unpacked() -> Iterator[bytes]:
            return decompressed(iter(lambda: raw.read(step), b""))

        def read() -> float:
            return at_most(1.0, raw.tell() / max(1, size))

        name, render = str(path), None if self.template is None else self.template.render
        place, shared = "", 0.0

        def text() -> Iterator[str]:
            """Decoded text in small parts: `shared` is what was read of the file by the end of the last one."""
            nonlocal shared
            before = 0.0
            for whole in decode(unpacked(), name):
                after, part = read(), max(LEAST, len(whole) // PIECES)
                for at in range(0, len(whole), part):
                    shared = before + (after - before) * at_most(1.0, (at + part) / len(whole))
                    yield whole[at : at + part]
                before = after

        try:
            if reader is None:
                begins = True
                for whole in decode(unpacked(), name):
                    yield whole, begins, read()
                    begins = False
                    place = f"{read():.0%} of it"
                return
            opened = Opened(path, text, unpacked, compressed)
            for document in reader(opened, FieldChoice(name, self.text_field, render)):
                place = document.place
                if document.text:
                    yield document.text, True, shared if document.share is None else document.share
        except NotTextError as error:
            if reader is None or not place:
                raise
            raise CorpusError(f"after {place}, {error}") from None
        except DamagedError as error:
            where = f"after {place}" if place else "at its start" if reader is None else "at record 1"
            raise CorpusError(f"{path} is cut or broken {where} ({error}): copy or fetch it again.") from error

    def _digest(self, path: Path) -> bytes:
        """sha256 of a file, kept as long as its size and time stay what they are."""
        try:
            with path.open("rb") as stream:
                facts = os.fstat(stream.fileno())
                known = self._hashed.get(path)
                if known is not None and known[:2] == (facts.st_size, facts.st_mtime_ns):
                    return known[2]
                digest = hashlib.file_digest(stream, "sha256").digest()
        except OSError as error:
            raise unreadable(path, error) from error
        self._hashed[path] = (facts.st_size, facts.st_mtime_ns, digest)
        return digest
