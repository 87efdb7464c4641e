"""Keys in bursts, several in one write: what follows an opening key belongs to the dialog, and nothing acts twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual import events
from textual.keys import _character_to_key
from textual.pilot import Pilot
from textual.widgets import Input

from tpe_tui.app import TpeApp
from tpe_tui.screens.prompts import Ask

from .helpers import Start, until

NAMED = {"\r": "enter", "\x15": "ctrl+u", "\x1b": "escape", "\t": "tab", " ": "space"}


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
    "keys", ["p\r\r", "t\r\r", "f\r\r", "/\r\r", "e\r\r", "2=\r\r", "T/a\r\r", "?\r\r", "C\r\r", "p\x1b\x1b"]
)
async def test_two_enters_at_once_close_one_dialog(
    start: Start, tmp_path: Path, keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with start() as (app, pilot):
        burst(app, keys)
        await settled(app, pilot)
        assert not isinstance(app.screen, Ask)
        assert app.bench in app.screen_stack


@pytest.mark.parametrize(
    ("keys", "prompt"), [("p\x15hello\r", "hello"), ("phello\r", "hello"), ("p\x15one\rp\x15two\r", "two")]
)
async def test_text_behind_an_opening_key_belongs_to_the_dialog(start: Start, keys: str, prompt: str) -> None:
    async with start() as (app, pilot):
        burst(app, keys)
        await settled(app, pilot)
        assert app.bench.inspector.prompt == prompt
        assert app.screen is app.bench


async def test_a_search_typed_in_one_burst_finds(start: Start) -> None:
    async with start() as (app, pilot):
        burst(app, "/19\r")
        await settled(app, pilot)
        assert app.bench.dims.dim == 19
        burst(app, "t30%\r/7\r ")
        await settled(app, pilot)
        assert app.bench.dims.dim == 7
