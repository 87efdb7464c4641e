"""The dynamics screen under a pilot: over the inspector and on its own, curves as they come, and every key."""

from __future__ import annotations

import csv
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.content import Content
from textual.pilot import Pilot

from tests.tui.fakes import FakeSession, opening
from tests.tui.helpers import Gate, Start, answered, lines, type_line, until
from tests.tui.trajectories import KNOWN, STEPS, FakeReader, trajectory
from tpe_core.errors import TpeError
from tpe_core.options import RunOptions
from tpe_tui.app import TpeApp
from tpe_tui.dialogs.ask import Ask
from tpe_tui.dialogs.error import TextScreen
from tpe_tui.dynamics.app import DynamicsApp
from tpe_tui.dynamics.screen import DynamicsScreen
from tpe_tui.dynamics.state import SHAPES, DynamicsState
from tpe_tui.dynamics.table import DynamicsTable, figure
from tpe_tui.inspector.screen import InspectScreen
from tpe_tui.shell.engine_app import EngineApp

SIZES = [(80, 24), (160, 48)]
Open = Callable[..., AbstractAsyncContextManager[tuple[DynamicsApp, Pilot[int]]]]


@pytest.fixture
def reader() -> FakeReader:
    return FakeReader()


@pytest.fixture
def alone(tmp_path: Path, reader: FakeReader) -> Open:
    """`async with alone(*names, size=…) as (app, pilot)`: the screen on its own, with everything read."""

    @asynccontextmanager
    async def run(
        *names: str, size: tuple[int, int] = (80, 24), ready: bool = True
    ) -> AsyncIterator[tuple[DynamicsApp, Pilot[int]]]:
        app = DynamicsApp(
            names, reader, ["--counts", "c.npy"],
            state_dir=tmp_path / "state", keys_file=tmp_path / "keys.toml", clock=lambda: 0.0,
        )  # fmt: skip
        async with app.run_test(size=size) as pilot:
            if ready:
                await read(app, pilot)
            yield app, pilot
        app.host.stop()

    return run


async def read(app: DynamicsApp, pilot: Pilot[int]) -> None:
    await until(
        pilot, lambda: app.reader.state.job is None and not any(each.pending for each in app.reader.state.sources)
    )


def dynamics_screen(app: EngineApp) -> DynamicsScreen:
    assert isinstance(app.screen, DynamicsScreen)
    return app.screen


def drawn(app: EngineApp) -> str:
    return "".join("".join(lines(plot)) for plot in dynamics_screen(app).plots if plot.display)


def table(app: EngineApp) -> list[str]:
    return lines(dynamics_screen(app).table)


def title(app: EngineApp, plot: int = 0) -> str:
    return Content.from_markup(str(dynamics_screen(app).plots[plot].border_title)).plain


def strip(app: EngineApp) -> str:
    return lines(dynamics_screen(app).strip)[0]


async def test_it_opens_over_the_inspector_with_the_models_own_dynamics(start: Start, reader: FakeReader) -> None:
    async with start(dynamics_reader=lambda _options: reader) as (app, pilot):
        await pilot.press("D")
        dynamics = app.inspector.runs.dynamics
        assert dynamics is not None
        await until(pilot, lambda: dynamics.state.job is None)
        assert reader.read == ["demo"]
        assert "demo · 12 checkpoints" in lines(dynamics_screen(app).status)[0]
        assert "●" in drawn(app)
        assert "○" in drawn(app)
        await pilot.press("j", "escape")
        assert isinstance(app.screen, InspectScreen)
        await pilot.press("D")
        assert dynamics.state.row == "r2", "it is as it was left"
        assert reader.read == ["demo"], "and read once"
        await pilot.press("q")
        assert isinstance(app.screen, InspectScreen)
        app.show_session(FakeSession(d=32, name="other"))
        assert app.inspector.runs.dynamics is None, "another model has another training"


async def test_of_another_model_nothing_is_read_unasked(tmp_path: Path, reader: FakeReader) -> None:
    app = TpeApp(
        RunOptions(model="runs/other"), opener=opening(FakeSession(name="runs/other")), lister=list,
        dynamics_reader=lambda _options: reader, state_dir=tmp_path, keys_file=tmp_path / "k.toml", clock=lambda: 0.0,
    )  # fmt: skip
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.workspace.session is not None)
        await answered(app, pilot)
        await pilot.press("D")
        text = drawn(app)
        for said in ("how often tokens occur", "runs/other", "r reads", "o adds a source"):
            assert said in text
        assert reader.read == []
        await pilot.press("r")
        await until(pilot, lambda: "●" in drawn(app))
        assert reader.read == ["runs/other"]
    app.host.stop()


async def test_the_inspectors_job_and_its_own_do_not_mix(start: Start, reader: FakeReader) -> None:
    session, gate = FakeSession(), Gate(2)
    session.sweep_step = gate
    async with start(session, dynamics_reader=lambda _options: reader) as (app, pilot):
        reader.step = Gate(3)
        await pilot.press("w", "r", "escape", "D")
        assert "queued behind pruning sweep" in app.workspace.status.text
        assert reader.read == []
        gate.open()
        await until(pilot, lambda: app.inspector.runs.sweep.job is None)
        await until(pilot, lambda: "●" in drawn(app))
        assert "x cancel" in strip(app)
        await pilot.press("escape", "w", "r")
        assert "queued behind training dynamics" in app.workspace.status.text
        await pilot.press("x")
        await until(pilot, lambda: app.inspector.runs.sweep.job is None)
        assert app.workspace.status.label == "training dynamics", "the screen's own job was cancelled, not the other"
        await pilot.press("x")
        reader.step.open()
        await until(pilot, lambda: app.workspace.status.job is None)
        assert "what is read stays" in app.workspace.status.text


async def test_curves_grow_and_stopping_keeps_them(alone: Open, reader: FakeReader) -> None:
    gate = reader.step = Gate(4)
    async with alone("demo", "flawed", ready=False) as (app, pilot):
        state = app.reader.state
        await until(pilot, lambda: len(state.sources[0].points) == 4)
        assert "x cancel" in strip(app)
        assert "is read…" in table(app)[0]
        assert "waits" in table(app)[0]
        assert state.at == STEPS[3]
        await pilot.press("h")
        gate.open(2)
        await until(pilot, lambda: len(state.sources[0].points) == 6)
        assert state.at == STEPS[2], "the cursor stays where it was put"
        await pilot.press("x")
        gate.open(1)
        await until(pilot, lambda: state.job is None)
        assert "stopped: what is read stays; r reads on" in strip(app)
        assert len(state.sources[0].points) >= 6
        assert reader.read == ["demo"]
        gate.open()
        await pilot.press("r")
        await read(app, pilot)
        assert reader.read == ["demo", "demo", "flawed"]
        assert "step128 has the weights of step256." in strip(app), "the one warning itself"


async def test_another_source_is_added_while_a_log_is_followed(alone: Open, reader: FakeReader) -> None:
    gate = Gate(3)
    reader.step = gate
    async with alone("live.jsonl", ready=False) as (app, pilot):
        state = app.reader.state
        await until(pilot, lambda: len(state.sources[0].points) == 3)
        assert "followed…" in table(app)[0]
        await pilot.press("o")
        assert isinstance(app.screen, Ask)
        await type_line(pilot, "  ")
        assert isinstance(app.screen, Ask), "an empty name is asked again"
        await type_line(pilot, "runs/other")
        gate.open()
        await read(app, pilot)
        assert [source.status for source in state.sources] == ["done", "done"]
        assert [len(source.points) for source in state.sources] == [12, 5]
        assert reader.read == ["live.jsonl", "runs/other", "live.jsonl"]
        assert "▸▲ other" in table(app)[0]


async def test_what_cannot_be_read_is_said_and_leaving_says_1(alone: Open, reader: FakeReader) -> None:
    async with alone("nothing") as (app, pilot):
        assert "there is nothing called nothing" in drawn(app)
        assert "there is nothing called nothing" in strip(app)
        await pilot.press("e")
        assert "nothing to export" in strip(app)
        await pilot.press("j", "h", "space", "a", "n", "d", "d", "y", "tab")
        await pilot.press("i")
        assert isinstance(app.screen, TextScreen)
        await pilot.press("escape", "escape")
        assert "q leaves" in strip(app), "escape alone does not end an app"
        await pilot.press("q")
        await pilot.pause()
    assert app.return_value == 1
    assert app.problem is not None
    reader.read.clear()
    async with alone("nothing", "demo") as (app, pilot):
        assert "▲" in drawn(app)
        assert "failed" in table(app)[0]
        await pilot.press("minus")
        assert "nothing" not in table(app)[0]
        assert "●" in drawn(app)
        assert [source.name for source in app.reader.state.sources] == ["demo"]
        await pilot.press("ctrl+q")
        await pilot.pause()
    assert app.return_value == 0


def test_more_sources_than_marks_are_refused(reader: FakeReader) -> None:
    with pytest.raises(TpeError, match=f"tells {len(SHAPES)} sources apart, not 7"):
        DynamicsApp([str(number) for number in range(7)], reader)


async def test_the_table_has_the_figures_at_the_cursor(alone: Open) -> None:
    async with alone("demo", "flawed", size=(160, 48)) as (app, pilot):
        state = app.reader.state
        await pilot.press("h", "h", "h")
        step = STEPS[-4]
        assert state.at == step
        rows = {
            row.key: line for row, line in zip(state.quantities, table(app)[DynamicsTable.HEAD_ROWS :], strict=False)
        }
        assert "step 128" in table(app)[0]
        assert "step128 = step256" in table(app)[1]
        for key, attribute in (("r2_adjusted", "r2_adjusted"), ("r2", "r2"), ("r2_heldout_vocab", "r2_heldout_vocab")):
            for name, mark in (("demo", "●"), ("flawed", "▲")):
                whole = KNOWN[name]
                wanted = getattr(next(each for each in whole.points if each.step == step), attribute)
                last = getattr(whole.points[-1], attribute)
                assert f"{wanted:.4f}" in rows[key]
                assert f"{last:.4f}" in rows[key]
                assert (mark in rows[key]) == (key == "r2_adjusted")
        half = [KNOWN[name].halfway() for name in ("demo", "flawed")]
        for found in half:
            assert f"{found['encoding']} · {found['parameters']:,}" in table(app)[2]
        await pilot.press("g", "l", "l", "l", "l", "l", "l")
        assert state.at == 32
        assert "step16" in table(app)[1], "flawed has no step 32: the one before"
        await pilot.press("G")
        assert state.at == 1000


async def test_keys_choose_what_is_drawn(alone: Open) -> None:
    async with alone("demo") as (app, pilot):
        assert "R² of -log frequency, distance to the final weights · log steps" in title(app)
        await pilot.press("y")
        assert "linear steps" in title(app)
        await pilot.press("y")
        before = drawn(app)
        await pilot.press("space")
        assert "●" not in drawn(app)
        assert title(app).strip().startswith("distance")
        await pilot.press("space")
        assert drawn(app) == before
        await pilot.press("j", "space")
        assert "R" in drawn(app)
        await pilot.press("j", "j", "j", "a")
        marks = {glyph for (_, key), (glyph, _) in app.reader.state.marks().items() if key.startswith("convergence")}
        assert marks == {"○", "e", "m", "2", "1"}
        plotted = "".join("".join(line[8:]) for line in lines(dynamics_screen(app).plots[0])[:-1])
        assert all(glyph in plotted for glyph in ("e", "2", "1"))
        await pilot.press("k", "a")
        assert not any(key.startswith("convergence") for _, key in app.reader.state.marks())
        await pilot.press("k")
        state = app.reader.state
        while state.row != "loss":
            await pilot.press("j")
        await pilot.press("space")
        assert "nats a token" in title(app)
        assert "l" in drawn(app)


async def test_two_plots_where_they_fit_with_one_axis(alone: Open) -> None:
    async with alone("demo", size=(160, 48)) as (app, pilot):
        upper, lower = dynamics_screen(app).plots
        assert title(app).strip().startswith("R² of")
        assert title(app, 1).strip().startswith("distance to the final")
        assert upper.region.x == lower.region.x
        assert upper.region.bottom == lower.region.y
        assert lines(upper)[-1] == lines(lower)[-1], "the same steps above each other"
        assert "○" not in "".join(lines(upper))
        await pilot.resize_terminal(160, 30)
        await pilot.pause()
        assert upper.region.y == lower.region.y
        assert lower.region.x > upper.region.x
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert not lower.display
        assert "○" in "".join(lines(upper))


async def test_half_way_steps_and_facts(alone: Open) -> None:
    async with alone("flawed") as (app, pilot):
        half = KNOWN["flawed"].halfway()
        await pilot.press("n")
        assert app.reader.state.at == half["encoding"]
        assert f"encoding half-way at step {half['encoding']}" in strip(app)
        text = drawn(app)
        assert text.count("½") == 2
        assert "=" in text
        assert "!" in text
        assert "1 duplicate" in lines(dynamics_screen(app).status)[0]
        assert "2 skipped" in lines(dynamics_screen(app).status)[0]
        await pilot.press("i", "y")
        assert "model.safetensors is cut short" in app.clipboard


@pytest.mark.parametrize("suffix", [".json", ".csv"])
async def test_the_data_are_exported(alone: Open, tmp_path: Path, suffix: str) -> None:
    async with alone("demo", "flawed") as (app, pilot):
        path = tmp_path / f"data{suffix}"
        await pilot.press("e")
        await type_line(pilot, str(tmp_path / "data.txt"))
        assert isinstance(app.screen, Ask), "a name that says no kind is asked again"
        await type_line(pilot, str(path))
        await until(pilot, lambda: "written to" in app.workspace.status.text)
        assert "data" in strip(app)
        if suffix == ".json":
            wanted = {"schema": 1, "sources": [KNOWN[name].to_dict() for name in ("demo", "flawed")]}
            assert json.loads(path.read_text()) == json.loads(json.dumps(wanted))
        else:
            rows = list(csv.DictReader(path.open()))
            assert [float(row["r2_adjusted"]) for row in rows] == [
                each.r2_adjusted for name in ("demo", "flawed") for each in KNOWN[name].points
            ]
        await pilot.press("e")
        await type_line(pilot, str(path / "below.csv"))
        assert isinstance(app.screen, Ask)
        assert app.screen.query_one("#ask-hint").has_class("-problem")


async def test_a_budget_is_shown_before_the_first_checkpoint(alone: Open, reader: FakeReader) -> None:
    reader.budgets["demo"] = "12 checkpoints; about 3 GB to download and keep, 9 GB of disk free"
    gate = reader.step = Gate(0)
    async with alone("demo", ready=False) as (app, pilot):
        await until(pilot, lambda: "about 3 GB" in drawn(app))
        gate.open()
        await read(app, pilot)
        await pilot.press("i", "y")
        assert "about 3 GB" in app.clipboard


async def test_sources_are_hidden_turned_to_and_removed(alone: Open) -> None:
    async with alone("demo", "flawed") as (app, pilot):
        state = app.reader.state
        assert "▲" in drawn(app)
        await pilot.press("tab", "d")
        assert "▲" not in drawn(app)
        assert "▸- flawed" in table(app)[0]
        await pilot.press("shift+tab", "d")
        assert "Every source is hidden" in drawn(app)
        await pilot.press("d", "tab", "d")
        assert "▲" in drawn(app)
        await pilot.press("minus")
        assert [source.name for source in state.sources] == ["demo"]
        await pilot.press("minus")
        assert "No source is open" in drawn(app)
        await pilot.press("r", "o")
        await type_line(pilot, "demo")
        await read(app, pilot)
        assert "●" in drawn(app)


async def test_removing_what_is_read_stops_reading_it(alone: Open, reader: FakeReader) -> None:
    gate = reader.step = Gate(2)
    async with alone("demo", "live.jsonl", ready=False) as (app, pilot):
        state = app.reader.state
        await until(pilot, lambda: len(state.sources[0].points) == 2)
        await pilot.press("minus")
        gate.open(3)
        await until(pilot, lambda: state.sources[0].points)
        assert [source.name for source in state.sources] == ["live.jsonl"]
        await pilot.press("minus")
        gate.open()
        await until(pilot, lambda: state.job is None)
        assert state.sources == []


async def test_the_mouse_points_and_picks(alone: Open) -> None:
    async with alone("demo", "flawed") as (app, pilot):
        screen, state = dynamics_screen(app), app.reader.state
        await pilot.click(screen.table, offset=(60, 1 + DynamicsTable.HEAD_ROWS + 2))
        assert (state.row, state.selected) == ("r2_heldout_vocab", 1)
        await pilot.click(screen.plots[0], offset=(8, 5))
        assert state.at == 0
        await pilot.click(screen.plots[0], offset=(79, 5))
        assert state.at == 1000
        await pilot.click(screen.footer, offset=(15, 0))
        assert not state.log


async def test_the_row_under_the_cursor_stays_in_view(alone: Open) -> None:
    async with alone("demo") as (app, pilot):
        keys = [row.key for row in app.reader.state.quantities]
        await pilot.press("k")
        assert app.reader.state.row == keys[-1]
        assert any(line.startswith("▸") for line in table(app))
        await pilot.press("j")
        assert table(app)[DynamicsTable.HEAD_ROWS].startswith("▸adj R²")


@pytest.mark.parametrize("size", [(60, 16), (79, 20), (120, 28), (200, 60)])
async def test_other_sizes_keep_their_lines(alone: Open, size: tuple[int, int]) -> None:
    async with alone("demo", "flawed", "runs/other", size=size) as (app, pilot):
        assert "●" in drawn(app)
        assert all(cell_len(line) <= size[0] for line in table(app))
        assert "adj R²" in table(app)[DynamicsTable.HEAD_ROWS]
        await pilot.press("tab", "tab")
        assert "▸■ other" in table(app)[0], "the selected source is among those that fit"
        await pilot.resize_terminal(50, 12)
        await pilot.pause()
        assert dynamics_screen(app).has_class("-small")


async def test_help_and_the_command_line(alone: Open) -> None:
    async with alone("demo") as (app, pilot):
        await pilot.press("H", "y")
        assert "tpe dynamics demo --counts c.npy" in app.clipboard
        await pilot.press("escape", "question_mark", "y")
        assert "left edge" in app.clipboard
        assert "last step" in app.clipboard


async def test_remapped_keys_work_here_too(alone: Open, tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text('"plot.previous" = "B"\n')
    async with alone("demo") as (app, pilot):
        await pilot.press("h")
        assert app.reader.state.at == 1000
        await pilot.press("B")
        assert app.reader.state.at == 512


def test_figures_in_few_cells() -> None:
    assert [figure(value) for value in (0.0, 0.51234, -0.25, float("nan"), 1.5e-5, 31.4, 1234.5)] == [
        "0.0000", "0.5123", "-0.2500", "·", "1.5e-05", "31.40", "1234"
    ]  # fmt: skip


def test_a_trajectory_that_says_nothing_new_changes_nothing() -> None:
    state = DynamicsState()
    (source,) = state.add(["demo"])
    assert source.grow(trajectory())
    assert not source.grow(trajectory())
