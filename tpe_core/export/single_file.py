"""One large file that appears finished or not at all: written beside its place, made durable, then renamed."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tpe_core.errors import TpeError
from tpe_core.outputs import shown_path
from tpe_core.progress import size_text
from tpe_core.store import is_alive, sync_folder

__all__ = ["publish_file", "staged_file"]

SPARE_BYTES = 4_000_000


@contextmanager
def staged_file(out: Path, needed_bytes: int) -> Iterator[Path]:
    """The name of a new file beside `out`, which is gone after the block unless `publish_file` renamed it.

    What runs that were killed left there is removed first. Raises `TpeError` where the disk is full, has no room for
    `needed_bytes`, or refuses.
    """
    temporary = out.with_name(f".{out.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        _clear(out)
        free = shutil.disk_usage(out.parent).free
        if free < needed_bytes + SPARE_BYTES:
            raise TpeError(
                f"the file takes {size_text(needed_bytes)} and {shown_path(out.parent)} has {size_text(free)} free: "
                "make room, or choose another place."
            )
        yield temporary
    except OSError as error:
        raise TpeError(
            f"{shown_path(out)} cannot be written ({error.strerror or error}): make room, or choose another place."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def publish_file(temporary: Path, out: Path) -> int:
    """Give a staged file its name, in place of an earlier one; its size in bytes. Raises OSError."""
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    os.replace(temporary, out)
    sync_folder(out.parent)
    return out.stat().st_size


def _clear(out: Path) -> None:
    """Remove what killed runs left beside `out`."""
    pattern = re.compile(re.escape(f".{out.name}.") + r"(\d+)-[0-9a-f]{8}\.tmp")
    for path in list(out.parent.iterdir()):
        match = pattern.fullmatch(path.name)
        if match is not None and not is_alive(int(match[1])):
            with suppress(OSError):
                path.unlink()
