"""What a shell may complete where a model's name or one of a few words is asked for. Nothing here opens a model."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable

__all__ = ["complete_model", "one_of"]

PLAIN = re.compile(r"[\w./@+,-]+")  # paths that a shell takes as they are; it quotes the others itself


def complete_model(incomplete: str) -> list[tuple[str, str]]:
    """(name, what it is) of `demo`, models in the hub's cache, folders with a model and GGUF files that begin so."""
    from tpe_core.models.hub import cached_ids
    from tpe_core.options import DEMO

    names = [(DEMO, "the bundled model"), *((name, "in the hub's cache") for name in cached_ids())]
    names += [(path, "a local model") for path in _model_folders(incomplete)]
    return [(name, about) for name, about in names if name.startswith(incomplete)]


def one_of(*words: str | Iterable[str]) -> Callable[[str], list[str]]:
    """A completer of one word out of a few; of the last one where several stand between commas.

    Words may be given by the table that has them: what it holds when a shell asks is offered.
    """

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        offered = [word for given in words for word in ((given,) if isinstance(given, str) else given)]
        return [f"{before}{comma}{word}" for word in offered if word.startswith(last)]

    return complete


def _model_folders(incomplete: str) -> list[str]:
    """Paths beside or below the incomplete path: folders that hold a config.json or a GGUF file, and GGUF files."""
    parent, start = os.path.split(incomplete)
    try:
        with os.scandir(parent or os.curdir) as entries:
            names = sorted(entry.name for entry in entries if entry.name.startswith(start))
    except OSError:
        return []
    paths = [os.path.join(parent, name) for name in names if start or not name.startswith(".")]
    return [path for path in paths if PLAIN.fullmatch(path) and _is_model(path)]


def _is_model(path: str) -> bool:
    if os.path.isfile(path):
        return path.lower().endswith(".gguf")
    try:
        with os.scandir(path) as entries:
            return any(entry.name == "config.json" or entry.name.lower().endswith(".gguf") for entry in entries)
    except OSError:
        return False
