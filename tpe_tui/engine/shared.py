"""One engine thread and one loaded model behind several apps, as `tpe serve` has them: a view for each app.

Requests of every view are answered between the steps of jobs, as with one; the jobs of different views take their
steps in turn. What is loaded is shared: the model and its analysis; prompts, edits and sweeps are each view's own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from textual.message import Message

from tpe_core.options import RunOptions
from tpe_core.progress import Progress, Steps
from tpe_tui.engine.host import EngineHost, open_live
from tpe_tui.engine.messages import Answer, JobUpdate, Waiting
from tpe_tui.engine.session import Opener, Session

if TYPE_CHECKING:
    from tpe_tui.engine.host import _Job

__all__ = ["SharedEngine", "SharedModels", "ViewHost"]

Post = Callable[[Message], object]


class SharedEngine:
    """One engine thread; `view` makes what an app takes in the place of an `EngineHost` of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._views: dict[int, Post] = {}
        self._owners: dict[int, int] = {}  # by job: the number of its view
        self._made = 0
        self._host = _TurnHost(self._deliver, self._owners)

    def start(self) -> None:
        """Start the thread."""
        self._host.start()

    @property
    def alive(self) -> bool:
        """Whether the engine thread is running."""
        return self._host.alive

    def stop(self) -> bool:
        """Ask the thread to end; whether it did in time."""
        return self._host.stop()

    def view(self, post: Post) -> ViewHost:
        """A host for one app, whose `post` is told of the app's own requests and jobs."""
        with self._lock:
            self._made += 1
            self._views[self._made] = post
            return ViewHost(self, self._made)

    def ask(self, view: int, kind: str, fn: Callable[[], object], topic: object) -> int:
        """A request of a view: see `EngineHost.latest`."""
        return self._host.latest(f"{view}:{kind}", fn, topic)

    def abandon(self, seq: int) -> None:
        """End a request: see `EngineHost.abandon`."""
        self._host.abandon(seq)

    def queue(self, view: int, name: str, start: Callable[[], Steps[Any]], background: int, *, first: bool) -> int:
        """A job of a view: see `EngineHost.job`. It is `first` among the view's own."""
        with self._lock:  # nothing is told of it before its owner is known
            number = self._host.job(name, start, background, first=first)
            self._owners[number] = view
        return number

    def cancel(self, job: int) -> None:
        """Close a job: see `EngineHost.cancel`."""
        self._host.cancel(job)

    def give_way(self, seconds: float) -> None:
        """Let the jobs of all views compute less: see `EngineHost.give_way`."""
        self._host.give_way(seconds)

    def leave(self, view: int) -> None:
        """Forget a view: its jobs are closed, its requests are answered to nobody."""
        with self._lock:
            self._views.pop(view, None)
            jobs = [job for job, owner in self._owners.items() if owner == view]
        for job in jobs:
            self._host.cancel(job)

    def _deliver(self, message: Message) -> None:
        """Called on the engine thread: hand a message to the view that it is for."""
        with self._lock:
            if isinstance(message, JobUpdate):
                view = self._owners.get(message.job, 0)
                if message.state != "running":
                    self._owners.pop(message.job, None)
            elif isinstance(message, Answer | Waiting) and ":" in message.kind:
                number, _, message.kind = message.kind.partition(":")
                view = int(number)
            else:  # a job that could not be closed: its view is gone
                return
            post = self._views.get(view)
        if post is not None:
            with suppress(RuntimeError):  # an app whose loop is gone wants nothing
                post(message)


class _TurnHost(EngineHost):
    """An engine whose jobs take their steps in turn, view by view; those of one view run one after the other."""

    def __init__(self, post: Post, owners: dict[int, int]) -> None:
        super().__init__(post)
        self._owner_of = owners
        self._turns: dict[int, int] = {}  # by view: when it had its last step
        self._turn = 0

    def _next_job(self) -> _Job | None:
        """The next job of the view that has waited longest; the lock is held."""
        firsts: dict[int, _Job] = {}
        for job in sorted(self._jobs, key=lambda job: (job.id not in self._cancelled, job.background)):
            firsts.setdefault(self._owner_of.get(job.id, 0), job)
        if not firsts:
            return None
        view = min(
            firsts,
            key=lambda view: (
                firsts[view].id not in self._cancelled,
                firsts[view].background,
                self._turns.get(view, 0),
            ),
        )
        self._turn += 1
        self._turns[view] = self._turn
        return firsts[view]


class ViewHost(EngineHost):
    """One app's part of a shared engine."""

    def __init__(self, shared: SharedEngine, view: int) -> None:
        """The shared engine has a thread: none is made here."""
        self._shared = shared
        self._view = view

    @property
    def alive(self) -> bool:
        """Whether the shared engine thread is running."""
        return self._shared.alive

    def start(self) -> None:
        """The shared thread runs already."""

    def latest(self, kind: str, fn: Callable[[], object], topic: object = None) -> int:
        """Ask for `fn()`: see `EngineHost.latest`."""
        return self._shared.ask(self._view, kind, fn, topic)

    def abandon(self, seq: int) -> None:
        """End a request at its next pause."""
        self._shared.abandon(seq)

    def job(self, name: str, start: Callable[[], Steps[Any]], background: int = 0, *, first: bool = False) -> int:
        """Queue a job: see `EngineHost.job`."""
        return self._shared.queue(self._view, name, start, background, first=first)

    def cancel(self, job: int) -> None:
        """Close a job's generator after the step it is in."""
        self._shared.cancel(job)

    def give_way(self, seconds: float) -> None:
        """Let jobs compute for a quarter of the time only, for so long."""
        self._shared.give_way(seconds)

    def stop(self, timeout: float = 0.0) -> bool:
        """Leave the shared engine, which goes on for the other views."""
        self._shared.leave(self._view)
        return True


class SharedModels:
    """Opens each model once: `open` is an `Opener` for every view, called on the engine thread only.

    What was opened stays while a view has it; that of `kept` options stays in any case. `opener` and `beside` make the
    first session of a model and a further one on the same loaded model.
    """

    def __init__(
        self, kept: RunOptions, opener: Opener = open_live, beside: Callable[[Session], Session] | None = None
    ) -> None:
        self._kept_options = kept
        self._opener = opener
        self._beside = _beside if beside is None else beside
        self._kept: Session | None = None
        self._loaded: WeakValueDictionary[RunOptions, Session] = WeakValueDictionary()  # nobody edits on these
        self._below: WeakKeyDictionary[Session, Session] = WeakKeyDictionary()  # by view's session: what it is beside
        self._opening: set[RunOptions] = set()

    def open(self, options: RunOptions) -> Steps[Session]:
        """A job: a session of the view's own on the model of `options`, which is loaded where it is not yet."""
        while options in self._opening:
            yield Progress("another view opens this model", 0)
        loaded = self._loaded.get(options)
        if loaded is None:
            self._opening.add(options)
            try:
                loaded = yield from self._opener(options)
            finally:
                self._opening.discard(options)
            self._loaded[options] = loaded
            if options == self._kept_options:
                self._kept = loaded
        session = self._beside(loaded)
        self._below[session] = loaded
        return session


def _beside(session: Session) -> Session:
    """A session without an edit on the same loaded model and analysis."""
    from tpe_core.session import LiveSession

    if not isinstance(session, LiveSession):
        raise TypeError(f"{type(session).__name__} is no session of the engine")
    return LiveSession(session.analysis, session.options)
