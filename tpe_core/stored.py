"""What the cache of results holds, and what may be removed from it.

An entry says of itself what it is (`Store.save`: its kind, and what it is of); one that an older version wrote does
not, and its kind is empty. Only files that tpe wrote are listed, told by their names; nothing else is ever touched.
"""

from __future__ import annotations

import os
import re
import stat
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from tpe_core.json_text import parse_json
from tpe_core.store import DAY, HEADER, SCHEMA, TEMPORARY, default_root, is_alive

__all__ = ["Pruned", "State", "StoredEntry", "prune_entries", "stored_entries"]

State = Literal["whole", "partial", "broken", "leftover", "being written", "another version"]
"""A result; one from which a job goes on; unreadable; of a writer that died; of one that lives; of another layout."""

NAME = re.compile(r"(?P<key>[0-9a-f]{8,128}(-[a-z]{1,32})?)\.tpe")
HEAD_NAME = re.compile(r"(?P<key>[0-9a-f]{64})\.safetensors")
PARTIAL = "partial"
LONGEST_HEADER = 100_000_000  # bytes, what safetensors itself allows
LENGTH = 8  # bytes before a safetensors header that say how long it is


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredEntry:
    """A file of the cache: `size` in bytes, `used` in seconds since 1970 (when it was last written or read)."""

    path: Path
    key: str
    kind: str  # "detection", "sample"; empty where it does not say
    of: str  # the model, text or file that it belongs to; empty where it does not say
    size: int
    used: float
    state: State
    stamp: int = field(repr=False)  # nanoseconds of the last change, by which a file is known to be the same

    def to_dict(self) -> dict[str, Any]:
        """The entry as JSON values."""
        return {
            "key": self.key,
            "kind": self.kind or None,
            "of": self.of or None,
            "size": self.size,
            "used": self.used,
            "state": self.state,
            "path": str(self.path),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """What a pruning removed (or would), what was to go and could not, with why, and what was left in the cache."""

    removed: tuple[StoredEntry, ...]
    refused: tuple[tuple[StoredEntry, str], ...]
    left: tuple[StoredEntry, ...]

    @property
    def freed(self) -> int:
        """Bytes of what was removed."""
        return sum(entry.size for entry in self.removed)


def stored_entries(root: Path | None = None) -> list[StoredEntry]:
    """Every entry of the cache in `root`, the last used first; `root` None: `default_root`, and the heads beside it.

    Nothing is changed and no entry is read but for what it says of itself, so a damaged value is not noticed here.
    """
    folders = [(default_root() if root is None else root, NAME)]
    if root is None:
        folders.append((default_root().parent / "heads", HEAD_NAME))
    found: list[StoredEntry] = []
    for folder, name in folders:
        try:
            with os.scandir(folder) as files:
                paths = [Path(file.path) for file in files]
        except OSError:
            continue
        busy = {key for path in paths if (key := _written_now(path, name)) is not None}
        found += [entry for path in paths if (entry := _entry(path, name, busy)) is not None]
    return sorted(found, key=lambda entry: (-entry.used, entry.key))


def prune_entries(
    root: Path | None = None,
    *,
    older_than: float | None = None,
    max_size: int | None = None,
    everything: bool = False,
    dry_run: bool = False,
) -> Pruned:
    """Remove entries of the cache: always those that are broken or were left by writers that died.

    What another process writes now is never removed, and a partial result of the last day only with `everything`.

    Args:
        root: as for `stored_entries`.
        older_than: remove what was last used more than so many seconds ago.
        max_size: remove what was used longest ago until the rest has at most so many bytes.
        everything: remove all entries.
        dry_run: remove nothing, and return what would be.

    Example:
        >>> from tpe_core.stored import prune_entries
        >>> pruned = prune_entries(Path("cache"), max_size=2_000_000_000, dry_run=True)
        >>> pruned.freed
        0
    """
    entries, now = stored_entries(root), time.time()
    free = [entry for entry in entries if _is_free(entry, now, everything)]
    chosen = [
        entry
        for entry in free
        if everything
        or entry.state in ("broken", "leftover")
        or (older_than is not None and now - entry.used > older_than)
    ]
    if max_size is not None:
        size = sum(entry.size for entry in entries) - sum(entry.size for entry in chosen)
        going = {entry.path for entry in chosen}
        for entry in sorted((each for each in free if each.path not in going), key=lambda each: each.used):
            if size <= max_size:
                break
            chosen.append(entry)
            size -= entry.size
    removed: list[StoredEntry] = []
    refused: list[tuple[StoredEntry, str]] = []
    for entry in chosen:
        reason = "" if dry_run else _remove(entry)
        if reason:
            refused.append((entry, reason))
        else:
            removed.append(entry)
    gone = {entry.path for entry in removed}
    return Pruned(
        removed=tuple(removed),
        refused=tuple(refused),
        left=tuple(entry for entry in entries if entry.path not in gone),
    )


def _is_free(entry: StoredEntry, now: float, everything: bool) -> bool:
    """Whether an entry may be removed at all."""
    if entry.state == "being written":
        return False
    return everything or entry.state not in ("partial", "leftover") or now - entry.used > DAY


def _remove(entry: StoredEntry) -> str:
    """Delete an entry's file where it is still the one that was listed; otherwise, why not."""
    try:
        status = entry.path.lstat()
        if (status.st_mtime_ns, status.st_size) != (entry.stamp, entry.size):
            return "it was used or written meanwhile"
        entry.path.unlink()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _written_now(path: Path, name: re.Pattern[str]) -> str | None:
    """The key of the entry that a living process writes into the temporary file `path`."""
    match = TEMPORARY.fullmatch(path.name)
    of = name.fullmatch(path.name[1:].rsplit(".", 2)[0]) if match else None
    if match is None or of is None or not is_alive(int(match[1])):
        return None
    with suppress(OSError):
        if time.time() - path.lstat().st_mtime < DAY:  # later, it is another process that has the number
            return of["key"]
    return None


def _entry(path: Path, name: re.Pattern[str], busy: set[str]) -> StoredEntry | None:
    """The entry in a file; None where it is none of tpe's, or gone."""
    temporary = TEMPORARY.fullmatch(path.name) is not None
    match = name.fullmatch(path.name[1:].rsplit(".", 2)[0] if temporary else path.name)
    try:
        status = path.lstat()
    except OSError:
        return None
    if match is None or not stat.S_ISREG(status.st_mode):
        return None
    key, said = match["key"], dict[str, Any]()
    if temporary:
        state: State = "being written" if _written_now(path, name) is not None else "leftover"
    else:
        state, said = _read(path, status.st_size, with_line=name is NAME)
        if key in busy:
            state = "being written"
        elif state == "whole" and (key.endswith("-partial") or str(said.get("kind", "")).startswith(PARTIAL)):
            state = "partial"
    kind, of = (value if isinstance(value := said.get(what), str) else "" for what in ("kind", "of"))
    return StoredEntry(
        path=path,
        key=key,
        kind=kind or ("" if name is NAME else "head"),
        of=of,
        size=status.st_size,
        used=status.st_mtime,
        state=state,
        stamp=status.st_mtime_ns,
    )


def _read(path: Path, size: int, *, with_line: bool) -> tuple[State, dict[str, Any]]:
    """The state of an entry's file and what it says of itself, by its first bytes and its size."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        with path.open("rb") as stream:
            if with_line:
                match = HEADER.fullmatch(stream.readline(128))
                if match is None:
                    return "broken", {}
                if int(match[1]) != SCHEMA:
                    return "another version", {}
            header = _header(stream)
            start = stream.tell()
        said = header.pop("__metadata__", {})
        end = max((int(array["data_offsets"][1]) for array in header.values()), default=0)
        if start + end == size and isinstance(said, dict):
            return "whole", said
    return "broken", {}


def _header(stream: BinaryIO) -> dict[str, Any]:
    """The header of a safetensors file from where `stream` stands. Raises ValueError where it is none."""
    length = int.from_bytes(stream.read(LENGTH), "little")
    if length > LONGEST_HEADER:
        raise ValueError("no header is that long")
    document = parse_json(stream.read(length), finite=False)
    if not isinstance(document, dict):
        raise ValueError("the header is no object")
    return document
