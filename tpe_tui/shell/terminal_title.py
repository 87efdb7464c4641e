"""What the terminal's title says, for who looks at another window: how far the jobs are, and which has ended.

A title is an escape sequence that terminals and tmux read and others ignore; those that would print it get none. The
title that was there before is kept by the terminal and comes back when the app leaves or is stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tpe_core.progress import Progress
from tpe_tui.cells import escape_controls

__all__ = ["KEEP", "RESTORE", "TerminalTitle", "understands_titles"]

KEEP, RESTORE = "\x1b[22;2t", "\x1b[23;2t"
"""xterm's sequences that put the window's title on a stack and take it off again."""

WITHOUT = ("", "dumb", "linux", "vt100", "vt102", "vt220", "cons25")
SECONDS = 1.0  # between two titles of a running job: each is some bytes on a slow line
LONG_SECONDS = 20.0  # a job that takes so long rings the bell when it ends: nobody has watched it to its end
MOST = 80  # characters


def understands_titles(environment: Mapping[str, str]) -> bool:
    """Whether the terminal that ``TERM`` names takes a title."""
    return environment.get("TERM", "") not in WITHOUT


class TerminalTitle:
    """Writes titles by `write`; `clock` gives seconds that never go back.

    `model` is the name of the open model.
    """

    def __init__(self, write: Callable[[str], object], clock: Callable[[], float]) -> None:
        self._write, self._clock = write, clock
        self._shown = ""
        self._news = ""  # which job has ended since a key was pressed, and how
        self._next = 0.0
        self.model = ""

    def idle(self) -> None:
        """Name the model alone."""
        self._news = ""
        self._show(f"tpe {self.model}")

    def running(self, label: str, progress: Progress, queued: int = 0) -> None:
        """Say how far a job is, how many there are with those `queued` behind it, and which has ended before it."""
        if self._clock() < self._next:
            return
        self._next = self._clock() + SECONDS
        share = "" if progress.fraction is None else f"{progress.fraction:.0%} "
        jobs = f"{queued + 1} jobs, " if queued else ""
        news = f"{self._news}; " if self._news else ""
        self._show(f"{news}{jobs}{share}{label} - tpe {self.model}")

    def ended(self, label: str, state: str, seconds: float, left: int = 0) -> None:
        """Say how a job ended that took so many `seconds` and ring the bell; be idle after one that was short.

        Or that was cancelled: whoever did that is there. Where jobs are `left`, the next of them is told soon.
        """
        self._next = 0.0
        if seconds < LONG_SECONDS or state == "cancelled":
            if not left:
                self.idle()
            return
        self._news = f"{label} {state}"
        self._show(f"{self._news} - tpe {self.model}")
        self._write("\a")

    def seen(self) -> None:
        """Take in that the user is there: what has ended is no news any more."""
        if self._news:
            self._next = 0.0
            self.idle()

    def again(self) -> None:
        """Write the title once more: another program has had the terminal."""
        shown, self._shown = self._shown, ""
        if shown:
            self._show(shown)

    def _show(self, text: str) -> None:
        text = escape_controls(text)[:MOST]
        if text != self._shown:
            self._shown = text
            self._write(f"\x1b]2;{text}\x07")
