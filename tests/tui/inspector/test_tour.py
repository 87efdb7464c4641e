"""The tour: shown by itself once, in nobody's way, followed by doing what it says, and there again by its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.fakes import FakeSession, opening
from tests.tui.helpers import Start, answered, lines, type_line, until
from tpe_core.cached_view import CachedView
from tpe_tui.dialogs.model_picker import PickerScreen
from tpe_tui.inspector.tour import tour_steps
from tpe_tui.keymap import Keymap
from tpe_tui.shell.tour_seen import TourSeen


async def open_first(app, pilot) -> None:
    """Choose the bundled model in the list that a start without a model shows."""
    await until(pilot, lambda: isinstance(app.screen, PickerScreen))
    await pilot.press("enter")
    await until(pilot, lambda: app.workspace.session is not None)
    await answered(app, pilot)


def said(app) -> str:
    return " ".join(" ".join(lines(app.inspector.tour)).split())


async def test_it_is_shown_at_the_first_start_and_never_by_itself_again(start: Start, tmp_path: Path) -> None:
    async with start(asks_model=True, ready=False) as (app, pilot):
        await open_first(app, pilot)
        assert "tour 1 of 3 · Prune" in said(app)
        assert TourSeen(tmp_path / "state").is_seen
    async with start(asks_model=True, ready=False) as (app, pilot):
        await open_first(app, pilot)
        assert not app.inspector.tour.is_open
        await pilot.press("A")
        assert "tour 1 of 3" in said(app)


async def test_a_first_start_with_a_model_shows_it_and_a_later_one_does_not(start: Start, tmp_path: Path) -> None:
    async with start(offers_tour=True) as (app, pilot):
        assert "tour 1 of 3 · Prune" in said(app)
        assert TourSeen(tmp_path / "state").is_seen
        await pilot.press("escape")
        assert not app.inspector.tour.is_open
    async with start(offers_tour=True) as (app, _):
        assert not app.inspector.tour.is_open
    async with start(asks_model=True, ready=False) as (app, pilot):
        await open_first(app, pilot)
        assert not app.inspector.tour.is_open


async def test_an_app_that_offers_none_shows_it_when_its_key_is_pressed(start: Start) -> None:
    async with start() as (app, pilot):
        assert not app.inspector.tour.is_open
        assert not app.tour_seen.is_seen
        await pilot.press("A")
        assert app.inspector.tour.is_open


async def test_no_key_is_taken_and_doing_what_a_step_says_brings_the_next(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press("A", "j", "j", "space")
        await answered(app, pilot)
        assert len(app.workspace.history.intervention.pruned) == 1
        assert "tour 2 of 3 · Ask" in said(app)
        await pilot.press("p")
        await type_line(pilot, "another text")
        await answered(app, pilot)
        assert "tour 3 of 3 · Go on" in said(app)
        await pilot.press("space")
        await answered(app, pilot)
        assert "tour 3 of 3" in said(app)
        await pilot.press("A")
        assert not app.inspector.tour.is_open


async def test_its_key_goes_through_the_steps_and_escape_ends_it_after_what_escape_does_otherwise(
    start: Start,
) -> None:
    async with start() as (app, pilot):
        for step in ("tour 1 of 3", "tour 2 of 3", "tour 3 of 3"):
            await pilot.press("A")
            assert step in said(app)
        await pilot.press("v", "escape")
        assert app.inspector.tour.is_open
        assert app.inspector.dims.range_from is None
        await pilot.press("escape")
        assert not app.inspector.tour.is_open


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (160, 48), (200, 50)])
async def test_every_word_of_every_step_is_on_the_screen(start: Start, size: tuple[int, int]) -> None:
    async with start(size=size) as (app, pilot):
        for title, text in tour_steps(Keymap().shown):
            await pilot.press("A")
            await pilot.pause()
            assert title in said(app)
            assert text in said(app)
            assert "esc ends it" in said(app)
            assert app.inspector.dims.size.height >= 4
        await pilot.press("A")
        await pilot.pause()
        assert not app.inspector.tour.display


async def test_a_low_terminal_is_left_to_the_panes(start: Start) -> None:
    async with start(asks_model=True, ready=False, size=(80, 18)) as (app, pilot):
        await open_first(app, pilot)
        assert not app.inspector.tour.is_open
        assert not app.tour_seen.is_seen


async def test_it_is_there_on_the_kept_view_already_and_once(start: Start) -> None:
    session = FakeSession()
    view = session.kept()
    assert isinstance(view, CachedView)
    async with start(asks_model=True, ready=False, opener=opening(session), view_reader=lambda options: view) as (
        app,
        pilot,
    ):
        await open_first(app, pilot)
        assert "tour 1 of 3" in said(app)
        await pilot.press("escape")
        assert not app.inspector.tour.is_open


def test_a_disk_that_takes_nothing_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    seen = TourSeen(tmp_path / "state")
    assert not seen.remember()
    assert not seen.is_seen


async def test_a_window_that_becomes_wide_shows_a_plot_and_not_what_an_empty_pane_says(start: Start) -> None:
    async with start(size=(80, 24)) as (app, pilot):
        await pilot.resize_terminal(160, 48)
        await until(pilot, lambda: "kept" in lines(app.inspector.plot)[1])
        assert not any("once it is open" in line for line in lines(app.inspector.plot))
