"""Opening a GGUF file for transformers: with pauses, and in a fifth of the time.

transformers reads a file's header several times, for the configuration, the tokenizer and the weights; it looks at
every token and merge of its vocabulary byte by byte, and makes the map of tensor names anew for every module of the
model. Inside `GgufReading.shared` `gguf` reads a file once, lists by the word, and names are mapped once; what comes of
it is the same. Seconds on two cores, transformers alone and so (`python -m benchmarks gguf`, 2026-11-27): SmolLM2 135M
36 and 7.7, Gemma 3 270M 97 and 21.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from tpe_core.pauses import pause
from tpe_core.progress import Progress

__all__ = ["GgufReading"]

PARTS = 8192  # entries of a file's lists between two pauses
Parts = tuple[int, list[Any], list[int], list[Any]]
"""What `gguf` knows of a value: its bytes, arrays of its parts, which of them are its contents, its types."""


class GgufReading:
    """What was read of GGUF files, for as long as it lives."""

    def __init__(self) -> None:
        self._reader: Callable[..., Any] | None = None

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Inside, a second `gguf.GGUFReader` of a file is the first one, and transformers pauses between tensors."""
        import gguf
        from transformers import modeling_gguf_pytorch_utils as legacy

        with ExitStack() as stack:
            for module, name, made in (
                (gguf, "GGUFReader", self._reader_of),
                (gguf, "get_tensor_name_map", functools.cache),
                (legacy, "tqdm", lambda _: _between_tensors),
                (legacy, "_gguf_parse_value", lambda parse: functools.partial(_parsed, parse)),
                (_header_reader(), "_mapped", lambda mapped: lambda path: mapped(path).view(np.ndarray)),
            ):
                stack.enter_context(_replaced(module, name, made))
            yield

    def _reader_of(self, reader: type[Any]) -> Callable[..., Any]:
        if self._reader is None:
            self._reader = functools.cache(_pausing(reader))
        return self._reader


def _header_reader() -> Any:
    """The module with which newer versions of transformers read a file's header; None where there is none."""
    try:
        from transformers.integrations.gguf import reader
    except ImportError:
        return None
    return reader


@contextmanager
def _replaced(module: Any, name: str, made: Callable[[Any], Any]) -> Iterator[None]:
    """Inside, `name` of a module is what is `made` of it; nothing is done where this version of it has no such name."""
    before = getattr(module, name, None)
    if before is None:
        yield
        return
    setattr(module, name, made(before))
    try:
        yield
    finally:
        setattr(module, name, before)


def _pausing(reader: type[Any]) -> type[Any]:
    """A reader that pauses, and whose file is a plain array: a slice of a memory map takes several times as long."""
    from gguf import GGUFValueType

    class Pausing(reader):  # type: ignore[misc]
        @property
        def data(self) -> np.ndarray[Any, Any]:
            return self._bytes

        @data.setter
        def data(self, mapped: np.ndarray[Any, Any]) -> None:
            self._bytes = mapped.view(np.ndarray)

        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Parts:
            """As in `gguf`, but a list of numbers is read at once, and the sizes of one of strings without an array."""
            if raw_type != GGUFValueType.ARRAY:
                return super()._get_field_parts(orig_offs, raw_type)  # type: ignore[no-any-return]
            number, length = self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)
            kind, begin, count = GGUFValueType(number[0]), orig_offs + 12, int(length[0])
            if kind in self.gguf_scalar_to_np:
                values = self._get(begin, self.gguf_scalar_to_np[kind], count)
                parts, end = [values[at : at + 1] for at in range(count)], begin + values.nbytes
                contents = range(2, 2 + count)
                pause()
            elif kind == GGUFValueType.STRING:
                parts, end = self._strings(begin, count)
                contents = range(3, 3 + 2 * count, 2)
            else:
                return super()._get_field_parts(orig_offs, raw_type)  # type: ignore[no-any-return]
            types = [GGUFValueType.ARRAY, *([kind] if count else [])]
            return end - orig_offs, [number, length, *parts], list(contents), types

        def _strings(self, begin: int, count: int) -> tuple[list[Any], int]:
            """(The size of each of `count` strings and its bytes, in turns, where they end)."""
            word = np.dtype(np.uint64).newbyteorder(self.byte_order)
            unpack, file = struct.Struct(f"{word.byteorder}Q").unpack_from, self._bytes.data
            sizes: list[int] = []
            texts: list[Any] = []
            for at in range(count):
                if at % PARTS == 0:
                    pause()
                (size,) = unpack(file, begin)
                sizes.append(size)
                texts.append(self._bytes[begin + 8 : begin + 8 + size])
                begin += 8 + size
            words = np.array(sizes, dtype=word)
            return [part for at, text in enumerate(texts) for part in (words[at : at + 1], text)], begin

    return Pausing


def _parsed(parse: Callable[[Any, Any], Any], part: Any, types: Any) -> Any:
    """What transformers' own `parse` makes of a part of a value, a string at once and not byte by byte."""
    kinds = types if isinstance(types, list) else [types]
    is_text = kinds[-1] == 8 and kinds[:-1] in ([], [9])  # GGUFValueType.STRING, ARRAY
    return part.tobytes().decode() if is_text and isinstance(part, np.ndarray) else parse(part, types)


def _between_tensors(tensors: Iterable[Any], **_: Any) -> Iterator[Any]:
    """Pause after every tensor that transformers dequantises, where it would draw a bar of its own."""
    every = list(tensors)
    for done, tensor in enumerate(every):
        pause(Progress("dequantise", done, len(every)))
        yield tensor
