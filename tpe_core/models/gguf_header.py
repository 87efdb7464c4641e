"""The header of a GGUF file: its architecture, its quantisation and the tensors it lists, without their content.

The format is the one of ggml's documentation ("GGUF", versions 2 and 3). The reader of the package `gguf` keeps every
token as an object of its own, which takes many seconds where there are 262,144; this one steps over them.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["MAGIC", "GgufHeader", "GgufProblem", "GgufTensor", "is_gguf", "read_header"]

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32  # bytes, where the metadata does not say
MOST = 2**27  # of metadata entries, tensors, characters and list entries: more is a broken header
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
DEEPEST = 3  # lists in lists
KEPT = 4096  # bytes of a text that are kept; a chat template may be longer, and only its presence is told


class GgufProblem(Exception):  # noqa: N818 - a clause for a sentence, which the caller raises
    """Why a file cannot be read as GGUF: a clause without its name."""


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor as the header lists it: `shape` as torch has it, `type_id` ggml's number, `offset` in its data."""

    name: str
    shape: tuple[int, ...]
    type_id: int
    offset: int

    @property
    def count(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """What a GGUF file says of itself. `metadata` has numbers, texts (their beginning) and the lengths of lists."""

    size: int  # of the file, in bytes
    metadata: dict[str, Any]
    tensors: tuple[GgufTensor, ...]
    data_start: int  # the byte at which the tensors' data begin

    @property
    def architecture(self) -> str:
        """The model's architecture as llama.cpp calls it; empty where the file does not say."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def has_tokenizer(self) -> bool:
        """Whether the file lists tokens."""
        return bool(self.metadata.get("tokenizer.ggml.tokens"))

    @property
    def types(self) -> dict[str, int]:
        """How many values are stored in each of ggml's types, the most frequent first."""
        counts: Counter[str] = Counter()
        for tensor in self.tensors:
            counts[type_name(tensor.type_id)] += tensor.count
        return dict(counts.most_common())

    @property
    def quantization(self) -> str:
        """The name of the quantisation: the file's own (Q4_K_M), else the type of most values."""
        from gguf.constants import LlamaFileType

        try:
            name = LlamaFileType(int(self.metadata["general.file_type"])).name
        except (KeyError, ValueError, TypeError):
            name = ""
        if name and name != "GUESSED":
            return name.removeprefix("MOSTLY_").removeprefix("ALL_")
        return next(iter(self.types), "no tensors")

    def missing_bytes(self) -> tuple[int, str]:
        """(bytes that the file lacks, the first tensor that is cut); (0, "") where it is whole.

        A tensor of a type that the installed `gguf` package does not know counts as empty.
        """
        from gguf.constants import GGML_QUANT_SIZES

        sizes = {int(kind): entry for kind, entry in GGML_QUANT_SIZES.items()}
        ends: list[tuple[int, int, str]] = []
        for tensor in self.tensors:
            block, size = sizes.get(tensor.type_id, (1, 0))  # values and bytes of a block
            begin = self.data_start + tensor.offset
            ends.append((begin, begin + tensor.count // block * size, tensor.name))
        cut = sorted(entry for entry in ends if entry[1] > self.size)
        return (max(end for _, end, _ in cut) - self.size, cut[0][2]) if cut else (0, "")


def type_name(type_id: int) -> str:
    """The name of a ggml type, like Q4_K; ``type 99`` for one that the installed `gguf` package does not know."""
    from gguf.constants import GGMLQuantizationType

    try:
        return GGMLQuantizationType(type_id).name
    except ValueError:
        return f"type {type_id}"


def is_gguf(path: Path) -> bool:
    """Whether a file begins as GGUF files do, whatever it is called."""
    try:
        if not path.is_file():  # reading a pipe would wait
            return False
        with path.open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_header(path: Path, whole: Container[str] = ()) -> GgufHeader:
    """Read a GGUF file's header. Raises `GgufProblem` where it is none or broken, OSError where it cannot be read.

    Texts of the keys in `whole` are kept to their end.
    """
    with path.open("rb") as stream:
        size = path.stat().st_size
        begin = stream.read(24)
        if begin[:4] != MAGIC:
            raise GgufProblem(f"it begins with {begin[:4]!r} and not with {MAGIC!r}" if begin else "it is empty")
        if len(begin) < 24:
            raise GgufProblem(f"it ends after {size} bytes, within its header")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            reader = _Reader(content, size)
            try:
                return _parse(reader, size, whole)
            except struct.error:
                raise GgufProblem(f"it ends after {size:,} bytes, within its header") from None


def _parse(reader: _Reader, size: int, whole: Container[str]) -> GgufHeader:
    version = reader.number("<I")
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        why = "its bytes are in big-endian order" if swapped in VERSIONS else f"it is of version {version}"
        raise GgufProblem(f"{why}; versions {' and '.join(map(str, VERSIONS))} in little-endian order are read")
    n_tensors, n_entries = reader.count(), reader.count()
    metadata: dict[str, Any] = {}
    for _ in range(n_entries):
        key = reader.text()
        kind = reader.number("<I")
        metadata[key] = reader.text(MOST) if kind == STRING and key in whole else reader.value(kind)
    tensors = []
    for _ in range(n_tensors):
        name = reader.text()
        sizes = [reader.number("<Q") for _ in range(reader.dimensions())]
        tensors.append(GgufTensor(name, tuple(reversed(sizes)), reader.number("<I"), reader.number("<Q")))
    alignment = metadata.get("general.alignment", ALIGNMENT)
    alignment = alignment if isinstance(alignment, int) and alignment > 0 else ALIGNMENT
    start = -(-reader.at // alignment) * alignment
    return GgufHeader(size=size, metadata=metadata, tensors=tuple(tensors), data_start=start)


class _Reader:
    """Reads little-endian values one after the other. Raises struct.error at the end of the file."""

    def __init__(self, content: mmap.mmap, size: int) -> None:
        self._content, self._size, self.at = content, size, len(MAGIC)

    def number(self, kind: str) -> Any:
        (value,) = struct.unpack_from(kind, self._content, self.at)
        self.at += struct.calcsize(kind)
        return value

    def count(self) -> int:
        count: int = self.number("<Q")
        if count > MOST:
            raise GgufProblem(f"its header is broken: it counts {count:,} of something at byte {self.at - 8:,}")
        return count

    def dimensions(self) -> int:
        count: int = self.number("<I")
        if count > 8:
            raise GgufProblem(f"its header is broken: it gives a tensor {count:,} dimensions")
        return count

    def skip(self, length: int) -> None:
        self.at += length
        if self.at > self._size:
            raise struct.error

    def text(self, kept: int = KEPT) -> str:
        length, begin = self.count(), self.at
        self.skip(length)
        return self._content[begin : begin + min(length, kept)].decode("utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        """A value of the metadata; of a list its length."""
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == STRING:
            return self.text()
        if kind != ARRAY or depth > DEEPEST:
            raise GgufProblem(f"its header is broken: it holds a value of type {kind} at byte {self.at:,}")
        entries, count = self.number("<I"), self.count()
        if entries in SCALARS:
            self.skip(count * struct.calcsize(SCALARS[entries]))
        elif entries == STRING:
            for _ in range(count):
                self.skip(self.count())
        else:
            for _ in range(count):
                self.value(entries, depth + 1)
        return count
