"""Asking where to write: what cannot be written is said, the path stays, and the app goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Input, Static

from tests.tui.helpers import Start, type_line
from tpe_core.errors import TpeError
from tpe_tui.dialogs.ask import Ask
from tpe_tui.dialogs.saving import ask_where


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (TpeError("the disk is full: choose another place."), "the disk is full"),
        (OSError(28, "No space left"), "No space"),
    ],
)
async def test_what_cannot_be_written_is_asked_again_with_its_path(
    start: Start, tmp_path: Path, error: Exception, why: str
) -> None:
    tried: list[tuple[Path, bool]] = []

    def write(path: Path, replace: bool) -> None:
        tried.append((path, replace))
        if len(tried) == 1:
            raise error

    async with start() as (app, pilot):
        ask_where(app, "write to", "", "a file", lambda path, replace: None, write)
        await pilot.pause()
        await type_line(pilot, str(tmp_path / "a.md"))
        await pilot.pause()
        assert isinstance(app.screen, Ask)
        assert app.screen.query_one(Input).value == str(tmp_path / "a.md")
        hint = app.screen.query_one("#ask-hint", Static)
        assert f"nothing was written: {why}" in str(hint.render())
        await pilot.press("enter")
        assert tried == [(tmp_path / "a.md", False)] * 2
        assert app.screen is app.inspector


@pytest.mark.parametrize(
    ("keys", "suffix"), [(("V", "e"), ".md"), (("L", "e"), ".txt"), (("F", "e"), ".csv"), (("e",), ".json")]
)
async def test_a_name_that_the_disk_refuses_ends_no_screen(
    start: Start, tmp_path: Path, keys: tuple[str, ...], suffix: str
) -> None:
    async with start() as (app, pilot):
        await pilot.press("space", *keys)
        assert isinstance(app.screen, Ask)
        await type_line(pilot, str(tmp_path / ("n" * 250 + suffix)))
        await pilot.pause(0.2)
        assert app.is_running
        assert app.return_code in (None, 0)
