"""Keys that come faster than they are handled: painted together, and nothing of them is lost."""

from __future__ import annotations

from typing import Any

import pytest
from textual import events

from tests.tui.helpers import Start, answered, lines, until
from tpe_tui.app import TpeApp
from tpe_tui.shell.burst import LONGEST_FRAME


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


async def test_the_engine_is_asked_about_the_last_of_a_burst_and_not_about_each(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tpe_tui.shell.burst.FRAME_SECONDS", 30.0)  # however busy this machine is
    async with start() as (app, pilot):
        kinds, latest = list[str](), app.host.latest

        def note(kind: str, *more: Any) -> int:
            kinds.append(kind)
            return latest(kind, *more)

        monkeypatch.setattr(app.host, "latest", note)
        storm(app, ["space", "j"] * 12)
        await until(pilot, lambda: app.input_order.idle and int(app.inspector.dims.pruned.sum()) == 12)
        await answered(app, pilot)
        assert kinds.count("evaluate") <= 2  # the first key waits for none
        assert "12/64" in lines(app.inspector.status)[0]


async def test_keys_that_still_wait_after_a_frame_are_held_together_too(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tpe_tui.shell.burst.FRAME_SECONDS", 0.002)  # it ends while keys wait, and none comes any more
    held, take = list[bool](), TpeApp._take_input

    async def record(app: TpeApp, event: events.Event) -> None:
        held.append(app.burst.is_holding)
        await take(app, event)

    monkeypatch.setattr(TpeApp, "_take_input", record)
    async with start() as (app, pilot):
        held.clear()
        storm(app, ["space", "j"] * 40)
        await until(pilot, lambda: len(held) == 80)
        assert held.count(False) <= 2  # the first, and the last where it waits for none


async def test_a_machine_that_draws_slowly_draws_less_often(start: Start) -> None:
    async with start() as (app, _):
        burst = app.burst
        assert burst.longest < LONGEST_FRAME
        burst._drawing_took = 0.03
        assert burst.longest == pytest.approx(0.06)
        burst._drawing_took = 30.0
        assert burst.longest == LONGEST_FRAME


async def test_a_job_computes_less_while_keys_come_faster_than_they_are_shown(start: Start) -> None:
    async with start() as (app, pilot):
        seconds: list[float] = []
        app.burst._give_way = seconds.append
        await pilot.press("j")
        assert not seconds
        storm(app, ["space", "j"] * 40)
        await until(pilot, lambda: app.input_order.idle and not app.burst.is_holding)
        assert seconds
        assert all(0 < each <= LONGEST_FRAME for each in seconds)
