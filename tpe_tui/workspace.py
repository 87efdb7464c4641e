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
from tpe_core.progress import Progress, Steps
from tpe_core.snapshots import EncodingTable, ModelInfo
from tpe_tui.edit_words import edit_sizes
from tpe_tui.engine.host import EngineHost
from tpe_tui.engine.messages import Answer, Failure, JobUpdate, Waiting
from tpe_tui.engine.session import Session
from tpe_tui.glyphs import ascii_token
from tpe_tui.job_status import JobStatus
from tpe_tui.keymap import Keymap
from tpe_tui.sizes import short_name

__all__ = ["CallbackJob", "Change", "Job", "Workspace"]

Change = Literal["session", "edit", "job", "status"]
"""Another session is open; the prompt or the edit is another; a job took a step or ended; the status says more."""

Identity = tuple[str, str | None, int, int]


class Job(Protocol):
    """Something that takes long: made on the engine thread, followed on the user interface's."""

    @property
    def name(self) -> str:
        """What the user knows it by."""

    def start(self) -> Steps[Any]:
        """Make the generator of its steps; called on the engine thread."""

    def update(self, message: JobUpdate) -> None:
        """Take in that it took a step or ended; the workspace's status shows it already."""


@dataclass(frozen=True, slots=True)
class CallbackJob:
    """A job of two functions."""

    name: str
    start: Callable[[], Steps[Any]]
    update: Callable[[JobUpdate], None]


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
            again = f"no model is open; {self.keymap.shown('run.rerun')} tries again"
            self.status.say("the model is still opening" if self.is_busy else again, "warn")
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
        running = self.session is not None and self.status.job is not None
        return [*unsaved, *([f"A job is running ({self.status.label}) and would be stopped."] if running else [])]

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

    def free(self, number: int | None = None) -> bool:
        """Whether a job can be run now, none but `number` being there; says so where it cannot."""
        is_free = self.status.job is None or self.status.job == number
        if not is_free:
            self.status.say("a job is running already; cancel it first", "warn")
        return is_free

    def run(self, job: Job, instead_of: int | None = None) -> int | None:
        """Queue a job that the status shows; its number, or None where another one runs.

        `instead_of` is the number of a job that it takes the place of.
        """
        if not self.free(instead_of):
            return None
        if instead_of is not None:
            self.drop(instead_of)
        number = self.queue(job)
        self.status.say("")
        self.status.begin(number, job.name)
        self.changed("job")
        return number

    def run_behind(self, job: Job) -> int:
        """Queue a job that takes its steps only while no other one is there."""
        number = self._behind = self.queue(job, background=True)
        self.status.behind(Progress(job.name, 0))
        return number

    def queue(self, job: Job, background: bool = False) -> int:
        """Queue a job that the status says nothing of; its number."""
        number = self.engine.job(job.name, job.start, background)
        self._jobs[number] = job
        return number

    def drop(self, number: int) -> None:
        """Cancel a job whose updates nobody wants any more."""
        self._jobs.pop(number, None)
        self.engine.cancel(number)
        if number == self._behind:
            self._behind = None
            self.status.behind(None)

    def cancel_job(self) -> bool:
        """Cancel the running job; whether there is one."""
        if self.status.job is None:
            return False
        self.engine.cancel(self.status.job)
        self.status.cancelling()
        return True

    def cancel(self) -> None:
        """Cancel what the user waits for: a prompt that takes long, the running job, else the one behind it."""
        if self._give_up_reading() or self.cancel_job():
            return
        if self._behind is not None:
            self.engine.cancel(self._behind)
        else:
            self.status.say(f"nothing is running; {self.keymap.shown('app.quit')} leaves")

    def update(self, message: JobUpdate) -> None:
        """Take in an update of the engine: the status shows it, and its job hears of it."""
        is_running = message.state == "running"
        job = self._jobs.get(message.job)
        if message.job == self.status.job:
            self._show_step(message.progress) if is_running else self.status.end()
        elif message.job == self._behind:
            if not is_running:
                self._behind = None
            self.status.behind(replace(message.progress, label=message.name) if message.progress else None)
        if not is_running:
            self._jobs.pop(message.job, None)
        if job is not None:
            job.update(message)
            self.changed("job")

    def _show_step(self, progress: Progress | None) -> None:
        if progress is not None:
            self.status.step(progress)

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
