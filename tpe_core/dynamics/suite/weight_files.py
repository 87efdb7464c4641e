"""The tensors of a checkpoint's weight files, read one at a time: where each lies, and only its bytes.

safetensors files say in a short header where every tensor is, so one can be had without the rest; of pickles
(``.bin``) there is only the whole. Where the files are (a folder, the hub) is for a `Files` to know.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tpe_core.errors import ModelError, reason_of
from tpe_core.json_text import parse_json
from tpe_core.models.hub import SINGLE_WEIGHTS
from tpe_core.models.model_files import POINTER_BYTES, is_pointer
from tpe_core.progress import Steps

__all__ = [
    "Files",
    "LocalFiles",
    "TensorLocation",
    "UnusableError",
    "Weights",
    "is_pickle",
    "is_weight",
    "open_weights",
    "shards_of",
    "tensor_of",
]

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
LARGEST_HEADER = 100_000_000  # bytes, the format's own limit


class UnusableError(ModelError):
    """Why one checkpoint cannot be used: a clause, to be said beside its name."""


class Files(ABC):
    """The files of one checkpoint by name."""

    sizes: Mapping[str, int]  # bytes
    location: tuple[str, str | None]  # what `from_pretrained` takes: a folder, or a hub id and its commit

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """sha256 (hex) of what is known of the weight files without reading them; it changes when one of them does."""

    @abstractmethod
    def part(self, name: str, start: int, stop: int) -> Steps[bytearray]:
        """Bytes `start` to `stop` (exclusive) of a file: a job. Raises `UnusableError` where they cannot be had."""

    def document(self, name: str) -> Steps[dict[str, Any]]:
        """A JSON file: a job. Raises `UnusableError` where it is no JSON object."""
        data = yield from self.part(name, 0, self.sizes[name])
        return _object(bytes(data), name)

    @abstractmethod
    def digest(self, name: str) -> str:
        """The hash of a small file's content."""

    @property
    def weight_hashes(self) -> Mapping[str, str]:
        """The hashes of the files that hold its tensors, where they are known without reading them."""
        return {}

    @property
    def weights(self) -> str:
        """The file that holds the weights or is their index, safetensors first; raises `UnusableError` without one."""
        for name in SINGLE_WEIGHTS:
            if name in self.sizes:
                return name
        raise UnusableError("it has no weights (model.safetensors or pytorch_model.bin)")


class LocalFiles(Files):
    """The files of a folder."""

    def __init__(self, folder: Path) -> None:
        """List them. Raises OSError where the folder cannot be read."""
        self.folder = folder
        self.location = (str(folder), None)
        self._stats = {path.name: path.stat() for path in sorted(folder.iterdir()) if path.is_file()}
        self.sizes = {name: stat.st_size for name, stat in self._stats.items()}

    @property
    def fingerprint(self) -> str:
        """Sizes and times of the weight files, and where they are."""
        facts = [str(self.folder.resolve())]
        facts += [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in self._stats.items() if is_weight(name)]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()

    def part(self, name: str, start: int, stop: int) -> Steps[bytearray]:
        """Bytes `start` to `stop` (exclusive) of a file, read in one go."""
        data = bytearray(stop - start)
        try:
            with (self.folder / name).open("rb") as stream:
                stream.seek(start)
                read = stream.readinto(data)
        except OSError as error:
            raise UnusableError(f"{name} cannot be read ({error.strerror or error})") from error
        if read != len(data):
            raise UnusableError(f"{name} ends after {start + read:,} bytes")
        yield from ()
        return data

    def digest(self, name: str) -> str:
        """sha256 (hex) of a file's content."""
        try:
            return hashlib.sha256((self.folder / name).read_bytes()).hexdigest()
        except OSError as error:
            raise UnusableError(f"{name} cannot be read ({error.strerror or error})") from error

    def content(self) -> str:
        """sha256 (hex) of all weight files, read once."""
        total = hashlib.sha256()
        for name in sorted(self.sizes):
            if is_weight(name):
                with (self.folder / name).open("rb") as stream:
                    total.update(name.encode() + hashlib.file_digest(stream, "sha256").digest())
        return total.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorLocation:
    """Byte range, dtype and shape of one tensor in a weight file."""

    file: str
    dtype: str  # as safetensors writes it
    shape: tuple[int, ...]
    start: int  # byte in the file
    stop: int

    @property
    def floating(self) -> bool:
        """Whether it holds parameters, not counters or masks."""
        return self.dtype in DTYPES


@dataclass(frozen=True)
class Weights:
    """A checkpoint's tensors by name. Of an index, `files` says which file has which before any header is read."""

    where: Files
    files: dict[str, str]  # tensor: file
    _locations: dict[str, TensorLocation] = field(default_factory=dict)  # read so far

    def locations(self, names: Iterable[str]) -> Steps[dict[str, TensorLocation]]:
        """Where tensors lie, from the headers of the files that have them: a job. Of a pickle, no bytes are told."""
        wanted = list(names)
        for file in dict.fromkeys(self.files[name] for name in wanted if name not in self._locations):
            self._locations.update((yield from _read_locations(self.where, file)))
        for name in wanted:
            if name not in self._locations:
                raise UnusableError(f"{self.files[name]} lacks the tensor {name} that the index says it has")
        return {name: self._locations[name] for name in wanted}

    def tensor(self, name: str) -> Steps[Tensor]:
        """One tensor: a job that reads its bytes alone."""
        location = (yield from self.locations([name]))[name]
        if is_pickle(location.file):
            return _unpickled(self.where, location.file)[name]
        data = yield from self.where.part(location.file, location.start, location.stop)
        return tensor_of(data, location)


def tensor_of(data: bytearray, location: TensorLocation) -> Tensor:
    """The tensor whose bytes `data` are."""
    kind = DTYPES.get(location.dtype)
    if kind is None:
        raise UnusableError(f"it is stored as {location.dtype}, not as floating-point numbers")
    return (
        torch.frombuffer(data, dtype=kind).reshape(location.shape) if data else torch.empty(location.shape, dtype=kind)
    )


def open_weights(where: Files) -> Steps[Weights]:
    """Which tensors a checkpoint has: a job that reads an index, or one header, and nothing of a tensor.

    Raises `UnusableError` where a file is missing or broken.
    """
    name = where.weights
    if name.endswith(".index.json"):
        return Weights(where, (yield from shards_of(where)))
    locations = yield from _read_locations(where, name)
    return Weights(where, dict.fromkeys(locations, name), locations)


def shards_of(where: Files) -> Steps[dict[str, str]]:
    """Read an index: the file of every tensor. Raises `UnusableError` where a file is not there."""
    name = where.weights
    entries = (yield from where.document(name)).get("weight_map")
    if not isinstance(entries, dict) or not all(isinstance(file, str) for file in entries.values()):
        raise UnusableError(f"{name} does not say which file has which tensor")
    if missing := sorted(set(entries.values()) - set(where.sizes)):
        raise UnusableError(f"{missing[0]} is missing, which {name} names")
    return entries


def _read_locations(where: Files, file: str) -> Steps[dict[str, TensorLocation]]:
    """The tensors of one weight file."""
    if not is_pickle(file):
        return (yield from _header(where, file))
    names = {kind: name for name, kind in DTYPES.items()}
    return {
        name: TensorLocation(
            file=file,
            dtype=names.get(tensor.dtype, str(tensor.dtype)),
            shape=tuple(tensor.shape),
            start=0,
            stop=tensor.nbytes,
        )
        for name, tensor in _unpickled(where, file).items()
    }


def _header(where: Files, file: str) -> Steps[dict[str, TensorLocation]]:
    """The tensors of a safetensors file: its first 8 bytes say how long the header is, which is JSON."""
    size = where.sizes[file]
    if size < 8:
        raise UnusableError(f"{file} is broken: it has {size} bytes")
    length = int.from_bytes((yield from where.part(file, 0, 8)), "little")
    if length > min(size - 8, LARGEST_HEADER):
        if size < POINTER_BYTES and is_pointer(bytes((yield from where.part(file, 0, size)))):
            raise UnusableError(f"{file} is a Git LFS pointer and not the file itself: run `git lfs pull`")
        raise UnusableError(f"{file} is broken: its header would be {length:,} bytes long and the file has {size:,}")
    document = _object(bytes((yield from where.part(file, 8, 8 + length))), file)
    document.pop("__metadata__", None)
    try:
        locations = {}
        for name, entry in document.items():
            start, stop = (8 + length + at for at in entry["data_offsets"])
            locations[name] = TensorLocation(
                file=file, dtype=entry["dtype"], shape=tuple(entry["shape"]), start=start, stop=stop
            )
    except (KeyError, TypeError) as error:
        raise UnusableError(f"{file} is broken: its header does not describe tensors ({error})") from error
    for name, location in locations.items():
        sound = 8 + length <= location.start <= location.stop
        if sound and location.floating:
            sound = location.stop - location.start == math.prod(location.shape) * DTYPES[location.dtype].itemsize
        if not sound:
            raise UnusableError(f"{file} is broken: the shape of {name} does not go with its bytes")
        if location.stop > size:
            raise UnusableError(f"{file} is broken: it ends at byte {size:,} and {name} at {location.stop:,}")
    return locations


def _object(data: bytes, name: str) -> dict[str, Any]:
    try:
        document = parse_json(data)
    except ValueError as error:
        raise UnusableError(f"{name} is broken: {error}") from error
    if not isinstance(document, dict):
        raise UnusableError(f"{name} is broken: it holds no JSON object")
    return document


def is_weight(name: str) -> bool:
    """Whether a file holds weights, or is their index."""
    return name.endswith((".safetensors", ".index.json")) or (name.startswith("pytorch_model") and is_pickle(name))


def is_pickle(name: str) -> bool:
    """Whether a weight file is a pickle, of which no part can be had."""
    return name.endswith(".bin")


def _unpickled(where: Files, file: str) -> dict[str, Tensor]:
    """A pickle's tensors by name."""
    if not isinstance(where, LocalFiles):
        raise UnusableError(f"{file} is a pickle, of which no part can be read")
    path = where.folder / file
    with path.open("rb") as stream:
        if is_pointer(stream.read(POINTER_BYTES)):
            raise UnusableError(f"{file} is a Git LFS pointer and not the file itself: run `git lfs pull`")
    return _load_pickle(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _load_pickle(path: Path, changed: int) -> dict[str, Tensor]:
    """A pickle's tensors, mapped and not read where its format allows that; no code of it runs."""
    try:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # the format before 2020 cannot be mapped
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle can raise anything
        raise UnusableError(f"{path.name} is broken: {reason_of(error, 160)}") from error
    if not isinstance(state, dict):
        raise UnusableError(f"{path.name} is broken: it holds no tensors by name")
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
