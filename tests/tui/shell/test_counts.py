"""A number before a key: typed on any screen, slowly or at once, shown, used by the keys that take one, and dropped."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input

from tests.helpers.bursts import Burst
from tests.tui.helpers import Start, lines, until
from tests.tui.robot import events_of
from tpe_tui.app import TpeApp
from tpe_tui.dialogs.ask import Ask
from tpe_tui.inspector.screen import InspectScreen
from tpe_tui.keymap import ACTIONS
from tpe_tui.sweep.screen import SweepScreen


async def typed(app: TpeApp, pilot: Pilot[int], keys: str, slowly: bool) -> None:
    for event in events_of(Burst(keys)):
        app.post_message(event)
        if slowly:
            await until(pilot, lambda: not app.message_queue_size)
    await until(pilot, lambda: not app.message_queue_size)


def shown(app: TpeApp) -> str:
    return lines(app.screen.strip)[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize("slowly", [False, True])
@pytest.mark.parametrize(
    ("keys", "row"),
    [
        ("7j", 7), (":5j", 5), (":20j", 20), (":12j:3k", 9), ("80j", 63), (":3\x04", 3 * 8), (":20G", 19), ("9g", 8),
        ("Gg", 0), ("7jg:4G", 3), (":007j", 7),
    ],
)  # fmt: skip
async def test_a_number_moves_so_many_rows_or_to_that_row(start: Start, keys: str, row: int, slowly: bool) -> None:
    async with start() as (app, pilot):
        await typed(app, pilot, keys, slowly)
        dims = app.inspector.dims
        half = (dims.size.height - 1) // 2
        assert dims.cursor == (3 * half if "\x04" in keys else row)
        assert app.inspector.focused_pane == 1


@pytest.mark.parametrize("slowly", [False, True])
async def test_a_number_toggles_so_many_dimensions_from_the_cursor_down_as_one_step(start: Start, slowly: bool) -> None:
    async with start() as (app, pilot):
        await typed(app, pilot, "j:20 ", slowly)
        order = app.inspector.dims.order
        assert set(app.workspace.history.intervention.pruned) == {int(dim) for dim in order[1:21]}
        assert app.workspace.status.text == "toggled 20 dimensions: 20 pruned"
        await typed(app, pilot, "u", slowly)
        assert app.workspace.history.intervention.is_empty
        await typed(app, pilot, "G9 ", slowly)
        assert app.workspace.status.text == "toggled 1 dimension (the list ends there): 1 pruned"


async def test_a_marked_range_is_toggled_whatever_the_number(start: Start) -> None:
    async with start() as (app, pilot):
        await typed(app, pilot, "vjj:20 ", False)
        assert len(app.workspace.history.intervention.pruned) == 3


async def test_a_number_undoes_and_redoes_so_many_steps_and_no_more_than_there_are(start: Start) -> None:
    async with start() as (app, pilot):
        await typed(app, pilot, " j j j ", False)
        assert app.workspace.history.undo_depth == (4, 0)
        await typed(app, pilot, ":3u", False)
        assert app.workspace.history.undo_depth == (1, 3)
        assert app.workspace.status.text.startswith("3 steps undone: ")
        await typed(app, pilot, ":2U", False)
        assert app.workspace.history.undo_depth == (3, 1)
        await typed(app, pilot, "99u", False)
        assert app.workspace.history.undo_depth == (0, 4)
        assert app.workspace.status.text.startswith("3 steps undone: ")
        await typed(app, pilot, "99u", False)
        assert app.workspace.status.text == "nothing to undo"


async def test_digits_that_are_keys_act_at_once(start: Start) -> None:
    async with start() as (app, pilot):
        for digit in "4321":
            await pilot.press(digit)
            assert app.inspector.focused_pane == int(digit)
            assert app.workspace.status.number is None
        await typed(app, pilot, "2j", False)
        assert (app.inspector.focused_pane, app.inspector.tokens.cursor) == (2, 1)
        await typed(app, pilot, "]]", False)
        assert len(app.workspace.history.intervention.steering) == 1
        await pilot.press("0")
        assert not app.workspace.history.intervention.steering


async def test_in_a_number_every_digit_belongs_to_it_and_it_is_shown_until_it_is_used_or_dropped(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press(":")
        assert shown(app).endswith(" n× ")
        await pilot.press("1", "0", "2")
        assert shown(app).endswith(" 102× ")
        assert app.inspector.focused_pane == 1
        await pilot.press("backspace")
        assert shown(app).endswith(" 10× ")
        await pilot.press("escape")
        assert "×" not in shown(app)
        await pilot.press("j")
        assert app.inspector.dims.cursor == 1
        await pilot.press(":", *"123456789")
        assert shown(app).endswith(" 12345× ")
        await pilot.press("backspace", "backspace", "backspace", "backspace", "backspace", "backspace", "j")
        assert app.inspector.dims.cursor == 2


@pytest.mark.parametrize("keys", ["7z", "7s", ":3?"])
async def test_a_key_that_takes_no_number_acts_once_and_the_number_is_gone(start: Start, keys: str) -> None:
    async with start() as (app, pilot):
        await typed(app, pilot, keys, False)
        assert app.workspace.status.number is None
        assert app.inspector.zoomed == ("z" in keys)
        assert (app.inspector.dims.sort != "slope") == ("s" in keys)
        assert (app.screen is not app.inspector) == ("?" in keys)


async def test_text_fields_take_their_digits_and_a_click_or_a_paste_drops_a_number(start: Start) -> None:
    async with start() as (app, pilot):
        await typed(app, pilot, "7t", False)
        assert isinstance(app.screen, Ask)
        await typed(app, pilot, "90:7", False)
        assert app.screen.query_one(Input).value == "90:7"
        await pilot.press("escape")
        await typed(app, pilot, ":7", False)
        app.post_message(events.MouseDown(None, 5, 4, 0, 0, 1, False, False, False))
        await until(pilot, lambda: not app.message_queue_size)
        assert app.workspace.status.number is None
        await typed(app, pilot, "7", False)
        app.post_message(events.Paste("some text"))
        await until(pilot, lambda: isinstance(app.screen, Ask))
        assert app.workspace.status.number is None


async def test_a_number_steers_by_so_many_steps_within_what_a_ratio_can_be(start: Start) -> None:
    async with start() as (app, pilot):
        await typed(app, pilot, "2j8]", False)
        [entry] = app.workspace.history.intervention.steering
        assert entry.ratio == pytest.approx(4.0)
        await typed(app, pilot, "99999]", False)
        [entry] = app.workspace.history.intervention.steering
        assert entry.ratio <= 2.0**66
        assert app.is_running


async def test_where_no_pane_has_a_digit_every_digit_begins_a_number(start: Start, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    panes = ("dims", "tokens", "plot", "detail", "prompt")
    keys.write_text("".join(f'pane.{name} = "f{at}"\n' for at, name in enumerate(panes, 5)))
    async with start(keys_file=keys) as (app, pilot):
        await typed(app, pilot, "20 3j", False)
        assert len(app.workspace.history.intervention.pruned) == 20
        assert app.inspector.dims.cursor == 3


async def test_the_studies_take_numbers_for_the_keys_that_go_steps(start: Start) -> None:
    async with start() as (app, pilot):
        await typed(app, pilot, "w\r", False)
        state = app.inspector.runs.sweep
        await until(pilot, lambda: state.job is None)
        at = state.at
        await typed(app, pilot, "3l", False)
        assert state.at == at + 3
        await typed(app, pilot, ":2h2j", False)
        assert (state.at, state.selected) == (at + 1, state.names[2])
        await typed(app, pilot, "5m", False)
        assert state.replacement == "mean", "it takes no number and acts once"
        assert isinstance(app.screen, SweepScreen)
        await typed(app, pilot, "qjj  ", False)
        await typed(app, pilot, "a", False)
        await until(pilot, lambda: app.inspector.runs.generation.job is None)
        await typed(app, pilot, ":2u", False)
        assert app.workspace.history.undo_depth == (0, 2)
        cursor = app.screen.dims.cursor  # type: ignore[attr-defined]
        await typed(app, pilot, "4j", False)
        assert app.screen.dims.cursor == cursor + 4  # type: ignore[attr-defined]


async def test_below_the_smallest_size_there_are_no_numbers(start: Start) -> None:
    async with start(size=(50, 12)) as (app, pilot):
        await typed(app, pilot, "7j", False)
        assert app.workspace.status.number is None
        assert app.inspector.dims.cursor == 0


def test_every_counted_action_takes_a_number() -> None:
    screen = InspectScreen.__new__(InspectScreen)
    taking = [action.method for action in ACTIONS if screen.counted_action(action.method, 3)]
    assert taking == [action.method for action in ACTIONS if action.counted]
    assert screen.counted_action("move_down", 3) == "move_down(3)"
