"""The refit key under a pilot: it comes into force as one step, only on its own mask, and can be cancelled."""

from __future__ import annotations

from tests.tui.fakes import FakeSession
from tests.tui.helpers import Gate, Start, lines, until
from tpe_core.errors import NumericalError
from tpe_tui.dialogs.error import ErrorScreen


async def test_a_refit_comes_into_force_as_one_step_and_says_so(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        await pilot.press("space", "j", "space", "2", "]")
        before = app.workspace.history.intervention
        await pilot.press("M")
        await until(pilot, lambda: app.workspace.history.intervention.replacement == "refit")
        now = app.workspace.history.intervention
        assert (now.pruned, now.steering, now.origin) == (before.pruned, before.steering, "refit of 2")
        assert app.workspace.status.text.startswith("refitted: all of h is made of the 62 kept dimensions; u undoes")
        await pilot.press("M")
        assert "refitted already" in app.workspace.status.text
        await pilot.press("u")
        assert app.workspace.history.intervention == before
        assert session.calls.count("refit") == 1


async def test_a_steered_token_of_the_meantime_stays_and_another_mask_keeps_its_own(start: Start) -> None:
    session, gate = FakeSession(), Gate(1)
    session.refit_step = gate
    async with start(session) as (app, pilot):
        inspector = app.inspector
        await pilot.press("space", "M")
        await until(pilot, lambda: "kl 0.5" in lines(inspector.strip)[0])
        await pilot.press("w", "r")
        assert "queued behind refit" in app.workspace.status.text
        await pilot.press("x")
        await until(pilot, lambda: app.inspector.runs.sweep.job is None)
        await pilot.press("escape", "2", "]")
        await until(pilot, lambda: len(app.workspace.history.intervention.steering) == 1)
        gate.open()
        await until(pilot, lambda: app.workspace.history.intervention.replacement == "refit")
        assert len(app.workspace.history.intervention.steering) == 1, "steered while it was fitted"

        session.refit_step = Gate(0)
        await pilot.press("c", "1", "space", "M", "j", "space")
        assert len(app.workspace.history.intervention.pruned) == 2
        session.refit_step.open()
        await until(pilot, lambda: app.workspace.status.job is None)
        assert app.workspace.history.intervention.replacement != "refit"
        assert "the refit is of the 1 pruned before" in app.workspace.status.text


async def test_it_is_cancelled_and_starts_anew(start: Start) -> None:
    session, gate = FakeSession(), Gate(1)
    session.refit_step = gate
    async with start(session) as (app, pilot):
        inspector = app.inspector
        await pilot.press("space", "M")
        await until(pilot, lambda: "kl 0.5" in lines(inspector.strip)[0])
        await pilot.press("x")
        gate.open()
        await until(pilot, lambda: app.workspace.status.job is None)
        assert app.workspace.status.text == "the refit was cancelled; M starts it anew"
        assert app.workspace.history.intervention.replacement == "zero"
        await pilot.press("M")
        await until(pilot, lambda: app.workspace.history.intervention.replacement == "refit")


async def test_without_a_mask_and_after_a_failure_it_says_why(start: Start) -> None:
    session = FakeSession()

    def fail() -> None:
        raise NumericalError("the fit became NaN: try --dtype float32.")

    session.refit_step = fail
    async with start(session) as (app, pilot):
        await pilot.press("M")
        assert app.workspace.status.text == "nothing is pruned: a refit belongs to a mask"
        assert "refit" not in session.calls
        await pilot.press("space", "M")
        await until(pilot, lambda: isinstance(app.screen, ErrorScreen))
        assert app.workspace.status.text == "the refit failed; M tries again"
        await pilot.press("escape")
        assert app.workspace.history.intervention.replacement == "zero"
