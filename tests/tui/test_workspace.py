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
    assert workspace.losses() == [
        "The edit of first (1 pruned) is in no file.",
        "A job is running (counting) and would be stopped.",
    ]


def test_tokens_are_drawn_in_ascii_where_the_terminal_has_nothing_else(workspace: Workspace) -> None:
    workspace.ascii_only = True
    session = FakeSession()
    open_in(workspace, session)
    assert workspace.table is not None
    assert not all(text.isascii() for text in session.table.tokens)
    assert all(text.isascii() for text in workspace.table.tokens)


# what is running


def test_a_second_job_is_refused_in_one_sentence(workspace: Workspace) -> None:
    assert workspace.run(job()) is not None
    assert workspace.run(job("another")) is None
    assert workspace.status.text == "a job is running already; cancel it first"
    assert workspace.status.label == "counting"


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
