"""What every command does with its streams: progress and sentences on stderr, lines or one JSON document on stdout."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar

import typer

from tpe_core.errors import INTERRUPTED

if TYPE_CHECKING:
    from tpe_core.models.model import LanguageModel
    from tpe_core.options import RunOptions
    from tpe_core.progress import Steps
    from tpe_tui.cli.rows import Rows

__all__ = [
    "drive",
    "drive_until_stopped",
    "leave_stopped",
    "line",
    "load",
    "no_terminal",
    "on_terminal",
    "print_lines",
    "say",
    "stopped_by_signals",
    "warn_if_busy",
]

T = TypeVar("T")


def drive(steps: Steps[T], keep: Callable[[object], Rows | None] | None = None) -> T:
    """Run a job to its end with its progress on stderr.

    `keep` is given every result so far that comes with it, and returns what prints the rows that are new in it.
    """
    from tpe_core.progress import attended
    from tpe_tui.cli.progress_line import ProgressLine

    shown = ProgressLine(sys.stderr)
    while True:
        try:
            with attended(shown.tick):
                event = next(steps)
            if keep is not None and event.partial is not None and (rows := keep(event.partial)) is not None:
                rows.show(event.partial, shown)
            shown.show(event)
        except StopIteration as stop:
            shown.close(finished=True)
            result: T = stop.value
            return result
        except BaseException:
            shown.close()
            raise


def drive_until_stopped(
    steps: Steps[T], is_result: Callable[[object], bool], rows: Rows | None = None
) -> tuple[T | None, bool]:
    """(The result, False) of a job; where Ctrl-C or SIGTERM ends it, (the last result so far or None, True).

    Of what comes with its progress, that counts which `is_result`; its new `rows` are printed as they come.
    """
    latest: list[Any] = []

    def keep(partial: object) -> Rows | None:
        if not is_result(partial):
            return None
        latest[:] = [partial]
        return rows

    try:
        with stopped_by_signals():
            return drive(steps, keep), False
    except KeyboardInterrupt:
        return (latest[0] if latest else None), True


def leave_stopped(sentence: str, save: Path | None = None) -> NoReturn:
    """Say that a job was stopped, and that nothing is saved where that was asked for; leave with exit code 130."""
    say(f"stopped: {sentence}")
    if save is not None:
        say(f"{save} is not written.")
    raise typer.Exit(INTERRUPTED)


def load(options: RunOptions, *, reads_text: bool = True) -> LanguageModel:
    """Load a model with its progress on stderr, and say what is to be known of its files and its tokenizer."""
    from tpe_core.models.loading import load_steps

    loaded = drive(load_steps(options, reads_text=reads_text))
    for warning in loaded.warnings:
        say(warning)
    warn_if_busy(str(loaded.device))
    return loaded


def warn_if_busy(device: str) -> None:
    """Say where several threads on a busy machine make a model on `device` slow."""
    from tpe_core.busy import busy_notice

    if notice := busy_notice(device):
        say(notice)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Inside, SIGTERM ends what runs as Ctrl-C does, by a KeyboardInterrupt, so that what is done can be printed."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def line(text: str = "") -> None:
    """One line of a report on stdout, safe for a terminal."""
    from tpe_tui.cells import escape_controls
    from tpe_tui.glyphs import encodable

    sys.stdout.write(encodable(escape_controls(text.rstrip()), sys.stdout.encoding) + "\n")


def print_lines(texts: Iterable[str], stream: TextIO | None = None) -> None:
    """Lines of a report, on stdout or another stream, at once."""
    from tpe_tui.cells import escape_controls
    from tpe_tui.glyphs import encodable

    stream = sys.stdout if stream is None else stream
    stream.writelines(f"{encodable(escape_controls(text.rstrip()), stream.encoding)}\n" for text in texts)
    stream.flush()


def on_terminal() -> bool:
    """Whether there is a terminal to draw on and to read keys from."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "") != "dumb"


def no_terminal() -> str:
    """Why the inspector cannot open here, and how it can."""
    if os.environ.get("TERM", "") == "dumb":
        return "TERM=dumb is no terminal to draw on: TERM=xterm-256color tpe opens the inspector, where that is true"
    if "SSH_CONNECTION" in os.environ:
        return "there is no terminal to draw on: ssh -t HOST tpe opens the inspector"
    missing = " and ".join(
        name for name, stream in (("input", sys.stdin), ("output", sys.stdout)) if not stream.isatty()
    )
    return f"standard {missing} is no terminal: tpe without pipes and redirections opens the inspector"


def say(sentence: str) -> None:
    """A sentence on stderr, under the program's name."""
    from tpe_tui.cells import escape_controls
    from tpe_tui.glyphs import encodable

    sys.stderr.write(f"tpe: {encodable(escape_controls(sentence), sys.stderr.encoding)}\n")
