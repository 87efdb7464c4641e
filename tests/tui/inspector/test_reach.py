"""What the inspector says of tokens that an edit makes unreachable: before it is in force, and once it is."""

from __future__ import annotations

import threading

import pytest
from textual.widgets import Input, Static

from tests.tui.fakes import FakeSession
from tests.tui.helpers import Start, lines, until
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import NumericalError
from tpe_core.progress import Progress, Steps
from tpe_core.snapshots import LostTokens
from tpe_tui.app import TpeApp


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tpe_tui.inspector.reach.REST_SECONDS", 0.01)


def sparing(dimensions: int) -> FakeSession:
    """A session in which pruning more than so many dimensions makes tokens 5, 6, 7 … unreachable, one for each."""
    session = FakeSession()
    session.spared = dimensions
    return session


def outcome(app: TpeApp) -> str:
    below = app.screen.query("#ask-outcome")
    return str(below.first(Static).content) if below else "no question"


def status(app: TpeApp) -> str:
    return lines(app.inspector.status)[0]


async def test_a_question_says_what_its_answer_would_make_unreachable_before_it_is_given(start: Start) -> None:
    async with start(sparing(20), size=(160, 48)) as (app, pilot):
        tokens = app.workspace.read_table.tokens
        await pilot.press("t")
        await until(pilot, lambda: outcome(app) == "every token stays reachable")
        app.screen.query_one(Input).value = "50%"
        await until(pilot, lambda: outcome(app).startswith("no hidden state would make 12 tokens the top one any more"))
        assert f"{tokens[5]}, {tokens[6]}, {tokens[7]}, {tokens[8]} and 8 more" in outcome(app)
        assert app.screen.query_one("#ask-outcome").has_class("-warning")
        assert app.workspace.history.intervention.is_empty
        app.screen.query_one(Input).value = "many"
        await until(pilot, lambda: "between 0 and 1" in outcome(app))
        assert not app.screen.query_one("#ask-outcome").has_class("-warning")


async def test_once_in_force_the_status_the_message_and_the_token_say_so_until_it_is_undone(start: Start) -> None:
    session = sparing(1)
    async with start(session, size=(160, 48)) as (app, pilot):
        tokens = app.workspace.read_table.tokens
        app.workspace.edit(lambda: app.workspace.history.toggle([3, 4]))
        await until(pilot, lambda: "1 unreachable" in status(app))
        assert f"make 1 token the top one any more: {tokens[5]}; u undoes" in app.workspace.status.text
        app.inspector.tokens.selected = 5
        app.inspector.tokens.rebuild()
        await pilot.press("2")
        await until(pilot, lambda: "no hidden state makes it the top token" in "".join(lines(app.inspector.detail)))
        asked = session.calls.count("lost_tokens")
        await pilot.press("u")
        await until(pilot, lambda: "unreachable" not in status(app))
        await pilot.press("U")
        await until(pilot, lambda: "1 unreachable" in status(app))
        assert session.calls.count("lost_tokens") <= asked + 1, "what is known is not asked again"


async def test_the_detail_of_a_dimension_says_what_pruning_it_would_do(start: Start) -> None:
    async with start(sparing(1), size=(160, 48)) as (app, pilot):
        tokens = app.workspace.read_table.tokens
        await pilot.press("space", "j")
        shown = f"pruning it, no hidden state makes these the top token: {tokens[5]}"
        await until(pilot, lambda: shown in " ".join("".join(lines(app.inspector.detail)).split()))
        assert "unreachable" not in status(app)


async def test_an_edit_on_the_way_ends_the_look_at_the_one_before(start: Start) -> None:
    session, gate, seen = sparing(0), threading.Event(), []
    plain = session.lost_tokens

    def slow(edit: Intervention) -> Steps[LostTokens]:
        seen.append(len(edit.pruned))
        while len(edit.pruned) == 1 and not gate.is_set():
            yield Progress("tokens that stay reachable", 0)
            gate.wait(0.01)
        return (yield from plain(edit))

    session.lost_tokens = slow
    async with start(session) as (app, pilot):
        await pilot.press("space")
        await until(pilot, lambda: seen == [1])
        await pilot.press("j", "space")
        await until(pilot, lambda: app.inspector.reach.of(app.workspace.history.intervention) is not None)
        await until(pilot, lambda: "2 unreachable" in status(app))
        gate.set()


async def test_a_look_that_fails_is_told_among_the_jobs_and_the_question_says_nothing_of_it(start: Start) -> None:
    session = FakeSession()

    def failing(edit: Intervention) -> Steps[LostTokens]:
        raise NumericalError("rows that are not finite")
        yield

    session.lost_tokens = failing
    async with start(session) as (app, pilot):
        await pilot.press("t")
        await until(pilot, lambda: any(record.failure is not None for record in app.workspace.jobs))
        await until(pilot, lambda: outcome(app) == "")
        await pilot.press("enter")
        assert len(app.workspace.history.intervention.pruned) == 19
