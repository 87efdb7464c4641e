"""Keys that come faster than they are handled: painted together, and nothing of them is lost."""

from __future__ import annotations

import pytest
from textual import events

from tests.tui.helpers import Start, answered, lines, until
from tpe_tui.app import TpeApp


def storm(app: TpeApp, keys: list[str]) -> None:
    for key in keys:
        app.post_message(events.Key(key, key if len(key) == 1 else None))


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of every frame that is painted: how many dimensions are pruned."""
    seen: list[int] = []
    painted = TpeApp._display

    def display(app: TpeApp, *args: object) -> None:
        if not app._batch_count and app._inspector is not None:
            seen.append(int(app.inspector.dims.pruned.sum()))
        painted(app, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(TpeApp, "_display", display)
    return seen


async def test_a_burst_is_painted_in_few_frames_and_ends_in_the_last_state(
    start: Start, frames: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tpe_tui.shell.burst.FRAME_SECONDS", 30.0)  # however busy this machine is
    async with start() as (app, pilot):
        dims = app.inspector.dims
        frames.clear()
        storm(app, ["space", "j"] * 12)
        await until(pilot, lambda: app.input_order.idle and int(dims.pruned.sum()) == 12)
        await answered(app, pilot)
        assert len({count for count in frames if 0 < count < 12}) <= 2  # the first key waits for none
        await until(pilot, lambda: frames[-1] == 12)
        assert [str(strip.text) for strip in map(dims.render_line, range(dims.size.height))] == [
            line[: dims.size.width].ljust(dims.size.width) for line in lines(dims)
        ]


async def test_what_is_held_back_is_painted_while_keys_go_on(start: Start, frames: list[int]) -> None:
    async with start() as (app, pilot):
        frames.clear()
        storm(app, ["space", "j"] * 60)
        await until(pilot, lambda: app.input_order.idle and not app.message_queue_size)
        assert len(set(frames)) > 2


async def test_a_dialog_opened_in_a_burst_is_laid_out_and_takes_what_follows(start: Start) -> None:
    async with start() as (app, pilot):
        storm(app, ["space", "j", "p", "H", "i", "enter", "space"])
        await until(pilot, lambda: app.input_order.idle and app.workspace.history.prompt == "Hi")
        await until(pilot, lambda: int(app.inspector.dims.pruned.sum()) == 2)
