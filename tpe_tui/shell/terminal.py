"""The real terminal around the app: native output goes to a log, and an `Ending` watches for signals and hang-ups.

It restores file descriptors whatever happens; it draws nothing.
"""

from __future__ import annotations

import os
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tpe_tui.shell.ending import Ending

if TYPE_CHECKING:
    from tpe_tui.shell.ending import EndsWithTerminal

__all__ = ["complain", "flush", "guarded", "log_file"]


KEPT_LOGS = 8  # of earlier runs


def log_file() -> Path:
    """Where the output of native code goes while the app is on screen: a file of this process's own."""
    from platformdirs import user_log_dir

    return Path(user_log_dir("tpe")) / f"native-{os.getpid()}.log"


def _open_log() -> int:
    """The log, or nowhere where it cannot be written: the app must not depend on it."""
    path = log_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)


def _tidy(kept: Path) -> None:
    """Forget the oldest logs of runs that have ended, but for `KEPT_LOGS`; when leaving, as a start is waited for."""
    from tpe_core.store import is_alive

    ended: list[tuple[float, Path]] = []
    for path in kept.parent.glob("native-*.log"):
        pid = path.stem.removeprefix("native-")
        if path != kept and pid.isdecimal() and not is_alive(int(pid)):
            with suppress(OSError):
                ended.append((path.stat().st_mtime, path))
    for _, path in sorted(ended, reverse=True)[KEPT_LOGS:]:
        with suppress(OSError):
            path.unlink()


def _drop_if_empty(path: Path) -> None:
    """A run that had nothing to say leaves no log."""
    with suppress(OSError):
        if path.stat().st_size == 0:
            path.unlink()


def complain(sentence: str) -> None:
    """One sentence on standard error; a terminal that is gone cannot be told."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"tpe: {sentence}\n")


def flush() -> None:
    """Write what is buffered, where there is still someone to read it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


@contextmanager
def guarded(app: EndsWithTerminal) -> Iterator[None]:
    """Redirect descriptors 1 and 2 to the log and give the app's driver the terminal through copies of them.

    Textual writes to ``sys.__stderr__`` and asks ``sys.__stdout__`` for the size, so both are replaced for the time.
    """
    before = sys.__stdout__, sys.__stderr__
    flush()
    saved = os.dup(1), os.dup(2)
    # Textual draws on standard error; where that goes to a file, the screen is standard output.
    drawn = saved[1] if os.isatty(saved[1]) else saved[0]
    screens = [_writer(saved[0]), _writer(drawn)]
    log = _open_log()
    ending = Ending(app, (screens[1].fileno(), 0), _settings(), os._exit)
    ending.start()
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.__stdout__, sys.__stderr__ = screens  # type: ignore[assignment,misc]
        yield
    finally:
        ending.stop()
        for screen in screens:
            with suppress(OSError, ValueError):
                screen.flush()
        flush()
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        sys.__stdout__, sys.__stderr__ = before  # type: ignore[misc]
        for descriptor in (*saved, log):
            os.close(descriptor)
        _drop_if_empty(log_file())
        _tidy(log_file())


def _writer(descriptor: int) -> TextIO:
    return os.fdopen(os.dup(descriptor), "w", encoding="utf-8", errors="replace")


def _settings() -> list[Any] | None:
    try:
        return list(termios.tcgetattr(0))
    except termios.error:
        return None
