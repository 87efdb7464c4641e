"""Bookmarks of dimensions: set, shown, gone to, listed, and kept by a session with the tokens marked for a set."""

from __future__ import annotations

from tests.tui.fakes import FakeSession
from tests.tui.helpers import Start, lines, type_line, until
from tpe_tui.app import TpeApp


def dims(app: TpeApp) -> list[int]:
    return app.inspector.dims.order.tolist()


async def test_a_bookmark_is_a_star_and_the_next_one_is_a_key_away(start: Start) -> None:
    async with start() as (app, pilot):
        table, order = app.inspector.dims, dims(app)
        await pilot.press("asterisk", "j", "j", "asterisk")
        assert table.bookmarks == {order[0], order[2]}
        assert [line[0] for line in lines(table)[1:5]] == ["*", " ", "*", " "]
        assert f"dim {order[2]} is bookmarked, 2 in all: . goes on" in app.workspace.status.text
        await pilot.press("full_stop")
        assert (table.cursor, app.workspace.status.text) == (0, "bookmark 1 of 2")
        await pilot.press("2", "full_stop")
        assert table.cursor == 2
        assert app.inspector.focused_pane == 1
        await pilot.press("asterisk")
        assert table.bookmarks == {order[0]}
        assert "1 left" in app.workspace.status.text
        assert app.workspace.history.intervention.is_empty


async def test_a_number_goes_so_many_bookmarks_on(start: Start) -> None:
    async with start() as (app, pilot):
        await pilot.press(*["asterisk", "j"] * 8, "g", "7", "full_stop")
        await until(pilot, lambda: app.inspector.dims.cursor == 7)


async def test_the_filter_lists_them_and_what_it_hides_is_said(start: Start) -> None:
    async with start() as (app, pilot):
        order = dims(app)
        await pilot.press("full_stop")
        assert "no dimension is bookmarked: * does it" in app.workspace.status.text
        await pilot.press("j", "asterisk", "j", "asterisk", "f")
        await type_line(pilot, "bookmarked")
        assert dims(app) == order[1:3]
        await pilot.press("asterisk")
        assert len(dims(app)) == 1
        await pilot.press("f")
        await type_line(pilot, f"{order[0]}-{order[0]}")
        await pilot.press("full_stop")
        assert "none of the bookmarked dimensions passes the filter" in app.workspace.status.text


async def test_a_session_keeps_bookmarks_and_marked_tokens_and_a_head_without_them_has_none(start: Start) -> None:
    async with start() as (app, pilot):
        dim = dims(app)[1]
        await pilot.press("j", "asterisk", "2", "B")
        marked = set(app.inspector.tokens.marked)
        assert len(marked) == 1
        app.remember()
        app.memory.flush()
    async with start() as (app, _):
        assert app.inspector.dims.bookmarks == {dim}
        assert app.inspector.tokens.marked == marked
        app.show_session(FakeSession(vocab=200, d=8, name="other"))
        assert not app.inspector.dims.bookmarks
        assert not app.inspector.tokens.marked
