"""The list of jobs under a pilot: several queued, each opened, cancelled and explained, whatever screen it began on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.fakes import FakeSession
from tests.tui.helpers import Gate, Start, answered, lines, until
from tests.tui.openers import opener
from tests.tui.trajectories import FakeReader
from tpe_core.errors import NumericalError
from tpe_core.progress import Progress, Steps
from tpe_tui.app import TpeApp
from tpe_tui.dialogs.error import ErrorScreen, TextScreen
from tpe_tui.dialogs.question import Question
from tpe_tui.generation.screen import GenerateScreen
from tpe_tui.jobs.screen import JobsScreen
from tpe_tui.steering.screen import SteerScreen
from tpe_tui.sweep.screen import SweepScreen
from tpe_tui.workspace import CallbackJob


@pytest.fixture(autouse=True)
def _no_look_at_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """The look at an edit's unreachable tokens, which begins by itself, is no job of these tests."""
    monkeypatch.setattr("tpe_tui.inspector.reach.REST_SECONDS", 600.0)


def rows(app: TpeApp) -> list[str]:
    """The rows of the list that have a job."""
    assert isinstance(app.screen, JobsScreen)
    app.screen.show()
    return [line.rstrip(" ▐") for line in lines(app.screen.jobs)[1 : 1 + app.screen.jobs.n_rows]]


def gated(sweep: int = 0, refit: int = 1000, pair: int = 1000, read: int = 1000) -> tuple[FakeSession, list[Gate]]:
    session, gates = FakeSession(), [Gate(sweep), Gate(refit), Gate(pair), Gate(read)]
    session.sweep_step, session.refit_step, session.pair_step, session.read_step = gates
    return session, gates


async def test_several_jobs_are_queued_from_their_screens_and_all_end_with_what_they_came_to(start: Start) -> None:
    session, (sweep, *_) = gated()
    async with start(session) as (app, pilot):
        await pilot.press("space", "w", "r", "escape", "M", "T", "escape", "a", "escape", "J")
        states = [" ".join(row.split()[:2]) for row in rows(app)]
        assert states[:4] == ["▸running pruning", "·queued refit", "·queued steering", "·queued generate"]
        assert "0:00 +3  x cancel" in lines(app.screen.strip)[0]  # type: ignore[attr-defined]
        assert "1 running" in lines(app.screen.status)[0]  # type: ignore[attr-defined]
        assert "3 queued" in lines(app.screen.status)[0]  # type: ignore[attr-defined]
        sweep.open()
        await until(pilot, lambda: not app.workspace.is_busy)
        ended = {f"{row[1:12].strip()} {row[12:30].strip()}": row for row in rows(app)}
        assert ended.keys() >= {"done pruning sweep", "done refit", "done steering study", "done generate"}
        assert "KL 0." in ended["done pruning sweep"]
        assert " at 30%, " in ended["done pruning sweep"]
        assert "63 dimensions kept" in ended["done refit"]
        assert "4,096 positions" in ended["done steering study"]
        assert "200 tokens" in ended["done generate"]
        assert app.workspace.history.intervention.replacement == "refit"


async def test_what_nobody_asked_for_is_in_the_background_and_not_queued(start: Start) -> None:
    async with start(FakeSession()) as (app, pilot):
        await until(pilot, lambda: not app.workspace.jobs.active)
        gate = Gate(0)

        def look() -> Steps[None]:
            gate()
            yield Progress("looking", 0)

        app.workspace.queue(CallbackJob("look", look, lambda update: None), background=True)
        await pilot.press("J")
        assert [" ".join(row.split()[:2]) for row in rows(app)] == ["▸background look", "●done opening"]
        status = lines(app.screen.status)[0]  # type: ignore[attr-defined]
        assert ("nothing is running" in status, "1 in the background" in status) == (True, True)
        assert "queued" not in status
        gate.open()


async def test_a_job_that_ended_opens_its_screen_with_its_result(start: Start) -> None:
    session, (sweep, *_) = gated(sweep=1000)
    async with start(session) as (app, pilot):
        await pilot.press("w", "r")
        state = app.inspector.runs.sweep
        await until(pilot, lambda: state.job is None)
        assert app.workspace.status.text == "the pruning sweep is done; J and enter open it"
        first = state.result
        await pilot.press("r")
        await until(pilot, lambda: state.job is None and state.result is not first)
        second = state.result
        await pilot.press("escape", "J", "j", "enter")
        assert isinstance(app.screen, SweepScreen)
        assert len(app.screen_stack) == 2
        assert state.result is first
        await pilot.press("J", "enter")
        assert isinstance(app.screen, SweepScreen)
        assert len(app.screen_stack) == 2, "it takes the place of what lay below the list"
        assert state.result is second
        assert session.calls.count("sweep") == 2


async def test_a_running_job_opens_its_screen_with_its_progress(start: Start) -> None:
    session, (sweep, *_) = gated(sweep=3)
    async with start(session) as (app, pilot):
        await pilot.press("w", "r")
        state = app.inspector.runs.sweep
        await until(pilot, lambda: state.curve("random") is not None)
        await pilot.press("escape", "2", "J")
        row = rows(app)[0]
        assert row.startswith("▸running")
        assert "3/" in row
        await pilot.press("enter")
        assert isinstance(app.screen, SweepScreen)
        assert state.job is not None
        sweep.open()


async def test_a_study_is_opened_as_it_was_left_and_its_texts_are_read_meanwhile(start: Start) -> None:
    session, (*_, read) = gated(read=0)
    async with start(session) as (app, pilot):
        await pilot.press("2", "j", "j", "T", "]", "]", "escape")
        read.open()
        await until(pilot, lambda: not app.workspace.is_busy)
        assert "texts are read; J and enter open it" in app.workspace.status.text
        await pilot.press("g", "J", "enter")
        study = app.screen
        assert isinstance(study, SteerScreen)
        assert study.state.ratio == pytest.approx(2**1.5)
        await until(pilot, lambda: study.settled)
        assert session.calls.count("read") == 1


async def test_a_text_is_written_on_after_its_screen_and_opened_though_the_prompt_is_another(start: Start) -> None:
    session, (_, _, pair, _) = gated(pair=3)
    async with start(session) as (app, pilot):
        await pilot.press("a")
        state = app.inspector.runs.generation
        await until(pilot, lambda: state.steps == 3)
        await pilot.press("escape", "p", *"Another", "enter")
        pair.open()
        await until(pilot, lambda: state.job is None)
        await answered(app, pilot)
        await pilot.press("J", "enter")
        assert isinstance(app.screen, GenerateScreen)
        assert state.pair is not None
        assert (state.pair.prompt, state.pair.finished) == (session.default_prompt, True)
        assert session.calls.count("generate") == 1
        await pilot.press("escape", "a")
        await until(pilot, lambda: state.pair is not None and state.pair.prompt == "Another")


async def test_a_queued_job_is_cancelled_in_the_list_and_the_running_one_too(start: Start) -> None:
    session, (sweep, *_) = gated(sweep=1)
    async with start(session) as (app, pilot):
        await pilot.press("space", "w", "r", "escape", "M", "J", "j", "x")
        await until(pilot, lambda: any("cancelled" in row for row in rows(app)))
        assert [row.split()[0] for row in rows(app)[:2]] == ["▸running", "○cancelled"]
        assert session.calls.count("refit") == 0
        await pilot.press("k", "x")
        assert rows(app)[0].startswith("▸cancelling")
        sweep.open(1)
        await until(pilot, lambda: not app.workspace.is_busy)
        assert "after 1/" in rows(app)[0]
        await pilot.press("x")
        assert app.workspace.status.text == "pruning sweep has ended already: cancelled"


async def test_a_failed_job_shows_its_failure_and_its_log(start: Start) -> None:
    session, _ = gated(sweep=1000)
    session.sweep_fail = NumericalError("the curves are not finite: use float32.")
    async with start(session) as (app, pilot):
        await pilot.press("w", "r")
        await until(pilot, lambda: isinstance(app.screen, ErrorScreen))
        await pilot.press("escape", "J")
        assert "the curves are not" in rows(app)[0]
        log = "\n".join(lines(app.screen.log_pane))  # type: ignore[attr-defined]
        assert "failed the curves are not finite: use float32." in log
        await pilot.press("i")
        assert isinstance(app.screen, TextScreen)
        assert "the curves are not finite" in app.screen._text


async def test_the_list_is_opened_from_every_study_and_closed_by_its_own_key(start: Start) -> None:
    async with start(dynamics_reader=lambda _options: FakeReader()) as (app, pilot):
        for study in ("w", "T", "a", "D", "F"):
            await pilot.press(study)
            below = app.screen
            await pilot.press("J")
            assert isinstance(app.screen, JobsScreen)
            await pilot.press("J")
            assert app.screen is below
            await pilot.press("q")
        await until(pilot, lambda: not app.workspace.is_busy)


async def test_what_has_no_screen_or_no_model_any_more_says_so(start: Start) -> None:
    small, demo = FakeSession(name="small"), FakeSession(name="demo")
    async with start(opener=opener(small, demo)) as (app, pilot):
        await pilot.press("w", "r")
        await until(pilot, lambda: not app.workspace.is_busy)
        await pilot.press("escape", "o", *"small", "enter")
        await until(pilot, lambda: app.workspace.session is small)
        await pilot.press("J", "enter")
        assert app.workspace.status.text.startswith("opening the model has no screen of its own")
        await pilot.press("j", "enter")
        assert app.workspace.status.text.startswith("this pruning sweep was of a model that is left")
        assert isinstance(app.screen, JobsScreen)


async def test_the_list_stays_open_while_another_model_comes(start: Start) -> None:
    small, demo, gate = FakeSession(name="small"), FakeSession(name="demo"), Gate(0)

    def slowly(options: object) -> Steps[FakeSession]:
        if getattr(options, "model", "") == "small":
            yield Progress("load model", 0)
            gate()
        return (yield from opener(small, demo)(options))  # type: ignore[arg-type]

    async with start(opener=slowly) as (app, pilot):
        await pilot.press("o", *"small", "enter", "J")
        assert rows(app)[0].startswith("▸running")
        gate.open()
        await until(pilot, lambda: app.workspace.session is small)
        assert isinstance(app.screen, JobsScreen)
        assert rows(app)[0].startswith("●done")


async def test_another_model_and_another_detection_wait_for_the_jobs_that_are_there(start: Start) -> None:
    session, (sweep, *_) = gated()
    async with start(session) as (app, pilot):
        await pilot.press("space", "w", "r", "escape", "M")
        for key in ("r", "o"):
            await pilot.press(key)
            said = "a job is running already (pruning sweep and 1 more); wait or cancel it first, J lists the jobs"
            assert app.workspace.status.text == said
            assert app.screen is app.inspector
        sweep.open()
        await until(pilot, lambda: not app.workspace.is_busy)
        await pilot.press("r")
        await until(pilot, lambda: "detect_again" in session.calls)


async def test_leaving_with_queued_jobs_is_asked_about(start: Start) -> None:
    session, (sweep, *_) = gated()
    async with start(session) as (app, pilot):
        await pilot.press("w", "r", "escape", "a", "escape", "q")
        assert isinstance(app.screen, Question)
        said = " ".join(str(widget.render()) for widget in app.screen.query("Static"))
        assert "A job is running (pruning sweep) and would be stopped." in said
        assert "1 more is queued (generate) and would be dropped." in said
        sweep.open()
        await pilot.press("y")
    assert app.return_value == 0


async def test_the_training_dynamics_alone_has_the_list_too(tmp_path: Path) -> None:
    from tpe_tui.dynamics.app import DynamicsApp

    app = DynamicsApp(["runs/other"], FakeReader(), state_dir=tmp_path, keys_file=tmp_path / "keys.toml")
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.reader.state.sources[0].status == "done")
        below = app.screen
        await pilot.press("J")
        assert isinstance(app.screen, JobsScreen)
        assert "training dynamics" in lines(app.screen.jobs)[1]
        assert "read" in lines(app.screen.jobs)[1]
        await pilot.press("enter")
        assert app.screen is below
    app.host.stop()
