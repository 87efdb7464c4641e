"""The fit screen under a pilot: figures and words, the table of tokens, the cursor in the plot, the file."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from textual.pilot import Pilot

from tests.tui.fakes import FakeSession, opening
from tests.tui.helpers import Start, answered, lines, type_line, until
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import NumericalError
from tpe_core.options import RunOptions
from tpe_tui.app import TpeApp
from tpe_tui.dialogs.question import Question
from tpe_tui.fit.screen import FitScreen
from tpe_tui.fit.token_table import COLUMNS
from tpe_tui.fit_figures import fit_figures

SIZES = [(80, 24), (160, 48)]


async def opened(app: TpeApp, pilot: Pilot[int]) -> FitScreen:
    await pilot.press("F")
    await until(pilot, lambda: isinstance(app.screen, FitScreen) and app.screen.figure_list.n_rows)
    screen = app.screen
    assert isinstance(screen, FitScreen)
    await until(pilot, lambda: np.isfinite(screen.tokens.figures["log_p"]).all())
    return screen


@pytest.mark.parametrize("view", ["figures", "plot"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_view(snap_compare, tmp_path: Path, size: tuple[int, int], view: str) -> None:
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
        await answered(app, pilot)
        await opened(app, pilot)
        await pilot.press(*{"figures": ["2", "j", "j"], "plot": ["3", "l", "l", "l", "k"]}[view])
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=prepare)
    app.host.stop()


async def test_every_figure_explains_itself_under_the_cursor(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        screen = await opened(app, pilot)
        figures = fit_figures(session.fit_summary())
        assert list(screen.figure_list.figures) == list(figures)
        await pilot.press("2", "g")
        said = set()
        for figure in figures:
            text = lines(screen.words)[0]
            assert text.strip().startswith(figure.name)
            said.add(screen.words.text)
            await pilot.press("j")
        assert len(said) == len(figures)
        assert lines(screen.words)[-1].strip() == "tpe analyze demo"


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
async def test_the_table_is_sorted_by_every_column_and_keeps_its_token(start: Start, column) -> None:
    async with start(size=(160, 48)) as (app, pilot):
        screen = await opened(app, pilot)
        table = screen.tokens
        token_id = table.token_id
        await pilot.press("1", *["s"] * COLUMNS.index(column))
        assert table.sort == column.name
        assert table.token_id == token_id
        names = table.tokens
        shown = [names[i] if column.name == "token" else table.figures[column.name][i] for i in table.order]
        if column.by_size:
            shown = [abs(value) for value in shown]
        assert shown == sorted(shown, reverse=table.descending)
        first = list(table.order)
        await pilot.press("S")
        assert [shown[first.index(i)] for i in table.order] == sorted(shown, reverse=table.descending)
        assert sorted(table.order.tolist()) == list(range(len(names)))


async def test_moving_in_the_plot_chooses_the_nearest_token_in_the_table(start: Start) -> None:
    session = FakeSession()
    async with start(session, size=(160, 48)) as (app, pilot):
        screen = await opened(app, pilot)
        await pilot.press("1", "g", "3")
        plot, fit = screen.plot, session.table
        assert fit.surprisal[screen.tokens.token_id] == fit.surprisal.min()
        await pilot.press(*["l"] * 5)
        assert plot.cell is not None
        assert screen.tokens.token_id == plot.token_id
        screen.action_across(400)
        screen.action_move(-400)
        await pilot.pause()
        assert screen.tokens.token_id == plot.token_id
        assert fit.surprisal[plot.token_id] > np.quantile(fit.surprisal, 0.98)
        for token_id in (3, 250, 599):  # where a token is drawn alone, its own cell finds it or one in that cell
            screen.tokens.select(token_id)
            await pilot.pause()
            assert plot.token_id == token_id
            cell = plot._own_cell()
            plot.point(*cell)
            assert plot._own_cell() == cell
        assert any("◆" in line for line in lines(plot))


async def test_search_jump_and_copy_are_about_the_same_token(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        screen = await opened(app, pilot)
        await pilot.press("1", "/")
        await type_line(pilot, "class")
        await until(pilot, lambda: app.screen is screen)
        token_id = screen.tokens.token_id
        assert session.table.tokens[token_id] == "·class"
        await pilot.press("n")
        assert "class" in session.table.tokens[screen.tokens.token_id]
        await pilot.press("N", "enter")
        await until(pilot, lambda: app.screen is app.inspector)
        assert app.inspector.tokens.token_id == token_id
        assert app.inspector.focused_pane == 2


async def test_a_jump_to_a_token_outside_the_list_shows_its_live_probability(start: Start) -> None:
    session = FakeSession()
    async with start(session, size=(160, 48)) as (app, pilot):
        shown = {row.token_id for row in app.inspector.tokens.rows}
        far = int(np.argsort(session.probabilities(session.default_prompt, Intervention())[0])[0])
        assert far not in shown
        screen = await opened(app, pilot)
        screen.tokens.select(far)
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is app.inspector)
        tokens = app.inspector.tokens
        await until(pilot, lambda: tokens.token_id == far and tokens.rows[tokens.cursor].base is not None)
        row = tokens.rows[tokens.cursor]
        assert row.pinned
        assert row.base == pytest.approx(session.probabilities(session.default_prompt, Intervention())[0][far])
        await until(pilot, lambda: f"id {far}" in "".join(lines(app.inspector.detail)))


async def test_the_export_is_the_whole_table_and_asks_before_it_replaces(start: Start, tmp_path: Path) -> None:
    session, path = FakeSession(), tmp_path / "tokens.csv"
    async with start(session, size=(160, 48)) as (app, pilot):
        screen = await opened(app, pilot)
        await pilot.press("e")
        await type_line(pilot, str(path))
        await until(pilot, path.exists)
        await until(pilot, lambda: "written to" in lines(screen.strip)[0])
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [int(row["rank"]) for row in rows] == list(range(1, 601))
        for row in rows[:40]:
            at = int(row["id"])
            assert row["token"] == session.table.tokens[at]
            assert float(row["alpha"]) == pytest.approx(session.alpha[at])
            assert float(row["residual"]) == session.table.surprisal[at] - session.table.predicted[at]
        total = sum(np.exp(float(row["log_p"])) for row in rows)
        assert total == pytest.approx(1)
        await pilot.press("e")
        await type_line(pilot, str(path))
        await until(pilot, lambda: isinstance(app.screen, Question))
        path.write_text("a note of mine")
        await pilot.press("y")
        await until(pilot, lambda: not isinstance(app.screen, Question))
        assert path.read_text() == "a note of mine"


async def test_without_an_answer_to_the_prompt_only_log_p_is_left_out(start: Start) -> None:
    session = FakeSession()
    async with start(session, size=(160, 48)) as (app, pilot):
        session.fail = NumericalError("the logits are not finite: choose float32.")
        await pilot.press("F")
        await until(pilot, lambda: isinstance(app.screen, FitScreen) and app.screen.figure_list.n_rows)
        screen = app.screen
        assert "log p is left out" in lines(screen.strip)[0]
        assert np.isnan(screen.tokens.figures["log_p"]).all()
        assert np.isfinite(screen.tokens.figures["residual"]).all()


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (119, 30), (160, 48)], ids=str)
async def test_every_layout_shows_figures_tokens_and_plot(start: Start, size: tuple[int, int]) -> None:
    async with start(size=size) as (app, pilot):
        screen = await opened(app, pilot)
        panes = {"2": screen.figure_list, "1": screen.tokens, "3": screen.plot}
        for key, pane in [*panes.items(), ("2", screen.figure_list)]:
            await pilot.press(key)
            assert pane.has_focus
            assert pane.display
            assert screen.tokens.display
            assert pane.size.width >= 20
            assert pane.size.height >= 6


async def test_a_click_on_a_header_sorts_the_tokens_by_that_column(start: Start) -> None:
    async with start(size=(160, 48)) as (app, pilot):
        screen = await opened(app, pilot)
        await pilot.press("1")
        tokens = screen.tokens
        for title, name in (("residual", "residual"), ("token", "token"), ("alpha", "alpha")):
            before = tokens.token_id
            offset = (lines(tokens)[0].index(title) + 1, 1)  # below the border
            await pilot.click(tokens, offset=offset)
            first, down = int(tokens.order[0]), tokens.descending
            assert tokens.sort == name
            assert tokens.token_id == before
            await pilot.click(tokens, offset=offset)
            assert tokens.descending is not down
            assert int(tokens.order[-1]) == first
            assert f"{title}" in str(tokens.border_title)
