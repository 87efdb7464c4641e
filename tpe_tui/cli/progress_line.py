"""How far a job is, on a stream: a bar that is overwritten on a terminal, lines with the time of day in a log."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from typing import TextIO

from rich.cells import cell_len

from tpe_core.progress import Progress, TimeLeft
from tpe_tui.cells import duration, elapsed, escape_controls, fit
from tpe_tui.glyphs import encodable

__all__ = ["ProgressLine"]

LOG_SECONDS = 10.0  # between two lines of one stage in a log
REDRAW_SECONDS = 0.1  # on a terminal
TICK_SECONDS = 1.0  # on a terminal, while one step takes long
BAR_CELLS, BAR_LEAST = 30, 8
UNKNOWN = "—"


def _time_of_day() -> str:
    return time.strftime("%H:%M:%S")


class ProgressLine:
    """Progress of a job on a stream.

    On a terminal one line is overwritten: the stage, a bar, the step, the share and the time left. Elsewhere every
    stage has a line when it begins, one every `LOG_SECONDS` with step, share and time left, and one with how long it
    took where that was longer than `LOG_SECONDS`. A stage that comes again is not begun again in a log.
    """

    def __init__(
        self,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
        time_of_day: Callable[[], str] = _time_of_day,
        width: Callable[[], int] = lambda: shutil.get_terminal_size().columns,
    ) -> None:
        """`clock` gives seconds that never go back; `width` is the terminal's, in cells."""
        self._stream, self._terminal, self._clock = stream, stream.isatty(), clock
        self._time_of_day, self._width = time_of_day, width
        self._event: Progress | None = None
        self._begun = self._shown = 0.0  # the stage that is under way, the last line
        self._inside = ""  # how far the step under way is, as it says itself
        self._said: set[str] = set()  # stages that have a line in the log
        self._open = False
        self._left = TimeLeft(clock)

    def show(self, event: Progress) -> None:
        """Show an event; on a terminal at most ten a second, but the first of every stage always."""
        now, before = self._clock(), self._event
        begins = before is None or event.label != before.label
        if begins:
            self._end_stage()
            self._begun = now
        self._event, self._inside = event, ""
        self._left.update(event)
        if self._terminal:
            if begins or now - self._shown >= REDRAW_SECONDS:
                self._draw(now)
        elif event.label not in self._said:
            self._said.add(event.label)
            self._write_line([event.label, event.note], now)
        elif now - self._shown >= LOG_SECONDS:
            self._log(now)

    def tick(self, inside: Progress | None = None) -> None:
        """Show the last event again where it is time to: `inside` is how far the step under way is, if it says so."""
        now = self._clock()
        if inside is not None and inside.total:
            self._inside = f"{inside.label} {_step(inside)}"
        if self._event is None or now - self._shown < (TICK_SECONDS if self._terminal else LOG_SECONDS):
            return
        if self._terminal:
            self._draw(now)
        else:
            self._log(now)

    def print_rows(self, rows: Iterable[str], stream: TextIO) -> None:
        """Rows of a result at once, on a stream that may be the same terminal: the bar stands below them again."""
        rows = list(rows)
        if not rows:
            return
        was_open = self._open
        self._erase()
        stream.writelines(f"{encodable(escape_controls(row.rstrip()), stream.encoding)}\n" for row in rows)
        stream.flush()
        if was_open:
            self._draw(self._clock())

    def log_rows(self, rows: Iterable[str]) -> None:
        """Rows of a result in a log; a terminal has none."""
        for row in () if self._terminal else rows:
            self._write_line([row], self._shown)

    def close(self, *, finished: bool = False) -> None:
        """Leave a clean line behind; in a log, say how long the last stage took where the job is `finished`."""
        self._erase()
        if finished:
            self._end_stage()
        self._event = None

    def _end_stage(self) -> None:
        took = self._clock() - self._begun
        if self._event is not None and not self._terminal and took >= LOG_SECONDS:
            self._write_line([self._event.label, f"done in {duration(took)}"], self._clock())

    def _log(self, now: float) -> None:
        event = self._event
        if event is None:
            return
        if event.fraction is None:
            parts = [event.amount, f"{elapsed(now - self._begun)} so far", self._inside or event.note]
        else:
            parts = [_step(event), f"{event.fraction:>4.0%}", self._time_left(), self._inside or event.note]
        self._write_line([event.label, *parts], now)

    def _time_left(self) -> str:
        return f"{UNKNOWN if self._left.seconds is None else duration(self._left.seconds)} left"

    def _write_line(self, parts: list[str], now: float) -> None:
        text = "  ".join(filter(None, (self._time_of_day(), *parts)))
        self._stream.write(f"{encodable(escape_controls(text), self._stream.encoding)}\n")
        self._stream.flush()
        self._shown = now

    def _draw(self, now: float) -> None:
        event = self._event
        if event is None:
            return
        if event.fraction is None:
            parts = [event.amount, elapsed(now - self._begun), self._inside or event.note]
        else:
            parts = [_step(event), f"{event.fraction:.0%}", self._time_left(), self._inside or event.note]
        after = "  ".join(filter(None, parts))
        width = self._width() - 1  # a full row would make some terminals begin another
        cells = min(BAR_CELLS, width - cell_len(event.label) - cell_len(after) - 2)
        bar = ""
        if event.fraction is not None and cells >= BAR_LEAST:
            full = round(event.fraction * cells)
            bar = "━" * full + "─" * (cells - full)
        text = fit(" ".join(filter(None, (event.label, bar, after))), width).rstrip()
        self._stream.write(f"\r\x1b[K{encodable(escape_controls(text), self._stream.encoding)}")
        self._stream.flush()
        self._open, self._shown = True, now

    def _erase(self) -> None:
        if self._open:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._open = False


def _step(event: Progress) -> str:
    return event.amount or f"{event.done:,}/{event.total:,}"
