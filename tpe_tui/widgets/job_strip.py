"""The strip above the footer: a running job with its progress, and the last thing worth saying.

While a job runs a sentence shares the row with it, or has it alone for some seconds, and the progress comes back.

It measures time with the clock it is given and starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rich.cells import cell_len

from tpe_core.progress import Progress, TimeLeft
from tpe_tui.cells import duration, elapsed, escape_controls, fit
from tpe_tui.widgets.line_widget import Line, LineWidget

__all__ = ["JobStrip", "StripBelow"]

TICK_SECONDS = 1.0
SAID_SECONDS = 4.0  # that any sentence stays beside a job
READ_CELLS = 16  # of a sentence that are read in a second


class JobStrip(LineWidget):
    """One line. `job` is the number of the running job, None when idle."""

    def __init__(self, clock: Callable[[], float], cancel_key: str) -> None:
        """Idle; `clock` gives seconds, `cancel_key` is what the user presses."""
        super().__init__("job")
        self._clock = clock
        self._cancel_key = cancel_key
        self.job: int | None = None
        self.label = ""  # what the job is called
        self.progress: Progress | None = None
        self.background: Progress | None = None
        self.text = ""
        self.role = "muted"
        self._started = 0.0
        self._left = TimeLeft(clock)
        self._said_at = 0.0
        self._followers: set[StripBelow] = set()
        self._cancelling = False

    def on_mount(self) -> None:
        """Keep the elapsed time moving while a step takes long."""
        self.set_interval(TICK_SECONDS, self._tick)

    def repaint(self, rows: Iterable[int] | None = None) -> None:
        """Paint it anew, and where it is seen from another screen."""
        super().repaint(rows)
        for follower in self._followers:
            follower.repaint()

    def follow(self, follower: StripBelow, on: bool = True) -> None:
        """Paint another strip along with this one, or no longer."""
        (self._followers.add if on else self._followers.discard)(follower)

    def _tick(self) -> None:
        if self.job is not None:
            self.repaint()

    def begin(self, job: int, label: str) -> None:
        """A job is queued."""
        self.job, self.progress, self._cancelling = job, Progress(label, 0), False
        self._started, self._left, self.label = self._clock(), TimeLeft(self._clock), label
        self.repaint()

    def step(self, progress: Progress) -> None:
        """The job took a step."""
        self.progress = progress
        self._left.update(progress)
        self.repaint()

    def cancelling(self) -> None:
        """The user asked to cancel; the step under way still ends."""
        self._cancelling = True
        self.repaint()

    def end(self) -> None:
        """Nothing runs."""
        self.job = None
        self.repaint()

    def behind(self, progress: Progress | None) -> None:
        """What a job in the background does; None where there is none. It has the right end of an idle strip."""
        self.background = progress
        self.repaint()

    def say(self, text: str, role: str = "row") -> None:
        """One sentence, until the next one; beside a job as long as it takes to read."""
        text = escape_controls(text)
        self._said_at = self._clock()
        if (text, role) != (self.text, self.role):
            self.text, self.role = text, role
            self.repaint()

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """The job, the sentence, or both."""
        if self.job is None or self.progress is None:
            return self._idle(width), "row"
        if self.text and self._clock() - self._said_at < SAID_SECONDS + cell_len(self.text) / READ_CELLS:
            return self._said_beside(self.progress, width), "row"
        return self._job_line(self.progress, width), "row"

    def _tail(self) -> str:
        return "  cancelling…" if self._cancelling else f"  {self._cancel_key} cancel"

    def _said_beside(self, progress: Progress, width: int) -> Line:
        """The sentence; the job's share and time stand behind it where there is room, its name where there is more."""
        share = "" if progress.fraction is None else f"{progress.fraction:4.0%}"
        end, tail = f" {share} {elapsed(self._clock() - self._started)}", self._tail()
        room = width - 1 - cell_len(self.text) - cell_len(end) - cell_len(tail)
        if room < 1:
            return [(" " + fit(self.text, width - 1), self.role)]
        name = f"  {progress.label}"
        name = name if cell_len(name) < room else ""
        return [
            (f" {self.text}{' ' * (room - cell_len(name))}", self.role),
            (name, "muted"),
            (end, "row"),
            (tail, "key"),
        ]

    def _job_line(self, progress: Progress, width: int) -> Line:
        done = f" {progress.amount or f'{progress.done}/{progress.total}'}" if progress.total else ""
        note = f" {progress.note}" if progress.note else ""
        name = f" {progress.label}{done}{note} "
        tail = self._tail()
        share = progress.fraction
        left = "" if self._left.seconds is None else f", {duration(self._left.seconds)} left"
        end = f" {'' if share is None else f'{share:4.0%} '} {elapsed(self._clock() - self._started)}{left}"
        cells = max(0, min(40, width - cell_len(end) - cell_len(tail) - 12))
        room = width - cells - cell_len(end) - cell_len(tail) - 1
        if cell_len(name) > room:
            cells = max(8, cells - (cell_len(name) - room)) if cells else 0
            room = width - cells - cell_len(end) - cell_len(tail) - 1
        full = 0 if share is None else round(share * cells)
        bar: Line = [("━" * full, "bar"), ("─" * (cells - full), "muted")]
        return [(fit(name, min(room, cell_len(name))), "row"), *bar, (end, "row"), (tail, "key")]

    def _idle(self, width: int) -> Line:
        """The sentence, and what runs in the background."""
        if self.background is None:
            return [(" " + fit(self.text, width - 1), self.role)]
        share, tail = self.background.fraction, f"  {self._cancel_key} cancel"
        name = f" {self.background.label}{'' if share is None else f' {share:.0%}'}"
        room = max(0, width - cell_len(name) - cell_len(tail) - 1)
        return [(" " + fit(self.text, room).ljust(room), self.role), (name, "muted"), (tail, "key")]


class StripBelow(LineWidget):
    """Another screen's strip, seen from the screen above it."""

    def __init__(self, strip: JobStrip) -> None:
        """The same line as `strip`."""
        super().__init__("job-below")
        self._strip = strip

    def on_mount(self) -> None:
        """Follow it: each of its steps and sentences is painted here, too."""
        self._strip.follow(self)

    def on_unmount(self) -> None:
        """Its screen is closed."""
        self._strip.follow(self, on=False)

    def say(self, text: str, role: str = "row") -> None:
        """One sentence, as `JobStrip.say`."""
        self._strip.say(text, role)

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """What it says."""
        return self._strip.line(y, width)
