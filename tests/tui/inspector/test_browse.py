"""Looking around under a pilot: moving, panes, search, plots, palette, sizes, hostile tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from textual.widgets import Static

from tests.tui.fakes import FakeSession
from tests.tui.helpers import Start, answered, lines, type_line, until
from tpe_core.snapshots import EncodingTable
from tpe_tui.cells import number
from tpe_tui.dialogs.error import TextScreen
from tpe_tui.dialogs.help import HelpScreen
from tpe_tui.shell.engine_app import COPY_NAME
from tpe_tui.widgets.token_table import search_tokens

NARROW, WIDE = (80, 24), (160, 48)


async def test_moving_by_every_key(start: Start) -> None:
    async with start() as (app, pilot):
        dims = app.inspector.dims
        page = dims.page
        places = []
        for key in ("j", "down", "k", "ctrl+d", "pagedown", "ctrl+u", "G", "up", "pageup", "g", "end", "home"):
            await pilot.press(key)
            places.append(dims.cursor)
        half = (dims.size.height - 1) // 2
        assert places == [1, 2, 1, 1 + half, 1 + half + page, 1 + page, 63, 62, 62 - page, 0, 63, 0]
        assert dims.top == 0


async def test_the_cursor_is_always_in_view(start: Start) -> None:
    async with start() as (app, pilot):
        dims = app.inspector.dims
        for key in ("G", "ctrl+u", "ctrl+u", "k", "k", "g", "ctrl+d", "ctrl+d", "ctrl+d"):
            await pilot.press(key)
            assert dims.top <= dims.cursor < dims.top + dims.page


async def test_base_order(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press("space", "2", "b")
        await answered(app, pilot)
        shown = [row.base for row in app.inspector.tokens.rows if not row.pinned]
        assert shown == sorted(shown, reverse=True)


async def test_search_a_dimension_and_go_on(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press("/")
        await type_line(pilot, "4")
        assert app.inspector.dims.dim == 4
        await pilot.press("n")
        first = app.inspector.dims.dim
        assert str(first).startswith("4")
        assert first != 4
        await pilot.press("N")
        assert app.inspector.dims.dim == 4
        await pilot.press("/")
        await type_line(pilot, "999")
        assert "nothing matches" in app.workspace.status.text


async def test_search_finds_tokens_outside_the_list(start: Start) -> None:
    session = FakeSession()
    rare = int(np.argmax(session.table.surprisal))
    session.table.tokens[rare] = "rare[/x]"
    async with start(session) as (app, pilot):
        await pilot.press("2", "/")
        await type_line(pilot, "RARE[/")
        inspector = app.inspector
        assert inspector.tokens.token_id == rare
        await until(pilot, lambda: inspector.tokens.rows[inspector.tokens.cursor].base is not None)
        assert lines(inspector.tokens)[1].startswith("› rare[/x]")
        await pilot.press("]")
        await answered(app, pilot)
        assert app.workspace.history.intervention.ratio(rare) == pytest.approx(2**0.25)


async def test_a_search_is_in_the_pane_that_has_the_focus_wherever_a_cursor_moved(start: Start) -> None:
    """A sort moves the other pane's cursor; whether a key moves this one's depends on the answer that has come."""
    async with start() as (app, pilot):
        await pilot.press("2")
        app.inspector.dims.go(3)
        await pilot.pause()
        assert (app.inspector.focused_pane, app.inspector.subject) == (2, "token")
        await pilot.press("/")
        await type_line(pilot, "value")
        assert app.workspace.status.text.startswith("match 1 of")
        await pilot.press("1")
        app.inspector.tokens.select(3)
        await pilot.pause()
        assert (app.inspector.focused_pane, app.inspector.subject) == (1, "dim")


async def test_filters(start: Start) -> None:
    async with start() as (app, pilot):
        inspector = app.inspector
        await pilot.press("space", "j", "space", "f")
        await type_line(pilot, "nonsense")
        assert "no column is called nonsense" in str(app.screen.query_one("#ask-hint", Static).render())
        await type_line(pilot, "pruned")
        assert inspector.dims.n_rows == 2
        await pilot.press("space")
        assert inspector.dims.n_rows == 1
        await pilot.press("f")
        await type_line(pilot, "10-19")
        assert set(inspector.dims.order.tolist()) == set(range(10, 20))
        await pilot.press("escape")
        assert inspector.dims.n_rows == 64
        await pilot.press("2", "f")
        await type_line(pilot, "[link")
        assert [inspector.tokens.table.tokens[row.token_id] for row in inspector.tokens.rows if not row.pinned] == [
            "[link=x]"
        ]


@pytest.mark.parametrize(
    ("text", "keeps"),
    [
        ("kept", lambda table, pruned: ~pruned),
        ("> 1.5", lambda table, pruned: np.abs(table.slope) > 1.5),
        ("abs(slope) > 1 and not pruned", lambda table, pruned: (np.abs(table.slope) > 1) & ~pruned),
        ("rank <= 5 or pruned", lambda table, pruned: np.isin(np.arange(64), table.order()[:5]) | pruned),
        ("sd_w < .12 and mean_h * slope > 0 and dim >= 9",
         lambda table, pruned: (table.sd_weight < 0.12) & (table.mean_hidden * table.slope > 0) & (np.arange(64) >= 9)),
    ],
)  # fmt: skip
async def test_a_condition_on_columns_is_a_filter(
    start: Start, text: str, keeps: Callable[[EncodingTable, np.ndarray], np.ndarray]
) -> None:
    async with start() as (app, pilot):
        dims = app.inspector.dims
        await pilot.press("space", "j", "j", "space", "f")
        await type_line(pilot, text)
        expected = np.flatnonzero(keeps(dims.table, dims.pruned))
        assert 0 < len(expected) < 64
        assert set(dims.order.tolist()) == set(expected.tolist())
        assert f"({len(expected)})" in app.inspector.dims.border_title
        await pilot.press("g", "space")
        await answered(app, pilot)
        if "pruned" in text or text == "kept":
            assert set(dims.order.tolist()) == set(np.flatnonzero(keeps(dims.table, dims.pruned)).tolist())


async def test_a_click_on_a_header_sorts_by_that_column_and_again_the_other_way(start: Start) -> None:
    async with start(size=(300, 48)) as (app, pilot):
        dims = app.inspector.dims
        header = lines(dims)[0]
        for title, name in (("sd h", "sd_hidden"), ("mean h", "mean_hidden"), ("stderr", "stderr"), (" r ", "r")):
            offset = (header.index(title) + 1, 1)  # below the border
            await pilot.click(dims, offset=offset)
            assert (dims.sort, dims.descending) == (name, True)
            assert dims.order.tolist() == dims.table.order(name).tolist()
            assert f"{title.strip()}↓" in lines(dims)[0]
            assert title.strip() in dims.border_title
            await pilot.click(dims, offset=offset)
            assert dims.order.tolist() == dims.table.order(name, descending=False).tolist()
        await pilot.click(dims, offset=(10, 1))
        assert dims.sort == "dim"
        await pilot.press("s")
        assert dims.sort == "slope"


async def test_a_wide_pane_shows_more_columns_and_keeps_its_bar(start: Start) -> None:
    shown = {}
    for width in (80, 160, 280):
        async with start(size=(width, 48)) as (app, _):
            shown[width] = lines(app.inspector.dims)[0].split() + lines(app.inspector.tokens)[0].split()
            row, drawn = app.inspector.tokens.rows[0], lines(app.inspector.tokens)[1]
            assert "█" in drawn
    assert set(shown[80]) < set(shown[160]) < set(shown[280])
    assert {"stderr", "mean", "sd", "id", "alpha"} <= set(shown[280])
    assert str(row.token_id) in drawn.split()
    assert number(float(np.exp(-FakeSession().table.surprisal[row.token_id]))) in drawn.split()


async def test_a_filter_hides_neither_the_token_that_was_searched_for_nor_a_steered_one(start: Start) -> None:
    """It stood in the list or was pinned above it, and the keys went to another token where it stood in the list."""
    async with start() as (app, pilot):
        tokens = app.inspector.tokens
        listed = [row.token_id for row in tokens.rows if "_1" not in tokens.table.tokens[row.token_id]]
        searched, steered = listed[:2]
        app.workspace.edit(lambda: app.workspace.history.steer(steered, 4.0))
        await pilot.press("2", "f")
        await type_line(pilot, "_1")
        assert searched not in {row.token_id for row in tokens.rows}
        tokens.select(searched)
        await answered(app, pilot)
        assert tokens.token_id == searched
        await pilot.press("]")
        await answered(app, pilot)
        assert [entry.token_id for entry in app.workspace.history.intervention.steering] == sorted([searched, steered])
        assert {searched, steered} < {row.token_id for row in tokens.rows}
        await pilot.press("f")
        await type_line(pilot, "_2")
        others = {row.token_id for row in tokens.rows} - {searched, steered}
        assert len(others) == tokens.n_rows - 2
        assert all("_2" in tokens.table.tokens[token_id] for token_id in others)


async def test_sort_keys_and_direction(start: Start) -> None:
    async with start() as (app, pilot):
        dims, seen = app.inspector.dims, []
        for _ in range(5):
            await pilot.press("s")
            seen.append(dims.sort)
            assert dims.order.tolist() == app.workspace.session.table.order(dims.sort).tolist()
        assert seen == ["slope_std", "t", "r", "dim", "slope"]
        await pilot.press("S")
        assert dims.order.tolist() == app.workspace.session.table.order("slope", descending=False).tolist()


async def test_panes_zoom_and_what_shows_where(start: Start) -> None:
    async with start() as (app, pilot):
        inspector = app.inspector

        def shown() -> list[int]:
            return [index for index in (1, 2, 3, 4) if inspector.pane(index).size.area]

        for key, panes in (
            ("tab", [1, 2]),
            ("tab", [1, 3]),
            ("4", [1, 4]),
            ("1", [1, 4]),
            ("shift+tab", [1, 4]),
            ("2", [1, 2]),
        ):
            await pilot.press(key)
            await pilot.pause()
            assert shown() == panes, key
        await pilot.press("z")
        await pilot.pause()
        assert shown() == [2]
        await pilot.press("3")
        await pilot.pause()
        assert shown() == [3]
        await pilot.press("z", "1")
        await pilot.pause()
        assert shown() == [1, 3]
        await pilot.resize_terminal(*WIDE)
        await pilot.pause()
        assert shown() == [1, 2, 3, 4]


async def test_plots_turn_and_detail_follows_the_cursor(start: Start) -> None:
    async with start(size=WIDE) as (app, pilot):
        inspector = app.inspector
        seen = []
        for key in ("l", "right", "l", "l", "h"):
            await pilot.press(key)
            seen.append(inspector.plot.name_shown)
        assert seen == ["PCs", "fit", "PCA", "slopes", "PCA"]
        await pilot.press("j")
        await until(pilot, lambda: inspector.detail.figures is not None)
        assert lines(inspector.detail)[0].startswith(f" dim {inspector.dims.dim}")
        await pilot.press("2", "j")
        await until(
            pilot, lambda: inspector.detail.subject == ("token", inspector.tokens.token_id) and inspector.detail.figures
        )
        assert "after the prompt" in "\n".join(lines(inspector.detail))


async def test_nothing_is_asked_for_a_detail_that_nobody_sees(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (_, pilot):
        await pilot.press("j", "j", "space", "2", "j")
        await pilot.pause(0.1)
        kept = {"keep_view", f"keep_answer {session.default_prompt}"}
        of_the_status = {"prepare_forecast", "lost_tokens"}
        assert set(session.calls) - kept - of_the_status == {"evaluate"}


async def test_copy_goes_to_the_clipboard_and_a_file(start: Start, tmp_path: Path) -> None:
    async with start() as (app, pilot):
        await pilot.press("y")
        copied = (tmp_path / "state" / COPY_NAME).read_text()
        assert copied == app.clipboard + "\n"
        assert copied.splitlines()[1].split("\t")[0] == str(app.inspector.dims.dim)
        for key in ("2", "3", "4"):
            await pilot.press(key, "y")
            assert app.clipboard + "\n" != copied


async def test_headless_command_lines(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press("space", "]", "H")
        assert isinstance(app.screen, TextScreen)
        await pilot.press("y", "escape")
        text = app.clipboard
        assert "tpe analyze demo" in text
        assert "tpe demo --prompt 'Return the number of' --mask tpe-mask-demo.json" in text


async def test_help_and_palette(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press("?")
        assert isinstance(app.screen, HelpScreen)
        await pilot.press("tab", "j", "escape", "ctrl+p")
        await pilot.press(*"invert")
        await pilot.pause(0.3)
        await pilot.press("enter")
        await pilot.press("enter")
        await until(pilot, lambda: len(app.workspace.history.intervention.pruned) == 64)
        await pilot.press("ctrl+p")
        await pilot.press("[")
        await pilot.pause(0.2)
        await pilot.press("escape")
        assert app.screen is app.inspector


async def test_the_mouse_selects_focuses_and_presses(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.click("#tokens", offset=(5, 5))
        assert app.inspector.focused_pane == 2
        assert app.inspector.tokens.cursor == 3
        await pilot.click("#dims", offset=(5, 4))
        assert app.inspector.dims.cursor == 2
        await pilot.click("#footer", offset=(2, 0))
        await until(pilot, lambda: len(app.workspace.history.intervention.pruned) == 1)


async def test_hostile_tokens_are_only_text(start: Start) -> None:
    session = FakeSession()
    session.table.tokens[:60] = [
        "[bold]",
        "[/foo]",
        "漢字のトークン名前",
        "[@click=app.bell]x",
        "한국어",
        "e\u0301",
    ] * 10
    order = np.argsort(session.table.surprisal)[:60]
    for place, token_id in enumerate(order):
        session.table.tokens[token_id] = session.table.tokens[place % 6]
    for size in (NARROW, WIDE):
        async with start(session, size=size) as (app, pilot):
            await pilot.press("2", "j", "j", "]", "4", "y", "1", "j", "H", "escape")
            await answered(app, pilot)
            app.export_screenshot()
            text = "\n".join(lines(app.inspector.tokens))
            assert app.inspector.tokens.size.area == 0 or "[" in text


async def test_a_small_terminal_says_so_and_recovers(start: Start) -> None:
    async with start(size=(59, 15)) as (app, pilot):
        text = str(app.inspector.query_one("#small", Static).render())
        assert "60×16" in text
        assert "59×15" in text
        assert app.inspector.dims.size.area == 0
        await pilot.press("space", "j")
        await pilot.resize_terminal(60, 16)
        await pilot.pause()
        assert app.inspector.dims.size.area > 0


@pytest.mark.parametrize("size", [(60, 16), (61, 17), (80, 24), (100, 30), (119, 40), (120, 28), (160, 48), (240, 70)])
async def test_no_line_is_wider_than_its_pane(start: Start, size: tuple[int, int]) -> None:
    async with start(size=size) as (app, pilot):
        await pilot.press("space", "v", "j", "2", "]", "3", "4")
        await answered(app, pilot)
        inspector = app.inspector
        for widget in (
            inspector.dims,
            inspector.tokens,
            inspector.plot,
            inspector.detail,
            inspector.status,
            inspector.prompt_bar,
            inspector.footer,
        ):
            for y in range(widget.size.height):
                assert widget.render_line(y).cell_length == widget.size.width


@pytest.mark.parametrize("typed", ["·graph", " graph", "_graph", "▁graph", "Ġgraph"])
def test_a_leading_space_is_found_however_it_is_typed(typed: str) -> None:
    tokens = ["graph", "·graph", "·graphs", "_graph", "paragraph"]
    found = search_tokens(tokens, np.arange(5.0), typed)
    assert {1, 2} <= set(found)
    assert (3 in found) == (typed == "_graph")
    assert found[0] in (1, 3)
    assert 4 not in found
