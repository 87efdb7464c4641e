"""The screens as SVG, at the two sizes that matter."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.tui.fakes import CACHED, FakeSession, opening
from tests.tui.helpers import answered, until
from tpe_core.options import RunOptions
from tpe_tui.app import TpeApp
from tpe_tui.dialogs.model_picker import PickerScreen
from tpe_tui.prompts.screen import PromptsScreen
from tpe_tui.steering.screen import SteerScreen

SIZES = [(80, 24), (160, 48)]
VIEWS = {
    "start": [],
    "edited": ["j", "space", "j", "space", "2", "j", "]", "]"],
    "plot": ["space", "3"],
    "pca": ["3", "h"],
    "detail": ["j", "4"],
    "token": ["2", "j", "4"],
    "positions": ["j", "space", "j", "space", "5", "h"],
    "prompts": ["space", "L", "a", "o", "n", "e", "enter", "a", "t", "w", "o", "enter"],
    "zoom": ["z", "v", "j", "j"],
    "help": ["?"],
    "ask": ["t"],
    "card": ["C"],
    "sweep-empty": ["w"],
    "sweep": ["w", "r", "l", "j", "j"],
    "sweep-orders": ["w", "O", "j"],
    "sweep-perplexity": ["w", "r", "m", "f", "f", "f"],
    "steer": ["2", "j", "T", "]", "a"],
    "steer-set": ["2", "j", "T", "a", "/", "s", "i", "z", "e", "enter", "[", "[", "d"],
    "steer-search": ["T", "/", "n", "a", "m", "down"],
    "generate": ["j", "space", "a"],
    "generate-back": ["space", "j", "space", "a"],
    "picker": ["o", "g", "p", "down"],
    "jobs": ["space", "w", "r", "escape", "M", "T", "escape", "J"],
}
LATER = {"generate-back": ["n", "l", "b"]}  # once the text is written


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_view(snap_compare, tmp_path: Path, size: tuple[int, int], view: str) -> None:
    app = TpeApp(
        RunOptions(),
        opener=opening(FakeSession()),
        lister=lambda: CACHED,
        state_dir=tmp_path / "state",
        keys_file=tmp_path / "keys.toml",
        clock=lambda: 0.0,
    )

    async def prepare(pilot: Pilot[int]) -> None:
        await until(pilot, lambda: app.workspace.session is not None)
        await answered(app, pilot)
        await pilot.press(*VIEWS[view])
        await answered(app, pilot)
        inspector, top = app.inspector, app.screen
        await until(pilot, lambda: not isinstance(app.screen, PromptsScreen) or app.screen.settled)
        strip = inspector.positions.strip
        await until(pilot, lambda: not strip.is_open or (strip.figures is not None and not strip.pending))
        await until(pilot, lambda: not (isinstance(top, PickerScreen) and top.models.waiting))
        await until(pilot, lambda: inspector.runs.sweep.job is None)
        await until(pilot, lambda: inspector.runs.generation.job is None)
        await until(pilot, lambda: view != "jobs" or not app.workspace.is_busy)
        await pilot.press(*LATER.get(view, []))
        edit = app.workspace.history.intervention
        await until(pilot, lambda: not edit.pruned or inspector.forecaster.of(edit) is not None)
        await until(pilot, lambda: inspector.reach.settled)
        study = next((screen for screen in app.screen_stack if isinstance(screen, SteerScreen)), None)
        await until(pilot, lambda: study is None or study.settled)
        await until(pilot, lambda: 4 not in inspector.visible_panes() or inspector.detail.figures is not None)
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=prepare)
    app.host.stop()
