"""A cache of results on disk, by key: one file per entry, written atomically, checked by hash when read.

It never raises for what a disk or a stranger did to it: a broken entry is absent, a failed write is a warning.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpe_core.errors import StoreWarning
from tpe_core.json_text import json_text

__all__ = ["SCHEMA", "Store", "default_root", "is_alive", "stage", "sync_folder", "write_file"]

SCHEMA = 1
"""The layout of an entry; one of another layout counts as absent."""

MAGIC = b"tpe-store"
HEADER = re.compile(rb"tpe-store (\d{1,9}) ([0-9a-f]{64})\n")
KEY = re.compile(r"[0-9a-f]{8,128}(-[a-z]{1,32})?")
TEMPORARY = re.compile(r"\..+\.(\d+)-[0-9a-f]{8}\.tmp")
DAY = 86_400.0  # seconds


def default_root() -> Path:
    """``$TPE_CACHE_DIR/results``, else ``results`` in the user's cache folder for tpe."""
    import platformdirs

    base = os.environ.get("TPE_CACHE_DIR") or platformdirs.user_cache_dir("tpe", appauthor=False)
    return Path(os.path.expanduser(base)) / "results"


def stage(path: Path, parts: Sequence[bytes], private: bool = False) -> Path:
    """Write `parts` to a new file beside `path`, through to the disk, ready to be renamed to it.

    Only the user can read one that is `private`.
    Raises OSError and leaves no file then. The name holds the process id, by which `Store` knows what was left behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as stream:
            if private:
                os.chmod(temporary, 0o600)
            for part in parts:
                stream.write(part)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    return temporary


def write_file(path: Path, parts: Sequence[bytes], private: bool = False) -> None:
    """Write a whole file in place of an earlier one. Raises OSError; then the earlier one stays and nothing is left."""
    temporary = stage(path, parts, private)
    try:
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, where the file system can; the rename itself is already done."""
    if os.name == "posix":
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


class Store:
    """Entries of arrays and JSON values in the folder `root` (None: `default_root`).

    A key is 8 to 128 lower-case hexadecimal digits, with an optional suffix such as ``-partial`` for an
    unfinished result. Nothing about an entry's content is checked but that it is what was saved. What went wrong
    is told to `on_problem` in one sentence, or as a `StoreWarning` where that is None.

    Example:
        >>> store = tpe.Store(Path("cache"))
        >>> store.save("0123456789abcdef", {"values": np.arange(3)}, {"note": "three"})
        True
        >>> arrays, note = store.load("0123456789abcdef")
        >>> arrays["values"].tolist(), note
        ([0, 1, 2], {'note': 'three'})
    """

    def __init__(self, root: Path | None = None, on_problem: Callable[[str], object] | None = None) -> None:
        """Choose the folder; it is made at the first save."""
        self.root = default_root() if root is None else root
        self._tell = on_problem
        self._warned = False  # a full disk is said once, not at every save

    def path(self, key: str) -> Path:
        """The file of an entry. Raises ValueError where `key` is no key."""
        if not KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no key: 8 to 128 hexadecimal digits, then at most a suffix such as -partial.")
        return self.root / f"{key}.tpe"

    def save(
        self, key: str, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any], *, kind: str = "", of: str = ""
    ) -> bool:
        """Write an entry, replacing an earlier one at once; False with a `StoreWarning` where the disk refuses.

        `kind` says what it is ("detection"; "partial detection" where the job goes on from there) and `of` what of (a
        model's name), for the list of what is stored; they are not given back. False too where `meta` holds NaN or
        infinity: such a result is computed again. Raises TypeError or ValueError where `meta` is not JSON or an array's
        type cannot be stored.
        """
        from safetensors.numpy import save as serialize

        path = self.path(key)
        plain = {name: _plain(array) for name, array in arrays.items()}
        try:
            text = json_text(dict(meta))
        except ValueError:
            return False
        said = {"kind": kind, "of": of.encode("utf-8", "replace").decode()}
        payload = serialize(plain, metadata={"meta": text, **said})
        header = b"%s %d %s\n" % (MAGIC, SCHEMA, hashlib.sha256(payload).hexdigest().encode())
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._clean()
            write_file(path, [header, payload])
        except OSError as error:
            if not self._warned:
                self._warned = True
                self._warn(f"results cannot be cached in {self.root} ({error.strerror or error})")
            return False
        return True

    def load(self, key: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """An entry's arrays (writable) and JSON values; None where there is none of this `SCHEMA`.

        A damaged entry gives None, a `StoreWarning`, and is removed.
        """
        path = self.path(key)
        try:
            with path.open("rb") as stream:
                header = stream.readline(128)
                match = HEADER.fullmatch(header)
                if match and int(match[1]) != SCHEMA:
                    return None
                payload = stream.read() if match else b""
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._warn(f"the cached result {path} cannot be read ({error.strerror or error}) and is computed again")
            return None
        entry = _parse(payload) if match and hashlib.sha256(payload).hexdigest().encode() == match[2] else None
        if entry is None:
            self.remove(key)
            self._say(f"the cached result {path} is damaged: it is computed again.")
        else:
            with suppress(OSError):
                os.utime(path)  # when it was last used, by which `tpe_core.stored` prunes
        return entry

    def remove(self, key: str) -> None:
        """Delete an entry; nothing happens where there is none or it cannot be removed."""
        with suppress(OSError):
            self.path(key).unlink(missing_ok=True)

    def _warn(self, what: str) -> None:
        advice = "set TPE_CACHE_DIR to a folder with room that you may write to, or pass --no-cache."
        self._say(f"{what}: {advice}")

    def _say(self, sentence: str) -> None:
        if self._tell is None:
            warnings.warn(sentence, StoreWarning, stacklevel=3)
        else:
            self._tell(sentence)

    def _clean(self) -> None:
        """Remove what processes that died while writing left behind more than a day ago."""
        for path in self.root.glob(".*.tmp"):
            match = TEMPORARY.fullmatch(path.name)
            if match and not is_alive(int(match[1])):
                with suppress(OSError):
                    if time.time() - path.stat().st_mtime > DAY:
                        path.unlink()


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """The same values in rows and in this machine's byte order: what safetensors stores."""
    array = np.asarray(array, order="C")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"an array of {array.dtype} cannot be cached: give booleans, integers or floats.")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _parse(payload: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
    """The content of a payload whose hash is right; None where it still is no entry (written by something else)."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as deserialize

    try:
        arrays = deserialize(payload)
        length = int.from_bytes(payload[:8], "little")
        meta = json.loads(json.loads(payload[8 : 8 + length])["__metadata__"]["meta"])
    except (SafetensorError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(meta, dict):
        return None
    return {name: array if array.flags.writeable else array.copy() for name, array in arrays.items()}, meta


def is_alive(pid: int) -> bool:
    """Whether a process runs; False where the system cannot be asked."""
    if os.name != "posix":
        return False  # there, os.kill ends the process instead of asking; the age decides alone
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
