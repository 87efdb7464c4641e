"""The one engine thread: requests where only the latest of a kind counts, and jobs stepped between them.

Requests are answered at the pauses of a job's long steps, too (`tpe_core.pauses`), and cancelling ends a step there.
A request that takes long has pauses of its own: it tells how far it is, and ends where nobody waits for it any more.
It alone imports the engine, inside the thread; it never touches a widget, and no error ends it.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.message import Message

from tpe_core.allocator import give_back_freed_memory
from tpe_core.clamping import at_most
from tpe_core.errors import CancelledError, TpeError
from tpe_core.options import DEMO, RunOptions
from tpe_core.progress import Progress, Steps, attended
from tpe_tui.engine.messages import Answer, Failure, JobUpdate, Waiting
from tpe_tui.engine.session import Session

if TYPE_CHECKING:
    from tpe_core.dynamics.trajectory import Trajectory
    from tpe_core.models.hub import CachedModel

__all__ = ["EngineHost", "failure_of", "list_cached", "open_live", "read_dynamics"]

STOP_SECONDS = 2.0
PATIENCE = 0.4  # seconds of a request before anything is told of it, and then between two messages
HELD = 5.0  # seconds for which memory that answers and steps have freed stays with the process, at most
RESTS = 3  # times as long as it computed a job rests, where it gives way: a quarter of the time is left to it


def open_live(options: RunOptions) -> Steps[Session]:
    """Open the real engine. The import is a step of its own, so that the screen says what takes the time."""
    yield Progress("importing the engine", 0)
    from tpe_core.session import open_session

    session: Session = yield from open_session(options)
    return session


def list_cached() -> Sequence[CachedModel]:
    """The models of the hub's local cache. No torch is needed for that, only the hub's client."""
    from tpe_core.models.hub import cached_models

    return cached_models()


def read_dynamics(options: RunOptions, **asked: Any) -> Callable[[str], Steps[Trajectory]]:
    """What reads a source of training dynamics by name; `asked` are further fields of `DynamicsOptions`.

    A probe's log is followed while it grows, and needs no torch. The task, and leave to run code that comes with a
    model, are those of the model of `options` alone.
    """

    def read(name: str) -> Steps[Trajectory]:
        from tpe_core.dynamics.recorded import bundled_trajectory, is_log

        if is_log(name):
            from tpe_core.dynamics.probe_log import follow

            return (yield from follow(Path(name)))
        if name == DEMO:
            return bundled_trajectory()
        yield Progress("importing the engine", 0)
        from tpe_core.dynamics.plan import DynamicsOptions, dynamics

        run = replace(options, model=name, revision=None)
        if name != options.model:
            run = replace(run, task=None, trust_remote_code=False)
        return (yield from dynamics(DynamicsOptions(run, **asked)))

    return read


def failure_of(error: BaseException) -> Failure:
    """An error as a value: the engine's own sentence, or the type and text of anything unforeseen."""
    details = "".join(traceback.format_exception(error))
    if isinstance(error, TpeError):
        return Failure(str(error), details if error.__cause__ is not None else "")
    return Failure(f"the engine stopped with {type(error).__name__}: {error}. Copy this and report it.", details)


@dataclass(kw_only=True)
class _Job:
    """A queued or running job; `steps` exists once its first step was asked for."""

    id: int
    name: str
    start: Callable[[], Steps[Any]]
    background: int = 0
    steps: Steps[Any] | None = field(default=None)


@dataclass(frozen=True)
class _Request:
    """A question of one kind. A later one of its kind about another `topic` ends it; the same topic lets it finish."""

    kind: str
    seq: int
    fn: Callable[[], object]
    topic: object = None


class EngineHost:
    """Runs everything slow on one daemon thread and posts `Answer` and `JobUpdate` messages.

    `post` must be safe to call from another thread; it is told nothing after `stop`.
    """

    def __init__(self, post: Callable[[Message], object]) -> None:
        self._post = post
        self._wake = threading.Condition()
        self._latest: dict[str, _Request] = {}
        self._abandoned: set[int] = set()
        self._jobs: deque[_Job] = deque()
        self._current: _Job | None = None  # whose step is being taken
        self._cancelled: set[int] = set()
        self._seq = 0
        self._stopping = False
        self._way_until = 0.0  # by `time.monotonic`: jobs give way
        self._owes = False  # memory that was freed since it was given back to the system
        self._gave_back = time.monotonic()
        self._went_on = 0.0  # when the job began the step it is in, or went on after a pause
        self._thread = threading.Thread(target=self._run, name="tpe-engine", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the engine thread is running."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; what was asked before runs now."""
        self._thread.start()

    def latest(self, kind: str, fn: Callable[[], object], topic: object = None) -> int:
        """Ask for `fn()`, forgetting an unanswered request of its kind; the number that comes back in `Answer.seq`.

        One that is being answered is ended at its next pause where its `topic` is another, and has no answer then.
        """
        with self._wake:
            self._seq += 1
            self._latest[kind] = _Request(kind, self._seq, fn, topic)
            self._wake.notify()
            return self._seq

    def abandon(self, seq: int) -> None:
        """End a request at its next pause; its answer is a failure that says so."""
        with self._wake:
            self._abandoned.add(seq)

    def job(self, name: str, start: Callable[[], Steps[Any]], background: int = 0, *, first: bool = False) -> int:
        """Queue a job: `start()` makes its generator on the engine thread; the number in `JobUpdate.job`.

        Jobs are run one after the other, the `first` one before those that are queued. A `background` job takes its
        steps only while none of a smaller number is there.
        """
        with self._wake:
            self._seq += 1
            job = _Job(id=self._seq, name=name, start=start, background=background)
            self._jobs.insert(0 if first else len(self._jobs), job)
            self._wake.notify()
            return self._seq

    def cancel(self, job: int) -> None:
        """Close a job's generator after the step it is in; one that has not begun is gone at once."""
        with self._wake:
            queued = next((each for each in self._jobs if each.id == job), None)
            if queued is None:
                return
            if queued.steps is not None or queued is self._current:
                self._cancelled.add(job)
                self._wake.notify()
                return
            self._jobs.remove(queued)
        self._tell(JobUpdate(job, queued.name, "cancelled"))

    def give_way(self, seconds: float) -> None:
        """Let jobs compute for a quarter of the time only, for so long: the app has more to do than it gets done."""
        self._way_until = time.monotonic() + seconds

    def stop(self, timeout: float = STOP_SECONDS) -> bool:
        """Ask the thread to end and wait at most `timeout` seconds; whether it did."""
        with self._wake:
            self._stopping = True
            self._latest.clear()
            self._wake.notify()
        if self._thread.ident is None:
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(
                    lambda: self._stopping or bool(self._latest) or bool(self._jobs), HELD if self._owes else None
                )
                if self._stopping:
                    break
                request = self._next_request()
                job = self._current = None if request is not None else self._next_job()
            has_ended = False
            if request is not None:
                self._answer(request)
            elif job is not None:
                self._owes, has_ended = True, self._step(job)
                if has_ended:
                    with self._wake:
                        self._jobs.remove(job)
                        self._cancelled.discard(job.id)
            request = job = self._current = None  # with all that they hold
            if has_ended or (self._owes and time.monotonic() - self._gave_back >= HELD):
                self._owes, self._gave_back = False, time.monotonic()
                give_back_freed_memory()
        for job in list(self._jobs):
            self._close(job)

    def _next_request(self) -> _Request | None:
        """Take the oldest request that waits; the lock is held."""
        kind = next(iter(self._latest), None)
        return None if kind is None else self._latest.pop(kind)

    def _next_job(self) -> _Job | None:
        """The job whose turn it is: one to be closed, else the first, background jobs last; the lock is held."""
        return min(self._jobs, key=lambda job: (job.id not in self._cancelled, job.background), default=None)

    def _answer(self, request: _Request) -> None:
        told = time.monotonic()

        def attend(progress: Progress | None) -> None:
            nonlocal told
            self._check_wanted(request, progress)
            if progress is not None and time.monotonic() - told > PATIENCE:
                told = time.monotonic()
                self._tell(Waiting(request.kind, request.seq, progress))

        kind, seq = request.kind, request.seq
        self._owes = True
        try:
            with attended(attend):
                message = Answer(kind, seq, request.fn())
        except CancelledError as error:
            if seq not in self._abandoned or self._stopping:
                return  # a later one of its kind is answered instead
            message = Answer(kind, seq, failure=Failure(str(error)))
        except (Exception, SystemExit) as error:
            message = Answer(kind, seq, failure=failure_of(error))
        self._abandoned.discard(seq)
        self._tell(message)

    def _check_wanted(self, request: _Request, progress: Progress | None) -> None:
        """Raise `CancelledError` where nobody waits for a request any more. Called at every pause: it takes no lock."""
        later = self._latest.get(request.kind)
        if self._stopping or (later is not None and later.topic != request.topic):
            raise CancelledError(f"{request.kind} was asked again.")
        if request.seq in self._abandoned:
            raise CancelledError(f"{request.kind if progress is None else progress.label} was cancelled.")

    def _step(self, job: _Job) -> bool:
        """Take one step of a job; whether it ended."""
        if job.id in self._cancelled:
            self._close(job)
            self._tell(JobUpdate(job.id, job.name, "cancelled"))
            return True
        try:
            self._went_on = time.monotonic()
            job.steps = job.start() if job.steps is None else job.steps
            with attended(lambda _: self._attend(job)):
                update = JobUpdate(job.id, job.name, "running", progress=next(job.steps))
        except StopIteration as stop:
            update = JobUpdate(job.id, job.name, "done", value=stop.value)
        except CancelledError:
            update = JobUpdate(job.id, job.name, "cancelled")
        except (Exception, SystemExit) as error:
            update = JobUpdate(job.id, job.name, "failed", failure=failure_of(error))
        if job.id in self._cancelled and update.state == "running":
            self._close(job)
            update = JobUpdate(job.id, job.name, "cancelled")
        self._tell(update)
        return update.state != "running"

    def _attend(self, job: _Job) -> None:
        """At a pause of a job's step: answer what is asked; raises `CancelledError` where the job is to end.

        There are hundreds of pauses in a second. The lock is taken only where something was asked: a thread that holds
        it and has to give up Python's own lock meanwhile keeps the interface waiting for as long.
        """
        self._rest(job)
        while True:
            if self._stopping or job.id in self._cancelled:
                raise CancelledError(f"{job.name} was cancelled.")
            if not self._latest:
                return
            with self._wake:
                request = self._next_request()
            if request is not None:
                self._answer(request)

    def _rest(self, job: _Job) -> None:
        """Leave the time to the app where it wants it, until anything is asked."""
        now = time.monotonic()
        rest = at_most(RESTS * (now - self._went_on), self._way_until - now)
        if rest > 0:
            with self._wake:
                self._wake.wait_for(
                    lambda: self._stopping or job.id in self._cancelled or bool(self._latest), timeout=rest
                )
        self._went_on = time.monotonic()

    def _close(self, job: _Job) -> None:
        if job.steps is None:
            return
        try:
            job.steps.close()
        except (Exception, SystemExit) as error:
            self._tell(Answer("close", job.id, failure=failure_of(error)))

    def _tell(self, message: Message) -> None:
        """Post a message; an app whose loop is gone wants none, and the thread ends with it."""
        if self._stopping:
            return
        try:
            self._post(message)
        except RuntimeError:
            self._stopping = True
