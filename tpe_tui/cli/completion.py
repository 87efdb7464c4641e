"""What a shell may complete where a model's name or one of a few words is asked for. Nothing here opens a model."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable

__all__ = ["complete_model", "one_of"]

PLAIN = re.compile(r"[\w./@+,-]+")  # paths that a shell takes as they are; it quotes the others itself


def complete_model(incomplete: str) -> list[tuple[str, str]]:
    """(name, what it is) of `demo`, the models in the hub's cache and the folders with a model that begin so."""
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
    """Paths of the folders beside or below the incomplete path that hold a config.json."""
    parent, start = os.path.split(incomplete)
    try:
        with os.scandir(parent or os.curdir) as entries:
            names = sorted(entry.name for entry in entries if entry.name.startswith(start))
    except OSError:
        return []
    paths = [os.path.join(parent, name) for name in names if start or not name.startswith(".")]
    return [path for path in paths if PLAIN.fullmatch(path) and os.path.isfile(os.path.join(path, "config.json"))]
