"""One engine thread for several views: answers go where they were asked, jobs take turns, a model is loaded once."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from copy import copy

import pytest
from textual.message import Message

from tests.tui.fakes import FakeSession
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, Steps, run
from tpe_tui.engine.messages import Answer, JobUpdate
from tpe_tui.engine.shared import SharedEngine, SharedModels, ViewHost


class Inbox:
    """What one view was told."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._changed = threading.Condition()

    def __call__(self, message: Message) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def wait(self, done: Callable[[list[Message]], object]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: done(self.messages), timeout=5), self.messages

    def states(self) -> list[str]:
        return [message.state for message in self.messages if isinstance(message, JobUpdate)]


def counting(steps: int, closed: threading.Event | None = None) -> Callable[[], Steps[int]]:
    """A job of so many steps of a millisecond; `closed` is set once it has ended in whatever way."""

    def start() -> Steps[int]:
        try:
            for step in range(steps):
                time.sleep(0.001)
                yield Progress("counting", step, steps)
        finally:
            if closed is not None:
                closed.set()
        return steps

    return start


@pytest.fixture
def engine() -> Iterator[SharedEngine]:
    engine = SharedEngine()
    yield engine
    engine.stop()


def view(engine: SharedEngine) -> tuple[ViewHost, Inbox]:
    inbox = Inbox()
    return engine.view(inbox), inbox


def test_each_view_is_told_of_its_own_requests_alone_and_by_the_kind_it_asked(engine: SharedEngine) -> None:
    (one, to_one), (other, to_other) = view(engine), view(engine)
    asked = one.latest("token", lambda: "one's"), other.latest("token", lambda: "other's")
    engine.start()
    to_one.wait(lambda messages: len(messages) == 1)
    to_other.wait(lambda messages: len(messages) == 1)
    answers = [message for message in (*to_one.messages, *to_other.messages) if isinstance(message, Answer)]
    assert [(answer.kind, answer.value) for answer in answers] == [("token", "one's"), ("token", "other's")]
    assert tuple(answer.seq for answer in answers) == asked


def test_jobs_of_two_views_take_their_steps_in_turn_and_those_of_one_wait_for_each_other(engine: SharedEngine) -> None:
    (one, to_one), (other, to_other) = view(engine), view(engine)
    taken: list[str] = []

    def steps(name: str):
        def start():
            for step in range(3):
                taken.append(name)
                yield Progress(name, step, 3)

        return start

    one.job("a", steps("a"))
    one.job("b", steps("b"))
    other.job("c", steps("c"))
    engine.start()
    to_one.wait(lambda _: to_one.states().count("done") == 2)
    to_other.wait(lambda _: to_other.states().count("done") == 1)
    assert taken[:6] == ["a", "c", "a", "c", "a", "c"]
    assert taken[6:] == ["b", "b", "b"]
    assert {message.name for message in to_one.messages if isinstance(message, JobUpdate)} == {"a", "b"}


def test_a_background_job_of_one_view_waits_for_what_another_view_waits_for(engine: SharedEngine) -> None:
    (one, to_one), (other, to_other) = view(engine), view(engine)
    order: list[str] = []
    one.job("behind", lambda: (order.append("behind") for _ in range(2)), background=1)
    other.job("front", lambda: (order.append("front") for _ in range(2)))
    engine.start()
    to_one.wait(lambda _: "done" in to_one.states())
    to_other.wait(lambda _: "done" in to_other.states())
    assert order == ["front", "front", "behind", "behind"]


def test_a_view_that_leaves_has_its_jobs_closed_and_the_others_go_on(engine: SharedEngine) -> None:
    (one, to_one), (other, to_other) = view(engine), view(engine)
    closed = threading.Event()
    one.job("long", counting(10_000, closed))
    engine.start()
    to_one.wait(lambda messages: messages)
    assert one.stop()
    other.job("short", counting(2))
    to_other.wait(lambda _: "done" in to_other.states())
    assert closed.wait(5)
    assert engine.alive
    assert not {"done", "cancelled"} & set(to_one.states())


def opener_of(loaded: list[RunOptions]):
    def opener(options: RunOptions):
        loaded.append(options)
        yield Progress("loading", 0, 2)
        yield Progress("loading", 1, 2)
        return FakeSession(vocab=60, d=8)

    return opener


def test_a_model_is_loaded_once_and_every_view_has_a_session_of_its_own() -> None:
    loaded: list[RunOptions] = []
    models = SharedModels(RunOptions(), opener_of(loaded), copy)
    sessions = [run(models.open(RunOptions())) for _ in range(3)]
    assert loaded == [RunOptions()]
    assert len({id(session) for session in sessions}) == 3


def test_two_views_that_open_one_model_at_a_time_wait_for_one_loading() -> None:
    loaded: list[RunOptions] = []
    models = SharedModels(RunOptions(), opener_of(loaded), copy)
    first, second = models.open(RunOptions()), models.open(RunOptions())
    next(first)
    assert next(second).label == "another view opens this model"
    run(first)
    run(second)
    assert len(loaded) == 1


def test_a_loading_that_is_cancelled_leaves_it_to_the_next_view() -> None:
    loaded: list[RunOptions] = []
    models = SharedModels(RunOptions(), opener_of(loaded), copy)
    first, second = models.open(RunOptions()), models.open(RunOptions())
    next(first)
    next(second)
    first.close()
    assert isinstance(run(second), FakeSession)
    assert len(loaded) == 2


def test_another_model_stays_while_a_view_has_it_and_no_longer() -> None:
    loaded: list[RunOptions] = []
    other = RunOptions("other")
    models = SharedModels(RunOptions(), opener_of(loaded), copy)
    session = run(models.open(other))
    again = run(models.open(other))
    assert loaded == [other]
    assert session is not again
    del session, again
    gc.collect()
    run(models.open(other))
    assert loaded == [other, other]
