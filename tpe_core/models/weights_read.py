"""How far transformers is with the weights that it reads, at the pauses of a step (`tpe_core.pauses`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tpe_core.pauses import pause
from tpe_core.progress import Progress

__all__ = ["told_loading"]


@contextmanager
def told_loading() -> Iterator[None]:
    """Have transformers pause after every tensor that it reads inside, where it would draw a bar of its own.

    Its bars go on where it knows no hook for them.
    """
    import transformers

    set_hook = getattr(transformers.utils.logging, "set_tqdm_hook", None)
    if set_hook is None:
        yield
        return
    before = set_hook(_paused)
    try:
        yield
    finally:
        set_hook(before)


class _Told:
    """A bar of transformers that pauses before each of the items that it runs over."""

    def __init__(self, bar: Any, items: Any, label: str) -> None:
        self._bar, self._items, self._label = bar, items, label

    def __iter__(self) -> Iterator[Any]:
        for done, item in enumerate(self._items):
            pause(Progress(self._label, done, len(self._items)))
            yield item

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bar, name)


def _paused(bar: Callable[..., Any], words: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """What stands for a bar; the bar itself where it runs over nothing whose length is known."""
    items, made = words[0] if words else named.get("iterable"), bar(*words, **named)
    return _Told(made, items, str(named.get("desc") or "weights").lower()) if hasattr(items, "__len__") else made
