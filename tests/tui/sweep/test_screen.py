"""The sweep screen under a pilot: curves as they arrive, the keys, cancelling, applying a point; and its pictures."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from textual.content import Content
from textual.pilot import Pilot

from tests.tui.fakes import FakeSession, opening
from tests.tui.helpers import Gate, Start, answered, lines, until
from tpe_core.edits.replacements import ROTATE
from tpe_core.errors import NumericalError
from tpe_core.options import RunOptions
from tpe_core.pruning.orders import ORDERS
from tpe_core.pruning.results import PruningRequest
from tpe_tui.app import TpeApp
from tpe_tui.dialogs.error import ErrorScreen, TextScreen
from tpe_tui.inspector.screen import InspectScreen
from tpe_tui.sweep.command_line import sweep_lines
from tpe_tui.sweep.curve_plot import CurveFigure, PlottedCurve, figure_lines
from tpe_tui.sweep.curve_table import HEAD_ROWS, columns_for
from tpe_tui.sweep.order_choice import OrderChoice
from tpe_tui.sweep.screen import SweepScreen
from tpe_tui.sweep.state import PLOTTED, SweepState, figure, how_long
from tpe_tui.widgets.curve_style import PALETTE, REFERENCE, mark_of

SIZES = [(80, 24), (160, 48)]


def sweep_screen(app: TpeApp) -> SweepScreen:
    assert isinstance(app.screen, SweepScreen)
    return app.screen


async def swept(app: TpeApp, pilot: Pilot[int]) -> SweepScreen:
    """Open the screen, run the sweep, wait for its end."""
    await pilot.press("w", "r")
    await until(pilot, lambda: app.inspector.runs.sweep.job is None and app.inspector.runs.sweep.result is not None)
    return sweep_screen(app)


@pytest.mark.parametrize("size", SIZES)
async def test_the_empty_screen_says_what_will_happen(start: Start, size: tuple[int, int]) -> None:
    async with start(size=size) as (app, pilot):
        await pilot.press("w")
        text = "\n".join(lines(sweep_screen(app).plots["heldout"]))
        for said in ("64 dimensions", "20 steps", "95%", "slope, random, activation", "least-squares", "takes"):
            assert said in text
        assert app.inspector.runs.sweep.job is None, "nothing runs unasked"
        assert "⏎ Start" in lines(sweep_screen(app).footer)[0]
        await pilot.press("escape")
        assert isinstance(app.screen, InspectScreen)


async def test_the_time_of_a_sweep_is_measured_here_and_now_for_the_orders_that_are_chosen(start: Start) -> None:
    session, gate = FakeSession(), threading.Event()
    session.sweep_seconds = lambda request: gate.wait(20) and 60.0 * request.paths
    async with start(session) as (app, pilot):
        await pilot.press("w")
        shown = lambda: "\n".join(lines(sweep_screen(app).plots["heldout"]))  # noqa: E731
        assert "All of it takes some time;" in shown()
        gate.set()
        paths = app.inspector.runs.sweep.request.paths
        await until(pilot, lambda: f"All of it takes about {paths} min;" in shown())
        await pilot.press("O")
        await until(pilot, lambda: isinstance(app.screen, OrderChoice))
        await pilot.press("space", "enter")  # without the first of them
        await until(pilot, lambda: app.inspector.runs.sweep.request.paths < paths)
        await until(pilot, lambda: f"All of it takes about {app.inspector.runs.sweep.request.paths} min;" in shown())


async def test_without_a_model_there_is_no_sweep(start: Start) -> None:
    gate = Gate(0)
    async with start(opener=opening(FakeSession(), wait=gate), ready=False) as (app, pilot):
        await until(pilot, lambda: app.workspace.status.job is not None)
        await pilot.press("w")
        assert isinstance(app.screen, InspectScreen)
        assert app.workspace.status.text == "the model is still opening"
        gate.open()


async def test_curves_are_drawn_as_they_arrive_and_both_screens_show_the_job(start: Start) -> None:
    session, gate = FakeSession(), Gate(3)
    session.sweep_step = gate
    async with start(session) as (app, pilot):
        await pilot.press("w", "enter")
        state = app.inspector.runs.sweep
        await until(pilot, lambda: state.curve("random") is not None)
        screen = sweep_screen(app)
        drawn = "".join(lines(screen.plots["heldout"]))
        assert "●" in drawn
        assert "○" in drawn
        assert "■" not in drawn, "fisher comes later"
        table = lines(screen.curve_table)
        assert "512 of 4,096 positions" in lines(screen.status)[0]
        assert table[HEAD_ROWS + 3].split()[2:] == ["·"] * 8
        assert "x cancel" in lines(screen.strip)[0]
        await pilot.press("escape")
        assert "x cancel" in lines(app.inspector.strip)[0]
        await pilot.press("j", "space")
        assert len(app.workspace.history.intervention.pruned) == 1, "the inspector is usable meanwhile"
        await pilot.press("r")
        assert "running already" in app.workspace.status.text
        gate.open()
        await until(pilot, lambda: state.job is None)
        assert "done" in app.workspace.status.text
        await pilot.press("w")
        again = sweep_screen(app)
        assert "■" in "".join(lines(again.plots["heldout"])), "a finished sweep is there at once"
        assert " 4,096 positions" in lines(again.status)[0]
        assert session.calls.count("sweep") == 1


async def test_cancelling_keeps_what_was_measured_and_it_runs_again(start: Start) -> None:
    session, gate = FakeSession(), Gate(3)
    session.sweep_step = gate
    async with start(session) as (app, pilot):
        await pilot.press("w", "r")
        state = app.inspector.runs.sweep
        await until(pilot, lambda: state.curve("slope") is not None)
        await pilot.press("x")
        gate.open(1)  # the step it is in
        await until(pilot, lambda: state.job is None)
        assert "cancelled" in lines(sweep_screen(app).status)[0]
        assert "cancelled: what it measured stays" in app.workspace.status.text
        kept = state.result
        assert kept is not None
        session.sweep_step = Gate(0)
        await pilot.press("r")
        assert state.stale
        assert "of the run before this one" in lines(sweep_screen(app).status)[0]
        roles = {
            role for y in range(8) for text, role in sweep_screen(app).plots["heldout"].line(y, 80)[0] if "●" in text
        }
        assert roles <= {"muted", "here"}, "dimmed"
        await pilot.press("x")
        session.sweep_step.open()
        await until(pilot, lambda: state.job is None)
        assert state.result is kept, "what brought nothing replaces nothing"
        assert not state.stale
        session.sweep_step = lambda: None
        await pilot.press("r")
        await until(pilot, lambda: state.job is None)
        assert state.result is not None
        assert state.result.complete
        assert "cancelled" not in lines(sweep_screen(app).status)[0]


async def test_the_table_shows_the_figures_at_the_cursor(start: Start) -> None:
    async with start(size=(160, 48)) as (app, pilot):
        screen, state = await swept(app, pilot), app.inspector.runs.sweep
        await pilot.press("l", "l", "h", "j")
        assert (state.at, state.selected) == (7, "random")
        assert "34% removed: 22 of 64" in str(screen.curve_table.border_title)
        for row, name in enumerate(state.names):
            curve = state.curve(name)
            assert curve is not None
            shown = lines(screen.curve_table)[HEAD_ROWS + row].lstrip("▸ ").split()
            wanted = [mark_of(name)[0], name]
            for domain in ("heldout", "ood"):
                keys = ("kl", "js", "top1", "perplexity", "entropy")
                wanted += [figure(key, float(curve.mean(domain, key)[7])) for key in keys]
                draws = curve.draws(domain, "kl")[:, 7]
                wanted += [f"{draws.min():.4f}–{draws.max():.4f}"] if name == "random" else []
            assert shown == wanted
        await pilot.press("g")
        assert state.at == 0
        await pilot.press("h", "G", "l")
        assert state.at == 19


async def test_keys_choose_what_is_drawn(start: Start) -> None:
    async with start() as (app, pilot):
        screen, state = await swept(app, pilot), app.inspector.runs.sweep

        def title() -> str:
            return Content.from_markup(str(screen.plots[state.domain].border_title)).plain

        assert "KL, nats, log · held-out" in title()
        seen = []
        for _ in range(4):
            await pilot.press("f")
            seen.append(state.metric.name)
        assert seen == ["js", "top1", "perplexity", "kl"]
        await pilot.press("y")
        assert "log" not in title()
        await pilot.press("f", "f", "y")
        assert "always linear" in app.workspace.status.text
        await pilot.press("o")
        assert "out of domain" in title()
        assert not screen.plots["heldout"].display
        zero = lines(screen.curve_table)[HEAD_ROWS]
        await pilot.press("m")
        assert state.replacement == "mean"
        assert lines(screen.curve_table)[HEAD_ROWS] != zero
        rotated = lines(screen.curve_table)[HEAD_ROWS + 5]
        await pilot.press("m")
        assert lines(screen.curve_table)[HEAD_ROWS + 5] == rotated, "the reference is the same beside everything"
        await pilot.press("tab", "shift+tab", "k")
        assert state.selected == ROTATE
        assert "×" in "".join(lines(screen.plots["ood"]))
        await pilot.press("space")
        assert "×" not in "".join(lines(screen.plots["ood"]))
        assert lines(screen.curve_table)[HEAD_ROWS + 5].startswith("▸- rotate")
        await pilot.press("space")
        assert "×" in "".join(lines(screen.plots["ood"]))


async def test_a_point_becomes_one_undoable_edit(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        await pilot.press("2", "]", "1", "space")
        before = app.workspace.history.intervention
        await swept(app, pilot)
        await pilot.press("m", "l", "enter")
        assert isinstance(app.screen, InspectScreen)
        edit = app.workspace.history.intervention
        wanted = np.argsort(np.abs(session.table.slope), kind="stable")[:22]
        assert edit.pruned == tuple(sorted(int(dim) for dim in wanted))
        assert edit.replacement == "mean"
        assert edit.steering == before.steering
        await answered(app, pilot)
        assert "pruned 22 by slope, mean: KL" in app.workspace.status.text
        await pilot.press("u")
        assert app.workspace.history.intervention == before
        await pilot.press("U", "w", "enter")
        assert "in force already" in app.workspace.status.text


async def test_other_orders_are_ticked_and_measured(start: Start) -> None:
    async with start(size=(160, 48)) as (app, pilot):
        screen = await swept(app, pilot)
        await pilot.press("O", "j", "space", "k", "space", "enter")
        await until(pilot, lambda: app.screen is screen)
        chosen = ("slope-std", "random", "activation", "fisher", "fisher-obs")
        assert screen.state.request.orders == chosen
        assert screen.state.selected == chosen[0]
        assert "r measures slope-std" in lines(app.inspector.strip)[0]
        await pilot.press("r")
        await until(pilot, lambda: screen.state.job is None and screen.state.curve("slope-std") is not None)
        assert screen.state.curve("slope") is None
        assert "slope-std" in sweep_lines(app.workspace.options, screen.state)
        await pilot.press("O", *["space", "j"] * len(ORDERS), "enter")  # everything the other way round
        await until(pilot, lambda: app.screen is screen)
        assert screen.state.request.orders == tuple(name for name in ORDERS if name not in chosen)
        await pilot.press("r")
        await until(pilot, lambda: screen.state.job is None and screen.state.curve("component") is not None)
        screen.state.selected = "component"
        await pilot.press("enter")  # no mask of dimensions can say it, and an empty one least of all
        assert app.screen is screen
        assert "choose another curve" in lines(app.inspector.strip)[0]
        await pilot.press("O", "k", "space")
        before = screen.state.request.orders
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is screen)
        assert screen.state.request.orders == before


async def test_at_least_one_order_is_ticked(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press("w", "O")
        ticked = [key for name in ORDERS for key in (["space", "j"] if name in PruningRequest().orders else ["j"])]
        await pilot.press(*ticked, "enter")
        assert isinstance(app.screen, OrderChoice)
        await pilot.press("escape")
        assert sweep_screen(app).state.request.orders == PruningRequest().orders


def test_every_order_of_the_engine_has_a_mark_of_its_own() -> None:
    assert len(ORDERS) <= len(PALETTE)
    assert len({mark_of(name)[0] for name in (*ORDERS, ROTATE)}) == len(ORDERS) + 1


async def test_a_rotated_point_cannot_be_a_mask(start: Start) -> None:
    async with start() as (app, pilot):
        screen = await swept(app, pilot)
        await pilot.press("k", "enter")
        assert app.screen is screen
        assert "no mask can say it" in lines(screen.strip)[0]
        assert app.workspace.history.intervention.is_empty


async def test_a_point_that_is_not_measured_is_a_sentence(start: Start) -> None:
    session, gate = FakeSession(), Gate(2)
    session.sweep_step = gate
    async with start(session) as (app, pilot):
        await pilot.press("w", "r")
        await until(pilot, lambda: app.inspector.runs.sweep.curve("slope") is not None)
        await pilot.press("m")
        assert "comes later in this run" in lines(sweep_screen(app).strip)[0] or app.workspace.status.job
        await pilot.press("enter")
        assert isinstance(app.screen, SweepScreen)
        assert "not measured with mean yet" in app.workspace.status.text
        gate.open()


async def test_a_failure_is_a_modal_over_the_screen(start: Start) -> None:
    session = FakeSession()
    session.sweep_fail = NumericalError("the logits are not finite: choose float32.")
    async with start(session) as (app, pilot):
        await pilot.press("w", "r")
        await until(pilot, lambda: isinstance(app.screen, ErrorScreen))
        assert "not finite" in app.screen.failure.sentence
        await pilot.press("escape")
        assert "failed" in lines(sweep_screen(app).strip)[0]


async def test_a_new_detection_makes_it_old_and_another_model_drops_it(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        await swept(app, pilot)
        await pilot.press("escape", "r")
        await until(pilot, lambda: "detect_again" in session.calls and app.workspace.status.job is None)
        await pilot.press("w")
        assert "of the detection before this one" in lines(sweep_screen(app).status)[0]
        await pilot.press("escape")
        app.show_session(FakeSession(d=32, name="other"))
        assert app.inspector.runs.sweep.result is None


async def test_the_mouse_points_and_picks(start: Start) -> None:
    async with start() as (app, pilot):
        screen, state = await swept(app, pilot), app.inspector.runs.sweep
        await pilot.click(screen.curve_table, offset=(5, 1 + HEAD_ROWS + 4))
        assert state.selected == "fisher-obs"
        await pilot.click(screen.plots["heldout"], offset=(79, 5))
        assert state.at == 19
        await pilot.click(screen.footer, offset=(55, 0))
        assert isinstance(app.screen, TextScreen)


async def test_remapped_keys_work_here_too(start: Start, tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text('run.rerun = "R"\nplot.next = "L"\n')
    async with start() as (app, pilot):
        await pilot.press("w", "r")
        assert app.inspector.runs.sweep.job is None
        await pilot.press("R")
        await until(pilot, lambda: app.inspector.runs.sweep.job is None and app.inspector.runs.sweep.result is not None)
        await pilot.press("L", "l")
        assert app.inspector.runs.sweep.at == 7


@pytest.mark.parametrize("size", [(60, 16), (79, 20), (120, 28)])
async def test_other_sizes_keep_their_lines(start: Start, size: tuple[int, int]) -> None:
    async with start(size=size) as (app, pilot):
        screen = await swept(app, pilot)
        assert "●" in "".join(lines(screen.plots["heldout"]))
        row = lines(screen.curve_table)[HEAD_ROWS]
        assert cell_len(row) <= size[0]
        assert "slope" in row
        await pilot.resize_terminal(50, 12)
        await pilot.pause()
        assert screen.has_class("-small")


async def test_the_command_line_of_what_is_shown(start: Start) -> None:
    async with start() as (app, pilot):
        await swept(app, pilot)
        await pilot.press("H")
        assert isinstance(app.screen, TextScreen)
    text = sweep_lines(RunOptions(model="gpt2"), replace(SweepState(), replacement="mean"))
    assert "tpe prune gpt2 --order slope,random,activation,fisher,fisher-obs --replace zero,mean" in text
    assert "--order slope --replace mean --fractions 0.3 --save" in text
    assert "--save" not in sweep_lines(RunOptions(), replace(SweepState(), selected=ROTATE))


def picture(log: bool = True, cursor: int = 3) -> CurveFigure:
    x = np.linspace(0, 95, 20)
    y = (x / 50) ** 2
    curves = [PlottedCurve(name, y * 1.5**at) for at, name in enumerate((*ORDERS, ROTATE)) if name != "random"]
    return CurveFigure(x=x, curves=(PlottedCurve("random", y * 6, y * 4, y * 9), *curves), cursor=cursor, log=log)


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("size", [(72, 30), (52, 12), (20, 6), (12, 3), (5, 1), (0, 0)])
def test_every_line_of_a_picture_is_as_wide_as_asked(size: tuple[int, int], log: bool) -> None:
    drawn = figure_lines(picture(log), *size)
    assert [sum(cell_len(text) for text, _ in line) for line in drawn] == [size[0]] * size[1]


def test_every_curve_can_be_told_without_colour() -> None:
    assert len({mark for mark, _ in (*PALETTE, REFERENCE)}) == len(PALETTE) + 1
    text = "".join(text for line in figure_lines(picture(), 90, 40) for text, _ in line)
    assert all(mark_of(curve.name)[0] in text for curve in picture().curves)
    assert "░" in text
    assert "│" in text


def test_marks_lie_on_their_line_and_the_cursor_on_its_point() -> None:
    x = np.linspace(0, 95, 20)
    drawn = figure_lines(CurveFigure(x=x, curves=(PlottedCurve("slope", x),), cursor=10, log=False), 60, 20)
    text = ["".join(part for part, _ in line) for line in drawn]
    marked = [(row, line.index("●")) for row, line in enumerate(text) if "●" in line]
    columns = [column for _, column in marked]
    assert columns == sorted(columns, reverse=True), "a rising line rises"
    here = [(y, sum(len(part) for part, _ in line[: at])) for y, line in enumerate(drawn)
            for at, (_, role) in enumerate(line) if role == "here"]  # fmt: skip
    rules = {line.index("│", 8) for line in text[:-1] if "│" in line[8:]}
    assert len(here) == 1
    assert rules == {here[0][1]}


def test_nothing_on_a_logarithmic_axis_for_what_is_zero() -> None:
    x = np.array([0.0, 50.0, 90.0])
    text = figure_lines(
        CurveFigure(x=x, curves=(PlottedCurve("slope", np.array([0.0, 0.1, 1.0])),), cursor=0, log=True), 60, 20
    )
    assert sum(part.count("●") for line in text for part, _ in line) == 2
    nothing = figure_lines(
        CurveFigure(x=x, curves=(PlottedCurve("slope", np.full(3, np.nan)),), cursor=0, log=True), 60, 20
    )
    assert not any("●" in part for line in nothing for part, _ in line)


def test_a_stale_picture_is_dim() -> None:
    roles = {role for line in figure_lines(replace(picture(), stale=True), 60, 20) for _, role in line}
    assert not {role for _, role in (*PALETTE, REFERENCE)} & roles


def test_small_helpers() -> None:
    assert [figure("kl", value) for value in (0.01234, 12.3456, float("nan"))] == ["0.0123", "12.35", "·"]
    assert figure("top1", 0.7126) == "71.3%"
    assert [len(columns_for(width)) for width in (60, 64, 79, 160)] == [2, 3, 4, 6]
    assert [how_long(value) for value in (None, 3.0, 120.0, 9000.0)] == [
        "some time", "about 10 s", "about 2 min", "about 2.5 h",
    ]  # fmt: skip
    assert [metric.name for metric in PLOTTED] == ["kl", "js", "top1", "perplexity"]
