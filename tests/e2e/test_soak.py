"""A short soak; the long one is ``python -m tests.e2e.soak --minutes 30``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.e2e import soak as soaking
from tests.e2e.soak import Soak, soak
from tests.helpers.bursts import Burst, listed


@pytest.mark.slow
def test_random_actions_leave_the_inspector_alive_its_log_empty_and_its_memory_flat(tmp_path: Path) -> None:
    states = list(soak(tmp_path, 40, seed=11))
    last = states[-1]
    assert not last.problem, f"round of seed {11 + last.rounds - 1}: {last.problem}\n{listed(last.last)}"
    assert not last.log
    assert last.rounds >= 2
    assert last.memory[-1][1] < 1.2 * last.memory[0][1]


@pytest.mark.slow
def test_a_soak_says_that_the_inspector_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def leaving(seed: int, count: int) -> Sequence[Burst]:
        return [Burst("q"), Burst("y")]

    monkeypatch.setattr(soaking, "make_bursts", leaving)
    monkeypatch.setattr(soaking, "every_phrase", list)
    states = list(soak(tmp_path, 60, seed=1))
    assert len(states) == 1
    assert states[0].problem


def test_a_machine_that_opens_the_inspector_slowly_is_soaked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def slowly_opened(home: Path, cache: Path) -> Iterator[SimpleNamespace]:
        clock[0] += 100.0
        yield SimpleNamespace(pid=os.getpid(), write=lambda burst: None, settle=lambda **_: None)

    clock = [0.0]
    monkeypatch.setattr(soaking, "driven", slowly_opened)
    monkeypatch.setattr(soaking, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=lambda seconds: None))
    assert len(list(soak(tmp_path, 0.0, seed=1))) == soaking.LEAST_ROUNDS


def test_growth_is_that_of_the_last_tenth_over_the_second() -> None:
    state = Soak(1, seconds=100.0, memory=[(float(at), 100 + (400 if at < 10 else at)) for at in range(101)])
    assert state.growth == pytest.approx((100 + 95) / (100 + 15) - 1, rel=0.01)
    assert Soak(1).growth == 0.0
