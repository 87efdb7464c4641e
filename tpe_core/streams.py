"""The three standard streams of a command: closed, full, without an encoding for a letter, or gone, each is a sentence.

Everything that a program prints goes through here, so no command looks at its streams itself.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TextIO, cast

from tpe_core.errors import TpeError

__all__ = ["OutputError", "check_arguments", "with_standard_streams"]

FAILED = 1


class OutputError(TpeError):
    """Standard output takes nothing more; `is_reader_gone` where whoever read it left, which is no mistake of ours."""

    def __init__(self, sentence: str, is_reader_gone: bool = False) -> None:
        super().__init__(sentence)
        self.is_reader_gone = is_reader_gone


def check_arguments(arguments: Sequence[str]) -> None:
    """Raise `TpeError` where a word of the command line holds bytes that are no text in this locale."""
    for word in arguments:
        try:
            word.encode("utf-8")
        except UnicodeEncodeError:
            shown = os.fsencode(word).decode("utf-8", "backslashreplace")
            raise TpeError(
                f"the argument {shown} is not UTF-8: give it in UTF-8; a file of such a name must be renamed."
            ) from None


class _Stream:
    """A stream whose failures are told as `OutputError`, or passed over where `is_lossy`; so is its buffer."""

    def __init__(self, stream: Any, is_lossy: bool, failures: list[OutputError] | None = None) -> None:
        self._stream, self._is_lossy = stream, is_lossy
        self._failures: list[OutputError] = [] if failures is None else failures  # told again: libraries swallow them

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def buffer(self) -> _Stream:
        """The bytes below, for those who write past the text."""
        return _Stream(self._stream.buffer, self._is_lossy, self._failures)

    def write(self, text: Any) -> int:
        """Write text, or bytes to a stream of bytes; how many."""
        try:
            count: int = self._stream.write(text)
            return count
        except (OSError, ValueError) as error:
            self._failed(error)
            return len(text)

    def writelines(self, lines: Sequence[Any]) -> None:
        """Write lines."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what is buffered."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._failed(error)
        if self._failures:
            raise self._failures[0]

    def _failed(self, error: Exception) -> None:
        _discard(self._stream)
        if not self._is_lossy:
            reason = getattr(error, "strerror", None) or str(error)
            sentence = f"standard output cannot be written ({reason}): what was printed is incomplete."
            self._failures.append(OutputError(sentence, isinstance(error, BrokenPipeError)))
            raise self._failures[0] from error


def with_standard_streams(run: Callable[[], int], say: Callable[[str], object]) -> int:
    """Run a command with standard streams that are safe to use, and return its exit code: 1 where printing failed.

    A letter that an encoding lacks is written as ``\\u2026``. What goes to a standard error that is closed or full is
    lost, nothing else. Where standard output is closed, nothing is begun. `say` tells the user a sentence.
    """
    before = sys.stdin, sys.stdout, sys.stderr
    _open_closed_descriptors()
    sys.stdin = before[0] or _nothing("r")
    sys.stderr = cast(TextIO, _Stream(_all_letters(before[2] or _nothing("w")), is_lossy=True))
    sys.stdout = cast(TextIO, _Stream(_all_letters(before[1] or _nothing("w")), is_lossy=False))
    try:
        if before[1] is None:
            raise OutputError("standard output is closed, so nothing could be printed: send it to /dev/null instead.")
        code = run()
        sys.stdout.flush()
    except OutputError as error:
        if not error.is_reader_gone:
            say(str(error))
        code = FAILED
    finally:
        with suppress(OutputError):
            sys.stdout.flush()
        sys.stderr.flush()
        sys.stdin, sys.stdout, sys.stderr = before
    return code


def _open_closed_descriptors() -> None:
    """Let 0, 1 and 2 be open, so that no file that is opened later takes their place."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)


def _nothing(mode: str) -> TextIO:
    return cast(TextIO, open(os.devnull, mode, encoding="utf-8"))


def _all_letters(stream: Any) -> Any:
    """Let a letter that the stream's encoding lacks be spelled out."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


def _discard(stream: Any) -> None:
    """Send what is buffered, and all that follows, nowhere: also the interpreter's last flush."""
    with suppress(AttributeError, OSError, ValueError):
        descriptor = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
        stream.flush()
