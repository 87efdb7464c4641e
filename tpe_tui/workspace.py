"""What is open, what is edited and what is running: everything of the inspector that is no screen and no widget.

Screens read it, change it through its methods, and are told by `changed` what they have to show anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from tpe_core.cached_view import CachedView
from tpe_core.edit_history import EditHistory
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import TpeError
from tpe_core.notebook import Notebook
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, Steps, TimeLeft
from tpe_core.snapshots import EncodingTable, ModelInfo
from tpe_tui.edit_words import edit_sizes
from tpe_tui.engine.host import EngineHost
from tpe_tui.engine.messages import Answer, Failure, JobUpdate, Waiting
from tpe_tui.engine.session import Session
from tpe_tui.glyphs import ascii_token
from tpe_tui.job_list import JobList, JobRecord
from tpe_tui.job_status import JobStatus
from tpe_tui.keymap import Keymap
from tpe_tui.sizes import short_name

__all__ = ["CallbackJob", "Change", "Job", "Workspace"]

Change = Literal["session", "edit", "job", "status"]
"""Another session is open; the prompt or the edit is another; a job took a step or ended; the status says more."""

BEHIND, ENDLESS = 1, 2  # the order of jobs: of what the user waits for comes first, what may never end last

Identity = tuple[str, str | None, int, int]


class Job(Protocol):
    """Something that takes long: made on the engine thread, followed on the user interface's."""

    @property
    def name(self) -> str:
        """What the user knows it by."""

    def start(self) -> Steps[Any]:
        """Make the generator of its steps; called on the engine thread."""

    def update(self, message: JobUpdate) -> object:
        """Take in that it took a step or ended; the workspace's status shows it already.

        A text that comes back from its end says in a few words what it came to, for the list of jobs.
        """


@dataclass(frozen=True, slots=True)
class CallbackJob:
    """A job of two functions."""

    name: str
    start: Callable[[], Steps[Any]]
    update: Callable[[JobUpdate], object]


@dataclass(frozen=True, slots=True)
class _Request:
    """The latest question of one kind, and who gets its answer."""

    seq: int
    receive: Callable[[Answer], object]
    waiting: Callable[[Progress], object] | None
    of_session: bool


class Workspace:
    """An opened model, the history of its edits, and the jobs that run on it; `session` is None until one is open.

    Until then `preview` may be there: what was kept of the last analysis, to browse and to edit while the model loads.

    `changed` is called with every `Change`, `failed` with a title, the failure and advice wherever a sentence in the
    status is not enough.
    """

    def __init__(
        self,
        options: RunOptions,
        engine: EngineHost,
        keymap: Keymap,
        *,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[Change], object] = lambda change: None,
        failed: Callable[[str, Failure, str], object] = lambda title, failure, advice: None,
    ) -> None:
        self.options = options
        self.engine = engine
        self.keymap = keymap
        self.changed = changed
        self._failed = failed
        self.status = JobStatus(clock, lambda: changed("status"))
        self.jobs = JobList(clock)
        self.session: Session | None = None
        self.preview: CachedView | None = None
        self.opening_failed = False  # of the model whose preview it is
        self.table: EncodingTable | None = None  # of the session or the preview, its tokens as they are drawn
        self.read_table: EncodingTable | None = None  # the same, its tokens as they were read
        self.history = EditHistory()
        self.notebook = Notebook()
        self.ascii_only = False  # tokens are drawn so
        self._left: dict[Identity, tuple[EditHistory, object]] = {}  # by model: its history, what its edits need
        self._jobs: dict[int, Job] = {}  # queued or running, by number
        self._behind: int | None = None  # the job that the status shows in the background
        self._requests: dict[str, _Request] = {}  # by kind
        self._reading: tuple[str, int] | None = None  # the request that says how far it is: its kind and number
        self._given_up: set[int] = set()  # such requests that the user ended

    # what is open

    def show_preview(self, view: CachedView, history: EditHistory) -> None:
        """Take what was kept of a model that is about to be loaded; its edit begins with `history`."""
        self.preview, self.history = view, history
        self._take_table(view.table)
        self.changed("session")

    def open(self, session: Session, history: EditHistory) -> bool:
        """Take another session; whether its model is another one than before.

        The same model keeps its edits, those that were made on its preview too, and one that was left before has its
        own again; any other begins with `history`.
        """
        info, before, preview = session.table.info, self.session, self.preview
        if before is None and preview is not None:
            known = (_identity(preview.table.info), preview.head_sha256)
            is_another = known != (_identity(info), session.head_sha256)
        else:
            is_another = before is None or _identity(before.table.info) != _identity(info)
        self.preview = None
        if is_another:
            if before is not None:
                self._left[_identity(before.table.info)] = self.history, before.carried()
            self.history = history
            if (left := self._left.pop(_identity(info), None)) is not None:
                self.history = left[0]  # with its mask and its undo
                session.take_up(left[1])
            for record in self.jobs.ended:
                record.subject = None  # it is of a model that is left: nothing shows it any more
        self.session = session
        self._take_table(session.table)
        for kind in [kind for kind, request in self._requests.items() if request.of_session]:
            del self._requests[kind]  # what the last session still answers is about another model
        self.changed("session")
        return is_another

    def _take_table(self, table: EncodingTable) -> None:
        self.read_table = self.table = table
        if self.ascii_only:
            self.table = replace(table, tokens=[ascii_token(text) for text in table.tokens])

    def has_table(self) -> bool:
        """Whether there is a table to browse and to edit, of a model that may be loading still; says where none is."""
        return self.table is not None or self.ready()

    def ready(self) -> bool:
        """Whether a model is open; says where none is whether one is on its way."""
        if self.session is None:
            again, choose = self.keymap.shown("run.rerun"), self.keymap.shown("run.open")
            closed = f"; {again} tries again" if self.opening_failed else f": {choose} chooses one"
            self.status.say("the model is still opening" if self.is_busy else f"no model is open{closed}", "warn")
        return self.session is not None

    def losses(self) -> list[str]:
        """What leaving now would lose, a sentence each: edits that no file holds, of any model, and the running job."""
        now = [] if self.table is None else [(self.table.info.name, self.history)]
        before = [(name, history) for (name, *_), (history, _) in self._left.items()]
        unsaved = [
            f"The edit of {short_name(name)} ({edit_sizes(history.intervention)}) is in no file."
            for name, history in (*now, *before)
            if history.is_unsaved
        ]
        return [*unsaved, *(self._jobs_lost() if self.session is not None else [])]

    def _jobs_lost(self) -> list[str]:
        """What leaving does to the jobs that the user waits for."""
        jobs = self.jobs.waited_for
        if not jobs:
            return []
        running = f"A job is running ({jobs[0].name}) and would be stopped."
        names = ", ".join(record.name for record in jobs[1:])
        behind = f"{len(jobs) - 1} more {'is' if len(jobs) == 2 else 'are'} queued ({names}) and would be dropped."
        return [running, *([behind] if names else [])]

    # what is edited

    def edit(self, change: Callable[[], bool], done: str = "", nothing: str = "") -> bool:
        """Make a change of the history; whether there was one. Says `done` or `nothing`, or why it is impossible."""
        if not self.has_table():
            return False
        try:
            is_changed = change()
        except TpeError as error:
            self.status.say(str(error), "bad")
            return False
        if is_changed:
            self.changed("edit")
        self.status.say(done if is_changed else nothing)
        return is_changed

    def apply(self, edit: Intervention, done: str, nothing: str = "that edit is in force already") -> bool:
        """Bring an edit into force, as one step to undo."""
        return self.edit(lambda: self.history.apply(edit), done, nothing)

    def set_prompt(self, prompt: str) -> None:
        """Ask about another prompt from now on."""
        self.history.prompt = prompt
        self.changed("edit")

    # what is running

    @property
    def is_busy(self) -> bool:
        """Whether a job that the user waits for is running."""
        return self.status.job is not None

    def free(self, number: int | None = None, *, alone: bool = False) -> bool:
        """Whether a job can be queued now, whatever becomes of `number`; says so where it cannot.

        A job that is `alone` puts another session in the place of the open one: it cannot be while others are there,
        and no other while it is.
        """
        there = [record for record in self.jobs.waited_for if record.number != number]
        hindering = there if alone else [record for record in there if record.alone]
        if not hindering:
            return True
        first, more, lists = hindering[0], len(hindering) - 1, self.keymap.shown("run.jobs")
        names = f"{first.name}{f' and {more} more' if more else ''}"
        self.status.say(f"a job is running already ({names}); wait or cancel it first, {lists} lists the jobs", "warn")
        return False

    def run(
        self,
        job: Job,
        instead_of: int | None = None,
        *,
        screen: str = "",
        subject: object = None,
        alone: bool = False,
        behind: bool = False,
    ) -> int | None:
        """Queue a job that the status shows; its number, or None where it cannot be now.

        `instead_of` is the number of a job that it takes the place of. `screen` is the id of the action that shows the
        job, `subject` what is to be shown then; `alone` is said at `free`. One that is to run `behind` never ends by
        itself and takes its steps only while no other is there.
        """
        if not self.free(instead_of, alone=alone):
            return None
        begun = instead_of is not None and self.jobs.ahead_of(instead_of) == 0
        if instead_of is not None:
            self.drop(instead_of)
        level = ENDLESS if behind else 0
        number = self.engine.job(job.name, job.start, level, first=begun)
        self._add(number, job, first=begun, screen=screen, subject=subject, alone=alone, behind=level)
        ahead = [record for record in self.jobs.active if not record.behind][: self.jobs.ahead_of(number)]
        if ahead:
            lists = self.keymap.shown("run.jobs")
            self.status.say(f"{job.name} is queued behind {ahead[-1].name}; {lists} lists the jobs")
        else:
            self.status.say("")
        return number

    def run_behind(self, job: Job) -> int:
        """Queue a job that nobody asked for and that takes its steps only while no other one is there."""
        number = self._behind = self.queue(job, background=True)
        self.status.behind(Progress(job.name, 0))
        return number

    def queue(self, job: Job, background: bool = False) -> int:
        """Queue a job that nobody asked for and the status says nothing of; its number."""
        level = BEHIND if background else 0
        number = self.engine.job(job.name, job.start, level)
        self._add(number, job, quiet=True, behind=level)
        return number

    def _add(self, number: int, job: Job, *, first: bool = False, **about: Any) -> None:
        self._jobs[number] = job
        clock = self.jobs.clock
        record = JobRecord(number=number, name=job.name, queued_at=clock(), left=TimeLeft(clock), **about)
        self.jobs.add(record, first)
        self._show_front()
        self.changed("job")

    def _show_front(self) -> None:
        """Let the status show the first job that the user waits for, and what runs behind it."""
        there = self.jobs.waited_for
        self.status.queue(max(0, len(there) - 1))
        if not there:
            if self.status.job is not None:
                self.status.end()
        elif there[0].number != self.status.job:
            front = there[0]
            progress = front.progress
            self.status.begin(front.number, front.name, progress=progress, started=front.began_at, left=front.left)
            if front.is_cancelling:
                self.status.cancelling()

    def drop(self, number: int) -> None:
        """Cancel a job whose updates nobody wants any more."""
        self._jobs.pop(number, None)
        self.engine.cancel(number)
        self.jobs.remove(number)
        if number == self._behind:
            self._behind = None
            self.status.behind(None)
        self._show_front()

    def cancel_job(self, number: int | None = None) -> bool:
        """Cancel a queued or running job, by default the one that the status shows; whether it is there."""
        record = self.jobs.find(self.status.job if number is None else number)
        if record is None or not record.is_active:
            return False
        record.is_cancelling = True
        self.engine.cancel(record.number)
        if record.number == self.status.job:
            self.status.cancelling()
        self.changed("job")
        return True

    def cancel(self, own: int | None = None) -> None:
        """Cancel what the user waits for: a prompt that takes long, the `own` job of the screen that asks, else the
        running one, else the one in the background."""
        if self._give_up_reading() or (own is not None and self.cancel_job(own)) or self.cancel_job():
            return
        if self._behind is not None:
            self.engine.cancel(self._behind)
        else:
            self.status.say(f"nothing is running; {self.keymap.shown('app.quit')} leaves")

    def update(self, message: JobUpdate) -> None:
        """Take in an update of the engine: the list and the status show it, and its job hears of it."""
        is_running = message.state == "running"
        job = self._jobs.get(message.job)
        record = self.jobs.take(message)
        if message.job == self.status.job:
            if message.progress is not None:
                self.status.step(message.progress)
        elif message.job == self._behind:
            if not is_running:
                self._behind = None
            self.status.behind(replace(message.progress, label=message.name) if message.progress else None)
        if not is_running:
            self._jobs.pop(message.job, None)
            self._show_front()
        if job is not None:
            said = job.update(message)
            if record is not None and not is_running and isinstance(said, str):
                record.came_to(said)
            self.changed("job")

    # what the engine is asked

    def ask(
        self,
        kind: str,
        question: Callable[[], object],
        receive: Callable[[Answer], object],
        *,
        topic: object = None,
        waiting: Callable[[Progress], object] | None = None,
        of_session: bool = True,
    ) -> None:
        """Ask the engine; only the latest question of a kind is answered, to `receive`.

        One about another `topic` ends the one under way. `waiting` hears how far a long answer is. Another session
        forgets what is `of_session`.
        """
        seq = self.engine.latest(kind, question, topic)
        self._requests[kind] = _Request(seq, receive, waiting, of_session)

    def forget(self, kind: str) -> None:
        """Want no answer of a kind any more."""
        self._requests.pop(kind, None)

    def answer(self, message: Answer) -> None:
        """Hand an answer to who asked; late ones are dropped."""
        if message.kind == "close" and message.failure is not None:
            self.fail("close failed", message.failure)
            return
        request = self._requests.get(message.kind)
        if request is None or request.seq != message.seq:
            return
        if self._reading is not None and self._reading[0] == message.kind:
            self._reading = None
        request.receive(message)

    def wait(self, message: Waiting) -> None:
        """Take in how far a long answer is; that to an earlier question of the kind counts, as the later one waits."""
        request = self._requests.get(message.kind)
        if request is not None and request.waiting is not None:
            self._reading = message.kind, message.seq
            request.waiting(message.progress)

    def is_given_up(self, answer: Answer) -> bool:
        """Whether the user ended the question that this is the answer to."""
        return answer.seq in self._given_up

    def _give_up_reading(self) -> bool:
        if self._reading is None:
            return False
        (kind, seq), self._reading = self._reading, None
        self._given_up = {seq, *([self._requests[kind].seq] if kind in self._requests else [])}
        for number in self._given_up:
            self.engine.abandon(number)
        return True

    def fail(self, title: str, failure: Failure, advice: str = "") -> None:
        """Show a failure that a sentence in the status is not enough for."""
        self._failed(title, failure, advice)


def _identity(info: ModelInfo) -> Identity:
    return info.name, info.revision, info.vocab_rows, info.hidden_size
