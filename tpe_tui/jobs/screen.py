"""The jobs screen: every job of this run with how far it is or what it came to; it cancels, opens and explains them.

It shows the workspace's `JobList` and changes nothing but what it cancels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content

from tpe_tui.dialogs.error import TextScreen
from tpe_tui.job_list import JobRecord
from tpe_tui.jobs.table import JobLog, JobTable, log_text
from tpe_tui.study import COMMON_KEYS, ListStudy, bindings, list_keys
from tpe_tui.widgets.bars import Field
from tpe_tui.widgets.line_widget import ListPane
from tpe_tui.workspace import Workspace

__all__ = ["KEYS", "JobsScreen"]

TICK_SECONDS = 1.0

KEYS: tuple[tuple[str, str, str], ...] = (
    *list_keys("job"),
    ("enter", "open", "open the job's screen, with its progress or its result"),
    ("run.cancel", "cancel", "cancel the job under the cursor, running or queued"),
    ("i", "log", "the job's log, and why it failed"),
    *COMMON_KEYS,
    ("app.help", "help", "these keys"),
    ("app.escape", "leave", "back to where the list was opened"),
)
"""(key or the id of the action that has it in the inspector, action here, help)."""

ALSO = (("q", "leave"),)
FOOTER = (("open", "Open"), ("cancel", "Cancel"), ("log", "Log"), ("help", "Keys"), ("leave", "Back"))


class JobsScreen(ListStudy):
    """Closed with None; `open_job` is called with the job whose screen is wanted."""

    NAME, KEYS, FOOTER = "Jobs", KEYS, FOOTER
    COUNTED = frozenset({"move", "page"})
    NOTES = (
        "Jobs run one after the other, in the order in which they were started.",
        "What you type in the inspector is answered before any job goes on.",
        "Detecting again and opening another model wait until no other job is there.",
    )
    OF_MODEL = False
    BINDINGS: ClassVar[list[BindingType]] = bindings(KEYS, ALSO)

    def __init__(self, workspace: Workspace, open_job: Callable[[JobRecord], object]) -> None:
        super().__init__(workspace)
        self._open_job = open_job
        self.jobs = JobTable(workspace.jobs)
        self.log_pane = JobLog()

    @property
    def listed(self) -> ListPane:
        """The list."""
        return self.jobs

    def compose_panes(self) -> ComposeResult:
        """The list, the log of the job under the cursor."""
        yield self.jobs
        yield self.log_pane

    def on_mount(self) -> None:
        """Keep the times moving while a step takes long."""
        self.jobs.focus()
        self.set_interval(TICK_SECONDS, self.show)
        self.show()

    def show(self) -> None:
        """Everything, as it is now."""
        self.jobs.renew()
        record = self.jobs.record
        self.log_pane.show(record)
        name = "" if record is None else f"· {record.name} "
        self.log_pane.border_title = Content.assemble((" Log ", "bold"), name)
        self.show_bars(self._fields())

    def _fields(self) -> tuple[Field, ...]:
        jobs = self.workspace.jobs
        running = [record for record in jobs.waited_for if record.state == "running"]
        queued, behind = len(jobs.waited_for) - len(running), len(jobs.active) - len(jobs.waited_for)
        return (
            Field(f"{len(running)} running" if running else "nothing is running", 1),
            Field(f"{queued} queued" if queued else "", 2),
            Field(f"{behind} in the background" if behind else "", 3, "muted"),
            Field(f"{len(jobs.ended)} ended" if jobs.ended else "", 4, "muted"),
        )

    @on(ListPane.Moved)
    def _moved(self, event: ListPane.Moved) -> None:
        event.stop()
        self.show()

    # keys

    def action_open(self) -> None:
        """Open the job's screen; of one without a screen, its log."""
        record = self.jobs.record
        if record is None:
            self.say("no job is listed", "warn")
        elif record.failure is not None and not record.screen:
            self.action_log()
        elif not record.screen:
            self.say(f"{record.name} has no screen of its own: what it does is seen in the inspector")
        elif record.subject is None:
            self.say(f"this {record.name} was of a model that is left: open that one and start it again", "warn")
        else:
            self._open_job(record)

    def action_cancel(self) -> None:
        """Cancel the job under the cursor."""
        record = self.jobs.record
        if record is None:
            self.say("no job is listed", "warn")
        elif not self.workspace.cancel_job(record.number):
            self.say(f"{record.name} has ended already: {record.state}")
        self.show()

    def action_log(self) -> None:
        """The whole log."""
        record = self.jobs.record
        if record is not None:
            title = f"Log: {record.name}, {record.state}"
            self.frame.push_screen(TextScreen(title, log_text(record), self.frame.copy_text))

    def action_jobs(self) -> None:
        """The key that opens the list closes it, too."""
        self.action_leave()

    def headless(self) -> str:
        """Nothing is measured here."""
        return ""
