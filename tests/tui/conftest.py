"""Starting the app on a fake session, with every clock and folder injected."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.tui.fakes import FakeSession, opening
from tests.tui.helpers import Start, answered, until
from tpe_core.options import RunOptions
from tpe_tui.app import TpeApp


@pytest.fixture(autouse=True)
def _steady_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textual.widgets.Input.cursor_blink", False)


@pytest.fixture(autouse=True)
def _quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is that runs the tests, nobody is told."""
    monkeypatch.setattr("tpe_tui.app.busy_notice", lambda device: "")


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """`async with start(session, size=…) as (app, pilot)`: the app with its model open and its first answer shown."""

    @asynccontextmanager
    async def run(
        session: FakeSession | None = None, size: tuple[int, int] = (80, 24), ready: bool = True, **options: object
    ) -> AsyncIterator[tuple[TpeApp, Pilot[int]]]:
        options.setdefault("opener", opening(session or FakeSession()))
        options.setdefault("keys_file", tmp_path / "keys.toml")
        options.setdefault("lister", list)
        options.setdefault("near", list)
        app = TpeApp(RunOptions(), state_dir=tmp_path / "state", clock=lambda: 0.0, **options)  # type: ignore[arg-type]
        async with app.run_test(size=size) as pilot:
            if ready:
                await until(pilot, lambda: app.workspace.session is not None)
                await answered(app, pilot)
            yield app, pilot
        app.memory.close()
        app.host.stop()

    return run
