"""Folders published atomically: written beside the target, made durable, then renamed.

Never touches a folder that it did not write itself, nor one that somebody changed since.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tpe_core.errors import ExistsError, TpeError
from tpe_core.json_text import json_text
from tpe_core.progress import size_text
from tpe_core.store import is_alive, sync_folder

__all__ = ["RECORD", "check_target", "publish", "staged_folder"]

RECORD = "tpe_checkpoint.json"
"""The file by which a finished folder is known as ours: what it is, and every other file's size and time."""

KIND = "tpe.checkpoint"
SPARE_BYTES = 4_000_000  # for what stands beside the weights


def check_target(out: Path, *, replace: bool = True) -> Path:
    """The absolute path of a folder that may be written: absent, empty, or ours and unchanged.

    Raises `TpeError`; `ExistsError` where it is ours and `replace` is False.
    """
    try:
        target = Path(os.path.expanduser(out)).resolve()
        if not os.path.lexists(target):
            return target
        if not target.is_dir():
            raise TpeError(f"{out} exists and is no folder: choose another name.")
        names = sorted(_files(target))
    except (OSError, ValueError, RuntimeError) as error:
        raise TpeError(
            f"{_shown(out)} cannot be a folder's name here ({_why(error)}): choose another place."
        ) from error
    if not names:
        return target
    written = _written(target)
    if written is None:
        raise TpeError(f"the folder {out} exists and was not written by tpe bake: choose another name.")
    changed = next((name for name in names if name != RECORD and written.get(name) != _stamp(target / name)), None)
    if changed is not None:
        raise TpeError(
            f"the folder {out} was written by tpe bake, but {_shown(changed)} in it was added or changed since: "
            "choose another name, or move it away."
        )
    if not replace:
        raise ExistsError(f"{out} exists: choose another name, or say that it is to be replaced.", out)
    return target


@contextmanager
def staged_folder(out: Path, needed_bytes: int) -> Iterator[Path]:
    """A new empty folder beside `out` (as `check_target` gave it), which is gone after the block unless published.

    So are folders above it that had to be made. What earlier runs left there when they were killed is removed first.
    Raises `TpeError` where the disk is full, has no room for `needed_bytes`, or refuses.
    """
    from safetensors import SafetensorError

    folder = out.with_name(f".{out.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    missing = [above for above in out.parents if not os.path.lexists(above)]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _clear(out)
        free = shutil.disk_usage(out.parent).free
        if free < needed_bytes + SPARE_BYTES:
            raise TpeError(
                f"the checkpoint takes {size_text(needed_bytes)} and {out.parent} has {size_text(free)} free: "
                "make room, or choose another place."
            )
        folder.mkdir()
        yield folder
    except (OSError, SafetensorError) as error:
        raise TpeError(
            f"the checkpoint cannot be written to {out} ({_why(error)}): make room, or choose another place."
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for above in missing:
            with suppress(OSError):  # it holds what was published
                above.rmdir()


def publish(folder: Path, out: Path, record: Mapping[str, Any]) -> int:
    """Give a staged folder its name, replacing an earlier one of ours, and return its size in bytes.

    Every byte is on the disk before the name is. An earlier folder is set aside for the moment of the change; should
    the process die in that moment, the next run puts it back.
    """
    names = sorted(_files(folder))
    stamps = {name: _stamp(folder / name) for name in names}
    document = {"kind": KIND, "schema": 1, **record, "files": stamps}
    (folder / RECORD).write_text(json_text(document, 1) + "\n", encoding="utf-8")
    mode = (folder / RECORD).stat().st_mode  # what this user's new files have; weights come out private
    for name in (*names, RECORD):
        (folder / name).chmod(mode)
        with (folder / name).open("rb") as stream:
            os.fsync(stream.fileno())
    for inner in (*(path for path in folder.rglob("*") if path.is_dir()), folder):
        sync_folder(inner)
    check_target(out)
    aside = folder.with_suffix(".old")
    replaced = out.exists()
    if replaced:
        out.rename(aside)
    try:
        folder.rename(out)
    except OSError:
        if replaced:
            aside.rename(out)
        raise
    sync_folder(out.parent)
    shutil.rmtree(aside, ignore_errors=True)
    return sum(size for size, _ in stamps.values())


def _clear(out: Path) -> None:
    """Remove what killed runs left beside `out`; a folder that one of them had only set aside gets its name back."""
    pattern = re.compile(re.escape(f".{out.name}.") + r"(\d+)-[0-9a-f]{8}\.(tmp|old)")
    for path in list(out.parent.iterdir()):
        match = pattern.fullmatch(path.name)
        if match is None or is_alive(int(match[1])):
            continue
        if match[2] == "old" and not out.exists():
            with suppress(OSError):
                path.rename(out)
            continue
        shutil.rmtree(path, ignore_errors=True)


def _written(folder: Path) -> dict[str, list[int]] | None:
    """Names, sizes and times in a folder's record; None where it has none of ours."""
    try:
        document = json.loads((folder / RECORD).read_bytes())
        return dict(document["files"]) if document["kind"] == KIND else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _files(folder: Path) -> Iterator[str]:
    """Every entry in a folder and below that is not itself a folder, by its path from there."""
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield str(path.relative_to(folder))


def _stamp(path: Path) -> list[int]:
    status = path.lstat()
    return [status.st_size, status.st_mtime_ns]


def _shown(name: object) -> str:
    from tpe_core.printable import fit, printable_token

    return fit(printable_token(str(name)), 80)


def _why(error: Exception) -> str:
    return _shown(getattr(error, "strerror", None) or error)
