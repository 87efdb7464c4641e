"""The page of an experiment as SVG, at the two sizes that matter: under way, finished, ended early, its help."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.helpers.experiment_folders import planned, record_of, write_experiment, write_run
from tests.tui.helpers import until
from tests.tui.trajectories import FakeReader
from tpe_tui.dynamics.app import DynamicsApp

SIZES = [(80, 24), (160, 48)]
VIEWS: dict[str, tuple[int | None, list[str]]] = {
    "under-way": (9, []),
    "finished": (None, ["tab", "m", "h", "j", "j", "j"]),
    "share": (None, ["F", "F", "F", "F", "y"]),
    "ended-early": (9, ["n", "j"]),
    "first": (0, []),
    "facts": (9, ["i"]),
    "keys": (9, ["question_mark"]),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_view(snap_compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], view: str) -> None:
    monkeypatch.chdir(tmp_path)
    done, keys = VIEWS[view]
    folder = Path("runs")
    write_experiment(folder, done)
    if view == "ended-early":
        sentence = "the loss became nan at step 13: the run was ended, and its state at step 10 is kept."
        write_run(folder, record_of(planned()[8], (0, 10), stopped=sentence))
    app = DynamicsApp(
        (), FakeReader(), experiment=folder, state_dir=tmp_path / "state", keys_file=tmp_path / "keys.toml",
        clock=lambda: 0.0,
    )  # fmt: skip

    async def prepare(pilot: Pilot[int]) -> None:
        await until(pilot, lambda: app.reader.experiment.state.read is not None)
        await pilot.press(*keys)
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=prepare)
    app.host.stop()
