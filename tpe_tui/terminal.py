"""The real terminal around the app: native output goes to a log, signals end it cleanly.

It restores file descriptors and terminal settings whatever happens; it draws nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from types import FrameType

    from tpe_tui.app import TpeApp

__all__ = ["Terminal", "guarded", "log_file"]

GRACE_SECONDS = 4.0
SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def log_file() -> Path:
    """Where the output of native code goes while the app is on screen."""
    from platformdirs import user_log_dir

    return Path(user_log_dir("tpe")) / "native.log"


def _open_log() -> int:
    """The log, or nowhere where it cannot be written: the app must not depend on it."""
    path = log_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)


class Terminal:
    """What `guarded` hands out: the signal that ended the app, if one did, and the real standard error."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def exit_code(self, value: int | None) -> int:
        """128 plus the signal, else the app's value; 1 where it ended without one."""
        return 128 + self.signal if self.signal is not None else 1 if value is None else value

    def complain(self, sentence: str) -> None:
        """One sentence on standard error."""
        with suppress(OSError, ValueError):
            sys.stderr.write(f"tpe: {sentence}\n")

    def flush(self) -> None:
        """Write what is buffered; a terminal that is gone cannot be written to."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()


@contextmanager
def guarded(app: TpeApp) -> Iterator[Terminal]:
    """Redirect descriptors 1 and 2 to the log and give the app's driver the terminal through copies of them.

    Textual writes to ``sys.__stderr__`` and asks ``sys.__stdout__`` for the size, so both are replaced for the time.
    """
    terminal = Terminal()
    settings = _settings()
    before = sys.__stdout__, sys.__stderr__
    _flush_standard()
    saved = os.dup(1), os.dup(2)
    screens = [_writer(descriptor) for descriptor in saved]
    log = _open_log()
    handlers = {number: signal.getsignal(number) for number in SIGNALS}

    def caught(number: int, _frame: FrameType | None) -> None:
        terminal.signal = number
        _watchdog(128 + number, settings)
        app.call_later(app.leave, 128 + number)

    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.__stdout__, sys.__stderr__ = screens  # type: ignore[misc]
        for number in SIGNALS:
            signal.signal(number, caught)
        yield terminal
    finally:
        for screen in screens:
            with suppress(OSError, ValueError):
                screen.flush()
        _flush_standard()
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        sys.__stdout__, sys.__stderr__ = before  # type: ignore[misc]
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(log)


def _flush_standard() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def _writer(descriptor: int) -> TextIO:
    return os.fdopen(os.dup(descriptor), "w", encoding="utf-8", errors="replace")


def _settings() -> list[object] | None:
    try:
        return list(termios.tcgetattr(0))
    except termios.error:
        return None


def _watchdog(code: int, settings: list[object] | None) -> None:
    """After a signal the process ends, even where the terminal is gone and writing to it blocks."""

    def end() -> None:
        if settings is not None:
            with suppress(termios.error):
                termios.tcsetattr(0, termios.TCSANOW, settings)
        os._exit(code)

    timer = threading.Timer(GRACE_SECONDS, end)
    timer.daemon = True
    timer.start()
