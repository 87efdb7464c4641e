"""The jobs of this run in the order in which the engine takes them: how far each is, and what came of it.

Values only: `Workspace` adds to it and tells it what the engine says; the strip, the title and the job list read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from tpe_core.progress import Progress, TimeLeft
from tpe_tui.engine.messages import Failure, JobUpdate

__all__ = ["JobList", "JobRecord", "JobState"]

JobState = Literal["queued", "running", "done", "failed", "cancelled"]

KEPT = 200  # ended jobs that stay listed
LOGGED = 200  # lines of a job's log


@dataclass(kw_only=True, eq=False)
class JobRecord:
    """A job as the list shows it. Times are seconds of the list's clock.

    `screen` is the id of the action that shows the job, `subject` what that screen needs to show it again. One that is
    `alone` puts another session in the place of the open one; one that is `behind` takes its steps only while none of
    a smaller number is there; a `quiet` one was started by the program, and is listed once it has ended only where it
    failed.
    """

    number: int
    name: str
    queued_at: float
    left: TimeLeft
    screen: str = ""
    subject: object = None
    alone: bool = False
    behind: int = 0
    quiet: bool = False
    state: JobState = "queued"
    began_at: float | None = None
    ended_at: float | None = None
    ended: int = 0  # how many ended before it, and one
    progress: Progress | None = None
    is_cancelling: bool = False
    result: str = ""  # what it came to, in a few words
    failure: Failure | None = None
    log: list[tuple[float, str]] = field(default_factory=list)

    @property
    def is_active(self) -> bool:
        """Whether it is queued or running."""
        return self.state in ("queued", "running")

    def seconds(self, now: float) -> float:
        """How long it has been running, or ran."""
        if self.began_at is None:
            return 0.0
        return (now if self.ended_at is None else self.ended_at) - self.began_at

    def came_to(self, result: str) -> None:
        """Take what an ended job says that it came to, in a few words."""
        self.result = result
        if self.log:
            self.log[-1] = self.log[-1][0], f"{self.state} {result}"

    def note(self, at: float, line: str) -> None:
        """Write a line into its log."""
        if len(self.log) < LOGGED:
            self.log.append((at, line))


class JobList:
    """Every job that is there, and the last ones that ended; `clock` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._records: list[JobRecord] = []
        self._ended = 0

    def __iter__(self) -> Iterator[JobRecord]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def find(self, number: int | None) -> JobRecord | None:
        """A job by its number."""
        return next((record for record in self._records if record.number == number), None)

    @property
    def active(self) -> list[JobRecord]:
        """What is queued or running, in the order in which the engine takes it; what runs behind the others last."""
        there = [record for record in self._records if record.is_active]
        return sorted(there, key=lambda record: record.behind)

    @property
    def waited_for(self) -> list[JobRecord]:
        """Those of `active` that the user asked for."""
        return [record for record in self.active if not record.quiet]

    @property
    def ended(self) -> list[JobRecord]:
        """What has ended, the last one first."""
        return sorted((r for r in self._records if not r.is_active), key=lambda r: r.ended, reverse=True)

    def ahead_of(self, number: int) -> int:
        """How many jobs the engine takes before this one; 0 for the one that runs."""
        numbers = [record.number for record in self.active]
        return numbers.index(number) if number in numbers else 0

    def add(self, record: JobRecord, first: bool = False) -> None:
        """Queue a job behind the others, or `first`."""
        record.note(record.queued_at, "queued")
        self._records.insert(0 if first else len(self._records), record)
        self._begin_next()

    def remove(self, number: int) -> JobRecord | None:
        """List a job no longer."""
        record = self.find(number)
        if record is not None:
            self._records.remove(record)
            self._begin_next()
        return record

    def take(self, message: JobUpdate) -> JobRecord | None:
        """Take in that a job took a step or ended; the job, where it is listed."""
        record = self.find(message.job)
        if record is None or not record.is_active:
            return record
        if message.progress is not None:
            before, record.progress = record.progress, message.progress
            record.left.update(message.progress)
            if before is None or before.label != message.progress.label:
                record.note(self.clock(), message.progress.label)
        if message.state != "running":
            self._end(record, message)
        return record

    def _end(self, record: JobRecord, message: JobUpdate) -> None:
        record.state, record.ended_at, record.failure = message.state, self.clock(), message.failure
        self._ended += 1
        record.ended, record.result = self._ended, _result(record, message)
        record.note(record.ended_at, " ".join(filter(None, [message.state, record.result])))
        if record.quiet and message.failure is None:
            self._records.remove(record)
        for old in self.ended[KEPT:]:
            self._records.remove(old)
        self._begin_next()

    def _begin_next(self) -> None:
        """The first one runs; those behind it wait, also one that took steps while nothing else was there."""
        for at, record in enumerate(self.active):
            record.state = "running" if at == 0 else "queued"
            if at == 0 and record.began_at is None:
                record.began_at = self.clock()
                record.note(record.began_at, "begun")


def _result(record: JobRecord, message: JobUpdate) -> str:
    """What is known of a job's end without asking the job."""
    if message.failure is not None:
        return message.failure.sentence
    progress = record.progress
    if message.state != "cancelled" or record.began_at is None or progress is None or not progress.total:
        return ""
    return f"after {progress.amount or f'{progress.done} of {progress.total}'}"
