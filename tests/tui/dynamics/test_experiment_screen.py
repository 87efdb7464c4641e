"""The page of an experiment under a pilot: runs as they come, the numbers of the document, every key, both pages."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.content import Content
from textual.pilot import Pilot
from textual.widgets import Input

from tests.helpers.experiment_folders import planned, record_of, write_experiment, write_run
from tests.tui.helpers import lines, type_line, until
from tests.tui.trajectories import FakeReader
from tpe_core.continued_training.folder import read_experiment, run_folder
from tpe_core.errors import TpeError
from tpe_tui.cells import four_decimals
from tpe_tui.dialogs.ask import Ask
from tpe_tui.dialogs.error import TextScreen
from tpe_tui.dynamics.app import DynamicsApp
from tpe_tui.dynamics.experiment_screen import ExperimentScreen
from tpe_tui.dynamics.experiment_state import ExperimentState
from tpe_tui.dynamics.explanation import experiment_explanation
from tpe_tui.dynamics.screen import DynamicsScreen

Open = Callable[..., AbstractAsyncContextManager[tuple[DynamicsApp, Pilot[int]]]]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """`async with opened(folder) as (app, pilot)`: the page on its own, with the folder read."""

    @asynccontextmanager
    async def run(
        folder: Path | None, *names: str, size: tuple[int, int] = (80, 24), ready: bool = True
    ) -> AsyncIterator[tuple[DynamicsApp, Pilot[int]]]:
        app = DynamicsApp(
            names, FakeReader(), experiment=folder, state_dir=tmp_path / "state", keys_file=tmp_path / "keys.toml",
            clock=lambda: 0.0,
        )  # fmt: skip
        async with app.run_test(size=size) as pilot:
            if ready and folder is not None:
                await until(pilot, lambda: app.reader.experiment.state.read is not None)
            yield app, pilot
        app.host.stop()

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_experiment(tmp_path / "runs", done=9)
    return tmp_path / "runs"


def page(app: DynamicsApp) -> ExperimentScreen:
    assert isinstance(app.screen, ExperimentScreen)
    return app.screen


def table(app: DynamicsApp) -> list[str]:
    return lines(page(app).runs_table)


def row(app: DynamicsApp, name: str) -> str:
    return next(line for line in table(app) if name in line)


def plot(app: DynamicsApp) -> str:
    return "\n".join(lines(page(app).plots[0]))


def title(app: DynamicsApp) -> str:
    return Content.from_markup(str(page(app).plots[0].border_title)).plain


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_its_numbers_are_those_of_the_document(opened: Open, folder: Path, size: tuple[int, int]) -> None:
    document = read_experiment(folder).to_dict()
    async with opened(folder, size=size) as (app, pilot):
        assert "9 of 28 runs done" in lines(page(app).status)[0]
        assert all(cell_len(line) <= size[0] for line in (*table(app), *plot(app).splitlines()))
        await pilot.press("g", *["l"] * 2)  # step 20, where every variant has figures
        for record in document["bands"]:
            if record["figure"] != "gap.heldout" or record["step"] != 20 or record["scenario"] != "same":
                continue
            if record["mask"] != "low":
                continue
            shown = row(app, f" {record['variant']} ")
            for name in ("mean", "low", "high"):
                if record[name] is not None:
                    assert four_decimals(record[name]) in shown, (record, shown)
        assert "step 20 of 40" in table(app)[0]
        assert "●" in plot(app)
        assert "▲" in plot(app)


async def test_it_begins_where_the_run_under_way_is_and_n_leads_to_it(opened: Open, folder: Path) -> None:
    async with opened(folder) as (app, pilot):
        state = app.reader.experiment.state
        under_way = ("same", "low", "free", 1)
        assert (state.scenario, state.mask) == under_way[:2]
        await pilot.press("tab", "m")
        assert (state.scenario, state.mask) == ("fast", "top")
        await pilot.press("n")
        assert state.row == under_way
        assert "20 runs" in row(app, "▸")
        assert "under way: same, low, free, seed 1" in lines(page(app).strip)[0]


async def test_it_follows_the_folder_as_runs_write_to_it(opened: Open, folder: Path) -> None:
    keys = planned()
    async with opened(folder) as (app, pilot):
        state = app.reader.experiment.state
        write_run(folder, record_of(keys[9]))
        await until(pilot, lambda: state.read is not None and state.state_of(keys[9]) == "done")
        await until(pilot, lambda: "10 of 28 runs done" in lines(page(app).status)[0])
        stopped = "the loss became nan at step 13: the run was ended, and its state at step 10 is kept."
        write_run(folder, record_of(keys[10], (0, 10), stopped=stopped))
        await until(pilot, lambda: "1 ended early" in lines(page(app).status)[0])
        state.row = keys[10]
        page(app).show()
        assert stopped[:40] in str(page(app).runs_table.border_title)
        await pilot.press("i")
        assert isinstance(app.screen, TextScreen)


async def test_a_folder_that_goes_away_is_said_and_comes_back(opened: Open, folder: Path) -> None:
    async with opened(folder) as (app, pilot):
        kept = folder.with_name("kept")
        folder.rename(kept)
        await until(pilot, lambda: "holds no experiment of tpe train-on" in " ".join(plot(app).split()))
        assert not page(app).runs_table.display
        shutil.move(kept, folder)
        await until(pilot, lambda: page(app).runs_table.display)
        assert "●" in plot(app)


@pytest.mark.parametrize("length", range(1, 80))
def test_a_command_in_a_sentence_stays_whole_however_long_the_folder_is(length: int, tmp_path: Path) -> None:
    folder = tmp_path / ("x" * length)
    with pytest.raises(TpeError) as caught:
        read_experiment(folder)
    state = ExperimentState(folder=folder, problem=str(caught.value))
    lines = experiment_explanation(state, lambda action: "k", 76)
    assert "holds no experiment of tpe train-on" in " ".join(lines)
    assert all(cell_len(line) <= 76 for line in lines)


async def test_every_figure_that_is_measured_can_be_drawn(opened: Open, folder: Path) -> None:
    async with opened(folder) as (app, pilot):
        state = app.reader.experiment.state
        measured = {record["figure"] for record in read_experiment(folder).bands()}
        seen = []
        for _ in range(len(measured)):
            seen.append(state.figure)
            assert state.measure.label in title(app)
            await pilot.press("f")
        assert set(seen) == measured
        assert state.figure == seen[0]
        await pilot.press("F")
        assert state.figure == seen[-1]


async def test_a_hidden_variant_is_not_drawn(opened: Open, folder: Path) -> None:
    async with opened(folder) as (app, pilot):
        before = plot(app)
        await pilot.press("space")
        assert "●" in before
        assert "●" not in plot(app)
        assert "- kept" in row(app, "kept")
        await pilot.press("space")
        assert plot(app) == before


async def test_rows_and_steps_have_a_cursor_each(opened: Open, folder: Path) -> None:
    async with opened(folder) as (app, pilot):
        state = app.reader.experiment.state
        await pilot.press("j")
        assert state.row == ("same", "low", "kept", 0)
        await pilot.press("tab")
        assert state.row == ("fast", "low", "kept", 0)
        await pilot.press("shift+tab", *"kkkk")
        assert state.row == ("same", "low", "kept")
        await pilot.press("g")
        assert state.at == 0
        await pilot.press("colon", "3", "l")
        assert state.at == 30
        await pilot.press("G")
        assert state.at == 40


async def test_the_pages_lead_to_each_other(opened: Open, folder: Path) -> None:
    log = run_folder(folder, ("same", "low", "kept", 0)) / "probe.jsonl"
    log.write_text("")
    async with opened(folder) as (app, pilot):
        await pilot.press("1")
        assert isinstance(app.screen, DynamicsScreen)
        assert [source.name for source in app.reader.state.sources] == [str(log)]
        await pilot.press("2")
        assert isinstance(app.screen, ExperimentScreen)
        await pilot.press("escape")
        assert isinstance(app.screen, ExperimentScreen), "nothing lies below it"
    async with opened(None, str(log)) as (app, pilot):
        assert isinstance(app.screen, DynamicsScreen)
        await pilot.press("2")
        assert page(app).state.folder == folder, "the experiment that the log belongs to"
        await pilot.press("1")
        assert isinstance(app.screen, DynamicsScreen)


async def test_a_folder_can_be_typed(opened: Open, folder: Path, tmp_path: Path) -> None:
    async with opened(None, "demo") as (app, pilot):
        await pilot.press("2")
        assert isinstance(app.screen, Ask)
        await type_line(pilot, str(tmp_path / "nothing"))
        assert isinstance(app.screen, Ask), "what holds none is said, and the question stays"
        await type_line(pilot, str(folder))
        await until(pilot, lambda: isinstance(app.screen, ExperimentScreen))
        await until(pilot, lambda: "●" in plot(app))


async def test_nothing_measured_yet_is_said(opened: Open, tmp_path: Path) -> None:
    keys = write_experiment(tmp_path / "new", done=0)
    write_run(tmp_path / "new", replace(record_of(keys[0]), points=()))
    async with opened(tmp_path / "new") as (app, pilot):
        assert "No run has saved figures yet" in plot(app)
        assert "0 of 2 done" in row(app, "▸")
        await pilot.press("j", "l", "f", "tab", "m", "space", "y", "n", "H")
        assert isinstance(app.screen, TextScreen)


async def test_the_command_line_names_the_folder(opened: Open, folder: Path) -> None:
    async with opened(folder) as (app, _):
        assert f"tpe train-on --screen --out {folder}" in page(app).headless()


async def test_the_figures_over_seeds_are_exported(opened: Open, folder: Path, tmp_path: Path) -> None:
    path, other = tmp_path / "figures.csv", tmp_path / "other.csv"
    other.write_text("name,value\n")
    async with opened(folder) as (app, pilot):
        await pilot.press("e")
        assert isinstance(app.screen, Ask)
        assert app.screen.query_one(Input).value == "tpe-experiment-runs.csv"
        await type_line(pilot, str(other))
        assert isinstance(app.screen, Ask), "a file of another kind is not replaced"
        await type_line(pilot, str(path))
        await until(pilot, path.exists)
        await until(pilot, lambda: "written to" in app.workspace.status.text)
        assert path.read_text() == read_experiment(folder).to_table().csv()
        await pilot.press("e")
        assert app.screen.query_one(Input).value == str(path), "where the last one went"


async def test_nothing_is_exported_before_there_is_a_figure(opened: Open, tmp_path: Path) -> None:
    write_experiment(tmp_path / "none", done=-1)
    async with opened(tmp_path / "none") as (app, pilot):
        await pilot.press("e")
        assert isinstance(app.screen, ExperimentScreen)
        assert "nothing to export" in app.workspace.status.text
