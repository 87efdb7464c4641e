"""Choosing another model: the list, what is typed, and an app that keeps its model until the other one is open."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from textual.command import CommandPalette
from textual.widgets import Input, Static

from tests.tui.fakes import CACHED, FakeSession
from tests.tui.helpers import Start, answered, lines, until
from tests.tui.openers import opener
from tpe_core.errors import ModelError
from tpe_core.models.hub import CachedModel
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, Steps
from tpe_tui.dialogs.error import ErrorScreen
from tpe_tui.dialogs.model_picker import Choice, PickerScreen, parse_choice
from tpe_tui.shell.sessions import SessionStore


def picker(app: object) -> PickerScreen:
    screen = app.screen  # type: ignore[attr-defined]
    assert isinstance(screen, PickerScreen)
    return screen


def names(app: object) -> list[str]:
    models = picker(app).models
    return [line.split("  ")[0].strip(" ▐") for line in lines(models)[1 : 1 + models.n_rows]]


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        (" gpt2 ", Choice("gpt2")),
        ("EleutherAI/pythia-160m@step1000", Choice("EleutherAI/pythia-160m", "step1000")),
        ("./runs/a@b", Choice("./runs/a@b")),
        ("/data/model@2", Choice("/data/model@2")),
        ("~/model@2", Choice("~/model@2")),
        ("gpt2@", Choice("gpt2@")),
    ],
)
def test_what_is_typed_names_a_model(text: str, choice: Choice) -> None:
    assert parse_choice(text) == choice


async def test_the_list_is_the_cache(start: Start) -> None:
    async with start(lister=lambda: CACHED) as (app, pilot):
        await pilot.press("o")
        await until(pilot, lambda: not picker(app).models.waiting)
        assert names(app) == [
            "demo", "EleutherAI/pythia-160m", "EleutherAI/pythia-160m@step1000", "openai-community/gpt2@01234567",
            "[bold]/odd\\x1bname",
        ]  # fmt: skip
        first = lines(picker(app).models)[2]
        assert "375 MB" in first
        assert "2024-10-04" in first
        await pilot.press("escape")
        assert app.screen is app.inspector
        assert app.workspace.options.model == "demo"


async def test_reading_the_cache_does_not_hold_up_the_screen(start: Start) -> None:
    gate = threading.Event()

    def slow() -> list[CachedModel]:
        assert threading.current_thread() is not threading.main_thread()
        gate.wait(5)
        return CACHED

    async with start(lister=slow) as (app, pilot):
        await pilot.press("o", *"gpt")
        assert names(app) == ["gpt"]
        assert "reading the cache" in lines(picker(app).models)[0]
        gate.set()
        await until(pilot, lambda: len(names(app)) == 2)
        assert names(app) == ["gpt", "openai-community/gpt2@01234567"]


async def test_a_cache_that_cannot_be_read_still_lets_one_type(start: Start) -> None:
    def broken() -> list[CachedModel]:
        raise ModelError("the cache is a file.")

    other = FakeSession(name="other")
    async with start(opener=opener(FakeSession(), other), lister=broken) as (app, pilot):
        await pilot.press("o")
        await until(pilot, lambda: not picker(app).models.waiting)
        assert "the cache is a file." in str(app.screen.query_one("#picker-hint", Static).content)
        await pilot.press(*"other", "enter")
        await until(pilot, lambda: app.workspace.session is other)


async def test_another_model_opens_in_the_same_app(start: Start) -> None:
    small, large = FakeSession(vocab=300, d=24, name="small"), FakeSession(vocab=900, d=96, seed=3, name="demo")
    asked: list[RunOptions] = []
    async with start(opener=opener(small, large, asked=asked), lister=lambda: CACHED, size=(160, 48)) as (app, pilot):
        await pilot.press("j", "space", "2", "j", "]", "/")
        app.screen.query_one(Input).value = "_8"  # only the larger vocabulary has such tokens
        await pilot.press("enter")
        await answered(app, pilot)
        await pilot.press("o", *"small", "enter")
        await until(pilot, lambda: app.workspace.session is small)
        await answered(app, pilot)
        assert app.workspace.options.model == "small"
        assert app.workspace.history.intervention.is_empty
        assert app.workspace.history.hidden_size == 24
        assert app.inspector.tokens.filter == ""
        _, expected = small.probabilities(small.default_prompt, app.workspace.history.intervention)
        np.testing.assert_allclose(app.inspector.tokens.answer.now, expected[app.inspector.tokens.answer.ids])
        await pilot.press("n", "1", "j", "space")
        await answered(app, pilot)
        assert len(app.workspace.history.intervention.pruned) == 1
        await pilot.press("o", "enter")  # the first row is the bundled model
        await until(pilot, lambda: app.workspace.session is large)
        await answered(app, pilot)
        assert app.workspace.history.intervention.pruned == (77,), "its edit is found again"
        await pilot.press("q", "y")
    assert app.return_value == 0
    assert [options.model for options in asked] == ["demo", "small", "demo"]
    kept = SessionStore(app.state_dir).read("small")
    assert kept is not None
    assert kept.view.prompt == small.default_prompt


async def test_the_model_stays_where_the_other_fails(start: Start) -> None:
    first = FakeSession()
    async with start(opener=opener(first), lister=lambda: CACHED) as (app, pilot):
        await pilot.press("space")
        await answered(app, pilot)
        edit = app.workspace.history.intervention
        await pilot.press("o", *"nobody/nothing", "enter")
        await until(pilot, lambda: isinstance(app.screen, ErrorScreen))
        await pilot.press("escape")
        assert app.workspace.session is first
        assert app.workspace.options.model == "demo"
        assert app.workspace.history.intervention == edit
        assert "demo stays open, o chooses again" in app.workspace.status.text
        await pilot.press("u", "r")
        await until(pilot, lambda: first.calls.count("detect_again") == 1)
        await pilot.press("q")
    assert app.return_value == 0


async def test_where_nothing_opened_another_can_be_chosen(start: Start) -> None:
    other = FakeSession(name="other")
    async with start(opener=opener(other), lister=list, ready=False) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, ErrorScreen))
        await pilot.press("escape", "o", *"other", "enter")
        await until(pilot, lambda: app.workspace.session is other)
        await pilot.press("q")
    assert app.return_value == 0


async def test_while_a_job_runs_none_is_chosen(start: Start) -> None:
    gate = threading.Event()

    def opening(options: RunOptions) -> Steps[FakeSession]:
        while not gate.wait(0.01):
            yield Progress("load model", 0)
        return FakeSession()

    async with start(opener=opening, ready=False) as (app, pilot):
        await until(pilot, lambda: app.workspace.status.job is not None)
        await pilot.press("o")
        assert app.screen is app.inspector
        assert "a job is running already" in app.workspace.status.text
        gate.set()


async def test_what_was_allowed_to_one_model_is_not_to_the_next(start: Start, tmp_path: Path) -> None:
    asked: list[RunOptions] = []
    other = FakeSession(name="EleutherAI/pythia-160m")
    async with start(opener=opener(FakeSession(), other, asked=asked), lister=lambda: CACHED) as (app, pilot):
        app.workspace.options = RunOptions(
            trust_remote_code=True, task="causal", dtype="float32", text=("a.txt",), seed=3
        )
        await pilot.press("o")
        await until(pilot, lambda: not picker(app).models.waiting)
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: app.workspace.session is other)
    wanted = RunOptions(model=other.table.info.name, revision="step1000", dtype="float32", text=("a.txt",), seed=3)
    assert asked[-1] == wanted


async def test_the_mouse_and_the_arrows_move(start: Start) -> None:
    async with start(lister=lambda: CACHED) as (app, pilot):
        await pilot.press("o")
        await until(pilot, lambda: not picker(app).models.waiting)
        await pilot.press("down", "ctrl+n", "up", "pagedown")
        assert picker(app).models.choice == Choice("[bold]/odd\x1bname")
        await pilot.press("pageup")
        assert picker(app).models.choice == Choice("demo")
        await pilot.click("#picker-list", offset=(5, 2))
        assert picker(app).models.choice == Choice("EleutherAI/pythia-160m")
        assert isinstance(app.focused, Input)


async def test_the_palette_has_it(start: Start) -> None:
    async with start(lister=lambda: CACHED) as (app, pilot):
        await pilot.press("ctrl+p")
        await until(pilot, lambda: isinstance(app.screen, CommandPalette))
        await pilot.press(*"open another model")
        await pilot.pause(0.5)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, PickerScreen))


def test_listing_the_cache_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom tpe_tui.engine.host import list_cached\nassert list_cached() == []\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    environment = {"HF_HUB_CACHE": str(tmp_path / "none"), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
