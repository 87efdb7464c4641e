"""The models that were opened, kept across runs: at most `MOST`, the last opened first.

A broken or missing file is an empty list, never an error; what another instance opened is kept, too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tpe_core.json_text import json_text, parse_json
from tpe_core.options import RunOptions
from tpe_tui.shell.sessions import model_of

__all__ = ["MOST", "RecentModel", "RecentModels", "recent_model"]

MOST = 30
LARGEST = 2**20  # bytes of a file that can be such a list


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentModel:
    """A model as it was opened; local ones by their absolute path, `used` in seconds since 1970."""

    model: str
    revision: str | None = None
    adapter: str | None = None
    gguf_file: str | None = None
    used: float = 0.0

    @property
    def is_local(self) -> bool:
        """Whether it is a file or a folder of this machine."""
        return os.path.isabs(self.model)

    @property
    def key(self) -> tuple[str | None, ...]:
        """What two openings of one model have in common."""
        return self.model, self.revision, self.adapter, self.gguf_file


class RecentModels:
    """The file ``recent.json`` of a folder."""

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self.path = folder / "recent.json"
        self._now = now

    def earlier(self) -> list[RecentModel]:
        """The models, the last opened first, each once; no path is looked at."""
        try:
            with self.path.open("rb") as stream:
                found = parse_json(stream.read(LARGEST))["models"]
        except (OSError, ValueError, KeyError, TypeError):
            return []
        if not isinstance(found, list):
            return []
        models = [model for each in found if (model := _model_of(each)) is not None]
        models.sort(key=lambda model: -model.used)
        return list({model.key: model for model in reversed(models)}.values())[::-1][:MOST]

    def add(self, options: RunOptions) -> bool:
        """Put the model of some options first; whether it could be kept."""
        from tpe_core.store import write_file

        new = recent_model(options, self._now())
        kept = [new, *(model for model in self.earlier() if model.key != new.key)][:MOST]
        document = {"schema": 1, "models": [asdict(model) for model in kept]}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_file(self.path, [json_text(document, 1).encode("utf-8", "replace")], private=True)
        except OSError:
            return False
        return True


def recent_model(options: RunOptions, used: float = 0.0) -> RecentModel:
    """The model of some options as it is kept."""
    model, revision, adapter, gguf_file = model_of(options)
    return RecentModel(model=model, revision=revision, adapter=adapter, gguf_file=gguf_file, used=used)


def _model_of(entry: Any) -> RecentModel | None:
    """A model of the file; None where it is none."""
    if not isinstance(entry, dict) or not isinstance(entry.get("model"), str) or not entry["model"]:
        return None
    texts = {name: entry.get(name) for name in ("revision", "adapter", "gguf_file")}
    if not all(isinstance(text, str | None) for text in texts.values()):
        return None
    used = entry.get("used")
    seconds = float(used) if isinstance(used, int | float) and 0 <= used < 2**40 else 0.0
    return RecentModel(model=entry["model"], **texts, used=seconds)
