"""What was kept of a model is on the screen before the model is loaded, and gives way to it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.tui.fakes import FakeSession
from tests.tui.helpers import Start, answered, lines, until
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import ModelError
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, Steps
from tpe_tui.app import TpeApp
from tpe_tui.dialogs.error import ErrorScreen


def opens_when(go_on: threading.Event, session: FakeSession | None) -> Callable[[RunOptions], Steps[FakeSession]]:
    """Opens a session, or fails where there is none, once it may."""

    def open_(_options: RunOptions) -> Steps[FakeSession]:
        yield Progress("load model", 0)
        assert go_on.wait(20)
        if session is None:
            raise ModelError("the file is gone.")
        return session

    return open_


def shown(app: TpeApp) -> str:
    return "\n".join(
        "\n".join(lines(pane)) for pane in (app.inspector.status, app.inspector.dims, app.inspector.tokens)
    )


async def test_a_kept_table_is_browsed_and_edited_before_the_model_is_loaded(start: Start) -> None:
    session, go_on = FakeSession(), threading.Event()
    view = session.kept(session.default_prompt)
    async with start(
        session, size=(160, 48), ready=False, opener=opens_when(go_on, session), view_reader=lambda _: view
    ) as (app, pilot):
        inspector = app.inspector
        await until(pilot, lambda: inspector.tokens.rows and app.workspace.is_busy)
        assert app.workspace.session is None
        assert "from 2001-09-0" in shown(app)
        assert "model still loading" in shown(app)
        first = int(session.table.order()[0])
        assert inspector.dims.dim == first
        assert f"dim {first}" in "\n".join(lines(inspector.detail))
        assert "…" not in "\n".join(lines(inspector.detail)[:8])
        assert "now…" not in shown(app)
        rows = [row.token_id for row in inspector.tokens.rows]
        await pilot.press("space", "j", "space", "s")
        pruned = app.workspace.history.intervention.pruned
        assert len(pruned) == 2
        assert "now…" in shown(app)
        assert [row.token_id for row in inspector.tokens.rows] == rows
        await pilot.press("P", "w")
        assert app.screen is inspector
        assert "still opening" in lines(inspector.strip)[0]
        go_on.set()
        await until(pilot, lambda: app.workspace.session is session)
        await answered(app, pilot)
        assert app.workspace.history.intervention.pruned == pruned
        assert inspector.tokens.answer.intervention.pruned == pruned
        assert "loading" not in lines(inspector.status)[0]
        await pilot.press("u")
        await answered(app, pilot)
        assert len(app.workspace.history.intervention.pruned) == 1


async def test_a_table_of_another_head_is_replaced_and_its_edit_with_it(start: Start) -> None:
    before, session, go_on = FakeSession(seed=1), FakeSession(), threading.Event()
    before.head_sha256 = "1" * 64
    view = before.kept()
    async with start(
        session, size=(160, 48), ready=False, opener=opens_when(go_on, session), view_reader=lambda _: view
    ) as (app, pilot):
        await until(pilot, lambda: app.workspace.is_busy)
        await pilot.press("space")
        assert app.workspace.history.intervention.pruned
        go_on.set()
        await until(pilot, lambda: app.workspace.session is session)
        await answered(app, pilot)
        assert app.workspace.history.intervention == Intervention()
        assert app.inspector.dims.table is session.table
        (told,) = [notice.message for notice in app._notifications]
        assert "that table is replaced, and the edit made on it (1 pruned" in told


async def test_the_same_head_on_another_text_keeps_the_edit(start: Start) -> None:
    before, session, go_on = FakeSession(), FakeSession(), threading.Event()
    before.table.slope[:] *= 2
    view = before.kept()
    async with start(session, ready=False, opener=opens_when(go_on, session), view_reader=lambda _: view) as (
        app,
        pilot,
    ):
        await until(pilot, lambda: app.workspace.is_busy)
        await pilot.press("space")
        pruned = app.workspace.history.intervention.pruned
        go_on.set()
        await until(pilot, lambda: app.workspace.session is session)
        await answered(app, pilot)
        assert app.workspace.history.intervention.pruned == pruned
        assert app.inspector.dims.table is session.table
        assert not app._notifications


async def test_a_model_that_fails_to_load_leaves_its_kept_table_and_says_so(start: Start) -> None:
    session, go_on = FakeSession(), threading.Event()
    view = session.kept()
    async with start(ready=False, opener=opens_when(go_on, None), view_reader=lambda _: view) as (app, pilot):
        await until(pilot, lambda: app.workspace.is_busy)
        go_on.set()
        await until(pilot, lambda: isinstance(app.screen, ErrorScreen))
        await pilot.press("escape", "j")
        assert app.inspector.dims.cursor == 1
        assert "model not loaded" in lines(app.inspector.status)[0]
        await pilot.press("q")
    assert app.return_value == 1


async def test_what_an_opened_model_shows_is_kept_for_the_next_start(start: Start) -> None:
    session = FakeSession()
    async with start(session) as (app, pilot):
        await until(pilot, lambda: "keep_view" in session.calls)
        await pilot.press("space")
        await answered(app, pilot)
        await until(pilot, lambda: f"keep_answer {session.default_prompt}" in session.calls)
    assert [call for call in session.calls if call.startswith("keep")].count("keep_view") == 1
    assert len([call for call in session.calls if call.startswith("keep_answer")]) == 1


async def test_a_kept_table_that_cannot_be_read_stops_no_start(start: Start) -> None:
    def fails(_options: RunOptions) -> None:
        raise OSError("the disk is gone")

    async with start(view_reader=fails) as (app, _):
        assert app.workspace.session is not None
