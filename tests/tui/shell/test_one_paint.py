"""What is painted behind an edit: with its answer in one frame, and without it where the answer takes longer."""

from __future__ import annotations

import threading

import pytest

from tests.tui.fakes import FakeSession
from tests.tui.helpers import Start, answered, lines, until
from tpe_tui.app import TpeApp


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """Of every frame that is painted: how many dimensions are pruned, and whether an answer is awaited."""
    seen: list[tuple[int, bool]] = []
    painted = TpeApp._display

    def display(app: TpeApp, *args: object) -> None:
        if not app._batch_count and app._inspector is not None and app.workspace.session is not None:
            seen.append((int(app.inspector.dims.pruned.sum()), app.inspector.tokens.pending))
        painted(app, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(TpeApp, "_display", display)
    return seen


async def test_an_edit_and_a_prompt_answer_are_one_frame(
    start: Start, frames: list[tuple[int, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tpe_tui.shell.one_paint.HOLD_SECONDS", 30.0)  # however busy this machine is
    async with start(FakeSession()) as (app, pilot):
        await pilot.press("space", "j", "space")
        await answered(app, pilot)
        await until(pilot, lambda: (2, False) in frames)
        assert not [frame for frame in frames if frame[0] and frame[1]]


async def test_an_edit_is_painted_before_an_answer_that_takes_longer(
    start: Start, frames: list[tuple[int, bool]]
) -> None:
    session, evaluate, go_on = FakeSession(), FakeSession.evaluate, threading.Event()
    async with start(session) as (app, pilot):
        session.evaluate = lambda *args, **more: (go_on.wait(20), evaluate(session, *args, **more))[1]
        await pilot.press("space")
        await until(pilot, lambda: (1, True) in frames)
        go_on.set()
        await answered(app, pilot)
        await until(pilot, lambda: (1, False) in frames)


async def test_an_edit_undone_before_its_answer_leaves_no_row_of_its_own(start: Start) -> None:
    session, evaluate, go_on = FakeSession(), FakeSession.evaluate, threading.Event()
    async with start(session) as (app, pilot):
        tokens, before = app.inspector.tokens, lines(app.inspector.tokens)
        rare = next(i for i in range(500) if i not in {row.token_id for row in tokens.rows})
        session.evaluate = lambda *args, **more: (go_on.wait(20), evaluate(session, *args, **more))[1]
        app.workspace.edit(lambda: app.workspace.history.steer(rare, 2.0))
        await until(pilot, lambda: any(row.pinned for row in tokens.rows))
        await pilot.press("u")
        await pilot.pause()
        assert lines(tokens) == before
        go_on.set()
