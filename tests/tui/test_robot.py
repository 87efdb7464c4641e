"""A short run of the robot of key bursts; the long one is ``python -m tests.tui.robot``."""

from __future__ import annotations

import pytest

from tests.helpers.bursts import Burst, listed, make_bursts
from tests.tui.robot import episode, problem


@pytest.mark.parametrize(("seed", "wild"), [(1, False), (3, True)])
async def test_bursts_of_keys_end_as_the_same_keys_typed_slowly(seed: int, wild: bool) -> None:
    bursts, wrong = await episode(seed, 15, wild)
    assert not wrong, f"seed {seed}: {wrong}\n{listed(bursts)}"


async def test_the_robot_sees_a_difference_and_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    bursts = [Burst("p\x15hello\r"), Burst("j ")]
    assert not await problem(bursts)
    monkeypatch.setattr("tpe_tui.shell.input_order.InputOrder.admit", lambda self, event: True)
    monkeypatch.setattr("tpe_tui.shell.input_order.InputOrder.handled", lambda self, event: None)
    monkeypatch.setattr("tpe_tui.shell.input_order.InputOrder.idle", True)
    assert "prompt" in await problem(bursts)
    monkeypatch.setattr("tpe_tui.inspector.screen.InspectScreen.action_move_down", lambda self: 1 / 0)
    assert "ZeroDivisionError" in await problem(bursts)


def test_the_same_seed_makes_the_same_bursts() -> None:
    assert make_bursts(5, 60) == make_bursts(5, 60)
    assert make_bursts(5, 60) != make_bursts(6, 60)
    assert max(len(burst.keys) for burst in make_bursts(5, 60)) > 2
