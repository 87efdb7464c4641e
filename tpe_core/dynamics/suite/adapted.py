"""Checkpoints of a run that trains an adapter: each is merged into its base once, and kept as whole weights on disk.

What is kept is found again by the content of the adapter and by the base, and can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from tpe_core.dynamics.suite.weight_files import LocalFiles, UnusableError
from tpe_core.errors import HeadError, TpeError
from tpe_core.json_text import json_text
from tpe_core.models.adapters import base_options, read_adapter
from tpe_core.models.hub import is_adapter
from tpe_core.models.loading import load_steps
from tpe_core.options import RunOptions
from tpe_core.progress import Steps
from tpe_core.store import default_root

__all__ = ["merged_files"]

BESIDE = ("trainer_state.json",)  # what the run says of its checkpoints


def merged_files(files: LocalFiles, options: RunOptions) -> Steps[LocalFiles]:
    """The files of the model that a checkpoint is: a job that writes them where it is an adapter, once.

    Of a checkpoint that is no adapter, `files` come back. Raises `UnusableError` where an adapter cannot be merged.
    """
    if not is_adapter(files.folder):
        yield from ()
        return files
    try:
        target = default_root().parent / "adapted" / _key(files.folder, options)
        if not target.is_dir():
            yield from _write(files.folder, target, options)
        return LocalFiles(target)
    except (TpeError, OSError) as error:
        raise UnusableError(str(error).rstrip(".")) from error


def _key(folder: Path, options: RunOptions) -> str:
    """sha256 (hex) of what the merged weights depend on: the adapter's content, and which base it is put on."""
    adapter = read_adapter(str(folder), folder)
    base = base_options(replace(options, model=str(folder), revision=None, adapter=None), adapter)
    place = Path(base.model)
    facts = [adapter.sha256, base.model, base.revision, LocalFiles(place).fingerprint if place.is_dir() else ""]
    return hashlib.sha256(json_text(facts).encode()).hexdigest()


def _write(folder: Path, target: Path, options: RunOptions) -> Steps[None]:
    """Load an adapter on its base in float32 and save what they are together; the folder appears finished or not."""
    plain = RunOptions(
        model=str(folder),
        device="cpu",
        dtype="float32",
        offline=options.offline,
        task=options.task,
        threads=options.threads,
        trust_remote_code=options.trust_remote_code,
    )
    model = yield from load_steps(plain, reads_text=False)
    if model.adapter is None or model.adapter.apart:
        raise HeadError(f"its adapter cannot be merged ({'' if model.adapter is None else model.adapter.apart})")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".tpe-", dir=target.parent))
    try:
        model.hf.save_pretrained(staging)
        if hasattr(model.tokenizer, "save_pretrained"):
            model.tokenizer.save_pretrained(staging)
        for name in BESIDE:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, staging / name)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
