"""What the panes show of numbers that are small, of ratios, and of lists that became short."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from tests.tui.fakes import FakeSession
from tests.tui.helpers import Start, answered, lines, type_line, until
from tpe_core.snapshots import NextTokens
from tpe_tui.inspector.detail_pane import Detail


async def steer_a_rare_token(app, pilot, ratio: str) -> int:
    """Steer the vocabulary's least probable token; its id."""
    inspector = app.inspector
    token = int(np.argmax(app.workspace.session.table.surprisal))
    await pilot.press("2")
    inspector.tokens.select(token)
    await pilot.press("=")
    await type_line(pilot, ratio)
    await answered(app, pilot)
    await until(pilot, lambda: inspector.tokens.rows[inspector.tokens.cursor].now is not None)
    return token


@pytest.mark.parametrize("ratio", ["1000", "2000", "1189.207", "64"])
async def test_the_ratio_beside_a_steered_token_is_the_one_it_was_given(start: Start, ratio: str) -> None:
    async with start(size=(160, 48)) as (app, pilot):
        await steer_a_rare_token(app, pilot, ratio)
        row = next(line for line in lines(app.inspector.tokens) if "×" in line)
        shown = re.search(r"×(\S+)", row)
        assert shown is not None
        assert abs(float(shown[1]) - float(ratio)) <= 0.5


@pytest.mark.parametrize("ratio", ["1.19", "2"])
async def test_base_and_now_of_a_rare_steered_token_differ_where_its_probability_does(start: Start, ratio: str) -> None:
    session = FakeSession()
    plain = session.evaluate

    def rare(*args: object, **more: object) -> NextTokens:
        answer = plain(*args, **more)
        return replace(answer, base=answer.base * 1e-6, now=answer.now * 1e-6)

    session.evaluate = rare  # type: ignore[method-assign]
    async with start(session, size=(160, 48)) as (app, pilot):
        inspector = app.inspector
        await pilot.press("2", "=")
        await type_line(pilot, ratio)
        await answered(app, pilot)
        row = next(line for line in lines(inspector.tokens) if "×" in line)
        base, now = re.findall(r"\S+%", row)
        assert base != now
        assert "<" not in base
        assert "·" not in row.split(now)[1], "the change is told as well"


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (119, 30), (120, 28), (120, 40), (160, 48)])
async def test_a_ratio_leaves_a_token_its_name_at_every_size(start: Start, size: tuple[int, int]) -> None:
    async with start(size=size) as (app, pilot):
        token = await steer_a_rare_token(app, pilot, "1.19")
        row = next(line for line in lines(app.inspector.tokens) if "×" in line)
        assert row[2:].startswith(app.workspace.session.table.tokens[token][:7])
        assert "×1.19" in row


async def test_a_probability_below_what_a_float_holds_is_shown_alike_in_every_pane(start: Start) -> None:
    session = FakeSession()
    session.table = replace(session.table, p=session.table.p * 0, q=session.table.q * 0)
    async with start(session, size=(160, 48)) as (app, pilot):
        await pilot.press("j")
        await until(pilot, lambda: app.inspector.detail.figures is not None)
        text = "\n".join([*lines(app.inspector.detail), *lines(app.inspector.dims)])
        assert "0.0e+00" not in text
        assert text.count("<1e-99") >= 3


@pytest.mark.parametrize("size", [(80, 24), (120, 28), (160, 48)])
async def test_a_forecast_is_never_cut_off(start: Start, size: tuple[int, int]) -> None:
    async with start(size=size) as (app, pilot):
        await pilot.press("space", "j", "4")
        detail: Detail = app.inspector.detail
        await until(pilot, lambda: detail.forecast is not None)
        shown = " ".join("".join(text for text, _ in line).strip() for line in detail._text(detail.size.width))
        assert "pruning it: forecast KL" in shown
        assert re.search(r"forecast KL \S+ \(\S+\) over the text", shown)


async def test_a_slopes_interval_over_the_text_stands_below_its_standard_error(start: Start) -> None:
    session = FakeSession()
    known = session.table.stability
    assert known is not None
    async with start(session, size=(160, 48)) as (app, pilot):
        await pilot.press("j")
        dim = app.inspector.dims.dim
        shown = " ".join(line.strip() for line in lines(app.inspector.detail))
        assert f"slope {known.low[dim]:+.3f} to {known.high[dim]:+.3f} over parts of the text (95 %)" in shown


async def test_a_list_that_a_filter_made_short_begins_at_its_first_row(start: Start) -> None:
    async with start() as (app, pilot):
        dims = app.inspector.dims
        await pilot.press("G")
        dims.filter = "50-60"
        dims.rebuild()
        await pilot.pause()
        assert dims.n_rows == 11 < dims.page
        assert dims.top == 0
        tokens = app.inspector.tokens
        await pilot.press("2", "G")
        tokens.filter_by("name")
        await pilot.pause()
        assert tokens.top <= max(0, tokens.n_rows - tokens.page)


async def test_another_model_begins_at_its_first_dimension(start: Start) -> None:
    async with start() as (app, pilot):
        inspector = app.inspector
        await pilot.press("G")
        assert inspector.dims.cursor > 0
        app.show_session(FakeSession(seed=1, name="other"))
        await pilot.pause()
        assert (inspector.dims.cursor, inspector.dims.top) == (0, 0)
        await pilot.press("j")
        before = inspector.dims.dim
        app.show_session(FakeSession(seed=1, name="other"))
        await pilot.pause()
        assert inspector.dims.dim == before, "the same model again keeps it"


@pytest.mark.parametrize("columns", [60, 70, 80, 120])
async def test_what_an_edit_is_and_costs_is_in_the_first_line_at_any_width(start: Start, columns: int) -> None:
    async with start(size=(columns, 24)) as (app, pilot):
        await pilot.press("space", "m", "m", "2", "]", "1")
        await answered(app, pilot)
        line = lines(app.inspector.status)[0]
        edit = app.workspace.history.intervention
        assert f"pruned 1/64 {edit.replacement}" in line
        assert "KL " in line
        assert "steered 1" in line
