"""The question for a prompt: earlier prompts by the arrows, the user's editor, several lines."""

from __future__ import annotations

import pytest

from tests.tui.fakes import FakeSession
from tests.tui.helpers import Start, answered, lines, type_line, until
from tpe_core.errors import TpeError
from tpe_tui.widgets.text_line import TextLine

PROMPT = "Return the number of"


async def test_the_arrows_walk_the_earlier_prompts_and_back_to_what_was_typed(start: Start) -> None:
    async with start() as (app, pilot):
        for prompt in ("first one", "second\\nwith a line"):
            await pilot.press("p")
            await type_line(pilot, prompt)
            await answered(app, pilot)
        await pilot.press("p", "n", "e", "w")
        line = app.screen.query_one(TextLine)
        seen = []
        for key in ("up", "up", "up", "down", "down", "down"):
            await pilot.press(key)
            seen.append(line.value)
        assert seen == ["first one", PROMPT, PROMPT, "first one", "new", "new"]
        await pilot.press("up", "enter")
        await answered(app, pilot)
        assert app.workspace.history.prompt == "first one"
        assert app.prompts.earlier() == ["first one", "second\nwith a line", PROMPT]


async def test_the_prompts_of_an_earlier_run_are_there(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press("p")
        await type_line(pilot, "kept for ever")
        await answered(app, pilot)
    async with start(prompt="something else") as (app, pilot):
        await pilot.press("p", "up", "enter")
        await answered(app, pilot)
        assert app.workspace.history.prompt == "kept for ever"


async def test_the_editors_text_stands_in_the_line_and_is_kept_as_it_is(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, given = FakeSession(), []
    text = "one\n\n\ttwo \\ three\u200d\r"
    async with start(session) as (app, pilot):
        monkeypatch.setattr(app, "edit_text", lambda prompt: given.append(prompt) or text)
        await pilot.press("p", "ctrl+o")
        assert given == [PROMPT]
        assert app.screen.query_one(TextLine).value == "one\\n\\n\\ttwo \\\\ three\\u200d\\r"
        assert app.workspace.history.prompt == PROMPT, "nothing is asked before enter"
        await pilot.press("ctrl+o")
        assert given[1] == text
        await pilot.press("enter")
        await answered(app, pilot)
        assert app.workspace.history.prompt == text
        assert "one\\n\\n\\ttwo" in lines(app.inspector.prompt_bar)[0]


async def test_an_editor_that_fails_is_a_sentence_under_the_line(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(prompt: str) -> str:
        raise TpeError("no editor is set: set VISUAL or EDITOR.")

    async with start() as (app, pilot):
        monkeypatch.setattr(app, "edit_text", fails)
        await pilot.press("p", "x", "ctrl+o")
        await until(pilot, lambda: "no editor is set" in str(app.screen.query_one("#ask-hint").render()))
        assert app.screen.query_one(TextLine).value == "x"
        await pilot.press("escape")
        assert app.workspace.history.prompt == PROMPT


async def test_without_a_terminal_there_is_no_editor(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", "ed")
    async with start() as (app, _):
        with pytest.raises(TpeError, match="cannot be given to an editor"):
            app.edit_text("text")


async def test_prompts_that_cannot_be_kept_are_asked_all_the_same(start: Start) -> None:
    async with start() as (app, pilot):
        app.prompts.path.mkdir(parents=True)
        await pilot.press("p")
        await type_line(pilot, "a prompt")
        await answered(app, pilot)
        assert app.workspace.history.prompt == "a prompt"
        assert "earlier prompts are not kept" in app.workspace.status.text
