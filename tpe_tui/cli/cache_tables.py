"""What is stored on this machine, as lines and as a JSON document."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tpe_core.outputs import shown_path
from tpe_core.progress import size_text
from tpe_core.store import default_root
from tpe_core.stored import Pruned, StoredEntry
from tpe_tui.cells import fit
from tpe_tui.cli.paragraphs import report_width, wrapped

__all__ = ["listing", "listing_document", "pruned_document", "pruned_report"]

KIND, SIZE, USED, KEY = 18, 8, 10, 8
UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))
ROWS = 50  # printed; --json has them all


def listing(entries: Sequence[StoredEntry], now: float | None = None) -> list[str]:
    """Every entry with its age at `now`, a line for each kind, the total."""
    folder = shown_path(default_root().parent)
    width = report_width()
    if not entries:
        return [f"Nothing is stored in {folder}."]
    now = time.time() if now is None else now
    kinds: dict[str, list[StoredEntry]] = {}
    for entry in entries:
        kinds.setdefault(_kind(entry), []).append(entry)
    by_size = sorted(kinds.items(), key=lambda pair: -_size(pair[1]))
    return [
        f"{fit('kind', KIND)} {fit('size', SIZE, right=True)} {fit('used', USED, right=True)}  {fit('key', KEY)}  of",
        *(_row(entry, now, width) for entry in entries[:ROWS]),
        *([f"... {len(entries) - ROWS:,} more with --json"] if len(entries) > ROWS else []),
        "",
        *(
            f"{fit(kind, KIND)} {fit(size_text(_size(them)), SIZE, right=True)}  {_entries(them)}"
            for kind, them in by_size
        ),
        f"{fit('in all', KIND)} {fit(size_text(_size(entries)), SIZE, right=True)}  {_entries(entries)}",
        "",
        *wrapped(
            f"In {folder} (TPE_CACHE_DIR sets another folder). There is no limit; tpe cache prune makes room.", width
        ),
        *(line for sentence in _about_broken(entries) for line in wrapped(sentence, width)),
    ]


def _about_broken(entries: Sequence[StoredEntry]) -> Iterator[str]:
    broken = [entry for entry in entries if entry.state in ("broken", "leftover")]
    if broken:
        yield f"Of no use: {_entries(broken)}, broken or left by a process that died. tpe cache prune removes them."


def _row(entry: StoredEntry, now: float, width: int) -> str:
    left = (
        f"{fit(_kind(entry), KIND)} {fit(size_text(entry.size), SIZE, right=True)} "
        f"{fit(_age(now - entry.used), USED, right=True)}  {entry.key[:KEY]}  "
    )
    return left + _name(entry.of, max(8, width - len(left)))


def _name(of: str, width: int) -> str:
    """What an entry is of; of a long path the end."""
    shown = shown_path(Path(of)) if os.path.isabs(of) else of or "—"
    return fit(shown, width).rstrip() if len(shown) <= width or os.sep not in shown else f"…{shown[1 - width :]}"


def _kind(entry: StoredEntry) -> str:
    if entry.state in ("whole", "partial"):
        return entry.kind or "unknown"
    return entry.state


def _age(seconds: float) -> str:
    for unit, name in UNITS:
        if seconds >= unit:
            return f"{int(seconds // unit)} {name} ago"
    return "now"


def _size(entries: Sequence[StoredEntry]) -> int:
    return sum(entry.size for entry in entries)


def _entries(entries: Sequence[StoredEntry]) -> str:
    return f"{len(entries):,} {'entry' if len(entries) == 1 else 'entries'}"


def pruned_report(pruned: Pruned, limit: int | None, *, dry_run: bool) -> list[str]:
    """What was removed (with `dry_run`, would be), how much that freed, what is left."""
    width, now = report_width(), time.time()
    done = "would be removed" if dry_run else "removed"
    lines = [_row(entry, now, width) for entry in pruned.removed]
    lines += [""] if lines else []
    lines.append(f"{_entries(pruned.removed)} {done}, {size_text(pruned.freed)}; {_left(pruned)}.")
    lines += [line for sentence in _said(pruned, limit) for line in wrapped(sentence, width)]
    return lines


def _left(pruned: Pruned) -> str:
    return f"{_entries(pruned.left)} left, {size_text(_size(pruned.left))}"


def _said(pruned: Pruned, limit: int | None) -> Iterator[str]:
    for entry, reason in pruned.refused:
        yield f"{shown_path(entry.path)} could not be removed: {reason}."
    kept = [entry for entry in pruned.left if entry.state in ("partial", "leftover", "being written")]
    if limit is not None and _size(pruned.left) > limit:
        yield (
            f"That is still more than {size_text(limit)}: {_entries(kept)} being written, or unfinished and of the "
            "last day, stay. --all removes what is unfinished."
        )


def listing_document(entries: Sequence[StoredEntry]) -> dict[str, Any]:
    """The entries as JSON values."""
    return {
        "folder": str(default_root().parent),
        "size": _size(entries),
        "limit": None,
        "entries": [entry.to_dict() for entry in entries],
    }


def pruned_document(pruned: Pruned, *, dry_run: bool) -> dict[str, Any]:
    """What a pruning did, as JSON values."""
    return {
        "dry_run": dry_run,
        "freed": pruned.freed,
        "removed": [entry.to_dict() for entry in pruned.removed],
        "refused": [{**entry.to_dict(), "reason": reason} for entry, reason in pruned.refused],
        "left": {"entries": len(pruned.left), "size": _size(pruned.left)},
    }
