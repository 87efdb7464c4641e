"""The steering study under a pilot: reading once, the slider, the set, the search, applying; and its pictures."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from rich.cells import cell_len
from textual.pilot import Pilot
from textual.widgets import Input

from tests.tui.fakes import FakeSession
from tests.tui.helpers import Start, answered, lines, type_line, until
from tpe_core.edits.intervention import METHODS, Intervention, Steering
from tpe_core.options import RunOptions
from tpe_core.steering.results import DoseRequest
from tpe_tui.app import TpeApp
from tpe_tui.command_line import steer_lines
from tpe_tui.dialogs.error import TextScreen
from tpe_tui.inspector.screen import InspectScreen
from tpe_tui.ratios import parse_probability, short_ratio
from tpe_tui.steering.dose_plot import HERE, dose_lines, doublings
from tpe_tui.steering.dose_table import HEAD_ROWS
from tpe_tui.steering.screen import SteerScreen
from tpe_tui.steering.state import METHOD_MARKS, SteerState
from tpe_tui.steering.token_search import TokenSearch

SIZES = [(80, 24), (160, 48)]


def study(app: TpeApp) -> SteerScreen:
    assert isinstance(app.screen, SteerScreen)
    return app.screen


async def opened(app: TpeApp, pilot: Pilot[int]) -> SteerScreen:
    """Open the study of the second token of the list and wait for its figures."""
    await pilot.press("2", "j", "T")
    await until(pilot, lambda: study(app).settled)
    return study(app)


async def test_the_texts_are_read_once_and_a_key_asks_for_figures_only(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        screen = await opened(app, pilot)
        before = session.calls.count("steering")
        await pilot.press("]", "]", "[")
        await until(pilot, lambda: screen.settled)
        assert screen.state.ratio == pytest.approx(2 * 2**0.25)
        assert session.calls.count("read") == 1
        assert session.calls.count("steering") > before
        await pilot.press("l", "h", "0")
        await until(pilot, lambda: screen.settled)
        assert screen.state.ratio == 1
        assert screen.state.edit.is_empty
        assert "0 tokens steered" in lines(screen.status)[0]


@pytest.mark.parametrize("size", SIZES)
async def test_the_table_shows_what_the_engine_said(start: Start, size: tuple[int, int]) -> None:
    async with start(size=size) as (app, pilot):
        screen = await opened(app, pilot)
        figures, shown = screen.state.figures, lines(screen.table)
        assert figures is not None
        for row, method in enumerate(METHODS):
            found = figures.results[method][0]
            line = shown[HEAD_ROWS + row]
            assert line.lstrip("▸ ").startswith(f"{METHOD_MARKS[method][0]} {method}")
            achieved = [f"×{found.achieved[name]:.3f}" for name in ("local", "heldout", "ood")]
            assert [word for word in line.split() if word.startswith("×") and len(word) > 1] == achieved
            size_shown = found.relative_edit
            if size[0] == 160:
                assert line.split()[-1] == ("–" if size_shown is None else f"{size_shown:.3f}")
        text = "\n".join(shown)
        assert "100% on local text" in text
        assert "paid by" in text
        assert "·value" in text, "token 0 of the fake pays most"
        assert screen.live.display == (size[0] == 160), "the prompt's tokens are the first to go"


async def test_the_plot_marks_methods_and_the_ratio_in_force(start: Start) -> None:
    async with start(size=(160, 48)) as (app, pilot):
        screen = await opened(app, pilot)
        drawn = "".join(lines(screen.plot))
        assert all(mark in drawn for mark, _ in METHOD_MARKS.values())
        before = [line.index(HERE) for line in lines(screen.plot) if HERE in line]
        await pilot.press("]", "]", "]", "]")
        await until(pilot, lambda: screen.settled)
        after = [line.index(HERE) for line in lines(screen.plot) if HERE in line]
        assert len(before) == len(after) == 1
        assert after > before
        await pilot.click(screen.plot, offset=(20, 10))
        await until(pilot, lambda: screen.settled)
        assert screen.state.ratio < 1, "the mouse points at a ratio"
        assert (4 * math.log2(screen.state.ratio)) % 1 == 0


async def test_applying_is_one_step_to_undo_and_escape_changes_nothing(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press("space")
        inspector = app.workspace.history
        before = inspector.intervention
        screen = await opened(app, pilot)
        token = screen.state.token_id
        await pilot.press("]", "d")
        await pilot.press("escape")
        assert isinstance(app.screen, InspectScreen)
        assert inspector.intervention == before
        screen = await opened(app, pilot)
        assert "1 dims pruned" in lines(screen.status)[0]
        token = screen.state.token_id
        await pilot.press("d", "]", "enter")
        await answered(app, pilot)
        assert inspector.intervention.steering == (Steering(token, 2 * 2**0.25, METHODS[1]),)
        assert inspector.intervention.pruned == before.pruned
        assert inspector.method == METHODS[1]
        assert "undoes" in app.workspace.status.text
        await pilot.press("u")
        assert inspector.intervention == before


async def test_several_tokens_are_steered_at_once(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        screen = await opened(app, pilot)
        first = screen.state.token_id
        await pilot.press("a", "/", *"index", "enter")
        await until(pilot, lambda: screen.settled)
        second = screen.state.token_id
        assert session.table.tokens[second] == "·index"
        await pilot.press("[", "[", "[", "[", "a")
        await until(pilot, lambda: screen.settled)
        assert screen.state.added == {first: 2.0, second: 1.0}
        await pilot.press("[")
        await until(pilot, lambda: screen.settled)
        half = 2**-0.25
        assert {entry.token_id: entry.ratio for entry in screen.state.edit.steering} == {first: 2.0, second: half}
        other = lines(screen.table)[HEAD_ROWS + len(METHODS)]
        assert session.table.tokens[first] in other
        assert "×2 " in other
        await pilot.press("j")
        assert (screen.state.token_id, screen.state.ratio) == (first, 2.0)
        await pilot.press("a", "tab")
        assert screen.state.added == {second: half}
        assert screen.state.token_id == second
        await pilot.press("k")
        assert "no other token" in app.workspace.status.text
        await pilot.press("enter")
        assert app.workspace.history.intervention.steering == (Steering(second, half),)
        await pilot.press("T")
        assert study(app).state.added == {second: half}, "what is steered already is in the set"


async def test_the_search_is_live_and_says_what_is_no_token(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        screen = await opened(app, pilot)
        await pilot.press("/")
        search = app.screen
        assert isinstance(search, TokenSearch)
        await pilot.press(*"nam")
        assert "·name" in lines(search.candidates)[1]
        many = len(search.candidates.found)
        await pilot.press("e", "_")
        assert 0 < len(search.candidates.found) < many
        await pilot.press("down", "enter")
        assert screen.state.token_id == search.candidates.found[1].token_id
        await pilot.press("/")
        search = app.screen
        assert isinstance(search, TokenSearch)
        search.query_one(Input).value = "two words"
        await pilot.pause()
        assert "no token holds this" in lines(search.candidates)[1]
        await pilot.press("enter")
        await until(pilot, lambda: "'two words' is no token here" in app.workspace.status.text)
        await pilot.press("/", "enter", "escape")
        await type_hash(pilot, "#7")
        assert screen.state.token_id == 7


async def type_hash(pilot: Pilot[int], text: str) -> None:
    await pilot.press("/")
    await type_line(pilot, text)


async def test_exact_ratios_and_probabilities(start: Start) -> None:
    async with start() as (app, pilot):
        screen = await opened(app, pilot)
        figures = screen.state.figures
        assert figures is not None
        for bad in ("0", "-1", "inf", "two", "100%", "0%"):
            await pilot.press("=")
            await type_line(pilot, bad)
            assert app.screen is not screen, "it asks again"
            await pilot.press("escape")
        assert screen.state.ratio == 2
        await pilot.press("=")
        await type_line(pilot, "0.25")
        assert screen.state.ratio == 0.25
        await pilot.press("=")
        await type_line(pilot, "1%")
        assert screen.state.ratio * figures.token.alpha["local"] == pytest.approx(0.01)
        await pilot.press("=")
        await type_line(pilot, "1e30")
        await until(pilot, lambda: screen.settled)
        assert "out of reach" in "\n".join(lines(screen.table))
        assert "and more" in lines(screen.slider)[0]


async def test_calibrating_asks_what_achieves_the_ratio_of_every_token(start: Start) -> None:
    session = FakeSession()
    async with start(session, size=(160, 48)) as (app, pilot):
        screen = await opened(app, pilot)
        await pilot.press("a", "/", *"size", "enter", "=")
        await type_line(pilot, "3")
        await until(pilot, lambda: screen.settled)
        first, second = screen.state.tokens
        assert screen.state.tokens == {first: 2.0, second: 3.0}
        await pilot.press("c")
        await until(pilot, lambda: screen.settled and screen.state.ratio == pytest.approx(9.0))
        assert screen.state.tokens == pytest.approx({first: 4.0, second: 9.0})
        assert "is asked ×9 to achieve ×3 on the local text" in lines(app.inspector.strip)[0]
        await pilot.press("=")
        await type_line(pilot, "1000")
        await until(pilot, lambda: screen.settled)
        await pilot.press("c")
        await until(pilot, lambda: "cannot achieve ×1" in lines(app.inspector.strip)[0])
        assert "×100 is the nearest" in lines(app.inspector.strip)[0]


def test_a_late_calibration_is_dropped() -> None:
    state = SteerState.of(Intervention(), 3, METHODS[0])
    found = FakeSession().calibrated(state.request)
    state.set_ratio(5.0)
    assert not state.calibrate(found)
    assert state.ratio == 5.0


async def test_a_token_that_is_never_predicted_is_a_sentence(start: Start) -> None:
    session = FakeSession()
    session.never = frozenset({7})
    async with start(session) as (app, pilot):
        screen = await opened(app, pilot)
        await type_hash(pilot, "#7")
        await until(pilot, lambda: screen.state.problem)
        assert "never predicted" in "\n".join(lines(screen.plot))
        await type_hash(pilot, "#8")
        await until(pilot, lambda: screen.settled)
        assert not screen.state.problem


async def test_late_figures_are_dimmed_and_never_those_of_another_token(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        screen = await opened(app, pilot)
        session.delay = 0.6
        await pilot.press("]")
        await until(pilot, lambda: "muted" in {role for _, role in screen.table.line(HEAD_ROWS, 80)[0]})
        assert screen.state.stale
        await pilot.press("0")
        await type_hash(pilot, "#9")
        assert lines(screen.table)[HEAD_ROWS].split()[-1] == "least-squares", "no figure of another token"
        assert "Measuring" in "\n".join(lines(screen.plot))
        session.delay = 0.0
        await until(pilot, lambda: screen.settled)


async def test_reading_is_cancelled_and_begun_again(start: Start) -> None:
    session, free = FakeSession(), threading.Semaphore(1)
    session.read_step = lambda: free.acquire(timeout=20)
    async with start(session) as (app, pilot):
        await pilot.press("T")
        screen = study(app)
        assert "Reading three texts" in "\n".join(lines(screen.plot))
        await pilot.press("x")
        free.release()
        await until(pilot, lambda: app.workspace.status.job is None)
        assert "cancelled" in app.workspace.status.text
        assert "r reads them" in "\n".join(lines(screen.plot))
        free.release(9)
        await pilot.press("r")
        await until(pilot, lambda: screen.settled)


async def test_a_study_opened_again_while_it_reads_gets_the_texts(start: Start) -> None:
    session, free = FakeSession(), threading.Semaphore(0)
    session.read_step = lambda: free.acquire(timeout=20)
    async with start(session) as (app, pilot):
        await pilot.press("T", "escape", "T")
        assert "Reading three texts" in "\n".join(lines(study(app).plot))
        free.release(20)
        await until(pilot, lambda: study(app).settled)
        assert session.calls.count("read") == 1
        await pilot.press("escape", "space", "T")
        await until(pilot, lambda: study(app).settled)
        assert session.calls.count("read") == 2, "another mask has other texts"


async def test_help_and_the_command_line(start: Start) -> None:
    async with start() as (app, pilot):
        screen = await opened(app, pilot)
        await pilot.press("?")
        assert isinstance(app.screen, TextScreen)
        await pilot.press("escape", "H")
        assert isinstance(app.screen, TextScreen)
        await pilot.press("escape")
        token = screen.state.token_id
        text = steer_lines(RunOptions(), screen.state.request)
        assert f"tpe steer demo --token '#{token}' --ratio 2 --method least-squares --save" in text
        assert "--dose" in text


def test_a_command_line_takes_one_ratio_at_a_time() -> None:
    edit = Intervention((3,)).steer(5, 2.0).steer(6, 2.0)
    text = steer_lines(RunOptions(), DoseRequest(5, "min-norm", edit))
    assert "--token '#5' --token '#6' --ratio 2 --together" in text
    assert "whole head" in text
    text = steer_lines(RunOptions(), DoseRequest(5, "min-norm", edit.steer(6, 3.0)))
    assert "--save" not in text
    assert text.count("tpe steer") == 2


def test_the_grid_reaches_the_ratio() -> None:
    assert DoseRequest(1, "bias", Intervention()).grid == pytest.approx(2 ** np.linspace(-5, 5, 21))
    far = DoseRequest(1, "bias", Intervention().steer(1, 1000.0))
    assert far.grid[-1] == 1024
    assert far.steered == (1,)
    assert doublings(-5.2, 5.2, 6) == [(-4.0, "1/16"), (-2.0, "1/4"), (0.0, "1"), (2.0, "4"), (4.0, "16")]
    assert doublings(-40, 40, 4)[0] == (-40.0, "2^-40")


@pytest.mark.parametrize(("width", "height"), [(20, 5), (72, 9), (110, 30), (6, 2)])
def test_the_plot_keeps_its_size(width: int, height: int) -> None:
    state = SteerState.of(Intervention().steer(3, 1e9), 3, "bias")
    state.figures = FakeSession().steering(state.request)
    drawn = dose_lines(state, width, height)
    assert len(drawn) == height
    assert {sum(cell_len(text) for text, _ in line) for line in drawn} == {width}


def test_typed_probabilities() -> None:
    assert parse_probability(" 1% ") == 0.01
    assert [parse_probability(text) for text in ("1", "0%", "100%", "-3%", "x%", "nan%")] == [None] * 6
    assert [short_ratio(ratio) for ratio in (2.0, 2**0.25, 1234.5, 0.001)] == ["2", "1.19", "1234", "0.001"]
