"""The strip above the footer: a running job with its progress, and the last thing worth saying.

While a job runs a sentence shares the row with it, or has it alone for some seconds, and the progress comes back.
"""

from __future__ import annotations

from rich.cells import cell_len

from tpe_core.progress import Progress
from tpe_tui.cells import duration, elapsed, fit
from tpe_tui.job_status import JobStatus
from tpe_tui.widgets.line_widget import Line, LineWidget

__all__ = ["JobStrip"]

TICK_SECONDS = 1.0
SAID_SECONDS = 4.0  # that any sentence stays beside a job
READ_CELLS = 16  # of a sentence that are read in a second


class JobStrip(LineWidget):
    """One line that shows a `JobStatus`; several screens may show the same one."""

    def __init__(self, status: JobStatus, cancel_key: str) -> None:
        """`cancel_key` is what the user presses."""
        super().__init__("job")
        self._status = status
        self._cancel_key = cancel_key

    def on_mount(self) -> None:
        """Keep the elapsed time moving while a step takes long, and show the step that was taken last."""
        self.set_interval(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        if self._status.job is not None or self._status.background is not None:
            self.repaint()

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """The job, the sentence, or both; and at the right end the number that is being typed."""
        if self._status.number is None:
            return self._without_number(width), "row"
        number = f" {self._status.number or 'n'}× "
        room = width - cell_len(number)
        line = self._without_number(room)
        return [*line, (" " * (room - sum(cell_len(text) for text, _ in line)), "row"), (number, "key")], "row"

    def _without_number(self, width: int) -> Line:
        status = self._status
        if status.job is None or status.progress is None:
            return self._idle(width)
        if status.text and status.clock() - status.said_at < SAID_SECONDS + cell_len(status.text) / READ_CELLS:
            return self._said_beside(status.progress, width)
        return self._job_line(status.progress, width)

    def _tail(self) -> str:
        return "  cancelling…" if self._status.is_cancelling else f"  {self._cancel_key} cancel"

    def _said_beside(self, progress: Progress, width: int) -> Line:
        """The sentence; the job's share and time stand behind it where there is room, its name where there is more."""
        share = "" if progress.fraction is None else f"{progress.fraction:4.0%}"
        more = f" +{self._status.queued}" if self._status.queued else ""
        end, tail = f" {share} {elapsed(self._status.clock() - self._status.started)}{more}", self._tail()
        room = width - 1 - cell_len(self._status.text) - cell_len(end) - cell_len(tail)
        if room < 1:
            return [(" " + fit(self._status.text, width - 1), self._status.role)]
        name = f"  {progress.label}"
        name = name if cell_len(name) < room else ""
        return [
            (f" {self._status.text}{' ' * (room - cell_len(name))}", self._status.role),
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
        left = "" if self._status.left.seconds is None else f", {duration(self._status.left.seconds)} left"
        end = (
            f" {'' if share is None else f'{share:4.0%} '} {elapsed(self._status.clock() - self._status.started)}{left}"
        )
        end += f", {self._status.queued} queued" if self._status.queued else ""
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
        if self._status.background is None:
            return [(" " + fit(self._status.text, width - 1), self._status.role)]
        share, tail = self._status.background.fraction, f"  {self._cancel_key} cancel"
        name = f" {self._status.background.label}{'' if share is None else f' {share:.0%}'}"
        room = max(0, width - cell_len(name) - cell_len(tail) - 1)
        return [(" " + fit(self._status.text, room).ljust(room), self._status.role), (name, "muted"), (tail, "key")]
