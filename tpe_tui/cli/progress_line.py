"""How far a job is, on a stream."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from tpe_core.progress import Progress, TimeLeft
from tpe_tui.cells import duration, escape_controls

__all__ = ["ProgressLine"]

LOG_SECONDS = 10.0  # between two lines of one stage in a log


class ProgressLine:
    """Progress of a job on a stream: one line that is overwritten on a terminal, elsewhere a line for every stage.

    A stage that takes long says how far it is every `LOG_SECONDS` there, so that a log shows that and how it goes on.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._terminal, self._clock = stream, stream.isatty(), clock
        self._label, self._shown, self._open = "", 0.0, False
        self._left = TimeLeft(clock)

    def show(self, event: Progress) -> None:
        """Show an event; at most ten a second, but the first of every stage always."""
        now, begins = self._clock(), event.label != self._label
        self._left.update(event)
        if not begins and now - self._shown < (0.1 if self._terminal else LOG_SECONDS):
            return
        share = "" if event.fraction is None else f"{event.fraction:.0%}"
        left = "" if self._left.seconds is None else f"{duration(self._left.seconds)} left"
        parts = (share, event.amount, event.note, left) if self._terminal or not begins else ()
        text = escape_controls(" ".join(filter(None, (event.label, *parts))))
        self._stream.write(f"\r\x1b[K{text}" if self._terminal else f"{text}\n")
        self._open = self._terminal
        self._stream.flush()
        self._label, self._shown = event.label, now

    def close(self) -> None:
        """Leave a clean line behind."""
        if self._open:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._open = False
