"""What the hub's local cache holds of a model: told by its files, not by their names.

A snapshot is a folder of links; the files themselves lie beside it, and branches are files that name a snapshot.
Any of the three can be missing without the others.
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["broken_link", "snapshot_of", "why_not_cached"]

COMMIT = re.compile(r"[0-9a-f]{40}")
NAMED = 4  # revisions that a sentence lists


def _storage(name: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"


def _revisions(storage: Path) -> dict[str, Path]:
    """Snapshots by branch, tag or commit, `main` first."""
    snapshots = {path.name: path for path in sorted(_entries(storage / "snapshots")) if path.is_dir()}
    refs = storage / "refs"
    named = {}
    for path in sorted(refs.rglob("*")) if refs.is_dir() else ():
        if path.is_file() and (commit := path.read_text(encoding="utf-8", errors="replace").strip()) in snapshots:
            named[path.relative_to(refs).as_posix()] = snapshots[commit]
    branches = dict(sorted(named.items(), key=lambda entry: (entry[0] != "main", entry[0])))
    return branches | {commit: path for commit, path in snapshots.items() if path not in named.values()}


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def snapshot_of(name: str, revision: str | None) -> Path | None:
    """The folder of a model's revision (None: its main branch) in the local cache, whole or not; None without one."""
    storage, wanted = _storage(name), revision or "main"
    commit = storage / "snapshots" / wanted
    if COMMIT.fullmatch(wanted) and commit.is_dir():
        return commit
    return _revisions(storage).get(wanted)


def broken_link(folder: Path) -> str:
    """The first file of a snapshot whose link leads nowhere; an empty string where all lead somewhere."""
    return next((path.name for path in sorted(folder.iterdir()) if path.is_symlink() and not path.exists()), "")


def why_not_cached(name: str, revision: str | None) -> str:
    """What keeps a model's revision from being read from the local cache: ``is not in the local cache``, and the like.

    A clause whose subject is the model.
    """
    known = _revisions(_storage(name))
    if not known:
        return "is not in the local cache"
    there = ", ".join(list(known)[:NAMED]) + (f" and {len(known) - NAMED} more" if len(known) > NAMED else "")
    folder = snapshot_of(name, revision)
    if folder is None and revision is None:
        return (
            f"is in the local cache without its main branch (refs/main is missing or leads nowhere; --revision takes "
            f"{there})"
        )
    if folder is None:
        return f"is in the local cache, but not its revision {revision!r} (there is {there})"
    if gone := broken_link(folder):
        return f"is only partly in the local cache ({gone} is a link to a file that is gone)"
    return "is only partly in the local cache (config.json is missing)"
