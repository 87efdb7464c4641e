"""Progress of long computations: each is a generator that yields `Progress` and returns its result.

The caller decides when the next step runs, so cancelling is closing the generator: no flags, no
threads, and never more than one step late.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from tpe_core.clamping import at_most

__all__ = ["Progress", "Steps", "relayed", "run", "size_text"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a job: `done` of `total` (None where unknown) of what `label` names, with an optional note.

    `partial` is the result over what was done so far, from jobs that have one (a frozen value). `amount` is how
    `done` of `total` reads where plain numbers would not do (bytes).
    """

    label: str
    done: int
    total: int | None = None
    note: str = ""
    partial: object = None
    amount: str = ""

    @property
    def fraction(self) -> float | None:
        """Share done in [0, 1], or None where the total is unknown."""
        return None if not self.total else at_most(1.0, self.done / self.total)


Steps = Generator[Progress, None, T]
"""A job: yields `Progress`, returns `T`."""


def run(steps: Steps[T], on_progress: Callable[[Progress], object] | None = None) -> T:
    """Drive a job to its end and return its result, telling `on_progress` of every step."""
    while True:
        try:
            event = next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result
        if on_progress is not None:
            on_progress(event)


def relayed(steps: Steps[T], change: Callable[[Progress], Progress]) -> Steps[T]:
    """The same job, its progress told in another one's terms."""
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
