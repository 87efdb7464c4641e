"""Models that lie near a folder: GGUF files and folders with weights, found in a bounded time and opened by nobody."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LocalModel", "local_paths", "models_nearby"]

SECONDS = 0.5
MOST = 60  # models, and entries of one folder that a path is completed from
LATER_SHARD = re.compile(r"-(?!0*1-of-)\d+-of-\d+\.gguf$", re.IGNORECASE)
PROJECTOR = re.compile(r"mmproj", re.IGNORECASE)  # the part of a model that reads pictures, and no model
WEIGHTS = (".safetensors", ".bin")


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model's path as a person types it, its bytes on disk, and when it was changed (seconds since 1970)."""

    path: str
    size: int
    changed: float


def models_nearby(folder: Path | None = None, seconds: float = SECONDS) -> tuple[LocalModel, ...]:
    """The models in a folder (None: the current one) and in the folders right below it, by name.

    At most `MOST` of them, and those that were found within `seconds`; hidden folders are left out.
    """
    until = time.monotonic() + seconds
    root = os.curdir if folder is None else str(folder)
    found: list[LocalModel] = []
    below = []
    for entry in _entries(root, until):
        model = _model_at(entry)
        if model is not None:
            found.append(model)
        elif _is_folder(entry) and not entry.name.startswith("."):
            below.append(entry.path)
    for path in sorted(below):
        found += [model for entry in _entries(path, until) if (model := _gguf_at(entry)) is not None]
    return tuple(sorted(found[:MOST], key=lambda model: model.path))


def local_paths(text: str, seconds: float = SECONDS) -> tuple[tuple[str, bool], ...]:
    """(path, whether it is a model) of GGUF files and folders whose path begins with `text`, by name.

    Folders that are no model end with a slash. ``~`` is the home folder, and stays as it was typed.
    """
    parent, start = os.path.split(text)
    until = time.monotonic() + seconds
    found = []
    for entry in _entries(os.path.expanduser(parent) or os.curdir, until):
        if not entry.name.startswith(start) or (entry.name.startswith(".") and not start.startswith(".")):
            continue
        path = os.path.join(parent, entry.name)
        if _model_at(entry) is not None:
            found.append((path, True))
        elif _is_folder(entry):
            found.append((f"{path}/", False))
    return tuple(sorted(found)[:MOST])


def _entries(folder: str, until: float) -> Iterator[os.DirEntry[str]]:
    """What is in a folder, as long as there is time; nothing of one that cannot be read."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if time.monotonic() > until:
                    return
                yield entry
    except OSError:
        return


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _model_at(entry: os.DirEntry[str]) -> LocalModel | None:
    return _gguf_at(entry) or (_folder_at(entry) if _is_folder(entry) else None)


def _gguf_at(entry: os.DirEntry[str]) -> LocalModel | None:
    """A GGUF file that can be opened: the first of several shards, and no projector."""
    name = entry.name
    if not name.lower().endswith(".gguf") or LATER_SHARD.search(name) or PROJECTOR.search(name):
        return None
    try:
        if not entry.is_file():
            return None
        found = entry.stat()
    except OSError:
        return None
    return LocalModel(_shown(entry.path), found.st_size, found.st_mtime)


def _folder_at(entry: os.DirEntry[str]) -> LocalModel | None:
    """A folder as `save_pretrained` writes it: a config.json with weights beside it."""
    size, has_config = 0, False
    try:
        with os.scandir(entry.path) as inside:
            for each in inside:
                has_config = has_config or each.name == "config.json"
                if each.name.endswith(WEIGHTS):
                    size += each.stat().st_size
        changed = entry.stat().st_mtime
    except OSError:
        return None
    return LocalModel(_shown(entry.path), size, changed) if has_config and size else None


def _shown(path: str) -> str:
    """A path that is no hub id: one of the current folder begins with a dot."""
    return path if path.startswith((os.sep, "~", f".{os.sep}")) else os.path.join(os.curdir, path)
