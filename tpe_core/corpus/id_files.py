"""Files of token ids instead of text: NumPy arrays, raw ``.bin`` files, and Megatron's ``.bin`` with its ``.idx``.

Every file is memory-mapped and read in order, so that no more of it is in memory than a chunk. What an id means is
the model's affair; that it is one of the vocabulary is checked here, where its position is known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpe_core.corpus.text_source import TextSource
from tpe_core.errors import CorpusError
from tpe_core.pauses import pause

__all__ = ["NUMPY_MAGIC", "IdFiles", "ShuffledIds"]

Ints = NDArray[np.int64]

CHUNK = 1 << 18  # ids read at once
HASHED = 1 << 26  # first bytes of a file that its fingerprint reads whole
SPREAD, STRIDE = 1 << 12, 1 << 24  # beyond those, so many bytes of every so many

NUMPY_MAGIC = b"\x93NUMPY"
INDEX_MAGIC = b"MMIDIDX\x00\x00"
INDEX_HEADER = np.dtype([("magic", "S9"), ("version", "<u8"), ("code", "u1"), ("sequences", "<u8"), ("ends", "<u8")])
INDEX_DTYPES = {1: "<u1", 2: "<i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
"""Of Megatron's dtype codes those of whole numbers; 6 and 7 are floating-point."""

SHARD_HEADER = 256  # 32-bit numbers before the ids of an llm.c shard; the first says what the ids are
SHARD_DTYPES = {20240520: "<u2", 20240801: "<u4"}

SHORT, LONG = "<u2", "<u4"  # raw files say nothing of their dtype: the vocabulary decides
OTHERS = ((b"PK\x03\x04", "a zip archive"), (b"\x1f\x8b", "compressed (gzip)"), (b"GGUF", "a GGUF model"))


@dataclass(frozen=True, slots=True)
class IdFiles(TextSource):
    """Files of token ids, in the order of `files`; a row, a Megatron document or else a file is one document."""

    files: tuple[Path, ...]

    @classmethod
    def open(cls, files: Iterable[Path]) -> IdFiles:
        """Files whose form is checked now, and their ids as they are read.

        An ``.idx`` stands for the ``.bin`` beside it. Raises `CorpusError` where one cannot be read as ids.
        """
        found = dict.fromkeys(path.with_suffix(".bin") if path.suffix.lower() == ".idx" else path for path in files)
        for path in found:
            _opened(path, 0)
        return cls(tuple(found))

    @property
    def label(self) -> str:
        """The file's name, or how many files there are."""
        return self.files[0].name if len(self.files) == 1 else f"{len(self.files)} files from {self.files[0].name}"

    def fingerprint(self) -> str:
        """sha256 over every file's size, its first 64 MB, and 4 KB of every 16 MB after those.

        Such files are often larger than memory, and what is read of one is its beginning.
        """
        total = hashlib.sha256(b"token ids 1")
        for path in self.files:
            for each in (path, _index(path)):
                if each == path or (path.suffix.lower() == ".bin" and each.is_file()):
                    total.update(_spread(each))
        return total.hexdigest()

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """Raise `CorpusError`: there is no text in ids."""
        raise CorpusError(f"{self.label} holds token ids, not text: name a text here.")

    def token_ids(self, rows: int, end: int | None = None, padding: int | None = None) -> Iterator[Ints]:
        """All ids in arrays of about `CHUNK`, each below `rows`, the size of the vocabulary.

        `end` is put between documents, unless the first of the two ends in it already. `padding` at the end of a
        row of a 2-d array is no part of the document. A raw ``.bin`` is of 16-bit numbers where the vocabulary has at
        most 65,536 ids, and else of 32-bit ones. Raises `CorpusError` with the position of an id outside the
        vocabulary.
        """
        held: list[Any] = []
        size = 0
        last: int | None = None
        for path in self.files:
            for ids, opens in _opened(path, rows).pieces(rows, padding):
                if opens and last is not None and end is not None and last != end:
                    held.append([end])
                held.append(ids)
                last = int(ids[-1])
                size += len(ids)
                if size >= CHUNK:
                    pause()
                    yield np.concatenate(held).astype(np.int64, copy=False)
                    held, size = [], 0
        if held:
            yield np.concatenate(held).astype(np.int64, copy=False)


@dataclass(frozen=True, slots=True)
class ShuffledIds(TextSource):
    """The ids of another source in random order: the same frequencies, and nothing else of what a model knows.

    It stands for sequences out of the domain where none are given: no ids come with the package.
    """

    source: TextSource

    @property
    def label(self) -> str:
        """The source's, with what was done to it."""
        return f"{self.source.label} in shuffled order"

    def fingerprint(self) -> str:
        """sha256 of the source's."""
        return hashlib.sha256(f"shuffled 1 {self.source.fingerprint()}".encode()).hexdigest()

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """As the source."""
        return self.source.pieces()

    def token_ids(self, rows: int, end: int | None = None, padding: int | None = None) -> Iterator[Ints] | None:
        """As the source, each of its arrays in random order, the same every time."""
        arrays = self.source.token_ids(rows, end, padding)
        return None if arrays is None else map(np.random.default_rng(0).permutation, arrays)


@dataclass(frozen=True, slots=True)
class _Array:
    """A memory-mapped array [N] or [D, L] of ids; its rows are documents."""

    path: Path
    values: NDArray[Any]
    hint: str = ""  # what to do where an id is none of the vocabulary

    def pieces(self, rows: int, padding: int | None) -> Iterator[tuple[Ints, bool]]:
        """(ids, whether they begin a document), in order, none of them empty."""
        if self.values.ndim == 1:
            for start in range(0, len(self.values), CHUNK):
                part = self.values[start : start + CHUNK]
                yield _checked(part, rows, self.path, f"{{{start}}}", self.hint), start == 0
            return
        for index, row in enumerate(self.values):
            ids = _without_padding(row, padding)
            for start in range(0, len(ids), CHUNK):
                place = f"{{{start}}} of row {index:,}"
                yield _checked(ids[start : start + CHUNK], rows, self.path, place, self.hint), start == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Indexed:
    """A ``.bin`` whose ``.idx`` says where its sequences lie and which of them make a document."""

    path: Path
    values: NDArray[Any]  # [bytes / itemsize]
    sizes: NDArray[np.int32]  # [S] ids in a sequence
    offsets: NDArray[np.int64]  # [S] bytes before a sequence
    ends: NDArray[np.int64]  # [D + 1] the sequence that a document begins with

    def pieces(self, rows: int, padding: int | None) -> Iterator[tuple[Ints, bool]]:
        """(ids, whether they begin a document), in order, none of them empty."""
        item = self.values.dtype.itemsize
        for document, (first, after) in enumerate(zip(self.ends[:-1].tolist(), self.ends[1:].tolist(), strict=True)):
            if not 0 <= first <= after <= len(self.sizes):
                raise self._broken(f"document {document:,} is of sequences {first:,} to {after:,}")
            opens = True
            for sequence in range(first, after):
                size, offset = int(self.sizes[sequence]), int(self.offsets[sequence])
                start = offset // item
                if offset % item or size < 0 or offset < 0 or start + size > len(self.values):
                    raise self._broken(f"sequence {sequence:,} is of {size:,} ids at byte {offset:,}")
                for at in range(start, start + size, CHUNK):
                    part = self.values[at : min(at + CHUNK, start + size)]
                    place = f"{{{at}}}, in document {document:,}"
                    yield _checked(part, rows, self.path, place, ""), opens
                    opens = False

    def _broken(self, what: str) -> CorpusError:
        return CorpusError(
            f"{_index(self.path).name} does not go with {self.path.name}: {what}, and the file holds "
            f"{len(self.values):,} ids and {len(self.sizes):,} sequences: copy both files again."
        )


def _without_padding(row: NDArray[Any], padding: int | None) -> NDArray[Any]:
    if padding is None or not len(row) or row[-1] != padding:
        return row
    kept = np.flatnonzero(row != padding)
    return row[: kept[-1] + 1] if len(kept) else row[:0]


def _checked(ids: NDArray[Any], rows: int, path: Path, place: str, hint: str) -> Ints:
    """The ids as int64. `place` says where they are, the index of the first of them in braces."""
    lowest, highest = int(ids.min()), int(ids.max())
    if lowest >= 0 and highest < rows:
        return ids.astype(np.int64)
    wrong = int(np.argmax((ids < 0) | (ids >= rows)))
    before, _, rest = place.partition("{")
    start, _, after = rest.partition("}")
    raise CorpusError(
        f"{path.name} holds the id {int(ids[wrong])} at position {before}{int(start) + wrong:,}{after} (counted from "
        f"0), which is none of the model's vocabulary (ids 0 to {rows - 1}): "
        + (hint or "name a file of this model's ids, without padding or other marks.")
    )


def _opened(path: Path, rows: int) -> _Array | _Indexed:
    """Map a file. A raw one's dtype depends on `rows`, the size of the vocabulary; 0 where that is not known yet."""
    try:
        size = path.stat().st_size
        if not size:
            raise CorpusError(f"the file {path} is empty: name one that holds token ids.")
        if _first(path, 6) == NUMPY_MAGIC or path.suffix.lower() == ".npy":
            return _numpy(path)
        for magic, kind in OTHERS:
            if _first(path, len(magic)) == magic:
                raise CorpusError(f"{path} is {kind}, not a file of token ids: name a text or a file of ids.")
        if _index(path).is_file():
            return _indexed(path)
        return _raw(path, size, rows)
    except FileNotFoundError:
        raise CorpusError(f"there is no file {path}: check the path.") from None
    except OSError as error:
        raise CorpusError(f"the ids at {path} cannot be read ({error.strerror or error}): check the path.") from error


def _numpy(path: Path) -> _Array:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise CorpusError(
            f"{path} cannot be read as a NumPy array ({reason}): save whole numbers with numpy.save."
        ) from None
    if values.dtype.kind not in "iu" or values.ndim not in {1, 2}:
        raise CorpusError(
            f"{path} holds an array of {values.dtype} of shape {values.shape}: token ids are whole numbers, in one "
            "dimension or in two (rows are documents)."
        )
    if not values.size:
        raise CorpusError(f"{path} holds no ids (its shape is {values.shape}): name a file that does.")
    return _Array(path, values)


def _raw(path: Path, size: int, rows: int) -> _Array:
    """nanoGPT's files, which are nothing but ids, and llm.c's, which have a header."""
    magic = int.from_bytes(_first(path, 4), "little")
    skipped = 4 * SHARD_HEADER if magic in SHARD_DTYPES and size > 4 * SHARD_HEADER else 0
    dtype = np.dtype(SHARD_DTYPES[magic] if skipped else SHORT if rows <= np.iinfo(SHORT).max + 1 else LONG)
    if (size - skipped) % dtype.itemsize:
        raise CorpusError(
            f"{path} has {size:,} bytes, which is no whole number of {8 * dtype.itemsize}-bit ids: it is cut off, or "
            "no file of token ids."
        )
    bits = 8 * dtype.itemsize
    hint = f"its ids are read as {bits}-bit numbers, by the size of the vocabulary; save others with numpy.save."
    values = np.memmap(path, dtype, mode="r", offset=skipped)
    return _Array(path, values, "" if skipped else hint)


def _indexed(path: Path) -> _Indexed:
    index = _index(path)
    size = index.stat().st_size
    if _first(index, len(INDEX_MAGIC)) != INDEX_MAGIC:
        kind = "an older format (TNTIDX)" if _first(index, 6) == b"TNTIDX" else "not Megatron's format (MMIDIDX)"
        raise CorpusError(f"{index} is of {kind}: write {path.name} again with Megatron's preprocess_data.py.")
    if size < INDEX_HEADER.itemsize:
        raise CorpusError(f"{index} is cut off after {size:,} bytes: copy it again.")
    header = np.fromfile(index, INDEX_HEADER, 1)[0]
    version, code, sequences, ends = (int(header[name]) for name in ("version", "code", "sequences", "ends"))
    if version != 1 or code not in INDEX_DTYPES:
        raise CorpusError(
            f"{index} has version {version} and dtype code {code}: versions 1 with whole numbers (codes "
            f"{', '.join(map(str, INDEX_DTYPES))}) are read."
        )
    wanted = INDEX_HEADER.itemsize + 12 * sequences + 8 * ends
    if size < wanted or not sequences or not ends:
        raise CorpusError(
            f"{index} has {size:,} bytes and needs {wanted:,} for its {sequences:,} sequences and {ends:,} ends of "
            "documents: it is cut off or empty; copy it again."
        )
    dtype = np.dtype(INDEX_DTYPES[code])
    values = np.memmap(path, dtype, mode="r", shape=(path.stat().st_size // dtype.itemsize,))
    at = INDEX_HEADER.itemsize
    return _Indexed(
        path=path,
        values=values,
        sizes=np.memmap(index, "<i4", mode="r", offset=at, shape=(sequences,)),
        offsets=np.memmap(index, "<i8", mode="r", offset=at + 4 * sequences, shape=(sequences,)),
        ends=np.memmap(index, "<i8", mode="r", offset=at + 12 * sequences, shape=(ends,)),
    )


def _index(path: Path) -> Path:
    """Where the index of a Megatron file lies."""
    return path.with_suffix(".idx")


def _first(path: Path, count: int) -> bytes:
    with path.open("rb") as stream:
        return stream.read(count)


def _spread(path: Path) -> bytes:
    """sha256 of a file's size, its beginning and a spread of the rest."""
    digest = hashlib.sha256(f"{path.suffix.lower()} {path.stat().st_size}".encode())
    try:
        with path.open("rb") as stream:
            digest.update(stream.read(HASHED))
            for at in range(HASHED, path.stat().st_size, STRIDE):
                stream.seek(at)
                digest.update(stream.read(SPREAD))
    except OSError as error:
        raise CorpusError(f"the ids at {path} cannot be read ({error.strerror or error}): check the path.") from error
    return digest.digest()
