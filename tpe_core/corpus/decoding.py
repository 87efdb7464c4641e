"""From bytes to text: UTF-8, or UTF-16 and UTF-32 that say so by a byte order mark. An encoding is never guessed."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterable, Iterator
from itertools import chain

from tpe_core.corpus.compression import DamagedError
from tpe_core.errors import CorpusError

__all__ = ["NotTextError", "decode"]

MARKS = (  # the longer mark first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"),
)  # fmt: skip
OTHERS = (
    (b"PK\x03\x04", "compressed (zip), not text: unpack it first with unzip"),
    (b"+/v8", "UTF-7, not UTF-8: convert it first, for example with iconv -f UTF-7 -t UTF-8"),
    (b"+/v9", "UTF-7, not UTF-8: convert it first, for example with iconv -f UTF-7 -t UTF-8"),
    *((magic, f"{kind}, not text: name a text file") for magic, kind in (
        (b"%PDF-", "a PDF"), (b"PAR1", "a Parquet table"), (b"SQLite format 3\x00", "an SQLite database"),
        (b"\x89PNG", "a PNG picture"), (b"ARROW1", "an Arrow table"), (b"\x89HDF", "an HDF5 file"),
        (b"\x80\x02", "a pickle"), (b"\x80\x04", "a pickle"), (b"\x7fELF", "a program"),
        (b"GGUF", "a model in the GGUF format"), (b"\x93NUMPY", "a NumPy array"),
    )),
)  # fmt: skip
FIRST = 4096  # first bytes looked at for an encoding of fixed width that does not say so


class NotTextError(CorpusError):
    """Bytes that are no text: binary, another kind of file, or another encoding."""


def another_kind(data: bytes) -> str | None:
    """What a text's first bytes say that it is, if that is no text, and what to do; None where they say nothing."""
    for magic, kind in OTHERS:
        if data.startswith(magic):
            return kind
    first = data[:FIRST]
    first = first[: len(first) // 4 * 4]
    for encoding in ("UTF-32LE", "UTF-32BE", "UTF-16LE", "UTF-16BE") if 0 in first else ():
        try:
            text = first.decode(encoding)
        except UnicodeDecodeError:
            continue
        if sum(char.isascii() and (char.isprintable() or char in "\n\r\t") for char in text) > len(text) / 2:
            return (
                f"{encoding} without a byte order mark, not UTF-8: "
                f"convert it first, for example with iconv -f {encoding} -t UTF-8"
            )
    return None


def decode(chunks: Iterable[bytes], name: str) -> Iterator[str]:
    """The text of a stream of bytes in pieces, line ends as ``\\n``, without a byte order mark.

    Raises `NotTextError` where it is no text, with the offset of the first byte that is not.
    """
    chunks = iter(chunks)
    first = b""
    broken: DamagedError | None = None
    try:
        while len(first) < FIRST and (data := next(chunks, b"")):
            first += data
    except DamagedError as error:  # what came before it is text, and is counted by who reads it
        broken = error
    encoding = next((encoding for mark, encoding in MARKS if first.startswith(mark)), None)
    if encoding is None and (reason := another_kind(first)):
        raise NotTextError(f"{name} is {reason}.")
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding or "utf-8")(), translate=True)
    read = 0
    begins = True
    for data in chain([first] if first else [], _rest(chunks, broken), [b""]):
        if encoding is None and (zero := data.find(0)) >= 0:
            raise NotTextError(f"{name} is binary, not text (a zero byte at offset {read + zero}): name a text file.")
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            at = read + len(data) - len(error.object) + error.start
            raise NotTextError(
                f"{name} is not {encoding or 'UTF-8'} (byte 0x{error.object[error.start]:02x} at offset {at}): "
                f"convert it first, for example with iconv -f {encoding or 'LATIN1'} -t UTF-8."
            ) from None
        if "\0" in text:
            raise NotTextError(f"{name} is binary, not text (a zero in its {encoding}): name a text file.")
        read += len(data)
        text = text.removeprefix("\ufeff") if begins else text
        begins = begins and not text
        if text:
            yield text
        if not data:
            return


def _rest(chunks: Iterator[bytes], broken: DamagedError | None) -> Iterator[bytes]:
    if broken is not None:
        raise broken
    yield from chunks
