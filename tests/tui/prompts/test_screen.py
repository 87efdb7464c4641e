"""The list of prompts: figures that follow the edit, adding, deleting, choosing, files."""

from __future__ import annotations

import json
from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import Input

from tests.tui.fakes import FakeSession
from tests.tui.helpers import Start, answered, lines, type_line, until
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import ModelError
from tpe_tui.app import TpeApp
from tpe_tui.cells import number
from tpe_tui.prompts.screen import PORTION, PromptsScreen

PROMPT = "Return the number of"


async def opened(app: TpeApp, pilot: Pilot[int]) -> PromptsScreen:
    """The list with its figures."""
    await pilot.press("L")
    await settled(app, pilot)
    return screen_of(app)


def screen_of(app: TpeApp) -> PromptsScreen:
    screen = next(screen for screen in app.screen_stack if isinstance(screen, PromptsScreen))
    assert isinstance(screen, PromptsScreen)
    return screen


async def settled(app: TpeApp, pilot: Pilot[int]) -> None:
    await until(pilot, lambda: isinstance(app.screen, PromptsScreen) and app.screen.settled)


async def add(app: TpeApp, pilot: Pilot[int], *prompts: str) -> None:
    for prompt in prompts:
        await pilot.press("a")
        await type_line(pilot, prompt)
    await settled(app, pilot)


def rows(app: TpeApp) -> list[str]:
    return [line.rstrip(" ▐") for line in lines(screen_of(app).list)[1:] if line.strip()]


def expected(session: FakeSession, prompt: str, edit: Intervention) -> str:
    """How a row begins."""
    base, now = session.probabilities(prompt, edit)
    kl, (first, last) = float((base * np_log(base / now)).sum()), (base.argmax(), now.argmax())
    change = f"→{session.table.tokens[last]}"[:12] if first != last else "same"
    return f"{number(kl):>9}  {session.table.tokens[first][:13]:<13} {change}"


def np_log(values):  # type: ignore[no-untyped-def]
    import numpy as np

    return np.log(values)


async def test_every_prompt_has_its_kl_and_top1_and_they_follow_the_edit(start: Start) -> None:
    session = FakeSession()
    async with start(session, size=(120, 30)) as (app, pilot):
        await pilot.press("space")
        await opened(app, pilot)
        await add(app, pilot, "list of names", "the default class")
        prompts = [PROMPT, "list of names", "the default class"]
        edit = app.workspace.history.intervention
        assert len(edit.pruned) == 1
        shown = rows(app)
        for row, prompt in zip(shown, prompts, strict=True):
            assert row[2:].startswith(expected(session, prompt, edit))
            assert row.endswith(prompt)
        assert shown[0].startswith("●"), "the inspector's own prompt"
        await pilot.press("u")
        await settled(app, pilot)
        assert all(
            row[2:].startswith(expected(session, prompt, Intervention()))
            for row, prompt in zip(rows(app), prompts, strict=True)
        )
        await pilot.press("U", "t")
        await type_line(pilot, "50%")
        await settled(app, pilot)
        edit = app.workspace.history.intervention
        assert len(edit.pruned) == 32
        assert all(
            row[2:].startswith(expected(session, prompt, edit)) for row, prompt in zip(rows(app), prompts, strict=True)
        )
        status = lines(screen_of(app).status)[0]
        changed = sum(base.argmax() != now.argmax() for base, now in (session.probabilities(p, edit) for p in prompts))
        assert f"top-1 changed {changed} of 3" in status


async def test_enter_makes_it_the_inspectors_prompt_and_escape_does_not(start: Start) -> None:
    async with start() as (app, pilot):
        await opened(app, pilot)
        await add(app, pilot, "list of names")
        await pilot.press("escape")
        assert app.workspace.history.prompt == PROMPT
        await opened(app, pilot)
        await pilot.press("G", "enter")
        await answered(app, pilot)
        assert app.screen is app.inspector
        assert app.workspace.history.prompt == "list of names"
        await opened(app, pilot)
        assert rows(app)[1].startswith("●"), "the list is as it was left"
        assert screen_of(app).list.prompt == "list of names"


async def test_prompts_are_deleted_and_each_is_there_once(start: Start) -> None:
    async with start() as (app, pilot):
        await opened(app, pilot)
        await add(app, pilot, "list of names", PROMPT, "list of names")
        assert len(rows(app)) == 2
        await pilot.press("g", "d")
        assert [row.endswith("list of names") for row in rows(app)] == [True]
        await pilot.press("d", "d", "enter")
        assert app.workspace.history.prompt == PROMPT, "an empty list chooses nothing"


async def test_the_order_is_by_kl_or_as_they_came_and_the_cursor_stays_on_its_prompt(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        await pilot.press("space", "j", "space")
        await opened(app, pilot)
        await add(app, pilot, "a b c", "list of names", "the default class", "error in a file")
        came = [row[42:] for row in rows(app)]
        at = screen_of(app).list.prompt
        await pilot.press("s")
        edit = app.workspace.history.intervention
        wanted = sorted(screen_of(app).state.prompts, key=lambda prompt: -session.evaluate(prompt, edit).kl)
        assert screen_of(app).list.rows == wanted
        assert screen_of(app).list.prompt == at
        await pilot.press("s")
        assert [row[42:] for row in rows(app)] == came


async def test_a_file_is_read_and_written_back(start: Start, tmp_path: Path) -> None:
    file, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    file.write_text("\n".join(f"prompt of line {number}" for number in range(30)))
    session = FakeSession()
    async with start(session) as (app, pilot):
        await opened(app, pilot)
        before = session.calls.count("compare_prompts")
        await pilot.press("r")
        await type_line(pilot, str(file))
        await until(pilot, lambda: len(screen_of(app).state.prompts) == 31)
        await settled(app, pilot)
        assert session.calls.count("compare_prompts") - before == -(-30 // PORTION), "a few at a time"
        assert "31 prompts" in str(screen_of(app).list.border_title)
        await add(app, pilot, "two\\nlines")
        await pilot.press("e")
        await type_line(pilot, str(out))
        await until(pilot, lambda: out.exists())
        assert [json.loads(line)["text"] for line in out.read_text().splitlines()] == screen_of(app).state.prompts
        (tmp_path / "none.txt").touch()
        await pilot.press("r")
        await type_line(pilot, str(tmp_path / "none.txt"))
        await until(pilot, lambda: "none.txt" in app.workspace.status.text)
        assert len(screen_of(app).state.prompts) == 32
        await pilot.press("r")
        assert app.screen.query_one(Input).value == str(tmp_path / "none.txt"), "it is offered again"


async def test_a_prompt_that_cannot_be_asked_has_a_sentence_and_the_others_their_figures(start: Start) -> None:
    session = FakeSession()
    session.fail, session.fails_on = ModelError("the prompt is empty: type a prompt."), "bad"
    async with start(session) as (app, pilot):
        await opened(app, pilot)
        await add(app, pilot, "a bad one", "a good one")
        shown = rows(app)
        assert "the prompt is empty" in shown[1]
        assert "same" in shown[2]
        assert "of 2" in lines(screen_of(app).status)[0]


async def test_the_row_is_copied_and_the_command_line_names_the_prompt(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        await pilot.press("space")
        await opened(app, pilot)
        await add(app, pilot, "it's one\\nof two")
        await pilot.press("y")
        header, row = (app.state_dir / "copied.txt").read_text().splitlines()
        assert header.split("\t") == ["prompt", "kl", "top1_base", "top1_now"]
        kl = session.evaluate("it's one\nof two", app.workspace.history.intervention).kl
        assert row.split("\t")[:2] == ["it's one\\nof two", repr(kl)]
        assert "--prompt 'it'\"'\"'s one\nof two'" in screen_of(app).headless()


async def test_another_detection_asks_anew(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        screen = await opened(app, pilot)
        before = session.calls.count("compare_prompts")
        app.show_session(session)
        await pilot.pause()
        await settled(app, pilot)
        assert screen.is_open
        assert session.calls.count("compare_prompts") == before + 1
