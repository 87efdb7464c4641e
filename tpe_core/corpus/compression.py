"""Compressed files, known by their first bytes and unpacked in pieces: gzip, bzip2, xz, zstandard.

Only what was read is unpacked; nothing is written beside the file.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from itertools import chain
from typing import Any, NamedTuple

from tpe_core.errors import CorpusError, reason_of

__all__ = ["COMPRESSIONS", "DamagedError", "bare_name", "compression_of", "decompressed", "needs"]

STEP = 8192  # compressed bytes unpacked at a time: what comes of them is bounded


class DamagedError(Exception):
    """A file breaks off or cannot be unpacked here; who reads it knows which record that is."""


def needs(package: str, what: str) -> None:
    """Raise `CorpusError` where an optional package that reads `what` is not installed."""
    if find_spec(package) is None:
        raise CorpusError(f"{what} needs the package {package}: pip install 'tpe-tui[texts]'.")


def _zstandard() -> Any:
    needs("zstandard", "a file compressed with zstandard")
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj()


class Compression(NamedTuple):
    """One way to compress a file: a decompressor has ``decompress``, ``eof`` and ``unused_data``."""

    name: str
    magic: bytes
    suffixes: tuple[str, ...]
    decompressor: Callable[[], Any]


COMPRESSIONS = (
    Compression("gzip", b"\x1f\x8b", (".gz",), lambda: zlib.decompressobj(31)),
    Compression("bzip2", b"BZh", (".bz2",), bz2.BZ2Decompressor),
    Compression("xz", b"\xfd7zXZ\x00", (".xz",), lzma.LZMADecompressor),
    Compression("zstandard", b"\x28\xb5\x2f\xfd", (".zst", ".zstd"), _zstandard),
)


def compression_of(first: bytes) -> Compression | None:
    """How a file that begins with these bytes is compressed; None where it is not."""
    return next((each for each in COMPRESSIONS if first.startswith(each.magic)), None)


def bare_name(name: str) -> str:
    """A file's name in lower case without the suffixes that compression gave it."""
    name = name.lower()
    suffix = next((end for each in COMPRESSIONS for end in each.suffixes if name.endswith(end)), "")
    return name.removesuffix(suffix)


def decompressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes of a file, unpacked where it is compressed, however many parts it was joined from.

    Raises `DamagedError` where it breaks off, `CorpusError` where a package is missing.
    """
    chunks = iter(chunks)
    first = next(chunks, b"")
    found = compression_of(first)
    if found is None:
        yield first
        yield from chunks
        return
    decoder = found.decompressor()
    for chunk in chain([first], chunks):
        for at in range(0, len(chunk), STEP):
            data = chunk[at : at + STEP]
            while data:
                if decoder.eof:
                    data = data.lstrip(b"\0")  # padding between parts and after the last one
                    if not data:
                        break
                    decoder = found.decompressor()
                try:
                    unpacked = decoder.decompress(data)
                except Exception as error:  # each of the four libraries has an error class of its own
                    raise DamagedError(f"its {found.name} data is broken: {reason_of(error).rstrip('.')}") from error
                data = decoder.unused_data if decoder.eof else b""
                if unpacked:
                    yield unpacked
    if not decoder.eof:
        raise DamagedError(f"its {found.name} data is cut off")
