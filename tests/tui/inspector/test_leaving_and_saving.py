"""Nothing that was made is lost without a question: leaving, going to another model, and writing over a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.widgets import Static

from tests.tui.fakes import FakeSession, opening
from tests.tui.helpers import Gate, Start, answered, lines, type_line, until
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import ManifestError
from tpe_core.options import RunOptions
from tpe_tui.command_line import default_name
from tpe_tui.dialogs.ask import Ask
from tpe_tui.dialogs.error import ErrorScreen
from tpe_tui.dialogs.question import Question


def words(screen: Question) -> str:
    return " ".join(str(widget.render()) for widget in screen.query("Static"))


@pytest.mark.parametrize(
    "keys", [("q",), ("ctrl+q",), ("q", "q"), ("ctrl+q", "ctrl+q"), ("w", "q", "q"), ("w", "ctrl+q")]
)
async def test_leaving_with_an_edit_in_no_file_asks_and_only_y_leaves(start: Start, keys: tuple[str, ...]) -> None:
    async with start() as (app, pilot):
        await pilot.press("space")
        assert "not exported" in lines(app.inspector.status)[0]
        await pilot.press(*keys)
        assert isinstance(app.screen, Question)
        assert "The edit of demo (1 pruned) is in no file." in words(app.screen)
        await pilot.press("q", "space", "x")
        assert isinstance(app.screen, Question), "only its own keys answer"
        await pilot.press("enter")
        assert not isinstance(app.screen, Question)
        await pilot.press("ctrl+q", "escape", "ctrl+q", "y")
    assert app.return_value == 0


async def test_a_session_that_cannot_be_kept_is_said_at_once_and_when_leaving(start: Start, tmp_path: Path) -> None:
    async with start() as (app, pilot):
        await until(pilot, lambda: app.memory.name)
        (tmp_path / "file").write_text("no folder")
        app.memory.store.folder = tmp_path / "file" / "sessions"
        await pilot.press("space")
        app._remember_and_tell()
        app.memory.flush()
        app._remember_and_tell()
        assert app.workspace.status.text.startswith("the session is not kept for the next start: ")
        await pilot.press("q")
        assert "the session is not kept for the next start" in words(app.screen)
        await pilot.press("y")


async def test_leaving_with_nothing_to_lose_asks_nothing(start: Start, tmp_path: Path) -> None:
    async with start() as (app, pilot):
        await pilot.press("space", "e")
        await type_line(pilot, str(tmp_path / "mask.json"))
        await until(pilot, lambda: "written to" in app.workspace.status.text)
        assert "not exported" not in lines(app.inspector.status)[0]
        await pilot.press("space")
        assert app.workspace.history.intervention.is_empty
        await pilot.press("u", "q")
    assert app.return_value == 0


async def test_leaving_while_a_job_runs_says_so_and_a_signal_does_not_ask(start: Start) -> None:
    session, gate = FakeSession(), Gate(2)
    session.sweep_step = gate
    async with start(session) as (app, pilot):
        await pilot.press("w", "r")
        await until(pilot, lambda: app.workspace.status.job is not None)
        await pilot.press("q", "q")
        assert isinstance(app.screen, Question)
        assert "A job is running (pruning sweep)" in words(app.screen) or "A job is running" in words(app.screen)
        await pilot.press("escape", "space")
        app.leave_soon(143)
        await pilot.pause()
        gate.open()
    assert app.return_value == 143


async def test_coming_back_to_a_model_finds_its_mask_and_its_undo(start: Start) -> None:
    async with start() as (app, pilot):
        first = app.inspector.dims.dim
        await pilot.press("space", "j", "space", "u")
        inspector = app.workspace.history
        app.opener = opening(FakeSession(seed=1, name="other"))
        app.open_model(other=RunOptions("other"))
        await until(pilot, lambda: app.workspace.options.model == "other" and app.workspace.status.job is None)
        assert app.workspace.history.intervention.is_empty
        await pilot.press("q")
        assert "The edit of demo (1 pruned) is in no file." in words(app.screen)  # type: ignore[arg-type]
        await pilot.press("escape")
        back = FakeSession()
        app.opener = opening(back)
        app.open_model(other=RunOptions("demo"))
        await until(pilot, lambda: app.workspace.options.model == "demo" and app.workspace.status.job is None)
        assert app.workspace.history is inspector
        assert app.workspace.history.intervention.pruned == (first,)
        assert app.workspace.history.undo_depth == (1, 1)
        assert "take_up" in back.calls
        await answered(app, pilot)


async def test_an_existing_file_is_replaced_only_on_y_and_the_path_stays(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "mask.json"
    path.write_text('{"kind": "tpe.intervention"}')
    async with start() as (app, pilot):
        await pilot.press("space", "e")
        await type_line(pilot, str(path))
        assert isinstance(app.screen, Question)
        await pilot.press("enter")
        assert path.read_text() == '{"kind": "tpe.intervention"}'
        assert isinstance(app.screen, Ask)
        assert app.screen.query_one("Input").value == str(path)  # type: ignore[attr-defined]
        await pilot.press("enter", "y")
        await until(pilot, lambda: "written to" in app.workspace.status.text)
        assert json.loads(path.read_text())["pruned"]


@pytest.mark.parametrize("place", ["no/such/mask.json", "text.txt", "."])
async def test_what_cannot_be_written_is_said_while_the_path_stands_there(
    start: Start, tmp_path: Path, place: str
) -> None:
    (tmp_path / "text.txt").write_text("the detecting text")
    async with start() as (app, pilot):
        await pilot.press("space", "e")
        await type_line(pilot, str(tmp_path / place))
        assert isinstance(app.screen, Ask)
        assert app.screen.query_one("#ask-hint").has_class("-problem")
        assert app.screen.query_one("Input").value == str(tmp_path / place)  # type: ignore[attr-defined]
    assert (tmp_path / "text.txt").read_text() == "the detecting text"


async def test_exit_typed_into_the_inspector_writes_no_file(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The letter e asks where to export to: a file named xit."""
    monkeypatch.chdir(tmp_path)
    async with start() as (app, pilot):
        before = {path.name for path in tmp_path.iterdir()}
        await pilot.press(*"exit", "enter")
        await pilot.pause()
        assert "nothing is edited" in str(app.screen.query_one("#ask-hint", Static).render())
        assert {path.name for path in tmp_path.iterdir()} == before
        await pilot.press("escape")
        assert app.workspace.history.intervention.is_empty


async def test_a_failed_export_is_a_sentence_with_the_keys_in_sight_and_keeps_the_path(
    start: Start, tmp_path: Path
) -> None:
    session = FakeSession()
    session.export_fail = ManifestError("the intervention cannot be written (No space left on device): make room.")
    session.export_fail.__cause__ = OSError(28, "No space left on device")
    async with start(session) as (app, pilot):
        await pilot.press("space", "e")
        await type_line(pilot, str(tmp_path / "mask.json"))
        await until(pilot, lambda: isinstance(app.screen, ErrorScreen))
        said = " ".join(str(widget.render()) for widget in app.screen.query("Static"))
        assert "No space left" in said
        assert "Traceback" not in said
        assert app.screen.query_one("#text-hint").region.bottom <= 24
        await pilot.press("escape", "e")
        assert app.screen.query_one("Input").value == str(tmp_path / "mask.json")  # type: ignore[attr-defined]
        assert app.workspace.history.is_unsaved


@pytest.mark.parametrize(
    ("model", "revision", "name"),
    [
        ("demo", None, "tpe-mask-demo.json"),
        ("EleutherAI/pythia-160m", "step3000", "tpe-mask-pythia-160m-step3000.json"),
        ("./runs/a b", None, "tpe-mask-a-b.json"),
        ("/", None, "tpe-mask-model.json"),
    ],
)
def test_default_names_say_the_model(model: str, revision: str | None, name: str) -> None:
    assert default_name("tpe-mask", model, revision) == name


def test_an_edit_is_unsaved_until_a_file_holds_exactly_it() -> None:
    from tpe_core.edit_history import EditHistory

    inspector = EditHistory(prompt="", hidden_size=9, vocab_rows=9)
    assert not inspector.is_unsaved
    inspector.apply(Intervention((1,)))
    assert inspector.is_unsaved
    inspector.saved = inspector.intervention
    assert not inspector.is_unsaved
    inspector.toggle([2])
    assert inspector.is_unsaved
    inspector.undo()
    assert not inspector.is_unsaved
