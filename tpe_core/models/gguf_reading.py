"""Opening a GGUF file for transformers: once, and with pauses.

transformers reads a file from its beginning three times, for the configuration, the tokenizer and the weights, and
the `gguf` package looks at every token and merge of its vocabulary on the way: 18 seconds each time for Gemma 3's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tpe_core.pauses import pause
from tpe_core.progress import Progress

__all__ = ["GgufReading"]

PARTS = 8192  # entries of a file's lists between two pauses


class GgufReading:
    """What was read of GGUF files, for as long as it lives."""

    def __init__(self) -> None:
        self._reader: Callable[..., Any] | None = None

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Inside, a second `gguf.GGUFReader` of a file is the first one, and transformers pauses between tensors."""
        import gguf

        module: Any = gguf
        before = module.GGUFReader
        if self._reader is None:
            self._reader = functools.cache(_pausing(before))
        module.GGUFReader = self._reader
        try:
            with _told_dequantising():
                yield
        finally:
            module.GGUFReader = before


def _pausing(reader: type[Any]) -> type[Any]:
    """A reader that pauses, and whose file is a plain array: a slice of a memory map takes several times as long."""

    class Pausing(reader):  # type: ignore[misc]
        _parts_seen = 0

        @property
        def data(self) -> np.ndarray[Any, Any]:
            return self._bytes

        @data.setter
        def data(self, mapped: np.ndarray[Any, Any]) -> None:
            self._bytes = mapped.view(np.ndarray)

        def _get_field_parts(self, *arguments: Any, **named: Any) -> Any:
            self._parts_seen += 1
            if self._parts_seen % PARTS == 0:
                pause()
            return super()._get_field_parts(*arguments, **named)

    return Pausing


@contextmanager
def _told_dequantising() -> Iterator[None]:
    """Have transformers pause after every tensor that it dequantises inside, where it would draw a bar of its own."""
    from transformers import modeling_gguf_pytorch_utils as reader

    def paused(tensors: Iterable[Any], **_: Any) -> Iterator[Any]:
        every = list(tensors)
        for done, tensor in enumerate(every):
            pause(Progress("dequantise", done, len(every)))
            yield tensor

    before = getattr(reader, "tqdm", None)
    if before is None:
        yield
        return
    reader.tqdm = paused
    try:
        yield
    finally:
        reader.tqdm = before
