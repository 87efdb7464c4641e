"""What every question says while its line is typed: what it takes, what is wrong, once."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from tests.tui.helpers import Start, type_line, until
from tpe_tui.app import TpeApp
from tpe_tui.dialogs.ask import Ask
from tpe_tui.dialogs.error import ErrorScreen
from tpe_tui.widgets.text_line import TextLine


async def _clear(pilot: Pilot[int]) -> None:
    await pilot.press("ctrl+u")
    await pilot.pause()


@pytest.mark.parametrize(
    ("keys", "wrong", "why"),
    [
        (("f",), "nonsense > 1", "no column is called nonsense"),
        (("t",), "half", "a share lies between 0 and 1"),
        (("2", "="), "much", "a ratio is a finite number above 0"),
        (("I",), "/nowhere/mask.json", "/nowhere/mask.json does not exist"),
        (("e",), "/nowhere/mask.json", "the folder /nowhere does not exist"),
        (("L", "r"), "/nowhere/prompts.txt", "/nowhere/prompts.txt does not exist"),
        (("W",), "kind:x", "'kind:x' is no term"),
    ],
)
async def test_what_is_wrong_is_said_while_it_is_typed_and_once(
    start: Start, keys: tuple[str, ...], wrong: str, why: str
) -> None:
    async with start() as (app, pilot):
        await pilot.press("space", *keys)
        await pilot.pause()
        assert isinstance(app.screen, Ask)
        assert why not in _below(app)
        await _clear(pilot)
        await pilot.press(*wrong)
        await pilot.pause()
        assert _below(app).count(why) == 1
        assert not app.screen.query(".-problem")
        await pilot.press("enter")
        await pilot.pause()
        assert _below(app).count(why) == 1
        assert len(app.screen.query(".-problem")) == 1
        await pilot.press("ctrl+u", *("1" if keys[-1] in "=t" else "x"))
        await pilot.pause()
        assert why not in _below(app)


def _below(app: TpeApp) -> str:
    return "\n".join(str(place.render()) for place in app.screen.query("#ask-hint, #ask-outcome").results(Static))


async def test_a_path_that_could_not_be_imported_is_offered_again(start: Start, tmp_path: Path) -> None:
    (tmp_path / "mask.json").write_text("no manifest")
    async with start() as (app, pilot):
        await pilot.press("I")
        await type_line(pilot, str(tmp_path / "mask.json"))
        await until(pilot, lambda: isinstance(app.screen, ErrorScreen))
        assert "I asks again" in " ".join(str(widget.render()) for widget in app.screen.query("Static"))
        await pilot.press("escape", "I")
        assert app.screen.query_one(Input).value == str(tmp_path / "mask.json")


async def test_a_definition_that_names_no_set_is_offered_again(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press("W")
        await type_line(pilot, "regex:^qqq")
        await until(pilot, lambda: "no token of this vocabulary" in app.workspace.status.text)
        await pilot.press("W")
        assert app.screen.query_one(Input).value == "regex:^qqq"
        await pilot.press("escape", "2", "B", "W")
        assert app.screen.query_one(Input).value == "marked", "once"


async def test_why_a_paste_was_refused_stays_until_the_line_changes(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press("t")
        app.screen.query_one(TextLine).insert_pasted("1\n2\n")
        await pilot.pause()
        app.inspector._reach_known()  # more is known of what the answer would do
        await pilot.pause()
        assert "2 lines were pasted" in _below(app)
        await pilot.press("5")
        await pilot.pause()
        assert "2 lines were pasted" not in _below(app)
