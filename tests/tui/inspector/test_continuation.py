"""A few tokens after the prompt in the inspector: of both heads, anew at every edit, behind everything else."""

from __future__ import annotations

import pytest

from tests.tui.fakes import FakeSession
from tests.tui.helpers import Gate, Start, answered, lines, until
from tpe_core.errors import ModelError
from tpe_core.generation.decoding import Decoding
from tpe_core.generation.paired import Controls, PairedGeneration, PairRequest
from tpe_core.progress import run
from tpe_tui.app import TpeApp
from tpe_tui.inspector.continuation import TOKENS


def finished(app: TpeApp) -> bool:
    strip = app.inspector.continued.strip
    return strip.pair is not None and not strip.pending and strip.pair.finished


def expected(app: TpeApp) -> PairedGeneration:
    """What the session writes for the prompt and the edit in force."""
    history, session = app.workspace.history, app.workspace.session
    assert isinstance(session, FakeSession)
    request = PairRequest(history.prompt, Decoding(TOKENS, temperature=0.0))
    return run(session.generate(request, lambda: Controls(history.intervention)))


async def test_both_sides_are_shown_and_written_anew_after_an_edit(start: Start) -> None:
    async with start(size=(160, 48)) as (app, pilot):
        strip = app.inspector.continued.strip
        assert not strip.display
        await pilot.press("R")
        await until(pilot, lambda: finished(app))
        assert strip.pair == expected(app)
        base, now = lines(strip)
        assert base.startswith(" base  ")
        assert now.startswith(" now   ")
        assert base[7:] == now[7:]
        assert base[7:].strip() == strip.pair.base.text.strip()
        await pilot.press("i")
        await until(pilot, lambda: finished(app) and strip.pair == expected(app))
        assert strip.pair.base.text != strip.pair.edited.text
        assert "steered" in {role for _, role in strip.line(1, 160)[0]}
        assert "steered" not in {role for _, role in strip.line(0, 160)[0]}
        await pilot.press("R")
        await pilot.pause()
        assert not strip.display


async def test_an_edit_ends_what_is_written_and_is_answered_first(start: Start) -> None:
    session, gate = FakeSession(), Gate(1)
    session.pair_step = gate
    async with start(session) as (app, pilot):
        strip = app.inspector.continued.strip
        await pilot.press("R")
        await until(pilot, lambda: strip.pair is not None and len(strip.pair.base.tokens) == 1)
        assert "…" in lines(strip)[0]
        await pilot.press("space")
        gate.open(1)  # the step under way ends, then the distribution is answered
        await answered(app, pilot)
        gate.open()
        await until(pilot, lambda: finished(app) and strip.pair == expected(app))
        assert session.calls.count("generate") == 3  # the two of the inspector, and what was expected
        assert app.workspace.status.job is None, "nobody is told of a job"


async def test_nothing_is_written_while_it_is_closed_and_why_nothing_can_be_is_said(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = FakeSession()
    session.pair_fail = ModelError("this model continues no text.")
    async with start(session) as (app, pilot):
        await pilot.press("space")
        await answered(app, pilot)
        assert "generate" not in session.calls
        await pilot.press("R")
        await until(pilot, lambda: app.inspector.continued.strip.said == "this model continues no text.")
        assert "continues no text" in lines(app.inspector.continued.strip)[0]


async def test_a_named_session_comes_back_with_it(start: Start) -> None:
    async with start(session_name="work") as (app, pilot):
        await pilot.press("R")
        await until(pilot, lambda: finished(app))
        app.remember()
        app.memory.flush()
    async with start(session_name="work") as (app, pilot):
        await until(pilot, lambda: finished(app))


@pytest.mark.parametrize("width", [60, 80])
async def test_a_long_continuation_is_cut_at_the_edge(start: Start, width: int) -> None:
    async with start(size=(width, 24)) as (app, pilot):
        await pilot.press("R")
        await until(pilot, lambda: finished(app))
        strip = app.inspector.continued.strip
        assert all(strip.render_line(y).cell_length == width for y in range(2))
