"""Takes pictures of every screen: the real app on the bundled model, as PNG, in this folder.

    python -m screenshots [NAME ...]

Every screen is taken at 80×24 and 160×48, dark and light. Nothing is staged but the keys pressed; the model is loaded
once, the first run detects (under a minute), later ones find it in the cache.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from textual.pilot import Pilot

from screenshots.raster import draw
from tpe_core.analysis import analyze
from tpe_core.continued_training.experiment import train_on
from tpe_core.continued_training.options import TrainOnOptions
from tpe_core.edits.intervention import Intervention
from tpe_core.json_text import json_text, nulled
from tpe_core.models.nearby import LocalModel
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.session import open_session
from tpe_tui.app import TpeApp
from tpe_tui.comparison.app import ComparisonApp
from tpe_tui.dialogs.model_picker import PickerScreen
from tpe_tui.dynamics.app import DynamicsApp
from tpe_tui.engine.host import read_dynamics
from tpe_tui.engine.session import Opener
from tpe_tui.engine.shared import SharedModels
from tpe_tui.shell.engine_app import EngineApp
from tpe_tui.shell.recent_models import RecentModels
from tpe_tui.shell.theme import THEMES

HERE = Path(__file__).parent
PATIENCE = 900.0  # seconds for the first detection, and for a whole sweep
SIZES = ((80, 24), (160, 48))
COLOURS = {"dark": "", "light": "-light"}  # by theme: what ends a picture's name
NEAR = (
    LocalModel("./models/SmolLM2-135M-Instruct.Q4_1.gguf", 97_800_000, 0.0),
    LocalModel("./run-7", 541_000_000, 0.0),
)
COMPARE = "compare"
"""The name of the pictures of `tpe compare --screen`, which is an app of its own."""

EXPERIMENT = "experiment"
"""The name of the pictures of `tpe train-on --screen`, for which two masks are trained on for some minutes."""

STARTS = frozenset("raTDFLVn5")  # keys after which a job or a question may come
RECENT = ("EleutherAI/pythia-160m", "demo", "openai-community/gpt2")
"""What a machine that has other models than this one would list."""


@dataclass(frozen=True)
class Shot:
    """A screen: the keys that lead to it, and whether it begins without a model."""

    name: str
    keys: tuple[str, ...]
    asks_model: bool = False


SHOTS = (
    Shot("inspect", ("t", "enter", "2", "j", "]", "]", "]", "]", "1")),
    Shot("token", ("t", "enter", "2", "j", "]", "]", "4")),
    Shot("positions", ("space", "j", "space", "5", "h", "h")),
    Shot("plot", ("3", "l")),
    Shot("scatter", ("3", "l", "l", "l", "z")),
    Shot("fit", ("F", "tab", "j", "j", "j")),
    Shot("sweep", ("w", "r", "l", "l", "l", "l", "l")),
    Shot("steer", ("2", "j", "T", "]", "]", "]", "a")),
    Shot("generate", ("j", "space", "a", "n")),
    Shot("dynamics", ("D", "n")),
    Shot("jobs", ("j", "space", "a", "escape", "2", "j", "T", "escape", "J")),
    Shot("prompts", ("t", "enter", "L", "a", *"Raises an error if", "enter", "a", *"The shape of the", "enter")),
    Shot("edits", ("space", "j", "space", "t", "enter", "2", "j", "]", "]", "1", "V")),
    Shot("help", ("question_mark",)),
    Shot("words", ("question_mark", "w")),
    Shot("card", ("C",)),
    Shot("models", (), asks_model=True),
    Shot("tour", ("enter", "j"), asks_model=True),
)


async def _settle(app: TpeApp, pilot: Pilot[int]) -> None:
    """Until the model is open, no answer is outstanding and no job runs; or until the list of models is read."""
    started = time.monotonic()
    while not _is_settled(app):
        if time.monotonic() - started > PATIENCE or app.problem is not None:
            raise SystemExit(f"the model did not open: {app.problem}")
        await pilot.pause(0.05)
    await pilot.pause(0.2)


def _is_settled(app: TpeApp) -> bool:
    if isinstance(app.screen, PickerScreen):
        return not app.screen.models.waiting
    return (
        app.workspace.session is not None
        and app.workspace.status.job is None
        and app.inspector.current(app.inspector.tokens.answer)
        and getattr(app.screen, "settled", True)
    )


async def take(shot: Shot, opener: Opener) -> AsyncIterator[Path]:
    """Write the pictures of a screen; where each is. The keys are pressed once, in the smallest size."""
    with tempfile.TemporaryDirectory() as state:
        recent = RecentModels(Path(state))
        for model in reversed(RECENT if shot.name == "models" else ()):
            recent.add(RunOptions(model))
        app = TpeApp(
            RunOptions(), opener=opener, asks_model=shot.asks_model, near=lambda: NEAR, lister=list,
            state_dir=Path(state), keys_file=Path(state) / "keys.toml",
        )  # fmt: skip
        for theme in THEMES.values():
            app.register_theme(theme)
        async with app.run_test(size=SIZES[0]) as pilot:
            await _settle(app, pilot)
            for key in shot.keys:
                await pilot.press(key)
                await pilot.pause(0.3 if key in STARTS else 0.05)  # a job that the key starts shows itself
                await _settle(app, pilot)
            async for path in _drawn(app, pilot, shot.name, lambda: _settle(app, pilot)):
                yield path
        app.memory.close()
        app.host.stop()


async def take_comparison() -> AsyncIterator[Path]:
    """Write the pictures of the comparison screen: the bundled model on two lengths of text."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for positions in (32_768, 4096, 1024):
            files.append(Path(folder) / f"{positions:,}.json")
            files[-1].write_text(json_text(nulled(run(analyze(RunOptions(positions=positions))).to_dict())))
        app = ComparisonApp(files, state_dir=Path(folder), keys_file=Path(folder) / "keys.toml")
        for theme in THEMES.values():
            app.register_theme(theme)
        async with app.run_test(size=SIZES[0]) as pilot:
            while app.reader.job is not None or app.reader.result is None:
                await pilot.pause(0.05)
            await pilot.press("l", "tab")
            async for path in _drawn(app, pilot, COMPARE, pilot.pause):
                yield path
        app.host.stop()


def _trained(folder: Path) -> Path:
    """The folder of an experiment on the bundled model: masks of its smallest and of its largest slopes."""
    live = run(open_session(RunOptions()))
    order = np.argsort(np.abs(live.analysis.encoding.slope)).tolist()
    masks = []
    for name, dims in (("low", order[:25]), ("top", order[-25:])):
        masks.append(folder / f"{name}.json")
        live.export(masks[-1], Intervention(tuple(dims)), live.default_prompt)
    options = TrainOnOptions(
        RunOptions(), masks=tuple(masks), out=folder / "runs", seeds=2, steps=40, every=10, evaluated=1024
    )
    run(train_on(options))
    return options.out


async def take_experiment(trained: Path | None = None) -> AsyncIterator[Path]:
    """Write the pictures of the page of an experiment: of a folder that is there, or of one that is trained now."""
    with tempfile.TemporaryDirectory() as folder:
        runs = _trained(Path(folder)) if trained is None else trained
        app = DynamicsApp(
            (),
            read_dynamics(RunOptions()),
            experiment=runs,
            state_dir=Path(folder),
            keys_file=Path(folder) / "keys.toml",
        )
        for theme in THEMES.values():
            app.register_theme(theme)
        async with app.run_test(size=SIZES[0]) as pilot:
            while app.reader.experiment.state.read is None:
                await pilot.pause(0.05)
            await pilot.press("m", "h", "h")
            async for path in _drawn(app, pilot, EXPERIMENT, pilot.pause):
                yield path
        app.host.stop()


async def _drawn(
    app: EngineApp, pilot: Pilot[int], name: str, settle: Callable[[], Awaitable[object]]
) -> AsyncIterator[Path]:
    """The app's screen in every size and theme."""
    for size, colours in product(SIZES, COLOURS):
        app.theme = THEMES[colours].name
        await pilot.resize_terminal(*size)
        await settle()
        path = HERE / f"{name}-{size[0]}x{size[1]}{COLOURS[colours]}.png"
        draw([list(strip) for strip in app.screen._compositor.render_strips()], path)
        yield path


async def _take_all(names: Sequence[str]) -> None:
    models = SharedModels(RunOptions())
    taken = [take(shot, models.open) for shot in SHOTS if not names or shot.name in names]
    taken += [take_comparison()] if not names or COMPARE in names else []
    taken += [take_experiment()] if not names or EXPERIMENT in names else []
    for each in taken:
        async for path in each:
            sys.stdout.write(f"{path}\n")
            sys.stdout.flush()


def main(names: list[str]) -> None:
    """Take the pictures of the named screens, or all."""
    asyncio.run(_take_all(names))


if __name__ == "__main__":
    main(sys.argv[1:])
