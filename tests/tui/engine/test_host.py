"""The engine thread: latest wins, jobs between requests, errors as values, an end within its time."""

from __future__ import annotations

import threading
import time
import weakref

import pytest
from textual.message import Message

from tpe_core.errors import CancelledError, TpeError
from tpe_core.pauses import pause
from tpe_core.progress import Progress
from tpe_tui.engine import host as engine_host
from tpe_tui.engine.host import EngineHost, failure_of
from tpe_tui.engine.messages import Answer, JobUpdate, Waiting


class Inbox:
    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.changed = threading.Condition()

    def __call__(self, message: Message) -> None:
        with self.changed:
            self.messages.append(message)
            self.changed.notify_all()

    def wait(self, done) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: done(self.messages), timeout=5), self.messages

    def states(self) -> list[str]:
        return [message.state for message in self.messages if isinstance(message, JobUpdate)]


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def host(inbox: Inbox):
    host = EngineHost(inbox)
    host.start()
    yield host
    host.stop()


def counting(n: int, pause: float = 0.0, closed: list[str] | None = None):
    def steps():
        try:
            for step in range(n):
                time.sleep(pause)
                yield Progress("counting", step, n)
        finally:
            if closed is not None:
                closed.append("closed")
        return n

    return steps


def test_only_the_latest_request_of_a_kind_is_answered(host: EngineHost, inbox: Inbox) -> None:
    gate = threading.Event()
    host.latest("evaluate", gate.wait)
    time.sleep(0.05)
    last = [host.latest("evaluate", lambda value=value: value) for value in range(100)][-1]
    other = host.latest("token", lambda: "token")
    gate.set()
    inbox.wait(lambda messages: len(messages) == 3)
    answers = {message.seq: message.value for message in inbox.messages if isinstance(message, Answer)}
    assert answers[last] == 99
    assert answers[other] == "token"


def long_reading(begun: threading.Event, until: threading.Event):
    """A request that has a pause every few milliseconds."""

    def read() -> str:
        begun.set()
        while not until.is_set():
            pause(Progress("reading 8,192 tokens", 3, 8))
            time.sleep(0.002)
        return "read"

    return read


def test_a_request_that_takes_long_says_how_far_it_is(
    host: EngineHost, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tpe_tui.engine.host.PATIENCE", 0.0)
    begun, end = threading.Event(), threading.Event()
    seq = host.latest("evaluate", long_reading(begun, end))
    inbox.wait(lambda messages: any(isinstance(message, Waiting) for message in messages))
    (first, *_) = [message for message in inbox.messages if isinstance(message, Waiting)]
    assert (first.kind, first.seq, first.progress.label) == ("evaluate", seq, "reading 8,192 tokens")
    end.set()
    inbox.wait(lambda messages: isinstance(messages[-1], Answer))
    assert inbox.messages[-1].value == "read"


@pytest.mark.parametrize("other", [True, False])
def test_a_later_request_ends_one_under_way_only_where_it_is_about_something_else(
    host: EngineHost, inbox: Inbox, other: bool
) -> None:
    begun, end = threading.Event(), threading.Event()
    host.latest("evaluate", long_reading(begun, end), topic="a prompt")
    assert begun.wait(5)
    last = host.latest("evaluate", lambda: "later", topic="another" if other else "a prompt")
    if not other:
        time.sleep(0.05)
        end.set()
    inbox.wait(lambda messages: any(isinstance(m, Answer) and m.seq == last for m in messages))
    assert [m.value for m in inbox.messages if isinstance(m, Answer)] == (["later"] if other else ["read", "later"])


def test_a_request_that_is_given_up_ends_at_its_next_pause_and_says_so(host: EngineHost, inbox: Inbox) -> None:
    begun = threading.Event()
    seq = host.latest("evaluate", long_reading(begun, threading.Event()))
    assert begun.wait(5)
    host.abandon(seq)
    inbox.wait(lambda messages: bool(messages))
    (answer,) = inbox.messages
    assert isinstance(answer, Answer)
    assert answer.failure is not None
    assert answer.failure.sentence == "reading 8,192 tokens was cancelled."


def test_stopping_does_not_wait_for_a_long_request(inbox: Inbox) -> None:
    host, begun = EngineHost(inbox), threading.Event()
    host.start()
    host.latest("evaluate", long_reading(begun, threading.Event()))
    assert begun.wait(5)
    assert host.stop(5)
    assert not inbox.messages


def test_job_steps_and_returns(host: EngineHost, inbox: Inbox) -> None:
    job = host.job("count", counting(3))
    inbox.wait(lambda messages: inbox.states()[-1:] == ["done"])
    assert inbox.states() == ["running"] * 3 + ["done"]
    end = inbox.messages[-1]
    assert isinstance(end, JobUpdate)
    assert (end.job, end.value) == (job, 3)


@pytest.mark.parametrize("asked", [True, False], ids=["by the next answer", "by itself"])
def test_what_answers_have_freed_is_given_back_soon(inbox: Inbox, monkeypatch: pytest.MonkeyPatch, asked: bool) -> None:
    given = threading.Event()
    monkeypatch.setattr(engine_host, "give_back_freed_memory", given.set)
    monkeypatch.setattr(engine_host, "HELD", 1e9)
    host = EngineHost(inbox)
    host.start()
    for number in range(20):
        host.latest("evaluate", lambda: "soon")
        inbox.wait(lambda messages, number=number: len(messages) == number + 1)
    assert not given.is_set(), "not after each: it takes milliseconds"
    monkeypatch.setattr(engine_host, "HELD", 0.0 if asked else 0.02)
    host.latest("evaluate", lambda: "soon")
    assert given.wait(5)
    host.stop()
    given.clear()
    idle = EngineHost(inbox)
    idle.start()
    assert not given.wait(0.1), "nothing was asked of it"
    idle.stop()


@pytest.mark.parametrize("end", ["done", "cancelled", "failed"])
def test_what_a_job_held_is_given_back_when_it_has_ended(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    class Texts:
        """What a study reads."""

    held: list[weakref.ref[Texts]] = []
    found: list[object] = []

    def steps():
        texts = Texts()
        held.append(weakref.ref(texts))
        yield Progress("reading", 0)
        if end == "failed":
            raise TpeError("it broke.")
        while end == "cancelled":
            yield Progress("reading", 1)
        return len(repr(texts))

    monkeypatch.setattr(engine_host, "give_back_freed_memory", lambda: found.append(held[0]()))
    host = EngineHost(inbox)
    host.start()
    job = host.job("read", steps)
    inbox.wait(lambda messages: bool(messages))
    if end == "cancelled":
        host.cancel(job)
    inbox.wait(lambda messages: inbox.states()[-1:] == [end])
    answered = threading.Event()
    host.latest("next", answered.set)
    assert answered.wait(5)
    assert found == [None], "it is free by then"
    host.stop()


def test_requests_run_between_the_steps_of_a_job(host: EngineHost, inbox: Inbox) -> None:
    host.job("count", counting(40, 0.01))
    inbox.wait(lambda messages: bool(messages))
    host.latest("evaluate", lambda: "soon")
    inbox.wait(lambda messages: any(isinstance(message, Answer) for message in messages))
    assert "done" not in inbox.states()


def test_a_background_job_waits_for_every_other_one(host: EngineHost, inbox: Inbox) -> None:
    host.job("behind", counting(20, 0.01), background=True)
    inbox.wait(lambda messages: bool(messages))
    host.job("count", counting(3))
    inbox.wait(lambda messages: inbox.states().count("done") == 2)
    names = [message.name for message in inbox.messages if isinstance(message, JobUpdate)]
    first = names.index("count")
    assert 0 < first < len(names) - 4
    assert names[first : first + 4] == ["count"] * 4


def test_cancelling_closes_the_generator_within_one_step(host: EngineHost, inbox: Inbox) -> None:
    closed: list[str] = []
    job = host.job("count", counting(1000, 0.01, closed))
    inbox.wait(lambda messages: len(messages) >= 2)
    host.cancel(job)
    seen = len(inbox.messages)
    inbox.wait(lambda messages: inbox.states()[-1] == "cancelled")
    assert closed == ["closed"]
    assert len(inbox.messages) <= seen + 2


def test_a_job_cancelled_before_its_first_step_never_starts(host: EngineHost, inbox: Inbox) -> None:
    gate = threading.Event()
    host.latest("hold", gate.wait)
    time.sleep(0.05)
    started: list[int] = []

    def steps():
        started.append(1)
        yield Progress("never", 0)

    host.cancel(host.job("never", steps))
    gate.set()
    inbox.wait(lambda messages: inbox.states() == ["cancelled"])
    assert not started


def test_errors_travel_as_values_and_the_thread_goes_on(host: EngineHost, inbox: Inbox) -> None:
    def refuse() -> None:
        raise TpeError("the sentence.")

    def crash() -> None:
        raise ZeroDivisionError("oops")

    def leave() -> None:
        raise SystemExit(3)

    for kind, fn in (("a", refuse), ("b", crash), ("c", leave), ("d", lambda: 4)):
        host.latest(kind, fn)
    inbox.wait(lambda messages: len(messages) == 4)
    failures = {message.kind: message.failure for message in inbox.messages if isinstance(message, Answer)}
    assert failures["a"] is not None
    assert failures["a"].sentence == "the sentence."
    assert failures["b"] is not None
    assert "ZeroDivisionError: oops" in failures["b"].sentence
    assert "Traceback" in failures["b"].report
    assert failures["c"] is not None
    assert failures["d"] is None


def test_failing_and_self_cancelling_jobs_end_as_such(host: EngineHost, inbox: Inbox) -> None:
    def fails():
        yield Progress("one", 0)
        raise TpeError("broken text.")

    def gives_up():
        yield Progress("one", 0)
        raise CancelledError("enough.")

    host.job("fails", fails)
    host.job("gives up", gives_up)
    host.job("count", counting(1))
    inbox.wait(lambda messages: inbox.states()[-1:] == ["done"])
    assert inbox.states() == ["running", "failed", "running", "cancelled", "running", "done"]


def test_stop_closes_jobs_and_is_quiet_afterwards(inbox: Inbox) -> None:
    closed: list[str] = []
    host = EngineHost(inbox)
    host.start()
    host.job("count", counting(10_000, 0.005, closed))
    inbox.wait(lambda messages: len(messages) >= 2)
    assert host.stop()
    assert not host.alive
    assert closed == ["closed"]
    seen = len(inbox.messages)
    time.sleep(0.05)
    assert len(inbox.messages) == seen


def test_stop_waits_no_longer_than_asked(inbox: Inbox) -> None:
    gate = threading.Event()
    host = EngineHost(inbox)
    host.start()
    host.latest("stuck", gate.wait)
    time.sleep(0.05)
    began = time.monotonic()
    assert not host.stop(timeout=0.2)
    assert time.monotonic() - began < 1.5
    gate.set()


def test_stop_before_start_is_fine(inbox: Inbox) -> None:
    assert EngineHost(inbox).stop()


def test_a_loop_that_is_gone_ends_the_thread() -> None:
    def gone(message: Message) -> None:
        raise RuntimeError("Event loop is closed")

    host = EngineHost(gone)
    host.start()
    host.latest("evaluate", lambda: 1)
    for _ in range(100):
        if not host.alive:
            break
        time.sleep(0.02)
    assert not host.alive


def test_the_cause_of_an_engine_error_is_worth_copying() -> None:
    try:
        try:
            raise KeyError("wte")
        except KeyError as error:
            raise TpeError("no head found.") from error
    except TpeError as error:
        failure = failure_of(error)
    assert failure.sentence == "no head found."
    assert "KeyError" in failure.details
    assert failure_of(TpeError("plain.")).details == ""


def pausing(gate: threading.Event, started: threading.Event, n: int = 1000):
    """A job of one long step, with pauses in it until `gate` is set."""

    def steps():
        started.set()
        for _ in range(n):
            if gate.wait(0.005):
                break
            pause()
        yield Progress("one long step", 1, 1)
        return "done"

    return steps


def test_a_request_is_answered_at_a_pause_of_a_long_step(host: EngineHost, inbox: Inbox) -> None:
    gate, started = threading.Event(), threading.Event()
    host.job("long", pausing(gate, started))
    assert started.wait(5)
    seq = host.latest("evaluate", lambda: "answer")
    inbox.wait(lambda messages: any(isinstance(message, Answer) and message.seq == seq for message in messages))
    assert inbox.states() == []  # the step is still under way
    gate.set()
    inbox.wait(lambda messages: inbox.states()[-1:] == ["done"])


def test_cancelling_ends_a_long_step_at_its_next_pause(host: EngineHost, inbox: Inbox) -> None:
    gate, started = threading.Event(), threading.Event()
    job = host.job("long", pausing(gate, started))
    assert started.wait(5)
    host.cancel(job)
    inbox.wait(lambda messages: inbox.states() == ["cancelled"])
    host.latest("evaluate", lambda: "still there")
    inbox.wait(lambda messages: isinstance(messages[-1], Answer))


def test_an_answer_that_fails_at_a_pause_leaves_the_job_alone(host: EngineHost, inbox: Inbox) -> None:
    gate, started = threading.Event(), threading.Event()
    host.job("long", pausing(gate, started))
    assert started.wait(5)

    def fails() -> None:
        raise TpeError("no such prompt")

    host.latest("evaluate", fails)
    inbox.wait(lambda messages: bool(messages) and isinstance(messages[-1], Answer))
    gate.set()
    inbox.wait(lambda messages: inbox.states()[-1:] == ["done"])


def test_a_jobs_pauses_wait_for_no_lock_while_nothing_is_asked(host: EngineHost, inbox: Inbox) -> None:
    paused = threading.Semaphore(0)
    gate = threading.Event()

    def steps():
        while not gate.is_set():
            pause()
            paused.release()
        yield Progress("one long step", 1, 1)

    host.job("sweep", steps)
    assert paused.acquire(timeout=5)
    with host._wake:  # as the interface holds it while it asks
        for _ in range(50):
            assert paused.acquire(timeout=5)
    gate.set()
    inbox.wait(lambda _: inbox.states()[-1:] == ["done"])


def computing(pieces: list[int]):
    def steps():
        for piece in range(1000):
            pieces.append(piece)
            time.sleep(0.001)
            pause()
        yield Progress("computing", 1000)

    return steps


@pytest.fixture
def resting(host: EngineHost, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[int]]:
    """A job that has given way for a minute at its first pause, and how often it was at work."""
    pieces: list[int] = []
    monkeypatch.setattr(engine_host, "RESTS", 1e9)
    host.give_way(60.0)
    job = host.job("computing", computing(pieces))
    while not pieces:
        time.sleep(0.001)
    return job, pieces


def test_a_job_that_gives_way_answers_what_is_asked(
    host: EngineHost, inbox: Inbox, resting: tuple[int, list[int]]
) -> None:
    host.latest("question", lambda: len(resting[1]))
    inbox.wait(lambda messages: any(isinstance(message, Answer) and message.value == 1 for message in messages))


def test_a_job_that_gives_way_ends_when_it_is_cancelled(
    host: EngineHost, inbox: Inbox, resting: tuple[int, list[int]]
) -> None:
    host.cancel(resting[0])
    inbox.wait(lambda messages: "cancelled" in inbox.states())
    assert len(resting[1]) == 1


def test_a_job_that_gives_way_keeps_nobody_from_leaving(host: EngineHost, resting: tuple[int, list[int]]) -> None:
    assert host.stop()


def test_a_job_gives_way_for_as_long_as_it_was_told(host: EngineHost, inbox: Inbox) -> None:
    host.give_way(0.02)
    host.job("computing", computing([]))
    inbox.wait(lambda messages: "done" in inbox.states())
