"""The dynamics screen as SVG, at the two sizes that matter: on its own and over the inspector."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.tui.fakes import FakeSession, opening
from tests.tui.helpers import answered, until
from tests.tui.trajectories import FakeReader
from tpe_core.options import RunOptions
from tpe_tui.app import TpeApp
from tpe_tui.dynamics.app import DynamicsApp

SIZES = [(80, 24), (160, 48)]
VIEWS: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "one": (("demo",), []),
    "linear": (("demo",), ["y", "n"]),
    "overlaid": (("demo", "flawed", "runs/other"), ["tab", "h", "h", "h", "h"]),
    "groups": (("demo", "flawed"), ["j", "j", "j", "a", "h", "h"]),
    "live": (("live.jsonl",), []),
    "change": (("demo",), [*"kkk", "a", "h"]),
    "nothing": (("nothing",), []),
    "facts": (("flawed",), ["i"]),
    "keys": (("demo",), ["question_mark"]),
    "export": (("demo",), ["e"]),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_view(snap_compare, tmp_path: Path, size: tuple[int, int], view: str) -> None:
    names, keys = VIEWS[view]
    app = DynamicsApp(
        names, FakeReader(), state_dir=tmp_path / "state", keys_file=tmp_path / "keys.toml", clock=lambda: 0.0
    )

    async def prepare(pilot: Pilot[int]) -> None:
        state = app.reader.state
        await until(pilot, lambda: state.job is None and not any(each.pending for each in state.sources))
        await pilot.press(*keys)
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=prepare)
    app.host.stop()


@pytest.mark.parametrize("model", ["demo", "runs/other"], ids=["bundled", "other"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_over_the_inspector(snap_compare, tmp_path: Path, size: tuple[int, int], model: str) -> None:
    app = TpeApp(
        RunOptions(model=model),
        opener=opening(FakeSession(name=model)),
        lister=list,
        dynamics_reader=lambda _options: FakeReader(),
        state_dir=tmp_path / "state",
        keys_file=tmp_path / "keys.toml",
        clock=lambda: 0.0,
    )

    async def prepare(pilot: Pilot[int]) -> None:
        await until(pilot, lambda: app.workspace.session is not None)
        await answered(app, pilot)
        await pilot.press("D")
        await until(
            pilot,
            lambda: app.inspector.runs.dynamics is not None and app.inspector.runs.dynamics.state.job is None,
        )
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=prepare)
    app.host.stop()
