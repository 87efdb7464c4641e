"""The jobs as rows, the running one first and the one that ended last on top of the others; and a job's log below."""

from __future__ import annotations

from tpe_tui.cells import duration, elapsed, escape_controls, fit
from tpe_tui.job_list import JobList, JobRecord
from tpe_tui.widgets.line_widget import Line, LineWidget, ListPane

__all__ = ["JobLog", "JobTable", "log_text", "said_of"]

MARKS = {
    "running": ("▸", "key"), "queued": ("·", "muted"), "done": ("●", "good"), "failed": ("×", "bad"),
    "cancelled": ("○", "warn"),
}  # fmt: skip
STATE_CELLS, SHARE_CELLS, TIME_CELLS, LEFT_CELLS = 12, 5, 8, 8
NAME_CELLS = (18, 28)  # least and most


def said_of(record: JobRecord) -> str:
    """What a job is doing, or what it came to."""
    if not record.is_active:
        return record.result
    progress = record.progress
    if record.state == "queued" and record.began_at is None:
        return ""
    if progress is None:
        return "begins"
    done = progress.amount or (f"{progress.done}/{progress.total}" if progress.total else "")
    label = "" if progress.label == record.name else progress.label
    return " ".join(filter(None, [label, done, progress.note]))


def log_text(record: JobRecord) -> str:
    """A job's log: the time of each of its stages since it was queued, and why it failed."""
    lines = [f"{elapsed(at - record.queued_at):>7}  {line}" for at, line in record.log]
    return "\n".join([*lines, *(["", record.failure.report] if record.failure is not None else [])])


class JobTable(ListPane):
    """A job a row. The cursor stays on its job when others begin or end."""

    def __init__(self, jobs: JobList) -> None:
        super().__init__("job-table")
        self._jobs = jobs
        self._rows: list[JobRecord] = []
        self._at: JobRecord | None = None
        self.renew()

    @property
    def record(self) -> JobRecord | None:
        """The job under the cursor."""
        return self._rows[self.cursor] if self._rows else None

    @property
    def n_rows(self) -> int:
        """How many jobs are listed."""
        return len(self._rows)

    def renew(self) -> None:
        """Show the jobs as they are now."""
        self._rows = [*self._jobs.active, *self._jobs.ended]
        if self._at in self._rows:
            self.cursor = self._rows.index(self._at)
        self.go(self.cursor, quiet=True)
        self.repaint()

    def go(self, index: int, quiet: bool = False) -> None:
        """Put the cursor on a row and remember its job."""
        super().go(index, quiet)
        self._at = self.record

    def empty(self) -> str:
        """What an empty list says."""
        return "No job was started yet: a sweep, a refit, a study or a text is listed here while it runs and after it."

    def _name_cells(self, width: int) -> int:
        rest = STATE_CELLS + SHARE_CELLS + TIME_CELLS + LEFT_CELLS
        return max(NAME_CELLS[0], min(NAME_CELLS[1], (width - rest) // 3))

    def header(self, width: int) -> Line:
        """The columns' names."""
        state, name = fit(" state", STATE_CELLS), fit("job", self._name_cells(width))
        times = fit("share", SHARE_CELLS, right=True) + fit("time", TIME_CELLS, right=True)
        line = f"{state}{name}{times}{fit('left', LEFT_CELLS, right=True)}  result"
        return [(fit(line, width), "head")]

    def row(self, index: int, width: int) -> tuple[Line, str]:
        """One job."""
        record, now = self._rows[index], self._jobs.clock()
        mark, role = MARKS[record.state]
        state: str = record.state
        if record.is_active and (record.is_cancelling or record.quiet):
            state = "cancelling" if record.is_cancelling else "background"
        share = record.progress.fraction if record.progress is not None else None
        share = 1.0 if record.state == "done" else share
        left = record.left.seconds if record.state == "running" else None
        times = "".join(
            (
                fit("" if share is None else f"{share:.0%}", SHARE_CELLS, right=True),
                fit("" if record.began_at is None else elapsed(record.seconds(now)), TIME_CELLS, right=True),
                fit("" if left is None else duration(left), LEFT_CELLS, right=True),
            )
        )
        name = self._name_cells(width)
        runs: Line = [
            (mark, role),
            (fit(state, STATE_CELLS - 1), role if not record.is_active else "row"),
            (fit(record.name, name), "row"),
            (times, "row"),
            ("  ", "row"),
            (fit(escape_controls(said_of(record)), width - STATE_CELLS - name - len(times) - 2), "muted"),
        ]
        return runs, "cursor" if index == self.cursor else "row"


class JobLog(LineWidget):
    """The last lines of a job's log."""

    def __init__(self) -> None:
        super().__init__("job-log")
        self.record: JobRecord | None = None

    def show(self, record: JobRecord | None) -> None:
        """Show another job, or the same one further."""
        self.record = record
        self.repaint()

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """A line of the log."""
        lines = [] if self.record is None else log_text(self.record).splitlines()[-self.size.height :]
        text = escape_controls(lines[y]) if y < len(lines) else ""
        return [(fit(f" {text}", width), "muted")], "row"
