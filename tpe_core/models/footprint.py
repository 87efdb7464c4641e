"""How much memory a model will take, told before it is loaded, and how much there is.

Weights are counted from the headers of safetensors files, or from the config's own model built without storage;
nothing of a checkpoint's content is read.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tpe_core.errors import ModelError
from tpe_core.models.head import Task
from tpe_core.models.tasks import auto_class
from tpe_core.progress import size_text

__all__ = ["Footprint", "available_bytes", "estimate"]

SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
    "BOOL": 1,
}  # fmt: skip
FLOATING = ("F64", "F32", "F16", "BF16")  # what --dtype converts
WORK_BYTES = 2 * 32 * 2**20  # chunks of logits and of probabilities while detecting, on a CPU
CGROUPS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Memory that a model needs, in bytes, and what is free where it is to go.

    `body_bytes` are all weights in the dtype they will have, `head_float32_bytes` the float32 copy of the output
    embedding that the engine keeps where it fits, `detection_bytes` what detecting adds to both.
    """

    parameters: int
    body_bytes: int
    head_float32_bytes: int
    detection_bytes: int
    available_bytes: int

    @property
    def needed_bytes(self) -> int:
        """Total bytes needed."""
        return self.body_bytes + self.head_float32_bytes + self.detection_bytes

    def __str__(self) -> str:
        return f"needs {size_text(self.needed_bytes)}, {size_text(self.available_bytes)} free"

    def to_dict(self) -> dict[str, int]:
        """The document under ``memory`` in the report card."""
        return {**asdict(self), "needed_bytes": self.needed_bytes}

    def check(self, name: str) -> None:
        """Raise `ModelError` where the weights alone exceed what is free."""
        if self.body_bytes > self.available_bytes:
            raise ModelError(
                f"the weights of {name} take {size_text(self.body_bytes)} and {size_text(self.available_bytes)} of "
                "memory are free: try --dtype bfloat16, --device-map auto, or --quantize 4bit."
            )


def estimate(
    config: Any,
    folder: Path | None,
    dtype: torch.dtype | None,
    task: Task,
    free: int,
    *,
    quantize: str | None = None,
    sample: int = 4096,
    shapes: Iterable[tuple[int, ...]] | None = None,
) -> Footprint:
    """The memory of the model in `folder` (None: of a random model of `config`), loaded in `dtype` (None: as saved).

    `free` is the number of bytes at hand, `quantize` (``8bit``, ``4bit``) how weights beside the embeddings are
    packed, `sample` the number of hidden states that detection keeps. `shapes` are those of the tensors where they are
    known otherwise (a GGUF file's), which become float32 unless `dtype` says another.
    """
    if shapes is not None:
        tensors = [_Tensor(shape, 4, True) for shape in shapes]
    else:
        tensors = list(_saved(folder)) if folder is not None else []
    if not tensors:
        tensors = list(_built(config, task))
    text = config.get_text_config(decoder=True)
    vocab, width = (int(getattr(text, name, 0) or 0) for name in ("vocab_size", "hidden_size"))
    packed = {None: None, "8bit": 1.0, "4bit": 0.5}[quantize]
    body = 0.0
    for tensor in tensors:
        size = tensor.itemsize if dtype is None or not tensor.floating else dtype.itemsize
        body += tensor.count * (packed if packed and len(tensor.shape) == 2 and vocab not in tensor.shape else size)
    parameters = sum(tensor.count for tensor in tensors)
    work = WORK_BYTES + 8 * 8 * vocab + 4 * sample * width  # chunks, sums over the vocabulary, the sample
    return Footprint(
        parameters=parameters,
        body_bytes=int(body),
        head_float32_bytes=4 * vocab * width,
        detection_bytes=work,
        available_bytes=free,
    )


@dataclass(frozen=True, slots=True)
class _Tensor:
    shape: tuple[int, ...]
    itemsize: int
    floating: bool

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @staticmethod
    def of(tensor: torch.Tensor) -> _Tensor:
        return _Tensor(tuple(tensor.shape), tensor.element_size(), tensor.is_floating_point())


def _saved(folder: Path) -> Iterator[_Tensor]:
    """Every tensor in a folder's weight files; none where a file cannot be read, loading will say why."""
    for path in _weight_files(folder):
        try:
            if path.suffix == ".bin":
                state = torch.load(path, map_location="meta", weights_only=True, mmap=True)
                yield from (_Tensor.of(tensor) for tensor in state.values())
                continue
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(length, path.stat().st_size)))
        except Exception:  # a broken file can raise anything
            return
        for name, entry in header.items():
            if name != "__metadata__":
                kind = entry["dtype"]
                yield _Tensor(tuple(entry["shape"]), SIZES.get(kind, 4), kind in FLOATING)


def _weight_files(folder: Path) -> list[Path]:
    """The files that loading will read: safetensors before pickles, one file before shards."""
    for single, shards in (
        ("model.safetensors", "model-*.safetensors"),
        ("pytorch_model.bin", "pytorch_model-*.bin"),
    ):
        if (folder / single).is_file():
            return [folder / single]
        shard_files = sorted(folder.glob(shards))
        if shard_files:
            return shard_files
    return []


def _built(config: Any, task: Task) -> Iterator[_Tensor]:
    """The same of a model built on the meta device, which has shapes and no storage."""
    with torch.device("meta"):
        model = auto_class(config, task).from_config(config)
    yield from (_Tensor.of(parameter) for parameter in model.parameters())


def available_bytes(device: torch.device | None) -> int:
    """Free bytes on a device; of all GPUs and the main memory together where None.

    Main memory is what Linux calls available, or less where a control group limits this process.
    """
    if device is not None and device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = _main_memory()
    if device is None:
        free += sum(int(torch.cuda.mem_get_info(index)[0]) for index in range(torch.cuda.device_count()))
    return free


def _main_memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Available bytes of main memory."""
    try:
        lines = (proc / "meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit, usage in _control_groups(proc, groups):
        free = min(free, max(0, limit - usage))
    return free


def _control_groups(proc: Path, groups: Path) -> Iterator[tuple[int, int]]:
    """(limit, usage) of the control groups this process is in, where they limit memory.

    Files that the kernel only keeps for later reading do not count as used.
    """
    folders = [groups, groups / "memory"]
    try:
        for line in (proc / "self" / "cgroup").read_text(encoding="ascii").splitlines():
            own = line.split(":", 2)[2].strip("/")
            folders += [groups / own, groups / "memory" / own] if own else []
    except (OSError, IndexError):
        pass
    for folder in folders:
        for limit, usage, cached in CGROUPS:
            try:
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                most, used = int((folder / limit).read_text()), int((folder / usage).read_text())
                yield most, used - int(stat.get(cached, 0))
            except (OSError, ValueError):  # no such group, or no limit ("max")
                continue
