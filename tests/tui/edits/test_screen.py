"""The edits screen under a pilot: steps, names, comparing, the notebook, and figures that are the engine's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.tui.fakes import FakeSession, opening
from tests.tui.helpers import Start, answered, lines, type_line, until
from tpe_core.options import RunOptions
from tpe_tui.app import TpeApp
from tpe_tui.dialogs.error import TextScreen
from tpe_tui.edits.screen import EditsScreen

SIZES = [(80, 24), (160, 48)]


async def opened(app: TpeApp, pilot: Pilot[int]) -> EditsScreen:
    await answered(app, pilot)
    await pilot.press("V")
    await until(pilot, lambda: isinstance(app.screen, EditsScreen) and app.screen.table.rows)
    screen = app.screen
    assert isinstance(screen, EditsScreen)
    await until(pilot, lambda: all(row.edit in screen.table.figures for row in screen.table.rows))
    return screen


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_view(snap_compare, tmp_path: Path, size: tuple[int, int]) -> None:
    app = TpeApp(
        RunOptions(),
        opener=opening(FakeSession()),
        lister=list,
        state_dir=tmp_path / "state",
        keys_file=tmp_path / "keys.toml",
        clock=lambda: 0.0,
    )

    async def prepare(pilot: Pilot[int]) -> None:
        await until(pilot, lambda: app.workspace.session is not None)
        for keys in (["space"], ["j", "space"], ["2", "j", "]"], ["1", "m"], ["j", "v", "j", "j", "space"], ["u"]):
            await pilot.press(*keys)
            await answered(app, pilot)
        await opened(app, pilot)
        await pilot.press("k", "n", *"two dims", "enter")
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=prepare)
    app.host.stop()


async def test_every_step_stands_with_what_the_engine_says_of_it(start: Start) -> None:
    session = FakeSession()
    async with start(session, size=(160, 48)) as (app, pilot):
        await pilot.press("space", "j", "space", "2", "]")
        screen = await opened(app, pilot)
        steps = app.workspace.history.steps
        assert [row.edit for row in screen.table.rows] == list(steps)
        for edit in steps:
            assert screen.table.figures[edit].kl == session.evaluate(session.default_prompt, edit).kl
        text = lines(screen.table)
        assert "as it began" in text[1]
        assert text[2].split()[:4] == ["1", "prune", "dim", str(steps[1].pruned[0])]
        assert "▸" in text[len(steps)]


async def test_any_step_comes_back_into_force_and_the_others_stay(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press("space", "j", "space", "j", "space")
        history = app.workspace.history
        await opened(app, pilot)
        await pilot.press("g", "j", "enter")
        await until(pilot, lambda: app.screen is app.inspector)
        await answered(app, pilot)
        assert (history.position, len(history.steps)) == (1, 4)
        assert len(history.intervention.pruned) == 1
        await pilot.press("U", "U")
        assert len(history.intervention.pruned) == 3


async def test_a_named_edit_comes_back_whatever_was_undone(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press("space", "j", "space")
        kept = app.workspace.history.intervention
        screen = await opened(app, pilot)
        await pilot.press("n")
        await type_line(pilot, "  two dims ")
        assert app.workspace.history.named == {"two dims": kept}
        await pilot.press("escape", "u", "u", "i")
        await answered(app, pilot)
        assert kept not in app.workspace.history.steps
        screen = await opened(app, pilot)
        await pilot.press("g")
        assert lines(screen.table)[1].split()[:3] == ["◆", "two", "dims"]
        await pilot.press("n")
        app.screen.query_one("#ask-input").value = ""  # type: ignore[attr-defined]
        await pilot.press("enter")
        assert "type a name" in "\n".join(str(line) for line in [app.screen.query_one("#ask-hint").render()])
        await pilot.press("escape", "enter")
        await until(pilot, lambda: app.screen is app.inspector)
        assert app.workspace.history.intervention == kept
        screen = await opened(app, pilot)
        await pilot.press("g", "X")
        assert app.workspace.history.named == {}
        await pilot.press("X")
        assert "only named edits" in lines(screen.strip)[0]


async def test_two_edits_are_compared_by_what_each_has_alone(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press("space", "j", "space", "2", "]", "1", "k", "space")
        pruned = app.workspace.history.steps[2].pruned
        await opened(app, pilot)
        await pilot.press("g", "j", "j", "d")
        screen = app.screen
        assert isinstance(screen, TextScreen)
        text = screen._text
        gone = set(pruned) - set(app.workspace.history.intervention.pruned)
        assert f"pruned in step 2 alone: 1 ({gone.pop()})" in text
        assert "pruned in the edit in force alone: 0\n" in text
        assert "pruned in both: 1" in text
        assert "not steered | ×1.189" in text


async def test_the_notebook_holds_every_edit_that_was_seen_with_its_figures(start: Start, tmp_path: Path) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        for keys in (["space"], ["j", "space"], ["u"], ["2", "]"]):
            await pilot.press(*keys)
            await answered(app, pilot)
        screen = await opened(app, pilot)
        target = tmp_path / "book.json"
        await pilot.press("e")
        await type_line(pilot, str(target))
        notes = json.loads(target.read_text())["notes"]
        edits = [note.edit for note in app.workspace.notebook.notes]
        assert [len(edit.pruned) for edit in edits] == [0, 1, 2, 1, 1]
        assert [note["kl"] for note in notes] == [session.evaluate(session.default_prompt, edit).kl for edit in edits]
        assert notes[1]["change"].startswith("prune dim")
        assert notes[3]["change"].startswith("restore dim")
        assert notes[4]["change"].startswith("steer")
        await pilot.press("e")
        await type_line(pilot, str(tmp_path / "book.txt"))
        assert not (tmp_path / "book.txt").exists()
        await pilot.press("escape")
        assert app.screen is screen


async def test_figures_are_of_the_prompt_that_is_asked_about_now(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        await pilot.press("space")
        screen = await opened(app, pilot)
        app.workspace.set_prompt("another prompt")
        edit = app.workspace.history.intervention
        await until(
            pilot, lambda: edit in screen.table.figures and screen.table.figures[edit].prompt == "another prompt"
        )
        assert screen.table.figures[edit].kl == session.evaluate("another prompt", edit).kl


async def test_the_notebook_and_the_next_start_are_about_the_end_of_the_prompt(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        await pilot.press("5", "h", "h", "space")
        await until(pilot, lambda: app.inspector.current(app.inspector.tokens.answer))
        assert app.inspector.tokens.answer.position is not None
        assert [len(note.edit.pruned) for note in app.workspace.notebook.notes] == [0]
        assert session.calls.count(f"keep_answer {session.default_prompt}") == 1


async def test_a_column_is_there_whole_or_not_at_all(start: Start) -> None:
    async with start(FakeSession(), size=(200, 48)) as (app, pilot):
        await pilot.press("space", "j", "m", "v", "j", "j", "space", "2", "]")
        table = (await opened(app, pilot)).table
        words = max(len(row.words) for row in table.rows)
        for at in range(len(table.rows)):
            wide = set("".join(text for text, _ in table.row(at, 199)[0]).split())
            for width in range(59, 200):
                runs = table.row(at, width)[0]
                assert sum(len(text) for text, _ in runs) <= width, (at, width)
                cut = {text.strip() for text, _ in runs[2:-1] if text.strip() and text.strip() not in wide}
                assert not cut, (at, width, words)
                assert "KL" in "".join(text for text, _ in table.header(width))
