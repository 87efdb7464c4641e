"""The prompt's tokens as a strip: marks, the cursor's distribution, prompts that are long, odd or refused."""

from __future__ import annotations

import math

import pytest
from rich.cells import cell_len

from tests.tui.fakes import FakeSession
from tests.tui.helpers import Start, answered, lines, type_line, until
from tpe_core.errors import ModelError
from tpe_tui.app import TpeApp
from tpe_tui.glyphs import ascii_cells
from tpe_tui.widgets.token_strip import LEVELS, LIMITS, TokenStrip, level_of

PROMPT = "Return the number of"


def strip_of(app: TpeApp) -> TokenStrip:
    return app.inspector.positions.strip


async def opened(app: TpeApp, pilot: object) -> TokenStrip:
    """The strip with its figures."""
    await pilot.press("5")  # type: ignore[attr-defined]
    await until(pilot, lambda: strip_of(app).figures is not None and not strip_of(app).pending)  # type: ignore[arg-type]
    return strip_of(app)


def status(app: TpeApp) -> str:
    return lines(app.inspector.status)[0]


async def test_a_key_opens_the_tokens_and_closes_them_again(start: Start) -> None:
    async with start() as (app, pilot):
        assert not strip_of(app).display
        before = app.inspector.dims.size.height
        strip = await opened(app, pilot)
        assert strip.size.height == 2
        assert app.focused is strip
        assert "position" in status(app)
        await pilot.press("5")
        await pilot.pause()
        assert not strip.display
        assert app.inspector.dims.size.height == before
        assert app.focused is app.inspector.tokens
        assert "position" not in status(app)


async def test_every_token_has_the_mark_of_its_kl_and_words_say_which_one_is_under_the_cursor(start: Start) -> None:
    session = FakeSession()
    async with start(session, size=(160, 48)) as (app, pilot):
        await pilot.press("j", "space")
        strip = await opened(app, pilot)
        figures = session.positions(PROMPT, app.workspace.history.intervention)
        tokens, words = lines(strip)
        expected = "".join(
            LEVELS[level_of(float(kl), "KL") or 0] + session.table.tokens[token]
            for kl, token in zip(figures.kl, figures.ids, strict=True)
        )
        assert tokens.strip() == expected
        assert words.startswith("▸token 4 of 4 · KL ")
        assert f"KL {figures.kl[3]:.3f} after it" in words
        assert f"surprisal {figures.surprisal_base[3]:.2f}→{figures.surprisal_now[3]:.2f}" in words
        assert "KL ▁<0.001 ▂<0.01 ▄<0.1 ▆<1 █ nats" in words
        await pilot.press("g")
        await until(pilot, lambda: "token 1 of 4" in lines(strip)[1])
        assert "no surprisal" in lines(strip)[1]


async def test_the_cursor_shows_the_distribution_at_its_token(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        await pilot.press("j", "space")
        await opened(app, pilot)
        for keys, position in ((["h"], 2), (["left"], 1), (["l", "right"], 3), (["home"], 0)):
            await pilot.press(*keys)
            await answered(app, pilot)
            answer = app.inspector.tokens.answer
            expected = session.evaluate(PROMPT, app.workspace.history.intervention, position=position)
            assert answer is not None
            assert answer.kl == expected.kl
            assert answer.now.tolist() == expected.now.tolist()
            assert f"position {position + 1} of 4" in status(app)
        await pilot.press("escape")
        await answered(app, pilot)
        answer = app.inspector.tokens.answer
        assert answer is not None
        assert answer.position is None, "closed, the prompt asks at its end again"
        assert answer.kl == session.evaluate(PROMPT, app.workspace.history.intervention).kl


async def test_an_edit_is_followed_at_every_token_while_the_panes_are_used(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        strip = await opened(app, pilot)
        assert strip.figures is not None
        assert not strip.figures.kl.any()
        await pilot.press("h", "1", "space", "j", "space")
        edit = app.workspace.history.intervention
        assert len(edit.pruned) == 2
        await until(pilot, lambda: strip.figures is not None and strip.figures.intervention == edit)
        await answered(app, pilot)
        assert strip.figures.kl.tolist() == session.positions(PROMPT, edit).kl.tolist()
        assert "position 3 of 4" in status(app)
        await pilot.press("u")
        await until(pilot, lambda: strip.figures is not None and len(strip.figures.intervention.pruned) == 1)


async def test_figures_are_asked_for_once_an_edit_and_never_while_the_strip_is_closed(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        await pilot.press("space")
        await answered(app, pilot)
        assert "positions" not in session.calls
        await opened(app, pilot)
        await pilot.press("h", "h", "l")
        await answered(app, pilot)
        assert session.calls.count("positions") == 1, "moving the cursor asks for one distribution"
        await pilot.press("escape", "1", "space")
        await answered(app, pilot)
        assert session.calls.count("positions") == 1


async def test_a_key_marks_by_surprisal_and_says_so(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        strip = await opened(app, pilot)
        by_kl = lines(strip)[0]
        await pilot.press("K")
        await pilot.pause()
        figures = session.positions(PROMPT, app.workspace.history.intervention)
        marks = [" " if math.isnan(s) else LEVELS[level_of(float(s), "surprisal") or 0] for s in figures.surprisal_now]
        assert lines(strip)[0].rstrip() == " " + "".join(
            mark + session.table.tokens[token] for mark, token in zip(marks, figures.ids, strict=True)
        )
        assert lines(strip)[0] != by_kl
        assert "surprisal ▁<0.5" in app.workspace.status.text
        await pilot.press("K")
        await pilot.pause()
        assert lines(strip)[0] == by_kl


async def test_another_prompt_has_its_own_tokens_and_is_asked_at_its_end(start: Start) -> None:
    async with start() as (app, pilot):
        strip = await opened(app, pilot)
        await pilot.press("g")
        await answered(app, pilot)
        await pilot.press("p")
        await type_line(pilot, "list of the index and the class")
        await until(pilot, lambda: strip.figures is not None and len(strip.figures.ids) == 7)
        await answered(app, pilot)
        assert strip.cursor == 6
        assert "position 7 of 7" in status(app)


async def test_a_long_prompt_takes_a_few_rows_and_scrolls_with_the_cursor(start: Start) -> None:
    prompt = " ".join(f"word{number}" for number in range(200))
    async with start(prompt=prompt) as (app, pilot):
        strip = await opened(app, pilot)
        assert strip.size.height == 4
        shown = lines(strip)
        assert all(cell_len(line) <= 80 for line in shown)
        assert shown[0].endswith("↑")
        await pilot.press("g")
        await answered(app, pilot)
        assert not lines(strip)[0].endswith("↑")
        assert lines(strip)[2].endswith("↓")
        first_row = [position for position, _, _ in strip._rows[0]]
        await pilot.press("j")
        await answered(app, pilot)
        assert strip.cursor == first_row[-1] + 1
        await pilot.press("k", "k")
        assert strip.cursor == 0
        await pilot.press("G", "k")
        assert strip.cursor not in {position for position, _, _ in strip._rows[-1]}


async def test_the_mouse_chooses_a_token(start: Start) -> None:
    async with start() as (app, pilot):
        strip = await opened(app, pilot)
        position, x, _ = strip._rows[0][1]
        await pilot.click(strip, offset=(x + 1, 0))
        await answered(app, pilot)
        assert strip.cursor == position == 1
        assert app.inspector.tokens.answer is not None
        assert app.inspector.tokens.answer.position == 1


async def test_a_prompt_without_an_answer_is_a_sentence(start: Start) -> None:
    session = FakeSession()
    session.fail, session.fails_on = ModelError("the prompt is empty: type a prompt."), "bad"
    async with start(session) as (app, pilot):
        strip = await opened(app, pilot)
        await pilot.press("p")
        await type_line(pilot, "a bad prompt")
        await until(pilot, lambda: strip.figures is None and "type a prompt" in lines(strip)[0])
        await pilot.press("escape")
        assert app.screen is app.inspector, "the error over the screen is closed"
        await pilot.press("h", "l", "g", "j", "y", "p")
        await type_line(pilot, "a good one")
        await until(pilot, lambda: strip.figures is not None and len(strip.figures.ids) == 3)


async def test_the_figures_of_every_token_are_copied(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        await pilot.press("space")
        await opened(app, pilot)
        await pilot.press("y")
        await pilot.pause()
        header, *rows = (app.state_dir / "copied.txt").read_text().splitlines()
        figures = session.positions(PROMPT, app.workspace.history.intervention)
        assert header.split("\t")[:4] == ["position", "token_id", "token", "kl"]
        assert [float(row.split("\t")[3]) for row in rows] == figures.kl.tolist()
        assert [int(row.split("\t")[1]) for row in rows] == figures.ids.tolist()


async def test_tab_goes_through_the_tokens_while_they_are_open(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press("4", "tab")
        assert app.inspector.focused_pane == 1
        await opened(app, pilot)
        await pilot.press("tab")
        assert app.inspector.focused_pane == 1
        await pilot.press("shift+tab")
        assert app.inspector.focused_pane == 5
        await pilot.press("z")
        await pilot.pause()
        assert app.inspector.visible_panes() == {app.inspector.right}


async def test_the_tokens_are_gone_where_the_terminal_is_too_small_and_back_after(start: Start) -> None:
    async with start() as (app, pilot):
        strip = await opened(app, pilot)
        await pilot.resize_terminal(59, 15)
        await pilot.pause()
        assert not strip.region.area
        await pilot.resize_terminal(100, 30)
        await pilot.pause()
        assert strip.region.width == 100
        assert len(lines(strip)[0]) == 100


@pytest.mark.parametrize("colouring", LIMITS)
def test_levels_rise_with_the_figure(colouring: str) -> None:
    limits = LIMITS[colouring]  # type: ignore[index]
    assert level_of(0.0, colouring) == 0  # type: ignore[arg-type]
    assert [level_of(limit, colouring) for limit in limits] == [1, 2, 3, 4]  # type: ignore[arg-type]
    assert level_of(math.inf, colouring) == 4  # type: ignore[arg-type]
    assert level_of(math.nan, colouring) is None  # type: ignore[arg-type]
    assert len({ascii_cells(mark) for mark in LEVELS}) == len(LEVELS) == len(limits) + 1
