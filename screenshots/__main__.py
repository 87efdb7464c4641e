"""Takes the README's pictures: the real app on the bundled model, as SVG and PNG, in this folder.

    python -m screenshots [NAME ...]

Nothing is staged but the keys pressed; the first run detects (under a minute), later ones find it in the cache.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from textual.pilot import Pilot

from screenshots.raster import draw
from tpe_core.options import RunOptions
from tpe_tui.app import TpeApp

HERE = Path(__file__).parent
PATIENCE = 900.0  # seconds for the first detection, and for a whole sweep


@dataclass(frozen=True)
class Shot:
    """A picture: its size in cells and the keys that lead to it."""

    name: str
    size: tuple[int, int]
    keys: tuple[str, ...]


SHOTS = (
    Shot("inspect-160x48", (160, 48), ("t", "enter", "2", "j", "]", "]", "]", "]", "1")),
    Shot("inspect-80x24", (80, 24), ("space", "j", "j", "space", "2", "1")),
    Shot("components-160x48", (160, 48), ("l",)),
    Shot("fit-160x48", (160, 48), ("2", "j", "j", "3", "l", "l")),
    Shot("scatter-160x48", (160, 48), ("3", "l", "l", "l", "z")),
    Shot("plot-80x24", (80, 24), ("3",)),
    Shot("sweep-160x48", (160, 48), ("w", "r", "l", "l", "l", "l", "l")),
    Shot("sweep-80x24", (80, 24), ("w", "r", "m", "m", "l", "l", "l", "l", "l")),
    Shot("steer-160x48", (160, 48), ("2", "j", "T", "]", "]", "]", "a")),
    Shot("dynamics-160x48", (160, 48), ("D", "n")),
    Shot("dynamics-80x24", (80, 24), ("D", "n")),
    Shot("generate-160x48", (160, 48), ("j", "space", "a", "n")),
    Shot("jobs-160x48", (160, 48), ("w", "r", "escape", "2", "j", "T", "escape", "J")),
    Shot("help-160x48", (160, 48), ("question_mark",)),
)


async def _settle(app: TpeApp, pilot: Pilot[int]) -> None:
    """Until the model is open and no answer is outstanding."""
    started = time.monotonic()
    while (
        app.workspace.session is None
        or app.workspace.status.job is not None
        or not app.inspector.current(app.inspector.tokens.answer)
    ):
        if time.monotonic() - started > PATIENCE or app.problem is not None:
            raise SystemExit(f"the model did not open: {app.problem}")
        await pilot.pause(0.05)
    await pilot.pause(0.2)


async def take(shot: Shot, folder: Path) -> None:
    """Write one picture."""
    with tempfile.TemporaryDirectory() as state:
        app = TpeApp(RunOptions(), state_dir=Path(state), keys_file=Path(state) / "keys.toml")
        async with app.run_test(size=shot.size) as pilot:
            await _settle(app, pilot)
            for key in shot.keys:
                await pilot.press(key)
                await pilot.pause(0.3)  # a job that the key starts shows itself
                await _settle(app, pilot)
            svg = app.export_screenshot(title=f"tpe {shot.size[0]}x{shot.size[1]}", simplify=True)
            lines = [list(strip) for strip in app.screen._compositor.render_strips()]
    (folder / f"{shot.name}.svg").write_text(svg, encoding="utf-8")
    draw(lines, folder / f"{shot.name}.png")


def main(names: list[str]) -> None:
    """Take the named pictures, or all."""
    for shot in SHOTS:
        if not names or shot.name in names:
            asyncio.run(take(shot, HERE))
            sys.stdout.write(f"{HERE / shot.name}.svg and .png\n")


if __name__ == "__main__":
    main(sys.argv[1:])
