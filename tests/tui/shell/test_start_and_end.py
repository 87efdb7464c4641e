"""Starting, failing, cancelling, running again, leaving; and what importing the app costs."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from textual.widgets import Input

from tests.tui.fakes import FakeSession, failing, opening
from tests.tui.helpers import Start, answered, until
from tpe_core.progress import Progress
from tpe_core.snapshots import TokenDetail
from tpe_tui.dialogs.error import ErrorScreen


def test_importing_the_app_imports_nothing_heavy() -> None:
    code = (
        "import sys, tpe_tui.app\n"
        "heavy = {'torch', 'transformers', 'scipy', 'sklearn', 'statsmodels', 'pydantic', 'tpe_core.session'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_the_screen_stands_before_the_engine_starts(start: Start) -> None:
    gate = threading.Event()
    async with start(opener=opening(FakeSession(), wait=gate.wait), ready=False) as (app, pilot):
        await until(pilot, lambda: app.workspace.status.job is not None)
        assert app.inspector.dims.size.area > 0
        assert "opening" in "".join(text for text, _ in app.inspector.status.line(0, 80)[0])
        await pilot.press("space", "j", "t", "2", "]", "/", "y", "e", "H", "p", "s", "S", "b", "u", "c")
        assert app.screen is app.inspector
        gate.set()
        await until(pilot, lambda: app.workspace.session is not None)
        assert app.workspace.history.intervention.is_empty


async def test_a_failing_open_is_a_modal_and_leaving_says_1(start: Start) -> None:
    async with start(opener=failing(), ready=False) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, ErrorScreen))
        await pilot.press("y")
        assert app.clipboard == "no model is called 'nope': give a hub id, a folder, or demo."
        await pilot.press("escape", "space", "j", "3", "z", "q")
        await pilot.pause()
    assert app.return_value == 1


async def test_a_screen_that_comes_by_itself_holds_up_no_key(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layout that waited for the screen below it, which is covered and never refreshed, would wait until the end."""
    monkeypatch.setattr("tpe_tui.shell.input_order.REFRESH", 60.0)
    async with start(opener=failing(), ready=False) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, ErrorScreen))
        await pilot.press("y")
        await until(pilot, lambda: app.clipboard, 5)


async def test_a_failed_open_can_be_tried_again(start: Start) -> None:
    openers = [failing(), opening(FakeSession())]
    async with start(opener=lambda options: openers.pop(0)(options), ready=False) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, ErrorScreen))
        await pilot.press("escape", "r")
        await until(pilot, lambda: app.workspace.session is not None)
        await answered(app, pilot)
        await pilot.press("q")
    assert app.return_value == 0


@pytest.mark.parametrize("key", ["x", "ctrl+c"])
async def test_loading_can_be_cancelled(start: Start, key: str) -> None:
    pause = threading.Event()
    steps = opening(FakeSession(), steps=10_000, wait=lambda: pause.wait(0.01))
    async with start(opener=steps, ready=False) as (app, pilot):
        await until(pilot, lambda: app.workspace.status.progress is not None and app.workspace.status.progress.done > 2)
        await pilot.press(key)
        await until(pilot, lambda: app.workspace.status.job is None)
        assert "cancelled" in app.workspace.status.text
        assert app.workspace.session is None
        await pilot.press(key)
        assert "nothing is running" in app.workspace.status.text


async def test_a_rerun_keeps_the_edit_and_the_model(start: Start) -> None:
    first, second = FakeSession(seed=0), FakeSession(seed=1)

    def again():
        yield Progress("detection", 0, 1)
        return second

    first.again = again
    async with start(first) as (app, pilot):
        await pilot.press("space")
        edit = app.workspace.history.intervention
        await pilot.press("r")
        await until(pilot, lambda: app.workspace.session is second)
        await answered(app, pilot)
        assert app.workspace.history.intervention == edit
        _, expected = second.probabilities(second.default_prompt, edit)
        np.testing.assert_allclose(app.inspector.tokens.answer.now, expected[app.inspector.tokens.answer.ids])
        assert first.calls.count("detect_again") == 1  # and no second model was opened


async def test_keys_work_while_a_job_runs(start: Start) -> None:
    pause = threading.Event()
    session = FakeSession()

    def again():
        for step in range(2000):
            pause.wait(0.005)
            yield Progress("detection", step, 2000)
        return session

    session.again = again
    async with start(session) as (app, pilot):
        await pilot.press("r", "space")
        await answered(app, pilot)
        assert app.workspace.status.job is not None
        await pilot.press("r")
        assert app.workspace.status.job is not None
        await pilot.press("x")
        await until(pilot, lambda: app.workspace.status.job is None)
        assert session.calls.count("detect_again") == 1


async def test_a_late_token_answer_is_not_taken_for_the_edit_in_force(start: Start) -> None:
    session = FakeSession()
    plain, release, entered = session.token, threading.Event(), threading.Event()

    def slow(token_id, prompt, intervention, position):
        entered.set()
        release.wait(5)
        return plain(token_id, prompt, intervention, position)

    async with start(session, size=(160, 48)) as (app, pilot):
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.inspector.detail.figures, TokenDetail))
        session.token = slow
        await pilot.press("]")
        await until(pilot, entered.is_set)
        await pilot.press("]")
        release.set()
        wanted = app.workspace.history.intervention.ratio(app.inspector.tokens.token_id)
        await until(pilot, lambda: app.inspector.detail.figures.ratio == wanted and not app.inspector.detail.pending)


@pytest.mark.parametrize("key", ["e", "I"])
async def test_a_path_of_a_user_who_does_not_exist_is_only_a_path(start: Start, key: str, tmp_path: Path) -> None:
    async with start() as (app, pilot):
        await pilot.press("space", key)
        app.screen.query_one(Input).value = "~nobody-of-this-name/mask.json"
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.query_one("#ask-hint").has_class("-problem"))
        assert app.screen.query_one(Input).value == "~nobody-of-this-name/mask.json"
        assert app.workspace.history.intervention.pruned


async def test_ratios_without_end_stay_finite(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press("2", "=")
        app.screen.query_one(Input).value = "1e308"
        await pilot.press("enter", "]", "]", "]", "]", "]")
        assert app.workspace.history.intervention.ratio(app.inspector.tokens.token_id) == 1e308


async def test_warnings_of_the_session_are_shown(start: Start) -> None:
    session = FakeSession()
    session.warnings = ("the cache [/x] cannot be written.",)
    async with start(session) as (app, _):
        assert [note.message for note in app._notifications] == list(session.warnings)


async def test_leaving_with_the_signal_code(start: Start) -> None:
    async with start() as (app, pilot):
        assert app.leave_soon(143)
        await pilot.pause()
    assert app.return_value == 143
