"""Progress of long computations: each is a generator that yields `Progress` and returns its result.

The caller decides when the next step runs, so cancelling is closing the generator: no flags, no
threads, and never more than one step late. Where a step is long, it has pauses, at which who drives the job
answers something short or ends it (`attended`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import KW_ONLY, dataclass
from typing import TypeVar

from tpe_core.clamping import at_least, at_most

__all__ = ["Attend", "Progress", "Steps", "TimeLeft", "attendant", "attended", "relayed", "run", "size_text"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a job: `done` of `total` (None where unknown) of what `label` names, with an optional note.

    `partial` is the result over what was done so far, from jobs that have one (a frozen value). `amount` is how
    `done` of `total` reads where plain numbers would not do (bytes).

    Example:
        >>> tpe.Progress("detect", 3, 8).done
        3
    """

    label: str
    done: int
    total: int | None = None
    _: KW_ONLY
    note: str = ""
    partial: object = None
    amount: str = ""

    @property
    def fraction(self) -> float | None:
        """Share done in [0, 1], or None where the total is unknown."""
        return None if not self.total else at_most(1.0, self.done / self.total)


Steps = Generator[Progress, None, T]
"""A job: yields `Progress`, returns `T`."""

Attend = Callable[[Progress | None], object]
"""Called at a pause with how far the step is, where it knows that."""

_attendant: ContextVar[Attend | None] = ContextVar("attendant", default=None)


@contextmanager
def attended(attend: Attend) -> Iterator[None]:
    """Let long steps that are taken inside call `attend` at their pauses (`tpe_core.pauses`).

    `attend` may do something short that does not touch the step, or raise, which ends the step and its job. It is
    never called while it runs.
    """
    token = _attendant.set(attend)
    try:
        yield
    finally:
        _attendant.reset(token)


@contextmanager
def attendant() -> Iterator[Attend | None]:
    """What is to be called at a pause, or None; nobody else is called inside."""
    attend = _attendant.get()
    token = _attendant.set(None)
    try:
        yield attend
    finally:
        _attendant.reset(token)


def run(steps: Steps[T], on_progress: Callable[[Progress], object] | None = None) -> T:
    """Drive a job to its end and return its result, telling `on_progress` of every step.

    Args:
        steps: A job: a generator of `Progress`.
        on_progress: What to call with every step.

    Returns:
        The job's result.

    Example:
        >>> def job():
        ...     yield tpe.Progress("count", 1, 1)
        ...     return 42
        >>> tpe.run(job(), lambda progress: print(progress.label, progress.done))
        count 1
        42
    """
    while True:
        try:
            event = next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result
        if on_progress is not None:
            on_progress(event)


def relayed(steps: Steps[T], change: Callable[[Progress], Progress]) -> Steps[T]:
    """Run a job with every `Progress` mapped by a function."""
    try:
        while True:
            try:
                event = next(steps)
            except StopIteration as stop:
                result: T = stop.value
                return result
            yield change(event)
    finally:
        steps.close()


def size_text(count: float) -> str:
    """A number of bytes for people, in powers of ten: 812 B, 5.6 GB, 140 GB."""
    power = 0
    while count >= 999.5 and power < 4:
        count, power = count / 1000, power + 1
    return f"{count:.{int(power > 0 and count < 9.95)}f} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


class TimeLeft:
    """How long the stage of a job that is under way still takes, by how fast it went lately.

    A stage is what one `Progress.label` names. Its speed is taken over the last third of its time, at least `WINDOW`
    seconds, so that a resumed start or a slower part does not mislead for long.
    """

    WINDOW = 20.0  # seconds
    PATIENCE = 1.5  # seconds of a stage before anything is said of it

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds that never go back."""
        self._clock = clock
        self._label = ""
        self._total: int | None = None
        self._begun = 0.0
        self._seen: deque[tuple[float, int]] = deque()  # (seconds, done), the oldest first

    def update(self, progress: Progress) -> None:
        """Take note of a step of the job."""
        now = self._clock()
        if (progress.label, progress.total) != (self._label, self._total):
            self._label, self._total = progress.label, progress.total
            self._seen.clear()
            self._begun = now
        if not self._seen or progress.done != self._seen[-1][1]:
            self._seen.append((now, progress.done))
        window = at_least(self.WINDOW, (now - self._begun) / 3)
        while len(self._seen) > 2 and self._seen[1][0] < now - window:
            self._seen.popleft()

    @property
    def seconds(self) -> float | None:
        """Seconds that the stage still takes.

        None where nothing is known yet, or how much there is to do, and where the last step takes longer than others.
        """
        if self._total is None or len(self._seen) < 2:
            return None
        (first, before), (last, done) = self._seen[0], self._seen[-1]
        if done <= before or last - self._begun < self.PATIENCE:
            return None
        steps, waited = len(self._seen) - 1, self._clock() - last
        units, pace = (done - before) / steps, (last - first) / (done - before)
        if waited <= pace * units:
            return at_least(0.0, (self._total - done) * pace - waited)
        # The step under way takes longer than those before: it counts as one that ends now.
        left = self._total - done - units
        return left * (self._clock() - first) / (done - before + units) if left > 0 else None
