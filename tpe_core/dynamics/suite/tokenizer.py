"""The tokenizer of a run's checkpoints: beside the last of them, above it, on the hub's main branch, or named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tpe_core.dynamics.suite.checkpoints import Suite
from tpe_core.dynamics.suite.remote_checkpoints import HubFiles, look_up, revisions
from tpe_core.dynamics.suite.weight_files import Files, LocalFiles, UnusableError
from tpe_core.errors import ModelError, reason_of
from tpe_core.options import RunOptions
from tpe_core.progress import Steps
from tpe_core.store import Store

__all__ = ["suite_tokenizer"]

MARKS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
WANTED = ("tokenizer*", "vocab*", "merges.txt", "*.model", "*.tiktoken", "*_tokens*.json", "config.json", "*.jinja")
MAIN = "main"


def suite_tokenizer(suite: Suite, options: RunOptions, named: str | None, store: Store | None) -> Steps[Any]:
    """A transformers tokenizer: a job; None where there is none. `named` is a folder or hub id that has it.

    Raises `ModelError` where none can be loaded from what was named.
    """
    if named is not None:
        tokenizer, reason = _load(os.path.expanduser(named), options)
        if tokenizer is None:
            raise ModelError(f"no tokenizer can be loaded from {named} ({reason}): name a folder or a hub model.")
        return tokenizer
    last = suite.last.files
    if isinstance(last, LocalFiles):
        return next(
            (tokenizer for folder in _around(last.folder) if (tokenizer := _load(str(folder), options)[0])), None
        )
    tokenizer = yield from _fetched(last, options)
    if tokenizer is None:
        commit = (yield from revisions(options.model, store, options.offline)).get(MAIN)
        if commit is not None:
            main = yield from look_up(options.model, [commit], store, options.offline)
            tokenizer = yield from _fetched(main[commit], options)
    return tokenizer


def _around(folder: Path) -> Iterator[Path]:
    """A checkpoint's folder and the two above, where these hold a tokenizer."""
    return (place for place in (folder, *folder.parents[:2]) if any((place / mark).is_file() for mark in MARKS))


def _fetched(files: Files, options: RunOptions) -> Steps[Any]:
    """The tokenizer of a commit, or None."""
    if not isinstance(files, HubFiles) or not any(mark in files.sizes for mark in MARKS):
        return None
    kinds = (*WANTED, "*.py") if options.trust_remote_code else WANTED
    names = [name for name in files.sizes if "/" not in name and any(fnmatchcase(name, kind) for kind in kinds)]
    try:
        local = yield from files.fetch(names)
    except UnusableError:  # offline
        return None
    return _load(str(local.folder), options)[0]


def _load(place: str, options: RunOptions) -> tuple[Any, str]:
    """(The tokenizer or None, why there is none)."""
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            place, trust_remote_code=options.trust_remote_code, local_files_only=options.offline
        )
    except Exception as error:  # whatever transformers and the hub raise
        return None, reason_of(error, 160)
    if len(tokenizer.get_vocab()) <= len(set(tokenizer.all_special_ids)):
        return None, "its vocabulary is empty"
    return tokenizer, ""
