"""Keys in bursts, several in one write: what follows an opening key belongs to the dialog, and nothing acts twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from textual import events
from textual.geometry import Size
from textual.keys import _character_to_key
from textual.pilot import Pilot
from textual.widgets import Input, Static

from tests.tui.fakes import FakeSession
from tests.tui.helpers import Gate, Start, lines, until
from tests.tui.openers import opener
from tpe_core.options import RunOptions
from tpe_core.progress import Steps
from tpe_tui.app import TpeApp
from tpe_tui.dialogs.ask import Ask
from tpe_tui.generation.screen import GenerateScreen

NAMED = {
    "\x01": "ctrl+a",
    "\x05": "ctrl+e",
    "\x7f": "backspace",
    "\r": "enter",
    "\x15": "ctrl+u",
    "\x1b": "escape",
    "\x04": "ctrl+d",
    "\t": "tab",
    " ": "space",
}


def burst(app: TpeApp, text: str) -> None:
    """All keys of `text` at once, as a terminal's reader hands them over."""
    for char in text:
        key = NAMED.get(char) or _character_to_key(char)
        app.post_message(events.Key(key, char if char.isprintable() else None))


async def settled(app: TpeApp, pilot: Pilot[int]) -> None:
    await pilot.pause()
    await until(pilot, lambda: app.input_order.idle and not app.message_queue_size)


@pytest.mark.parametrize("opening", ["p", "=", "t", "/", "f", "e", "o", "T/"])
async def test_a_second_answer_to_a_question_that_is_gone_does_nothing(start: Start, opening: str) -> None:
    async with start() as (app, pilot):
        await pilot.press("2")
        burst(app, opening)
        await settled(app, pilot)
        field = app.screen.query_one(Input)
        field.value = "0.5"
        question, below = app.screen, app.screen_stack[-2]
        for _ in range(3):
            field.post_message(Input.Submitted(field, "0.5"))
        question.dismiss(None)
        await until(pilot, lambda: question not in app.screen_stack)
        question.dismiss(None)
        await settled(app, pilot)
        assert app.screen is below


@pytest.mark.parametrize(
    "keys", ["p\r\r", "t\r\r", "f\r\r", "/\r\r", " e\r\r", "2=\r\r", "T/a\r\r", "?\r\r", "C\r\r", "p\x1b\x1b"]
)
async def test_two_enters_at_once_close_one_dialog(
    start: Start, tmp_path: Path, keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with start() as (app, pilot):
        burst(app, keys)
        await settled(app, pilot)
        assert not isinstance(app.screen, Ask)
        assert app.inspector in app.screen_stack


@pytest.mark.parametrize(
    ("keys", "prompt"), [("p\x15hello\r", "hello"), ("phello\r", "hello"), ("p\x15one\rp\x15two\r", "two")]
)
async def test_text_behind_an_opening_key_belongs_to_the_dialog(start: Start, keys: str, prompt: str) -> None:
    async with start() as (app, pilot):
        burst(app, keys)
        await settled(app, pilot)
        assert app.workspace.history.prompt == prompt
        assert app.screen is app.inspector


async def test_a_search_typed_in_one_burst_finds(start: Start) -> None:
    async with start() as (app, pilot):
        burst(app, "/19\r")
        await settled(app, pilot)
        assert app.inspector.dims.dim == 19
        burst(app, "t30%\r/7\r ")
        await settled(app, pilot)
        assert app.inspector.dims.dim == 7


def paste(app: TpeApp, text: str) -> None:
    app.post_message(events.Paste(text))


def typed(app: TpeApp) -> str:
    return app.screen.query_one(Input).value


async def test_a_paste_of_several_lines_stands_in_the_prompt_as_the_field_shows_them(start: Start) -> None:
    async with start() as (app, pilot):
        burst(app, "p")
        paste(app, "one\r\ntwo\\\r\tend\n")
        await settled(app, pilot)
        assert typed(app) == r"one\ntwo\\\n\tend\n"
        burst(app, "\r")
        await settled(app, pilot)
        assert app.workspace.history.prompt == "one\ntwo\\\n\tend\n"


@pytest.mark.parametrize(("opening", "text", "value"), [("t", "0.5\n", "0.5"), ("e", " a b.json\r\n", "a b.json")])
async def test_a_pasted_number_or_path_loses_its_line_end(start: Start, opening: str, text: str, value: str) -> None:
    async with start() as (app, pilot):
        burst(app, opening)
        paste(app, text)
        await settled(app, pilot)
        assert typed(app) == value


@pytest.mark.parametrize("opening", ["t", "2=", "e", "I", "o", "T="])
async def test_several_lines_where_one_belongs_are_refused_aloud(start: Start, opening: str) -> None:
    async with start() as (app, pilot):
        burst(app, opening)
        await settled(app, pilot)
        before = typed(app)
        paste(app, "1\n2\n")
        await settled(app, pilot)
        assert typed(app) == before
        hints = [str(hint.content) for hint in app.screen.query(Static)]
        assert any("2 lines were pasted and one belongs here" in hint for hint in hints)


@pytest.mark.parametrize("opening", ["2/", "2f", "T/"])
async def test_a_newline_pasted_into_a_search_is_written_as_tokens_have_it(start: Start, opening: str) -> None:
    async with start() as (app, pilot):
        burst(app, opening)
        paste(app, "\n")
        await settled(app, pilot)
        assert typed(app) == r"\n"


async def test_a_paste_into_the_inspector_is_a_prompt_to_accept_and_never_keys(start: Start) -> None:
    async with start() as (app, pilot):
        paste(app, "qx\nq")
        await settled(app, pilot)
        assert app.is_running
        assert typed(app) == r"qx\nq"
        burst(app, "\x1b")
        await settled(app, pilot)
        assert app.workspace.history.prompt == FakeSession.default_prompt
        paste(app, "qx\nq")
        burst(app, "\r")
        await settled(app, pilot)
        assert app.workspace.history.prompt == "qx\nq"


@pytest.mark.parametrize("opening", ["w", "T", "D", "a"])
async def test_a_paste_into_a_study_is_text_and_says_so(start: Start, opening: str) -> None:
    async with start() as (app, pilot):
        burst(app, opening)
        await settled(app, pilot)
        study = app.screen
        paste(app, "q w x\n")
        await settled(app, pilot)
        assert app.screen is study
        assert "pasted" in app.workspace.status.text


@pytest.mark.parametrize(
    ("keys", "value"), [("x", "x"), ("\x01x", "x30%"), ("\x05x", "30%x"), ("\x15", ""), ("\x7f", "")]
)
async def test_typing_replaces_what_stands_in_a_field_and_moving_edits_it(start: Start, keys: str, value: str) -> None:
    async with start() as (app, pilot):
        burst(app, "t" + keys)
        await settled(app, pilot)
        assert typed(app) == value


async def test_below_the_smallest_size_only_leaving_and_help_act_and_it_says_so(start: Start) -> None:
    async with start(size=(50, 12)) as (app, pilot):
        small = str(app.screen.query_one("#small", Static).content)
        assert "60×16" in small
        assert "q (leaves)" in small
        before = app.inspector.dims.cursor
        burst(app, "j ti2]sSpw")
        paste(app, "text")
        await settled(app, pilot)
        assert app.screen is app.inspector
        assert app.inspector.dims.cursor == before
        assert app.workspace.history.intervention.is_empty
        burst(app, "?")
        await settled(app, pilot)
        assert app.screen is not app.inspector
        burst(app, "q")
        await settled(app, pilot)
        await pilot.resize_terminal(80, 24)
        burst(app, " ")
        await settled(app, pilot)
        assert len(app.workspace.history.intervention.pruned) == 1
        burst(app, "w")
        await settled(app, pilot)
        await pilot.resize_terminal(50, 12)
        burst(app, "mmmqi")
        await settled(app, pilot)
        assert app.screen is app.inspector
        assert app.inspector.runs.sweep.replacement == "zero"
        assert len(app.workspace.history.intervention.pruned) == 1


@pytest.mark.parametrize("opening", ["", "2", "3", "4", "w", "T", "D", "a"])
async def test_the_footer_at_60_columns_keeps_the_keys_and_the_way_back(start: Start, opening: str) -> None:
    async with start(size=(60, 16)) as (app, pilot):
        burst(app, opening)
        await settled(app, pilot)
        footer = app.screen.footer
        shown = lines(footer)[0]
        assert footer.size.width == 60
        assert "Keys" in shown or "Help" in shown
        assert "Back" in shown or "Quit" in shown


async def test_an_answer_about_a_model_that_is_gone_changes_nothing(start: Start) -> None:
    small, large = FakeSession(vocab=300, d=24, name="small"), FakeSession(vocab=900, d=96, seed=3, name="demo")
    async with start(opener=opener(small, large)) as (app, pilot):
        burst(app, "2/_800\r=")
        await settled(app, pilot)
        app.open_model(other=replace(app.workspace.options, model="small"))
        await until(pilot, lambda: app.workspace.session is small)
        burst(app, "2\r")
        await settled(app, pilot)
        assert app.workspace.history.intervention.is_empty
        assert "another model was opened meanwhile" in app.workspace.status.text


@pytest.mark.parametrize("opening", ["T", "T=", "a", "w", "wO"])
async def test_a_study_of_a_model_that_is_gone_is_closed(start: Start, opening: str) -> None:
    small, large = FakeSession(vocab=300, d=24, name="small"), FakeSession(vocab=900, d=96, seed=3, name="demo")
    gate = Gate(0)

    def slowly(options: RunOptions) -> Steps[FakeSession]:
        if options.model == "small":
            gate()
        return (yield from opener(small, large)(options))

    async with start(opener=slowly) as (app, pilot):
        burst(app, "2/_800\r")
        await settled(app, pilot)
        app.open_model(other=replace(app.workspace.options, model="small"))
        burst(app, opening)
        await settled(app, pilot)
        assert len(app.screen_stack) == 1 + len(opening)
        gate.open()
        await until(pilot, lambda: app.workspace.session is small)
        await settled(app, pilot)
        assert app.screen_stack == [app.inspector]


@pytest.mark.parametrize(("opening", "subject"), [("2j", "token"), ("23", "token"), ("4", "dim")])
async def test_a_terminal_that_was_too_small_gives_the_focus_back(start: Start, opening: str, subject: str) -> None:
    async with start() as (app, pilot):
        burst(app, opening)
        await settled(app, pilot)
        focused = app.inspector.focused_pane
        await pilot.resize_terminal(50, 12)
        await settled(app, pilot)
        burst(app, "?q")
        await settled(app, pilot)
        await pilot.resize_terminal(80, 24)
        await settled(app, pilot)
        assert app.inspector.focused_pane == focused
        assert app.inspector.subject == subject


async def test_the_generate_screen_has_the_cursor_before_it_is_laid_out(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start() as (app, pilot):
        monkeypatch.setattr(GenerateScreen, "call_after_refresh", lambda *_: True)
        burst(app, "jjja")
        await settled(app, pilot)
        assert isinstance(app.screen, GenerateScreen)
        assert app.screen.dims.dim == app.inspector.dims.dim
        assert app.screen.dims.cursor == 3


@pytest.mark.parametrize("size", [(100, 40), (160, 48)])
async def test_keys_behind_another_size_see_its_layout(start: Start, size: tuple[int, int]) -> None:
    async with start() as (app, pilot):
        app.post_message(events.Resize(Size(*size), Size(*size)))
        burst(app, "\x04")
        await settled(app, pilot)
        assert app.inspector.dims.cursor == (app.inspector.dims.size.height - 1) // 2
        app.post_message(events.Resize(Size(80, 24), Size(80, 24)))
        burst(app, "g\x04")
        await settled(app, pilot)
        assert app.inspector.dims.cursor == (app.inspector.dims.size.height - 1) // 2
