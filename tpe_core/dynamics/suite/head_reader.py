"""Output embeddings of checkpoints, each fetched once: from a folder, from the hub by its bytes alone, or kept before.

What came from the hub is kept in the user's cache, so that another text needs no second download. The few heads in
use stay in memory.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from tpe_core.dynamics.suite.checkpoints import Checkpoint
from tpe_core.dynamics.suite.head_name import HeadName
from tpe_core.dynamics.suite.remote_checkpoints import HubFiles
from tpe_core.dynamics.suite.weight_files import (
    Files,
    LocalFiles,
    UnusableError,
    Weights,
    is_pickle,
    open_weights,
    shards_of,
)
from tpe_core.progress import Steps
from tpe_core.store import write_file

__all__ = ["HeadReader", "weight_names", "whole"]

IN_MEMORY = 4  # heads: the first, the last, the one before, and the one at hand


def weight_names(files: Files) -> Steps[list[str]]:
    """The weight files that loading a checkpoint would read, the index first where there is one: a job."""
    name = files.weights
    if not name.endswith(".index.json"):
        return [name]
    return [name, *sorted(set((yield from shards_of(files)).values()))]


def whole(files: Files) -> Steps[LocalFiles]:
    """A checkpoint's whole weights, and its config, on this machine: a job that downloads what is not there."""
    if isinstance(files, LocalFiles):
        return files
    assert isinstance(files, HubFiles)  # noqa: S101 - there are no others
    return (yield from files.fetch(["config.json", *(yield from weight_names(files))]))


class HeadReader:
    """Reads heads [V_all, d] of checkpoints; `folder` is where those of the hub are kept (None: nowhere)."""

    def __init__(self, head: HeadName, folder: Path | None) -> None:
        self._head, self._folder = head, folder
        self._held: OrderedDict[str, Tensor] = OrderedDict()
        self._first_last: set[str] = set()
        self._opened: dict[str, tuple[Weights, str]] = {}

    def pin(self, checkpoint: Checkpoint) -> None:
        """Never drop this one from memory."""
        self._first_last.add(checkpoint.files.fingerprint)

    def read(self, checkpoint: Checkpoint) -> Steps[Tensor]:
        """The head in its own dtype: a job. Raises `UnusableError` where it is not there or broken."""
        key = checkpoint.files.fingerprint
        if key not in self._held:
            self._held[key] = yield from self._fetch(checkpoint.files)
        self._held.move_to_end(key)
        for old in [key for key in self._held if key not in self._first_last][: max(0, len(self._held) - IN_MEMORY)]:
            del self._held[old]
        return self._held[key]

    def name(self, files: Files) -> Steps[tuple[Weights, str]]:
        """A checkpoint's tensors and which of them is the head: a job; of pickles, all is fetched for it."""
        key = files.fingerprint
        if key not in self._opened:
            weights = yield from open_weights((yield from whole(files)) if _pickled(files) else files)
            self._opened[key] = weights, (yield from self._head.find(weights))
        return self._opened[key]

    def kept(self, files: Files) -> bool:
        """Whether nothing has to be downloaded for a head: it is in memory, kept, in the hub's cache or a folder."""
        if not isinstance(files, HubFiles) or files.fingerprint in self._held:
            return True
        return self._path(files).is_file() if self._folder is not None else False

    def cost(self, files: Files) -> Steps[int]:
        """The bytes that its head would cost: a job that may read the headers of its weight files."""
        if self.kept(files) or not isinstance(files, HubFiles):
            return 0
        if _pickled(files):
            return sum(files.sizes[name] for name in (yield from weight_names(files)) if files.cached(name) is None)
        weights, name = yield from self.name(files)
        location = (yield from weights.locations([name]))[name]
        return 0 if files.cached(location.file) is not None else location.stop - location.start

    def _fetch(self, files: Files) -> Steps[Tensor]:
        if isinstance(files, HubFiles) and self._folder is not None:
            with suppress(OSError, SafetensorError, KeyError):
                head = safetensors.torch.load_file(self._path(files))["head"]
                os.utime(self._path(files))  # when it was last used, by which `tpe_core.stored` prunes
                return head
        weights, name = yield from self.name(files)
        head = yield from weights.tensor(name)
        if tuple(head.shape) != self._head.shape:
            raise UnusableError(
                f"its head {name} is of shape {tuple(head.shape)}, and its config says {self._head.shape}"
            )
        if isinstance(weights.where, HubFiles) and weights.where.cached(weights.files[name]) is None:
            self._keep(files, head)
        return head

    def _path(self, files: Files) -> Path:
        assert self._folder is not None  # noqa: S101 - callers look
        key = hashlib.sha256(f"{files.fingerprint} {self._head.names}".encode()).hexdigest()
        return self._folder / f"{key}.safetensors"

    def _keep(self, files: Files, head: Tensor) -> None:
        """Write it; a disk that refuses only costs another download."""
        if self._folder is None:
            return
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            repo, commit = files.location
            if shutil.disk_usage(self._folder).free > 2 * head.nbytes:
                write_file(
                    self._path(files),
                    [safetensors.torch.save({"head": head}, {"kind": "head", "of": f"{repo}@{str(commit)[:8]}"})],
                )


def _pickled(files: Files) -> bool:
    return is_pickle(files.weights) or files.weights.endswith(".bin.index.json")
