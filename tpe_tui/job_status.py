"""How the running job stands and what was said last: the values that every job strip draws.

It measures time with the clock it is given, starts nothing and draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from tpe_core.progress import Progress, TimeLeft
from tpe_tui.cells import escape_controls

__all__ = ["JobStatus"]

STEP_SECONDS = 0.1  # between two steps that are shown: each costs some 150 bytes of a connection


class JobStatus:
    """`job` is the number of the running job, None when idle; `changed` is called after every change."""

    def __init__(self, clock: Callable[[], float], changed: Callable[[], object]) -> None:
        """Idle; `clock` gives seconds that never go back."""
        self.clock = clock
        self._changed = changed
        self.job: int | None = None
        self.queued = 0  # jobs behind that one
        self.label = ""  # what the job is called
        self.progress: Progress | None = None
        self.background: Progress | None = None
        self.is_cancelling = False
        self.started = 0.0
        self.left = TimeLeft(clock)
        self.text = ""
        self.role = "muted"
        self.said_at = 0.0
        self.number: str | None = None  # that is being typed before a key
        self._stepped_at = float("-inf")

    def begin(
        self,
        job: int,
        label: str,
        *,
        progress: Progress | None = None,
        started: float | None = None,
        left: TimeLeft | None = None,
    ) -> None:
        """Show a job that was queued; one that ran before with how far it is, since when, and its time left."""
        self.job, self.progress, self.is_cancelling = job, progress or Progress(label, 0), False
        self.started = self.clock() if started is None else started
        self.left, self.label = TimeLeft(self.clock) if left is None else left, label
        self._changed()

    def queue(self, queued: int) -> None:
        """Show how many jobs are queued behind the running one."""
        if queued != self.queued:
            self.queued = queued
            self._changed()

    def step(self, progress: Progress) -> None:
        """Show how far the job is."""
        is_another = self.progress is None or self.progress.label != progress.label
        self.progress = progress
        self.left.update(progress)
        self._stepped(is_another)

    def cancelling(self) -> None:
        """Show that the user asked to cancel; the step under way still ends."""
        self.is_cancelling = True
        self._changed()

    def end(self) -> None:
        """Show that nothing runs."""
        self.job = None
        self._changed()

    def count(self, number: str | None) -> None:
        """Show a number that is typed before a key; None where none is."""
        if number != self.number:
            self.number = number
            self._changed()

    def behind(self, progress: Progress | None) -> None:
        """Show what a job in the background does; None where there is none. It has the right end of an idle strip."""
        is_another = self.background is None or progress is None or self.background.label != progress.label
        self.background = progress
        self._stepped(is_another)

    def _stepped(self, is_another: bool) -> None:
        """Tell of a step: of `is_another` job or stage at once, of the same one ten times a second at most."""
        now = self.clock()
        if is_another or now - self._stepped_at >= STEP_SECONDS:
            self._stepped_at = now
            self._changed()

    def say(self, text: str, role: str = "row") -> None:
        """Show one sentence, until the next one; beside a job as long as it takes to read."""
        text = escape_controls(text)
        self.said_at = self.clock()
        if (text, role) != (self.text, self.role):
            self.text, self.role = text, role
            self._changed()
