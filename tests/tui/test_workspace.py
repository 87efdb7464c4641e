"""The workspace on its own, without an app and without a screen: what is open, what is edited, what is running."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.message import Message

from tests.tui.fakes import FakeSession
from tpe_core.edit_history import EditHistory
from tpe_core.edits.intervention import Intervention
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, Steps
from tpe_tui.engine.host import EngineHost
from tpe_tui.engine.messages import Answer, Failure, JobUpdate, Waiting
from tpe_tui.keymap import load_keymap
from tpe_tui.workspace import CallbackJob, Change, Workspace


class Heard:
    """What a workspace tells."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.failures: list[tuple[str, Failure, str]] = []

    def failed(self, title: str, failure: Failure, advice: str) -> None:
        self.failures.append((title, failure, advice))


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def posted() -> queue.Queue[Message]:
    return queue.Queue()


@pytest.fixture
def workspace(tmp_path: Path, heard: Heard, posted: queue.Queue[Message]) -> Iterator[Workspace]:
    host = EngineHost(posted.put)
    keymap = load_keymap(tmp_path / "keys.toml")
    changed, failed = heard.changes.append, heard.failed
    yield Workspace(RunOptions(), host, keymap, clock=lambda: 0.0, changed=changed, failed=failed)
    host.stop()


def history_of(session: FakeSession) -> EditHistory:
    info = session.table.info
    return EditHistory(prompt="a prompt", hidden_size=info.hidden_size, vocab_rows=info.vocab_rows)


def open_in(workspace: Workspace, session: FakeSession) -> bool:
    return workspace.open(session, history_of(session))


def steps(n: int) -> Steps[str]:
    for done in range(n):
        yield Progress("counting", done, n)
    return "counted"


def job(name: str = "counting", updates: list[JobUpdate] | None = None) -> CallbackJob:
    return CallbackJob(name, lambda: steps(2), ([] if updates is None else updates).append)


# what is edited


def test_an_edit_is_made_told_and_said(workspace: Workspace, heard: Heard) -> None:
    open_in(workspace, FakeSession())
    heard.changes.clear()
    assert workspace.edit(lambda: workspace.history.toggle([3]), "dim 3 pruned")
    assert workspace.history.intervention.pruned == (3,)
    assert workspace.status.text == "dim 3 pruned"
    assert heard.changes.count("edit") == 1


def test_an_edit_that_changes_nothing_is_not_told(workspace: Workspace, heard: Heard) -> None:
    open_in(workspace, FakeSession())
    heard.changes.clear()
    assert not workspace.edit(workspace.history.undo, "undone", "nothing to undo")
    assert workspace.status.text == "nothing to undo"
    assert "edit" not in heard.changes


def test_an_impossible_edit_is_a_sentence(workspace: Workspace, heard: Heard) -> None:
    open_in(workspace, FakeSession(d=64))
    heard.changes.clear()
    assert not workspace.apply(Intervention((64,)), "pruned")
    assert workspace.status.role == "bad"
    assert "64" in workspace.status.text
    assert "edit" not in heard.changes
    assert workspace.history.intervention.is_empty


def test_without_a_model_nothing_is_edited_and_the_way_on_is_said(workspace: Workspace) -> None:
    assert not workspace.edit(lambda: workspace.history.toggle([3]), "dim 3 pruned")
    assert workspace.status.text == "no model is open: o chooses one"
    workspace.opening_failed = True
    assert not workspace.ready()
    assert workspace.status.text == "no model is open; r tries again"
    assert workspace.history.intervention.is_empty


# what is open


def test_the_same_model_keeps_its_edits_and_another_begins_with_none(workspace: Workspace, heard: Heard) -> None:
    assert open_in(workspace, FakeSession(name="first"))
    workspace.apply(Intervention((1, 2)), "")
    assert not open_in(workspace, FakeSession(name="first"))
    assert workspace.history.intervention.pruned == (1, 2)
    assert open_in(workspace, FakeSession(name="second"))
    assert workspace.history.intervention.is_empty
    assert heard.changes.count("session") == 3


def test_a_model_that_was_left_has_its_mask_and_its_undo_again(workspace: Workspace) -> None:
    open_in(workspace, FakeSession(name="first"))
    workspace.apply(Intervention((1,)), "")
    workspace.apply(Intervention((1, 2)), "")
    open_in(workspace, FakeSession(name="second"))
    open_in(workspace, FakeSession(name="first"))
    assert workspace.history.intervention.pruned == (1, 2)
    assert workspace.history.undo_depth == (2, 0)


def test_leaving_would_lose_edits_of_every_model_and_the_running_job(workspace: Workspace) -> None:
    assert workspace.losses() == []
    open_in(workspace, FakeSession(name="first"))
    workspace.apply(Intervention((1,)), "")
    open_in(workspace, FakeSession(name="second"))
    workspace.run(job())
    running = "A job is running (counting) and would be stopped."
    assert workspace.losses() == ["The edit of first (1 pruned) is in no file.", running]
    workspace.run(job("sweep"))
    assert workspace.losses()[1:] == [running, "1 more is queued (sweep) and would be dropped."]
    workspace.run(job("refit"))
    assert workspace.losses()[1:] == [running, "2 more are queued (sweep, refit) and would be dropped."]


def test_tokens_are_drawn_in_ascii_where_the_terminal_has_nothing_else(workspace: Workspace) -> None:
    workspace.ascii_only = True
    session = FakeSession()
    open_in(workspace, session)
    assert workspace.table is not None
    assert not all(text.isascii() for text in session.table.tokens)
    assert all(text.isascii() for text in workspace.table.tokens)


# what is running


def listed(workspace: Workspace) -> list[tuple[str, str]]:
    return [(record.name, record.state) for record in workspace.jobs]


def pump(workspace: Workspace, posted: queue.Queue[Message], until: int) -> None:
    """Hand what the engine says to the workspace, up to the end of job `until`."""
    while True:
        message = posted.get(timeout=10)
        assert isinstance(message, JobUpdate)
        workspace.update(message)
        if message.job == until and message.state != "running":
            return


def test_jobs_are_queued_and_run_one_after_the_other(workspace: Workspace, posted: queue.Queue[Message]) -> None:
    ends: list[str] = []

    def named(name: str) -> CallbackJob:
        return CallbackJob(
            name, lambda: steps(2), lambda message: ends.append(name) if message.state == "done" else None
        )

    numbers = [workspace.run(named(name)) for name in ("first", "second", "third")]
    assert workspace.status.text == "third is queued behind second; J lists the jobs"
    assert (workspace.status.label, workspace.status.queued) == ("first", 2)
    assert listed(workspace) == [("first", "running"), ("second", "queued"), ("third", "queued")]
    workspace.engine.start()
    assert numbers[0] is not None
    pump(workspace, posted, numbers[0])
    assert (workspace.status.label, workspace.status.queued) == ("second", 1)
    assert listed(workspace) == [("first", "done"), ("second", "running"), ("third", "queued")]
    assert numbers[2] is not None
    pump(workspace, posted, numbers[2])
    assert ends == ["first", "second", "third"]
    assert (workspace.status.job, workspace.status.queued, workspace.is_busy) == (None, 0, False)


def test_a_job_that_replaces_the_session_is_alone_and_refused_in_one_sentence(workspace: Workspace) -> None:
    workspace.run(job("the sweep"))
    workspace.run(job("the refit"))
    assert workspace.run(job("opening"), alone=True) is None
    said = "a job is running already (the sweep and 1 more); wait or cancel it first, J lists the jobs"
    assert workspace.status.text == said
    for record in list(workspace.jobs):
        workspace.drop(record.number)
    assert workspace.run(job("opening"), alone=True) is not None
    assert workspace.run(job("the sweep")) is None
    assert workspace.status.text == "a job is running already (opening); wait or cancel it first, J lists the jobs"


def test_a_queued_job_is_cancelled_at_once_and_the_running_one_goes_on(
    workspace: Workspace, posted: queue.Queue[Message]
) -> None:
    first, second = workspace.run(job("first")), workspace.run(job("second"))
    assert first is not None
    assert second is not None
    assert workspace.cancel_job(second)
    workspace.engine.start()
    pump(workspace, posted, second)
    pump(workspace, posted, first)
    assert listed(workspace) == [("first", "done"), ("second", "cancelled")]
    assert not workspace.cancel_job(second), "it has ended"


def test_the_key_that_cancels_takes_the_screens_own_job_before_the_running_one(
    workspace: Workspace, posted: queue.Queue[Message]
) -> None:
    first, own = workspace.run(job("first")), workspace.run(job("own"))
    assert own is not None
    workspace.cancel(own)
    pump(workspace, posted, own)
    assert listed(workspace) == [("first", "running"), ("own", "cancelled")]
    workspace.cancel(own)
    assert workspace.status.is_cancelling
    assert workspace.status.job == first


def test_a_job_keeps_its_progress_its_log_and_what_it_came_to(workspace: Workspace) -> None:
    number = workspace.run(CallbackJob("counting", lambda: steps(2), lambda _: "two things"))
    failing, cancelled = workspace.run(job("failing")), workspace.run(job("cancelled"))
    assert number is not None
    assert failing is not None
    assert cancelled is not None
    for stage in ("reading", "counting"):
        workspace.update(JobUpdate(number, "counting", "running", progress=Progress(stage, 1, 2)))
    workspace.update(JobUpdate(number, "counting", "done"))
    workspace.update(JobUpdate(failing, "failing", "failed", failure=Failure("it broke.", "line 3")))
    workspace.update(JobUpdate(cancelled, "cancelled", "running", progress=Progress("counting", 12, 20)))
    workspace.update(JobUpdate(cancelled, "cancelled", "cancelled"))
    assert [record.result for record in workspace.jobs] == ["two things", "it broke.", "after 12 of 20"]
    record = workspace.jobs.find(number)
    assert record is not None
    assert [line for _, line in record.log] == ["queued", "begun", "reading", "counting", "done two things"]


def test_a_job_that_is_started_again_keeps_its_turn(workspace: Workspace, posted: queue.Queue[Message]) -> None:
    text = workspace.run(job("text"))
    workspace.run(job("sweep"))
    again = workspace.run(job("text"), instead_of=text)
    assert [record.name for record in workspace.jobs.active] == ["text", "sweep"]
    assert workspace.status.job == again
    workspace.engine.start()
    assert again is not None
    pump(workspace, posted, again)
    assert listed(workspace) == [("text", "done"), ("sweep", "running")]


def test_what_is_followed_without_end_lets_the_others_pass(workspace: Workspace, posted: queue.Queue[Message]) -> None:
    def endless() -> Steps[None]:
        while True:
            yield Progress("following", 0)

    log = workspace.run(CallbackJob("log", endless, lambda _: None), behind=True)
    assert workspace.status.label == "log"
    sweep = workspace.run(job("sweep"))
    assert workspace.status.label == "sweep"
    assert listed(workspace) == [("log", "queued"), ("sweep", "running")]
    workspace.engine.start()
    assert sweep is not None
    assert log is not None
    pump(workspace, posted, sweep)
    assert workspace.status.label == "log"
    assert workspace.cancel_job()
    pump(workspace, posted, log)
    assert listed(workspace) == [("log", "cancelled"), ("sweep", "done")]


def test_what_nobody_asked_for_is_listed_while_it_is_there_and_when_it_failed(workspace: Workspace) -> None:
    quiet, other = workspace.queue(job("who pays")), workspace.queue(job("who pays"))
    assert [name for name, _ in listed(workspace)] == ["who pays", "who pays"]
    assert not workspace.is_busy
    workspace.update(JobUpdate(quiet, "who pays", "done"))
    workspace.update(JobUpdate(other, "who pays", "failed", failure=Failure("it broke.")))
    assert listed(workspace) == [("who pays", "failed")]


def test_what_an_ended_job_showed_is_let_go_with_its_model(workspace: Workspace) -> None:
    open_in(workspace, FakeSession(name="first"))
    number = workspace.run(job(), screen="run.sweep", subject="its result")
    assert number is not None
    workspace.update(JobUpdate(number, "counting", "done"))
    open_in(workspace, FakeSession(name="first", seed=1))
    assert [record.subject for record in workspace.jobs] == ["its result"], "the same model, detected again"
    open_in(workspace, FakeSession(name="second"))
    assert [record.subject for record in workspace.jobs] == [None]


def test_a_job_hears_its_own_updates_after_the_status_has_shown_them(workspace: Workspace, heard: Heard) -> None:
    seen: list[Any] = []

    def update(message: JobUpdate) -> None:
        seen.append((message.state, workspace.status.job, workspace.status.progress))

    number = workspace.run(CallbackJob("counting", lambda: steps(2), update))
    assert number is not None
    step = Progress("counting", 1, 2)
    workspace.update(JobUpdate(number + 1, "another", "running", progress=step))
    workspace.update(JobUpdate(number, "counting", "running", progress=step))
    workspace.update(JobUpdate(number, "counting", "done", value="counted"))
    workspace.update(JobUpdate(number, "counting", "done", value="again"))
    assert seen == [("running", number, step), ("done", None, step)]
    assert heard.changes.count("job") == 3, "queued, a step, the end"


def test_two_jobs_of_one_name_are_told_apart(workspace: Workspace) -> None:
    first: list[JobUpdate] = []
    second: list[JobUpdate] = []
    one, other = workspace.queue(job(updates=first)), workspace.queue(job(updates=second))
    workspace.update(JobUpdate(other, "counting", "done"))
    workspace.update(JobUpdate(one, "counting", "cancelled"))
    assert ([message.state for message in first], [message.state for message in second]) == (["cancelled"], ["done"])


def test_a_job_in_place_of_another_is_the_only_one_that_is_heard(workspace: Workspace) -> None:
    dropped: list[JobUpdate] = []
    taken: list[JobUpdate] = []
    first = workspace.run(job(updates=dropped))
    second = workspace.run(job(updates=taken), instead_of=first)
    assert first is not None
    assert second is not None
    workspace.update(JobUpdate(first, "counting", "cancelled"))
    assert (dropped, workspace.status.job) == ([], second)
    workspace.update(JobUpdate(second, "counting", "done"))
    assert [message.state for message in taken] == ["done"]
    assert workspace.status.job is None


def test_a_job_behind_the_others_is_shown_as_such_and_hinders_none(workspace: Workspace) -> None:
    number = workspace.run_behind(job("forecast"))
    assert workspace.status.background == Progress("forecast", 0)
    assert workspace.run(job()) is not None
    workspace.update(JobUpdate(number, "forecast", "running", progress=Progress("reading", 1, 4)))
    assert workspace.status.background == Progress("forecast", 1, 4)
    workspace.update(JobUpdate(number, "forecast", "done"))
    assert workspace.status.background is None
    assert workspace.is_busy


def test_cancelling_takes_the_running_job_first_then_the_one_behind_it(
    workspace: Workspace, posted: queue.Queue[Message]
) -> None:
    behind, front = workspace.run_behind(job("forecast")), workspace.run(job())
    workspace.cancel()
    assert workspace.status.is_cancelling
    workspace.engine.start()
    ended = posted.get(timeout=10)
    assert isinstance(ended, JobUpdate)
    assert (ended.job, ended.state) == (front, "cancelled")
    workspace.update(ended)
    workspace.cancel()
    while isinstance(ended := posted.get(timeout=10), JobUpdate) and ended.state == "running":
        workspace.update(ended)
    assert isinstance(ended, JobUpdate)
    assert ended.job == behind
    workspace.update(ended)
    workspace.cancel()
    assert workspace.status.text == "nothing is running; q leaves"


# what the engine is asked


def answer_to(workspace: Workspace, kind: str, value: object = None, failure: Failure | None = None) -> Answer:
    return Answer(kind, workspace._requests[kind].seq, value, failure)


def test_only_the_answer_to_the_latest_question_of_a_kind_is_handed_on(workspace: Workspace) -> None:
    first: list[Answer] = []
    second: list[Answer] = []
    workspace.ask("evaluate", lambda: 1, first.append)
    late = answer_to(workspace, "evaluate", 1)
    workspace.ask("evaluate", lambda: 2, second.append)
    workspace.answer(late)
    workspace.answer(answer_to(workspace, "evaluate", 2))
    assert (first, [answer.value for answer in second]) == ([], [2])


def test_another_session_wants_no_answers_about_the_one_before(workspace: Workspace) -> None:
    about_session: list[Answer] = []
    about_files: list[Answer] = []
    workspace.ask("evaluate", lambda: 1, about_session.append)
    workspace.ask("models", lambda: 2, about_files.append, of_session=False)
    answers = answer_to(workspace, "evaluate"), answer_to(workspace, "models")
    open_in(workspace, FakeSession())
    for answer in answers:
        workspace.answer(answer)
    assert (about_session, len(about_files)) == ([], 1)


def test_a_prompt_that_takes_long_is_given_up_before_any_job_is_cancelled(workspace: Workspace) -> None:
    told: list[Progress] = []
    heard: list[Answer] = []
    workspace.run(job())
    workspace.ask("evaluate", lambda: 1, heard.append, waiting=told.append)
    answer = answer_to(workspace, "evaluate", failure=Failure("reading was cancelled."))
    workspace.wait(Waiting("evaluate", answer.seq, Progress("reading", 1, 2)))
    assert told == [Progress("reading", 1, 2)]
    workspace.cancel()
    assert not workspace.status.is_cancelling
    workspace.answer(answer)
    assert heard == [answer]
    assert workspace.is_given_up(answer)
    workspace.cancel()
    assert workspace.status.is_cancelling


def test_a_generator_that_fails_while_it_closes_is_told(workspace: Workspace, heard: Heard) -> None:
    workspace.answer(Answer("close", 7, failure=Failure("it broke.")))
    assert heard.failures == [("close failed", Failure("it broke."), "")]
