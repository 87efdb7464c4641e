"""A start without a model: the list of what can be opened, panes that say what will fill them, and the way on."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from textual.widgets import Input

from tests.tui.fakes import CACHED, FakeSession
from tests.tui.helpers import Start, lines, until
from tests.tui.openers import opener
from tpe_core.models.nearby import LocalModel
from tpe_core.options import RunOptions
from tpe_tui.dialogs.model_picker import Choice, PickerScreen
from tpe_tui.shell.recent_models import RecentModels

NEAR = (LocalModel("./models/a.gguf", 90_000_000, 0.0), LocalModel("./trained", 5_000_000, 0.0))


def picker(app: object) -> PickerScreen:
    screen = app.screen  # type: ignore[attr-defined]
    assert isinstance(screen, PickerScreen)
    return screen


def rows(app: object) -> list[list[str]]:
    """Name, size, where it is from and the date of every row, as far as they are there."""
    models = picker(app).models
    shown = [line.strip(" ▐") for line in lines(models)[1 : 1 + models.n_rows]]
    return [[part for part in line.split("  ") if part] for line in shown]


def recent(tmp_path: Path, *models: str) -> RecentModels:
    clock = iter(range(1_700_000_000, 1_800_000_000, 86_400))
    store = RecentModels(tmp_path / "state", now=lambda: float(next(clock)))
    for model in models:
        store.add(RunOptions(model))
    return store


async def listed(app, pilot) -> None:
    await until(pilot, lambda: isinstance(app.screen, PickerScreen) and not picker(app).models.waiting)


async def test_a_first_start_offers_the_bundled_model_what_is_near_by_and_the_cache(start: Start) -> None:
    async with start(asks_model=True, ready=False, near=lambda: NEAR, lister=lambda: CACHED, size=(100, 30)) as (
        app, pilot,
    ):  # fmt: skip
        await listed(app, pilot)
        assert [[part.strip() for part in row[:3]] for row in rows(app)[:4]] == [
            ["demo", "bundled"],
            ["./models/a.gguf", "90 MB", "near by"],
            ["./trained", "5.0 MB", "near by"],
            ["EleutherAI/pythia-160m", "375 MB", "hub"],
        ]
        assert app.workspace.session is None
        await pilot.press("enter")
        await until(pilot, lambda: app.workspace.session is not None)
        assert app.workspace.options.model == "demo"


async def test_what_was_opened_last_stands_first_so_that_enter_opens_it_again(start: Start, tmp_path: Path) -> None:
    local = tmp_path / "m.gguf"
    local.touch()
    recent(tmp_path, "owner/gone-by", str(local))
    asked: list[RunOptions] = []
    async with start(
        asks_model=True, ready=False, opener=opener(FakeSession(name=str(local)), asked=asked), size=(160, 48)
    ) as (app, pilot):
        await listed(app, pilot)
        assert [(row[0][-6:] if "/m." in row[0] else row[0], row[1].strip()) for row in rows(app)] == [
            ("m.gguf", "local"), ("owner/gone-by", "hub"), ("demo", "bundled"),
        ]  # fmt: skip
        assert "2023-11-15" in rows(app)[0][-1]
        await pilot.press("enter")
        await until(pilot, lambda: app.workspace.session is not None)
    assert [options.model for options in asked] == [str(local)]


async def test_a_recent_file_that_is_gone_is_not_offered(start: Start, tmp_path: Path) -> None:
    local = tmp_path / "m.gguf"
    local.touch()
    recent(tmp_path, "demo", str(local))
    local.unlink()
    async with start(asks_model=True, ready=False) as (app, pilot):
        await listed(app, pilot)
        await until(pilot, lambda: [row[0] for row in rows(app)] == ["demo"])


async def test_the_list_is_there_before_any_disk_is_read(start: Start, tmp_path: Path) -> None:
    recent(tmp_path, "owner/name")
    gate = threading.Event()

    def slow() -> list[object]:
        gate.wait(10)
        return []

    async with start(asks_model=True, ready=False, near=slow, lister=slow) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, PickerScreen))
        assert [row[0] for row in rows(app)] == ["owner/name", "demo"]
        await pilot.press("d", "e", "m")
        assert picker(app).models.choice == Choice("dem")
        gate.set()


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_panes_without_a_model_say_what_will_fill_them_and_keys_say_the_way_on(
    start: Start, size: tuple[int, int]
) -> None:
    async with start(asks_model=True, ready=False, size=size) as (app, pilot):
        await listed(app, pilot)
        await pilot.press("escape")
        assert app.workspace.status.text == "no model is open: o chooses one, ? lists the keys"
        inspector = app.inspector
        for pane in inspector.visible_panes():
            said = " ".join(" ".join(lines(inspector.pane(pane))).split())
            assert "once" in said, pane
        await pilot.press("space", "p", "w", "F", "1", "j")
        assert app.workspace.status.text == "no model is open: o chooses one"
        await pilot.press("r")
        await listed(app, pilot)
        await pilot.press("escape", "o")
        await listed(app, pilot)
        await pilot.press("escape", "q")
    assert app.return_value == 0


async def test_a_choice_keeps_the_options_and_shows_the_kept_view_first(start: Start) -> None:
    seen: list[RunOptions] = []

    def read(options: RunOptions) -> None:
        seen.append(options)

    async with start(asks_model=True, ready=False, view_reader=read) as (app, pilot):
        await listed(app, pilot)
        app.workspace.options = RunOptions(dtype="float32", trust_remote_code=True)
        await pilot.press(*"demo", "enter")
        await until(pilot, lambda: app.workspace.session is not None)
        assert RecentModels(app.state_dir).earlier()[0].model == "demo"
    assert seen == [RunOptions(dtype="float32")]


async def test_a_path_is_completed_letter_by_letter_and_a_folder_is_gone_into(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "a.gguf").touch()
    (tmp_path / "runs" / "final").mkdir()
    monkeypatch.chdir(tmp_path)
    asked: list[RunOptions] = []
    async with start(
        asks_model=True, ready=False, opener=opener(FakeSession(name="./runs/first/a.gguf"), asked=asked)
    ) as (app, pilot):
        await listed(app, pilot)
        await pilot.press(*"./r")
        await until(pilot, lambda: [row[0] for row in rows(app)] == ["./r", "./runs/"])
        await pilot.press("tab")
        await until(pilot, lambda: [row[0] for row in rows(app)] == ["./runs/", "./runs/final/", "./runs/first/"])
        line = app.screen.query_one(Input)
        assert line.value == "./runs/"
        await pilot.press("tab")
        await until(pilot, lambda: len(rows(app)) == 3)
        assert line.value == "./runs/fi"
        await pilot.press("down", "enter")  # a plain folder
        await until(pilot, lambda: line.value == "./runs/final/")
        assert app.workspace.session is None
        line.value = "./runs/first/"
        await until(pilot, lambda: len(rows(app)) == 2)
        await pilot.press("down", "tab")
        await until(pilot, lambda: line.value == "./runs/first/a.gguf")
        await pilot.press("enter")
        await until(pilot, lambda: app.workspace.session is not None)
    assert asked[0].model == os.path.join(".", "runs", "first", "a.gguf")


async def test_the_open_model_is_not_offered_as_the_next_one_and_the_one_before_is(start: Start) -> None:
    async with start(opener=opener(FakeSession(), FakeSession(name="other"))) as (app, pilot):
        await pilot.press("o", *"other", "enter")
        await until(pilot, lambda: app.workspace.options.model == "other" and app.workspace.session is not None)
        await pilot.press("o")
        await listed(app, pilot)
        assert [row[0] for row in rows(app)] == ["demo"]
        assert picker(app).models.choice == Choice("demo")
