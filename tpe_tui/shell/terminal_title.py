"""What the terminal's title says, for who looks at another window: how far a job is, and that it has ended.

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
        self._is_news = False  # it says that a job has ended, and nobody has pressed a key since
        self._next = 0.0
        self.model = ""

    def idle(self) -> None:
        """Name the model alone."""
        self._is_news = False
        self._show(f"tpe {self.model}")

    def running(self, label: str, progress: Progress) -> None:
        """Say how far a job is."""
        if self._clock() < self._next:
            return
        self._is_news, self._next = False, self._clock() + SECONDS
        share = "" if progress.fraction is None else f"{progress.fraction:.0%} "
        self._show(f"{share}{label} - tpe {self.model}")

    def ended(self, label: str, state: str, seconds: float) -> None:
        """Say how a job ended that took so many `seconds` and ring the bell; be idle after one that was short.

        Or that was cancelled: whoever did that is there.
        """
        self._next = 0.0
        if seconds < LONG_SECONDS or state == "cancelled":
            self.idle()
            return
        self._is_news = True
        self._show(f"{label} {state} - tpe {self.model}")
        self._write("\a")

    def seen(self) -> None:
        """Take in that the user is there: what has ended is no news any more."""
        if self._is_news:
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
