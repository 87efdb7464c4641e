"""How long a stage still takes, and what a log says of a long one."""

from __future__ import annotations

import io

import pytest

from tpe_core.progress import Progress, TimeLeft
from tpe_tui.cli.progress_line import LOG_SECONDS, ProgressLine


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def stage(clock: Clock, left: TimeLeft, pace: float, first: int, last: int) -> None:
    """Steps of one unit each, `pace` seconds apart."""
    for done in range(first, last + 1):
        left.update(Progress("reading", done, 1000))
        clock.now += pace


@pytest.mark.parametrize("pace", [0.01, 0.3, 5.0])
@pytest.mark.parametrize("start", [0, 400])
def test_an_even_stage_takes_as_long_as_it_says_wherever_it_was_resumed(pace: float, start: int) -> None:
    clock = Clock()
    left = TimeLeft(clock)
    stage(clock, left, pace, start, start + 200)
    truth = pace * (1000 - start - 200)
    assert left.seconds == pytest.approx(truth, rel=0.02, abs=2 * pace)


def test_a_stage_that_slows_down_is_known_to_within_a_quarter_soon_after() -> None:
    clock = Clock()
    left = TimeLeft(clock)
    stage(clock, left, 0.1, 0, 300)  # half a minute
    stage(clock, left, 1.0, 301, 345)
    assert left.seconds == pytest.approx(1.0 * (1000 - 345), rel=0.25)


def test_nothing_is_said_before_anything_is_known() -> None:
    clock = Clock()
    left = TimeLeft(clock)
    assert left.seconds is None
    left.update(Progress("importing", 0))
    clock.now += 60
    assert left.seconds is None
    left.update(Progress("reading", 5, 100))
    clock.now += 60
    assert left.seconds is None  # a resumed job's first step tells no speed


def test_time_left_goes_down_while_a_step_takes_long_and_never_below_nothing() -> None:
    clock = Clock()
    left = TimeLeft(clock)
    stage(clock, left, 1.0, 0, 990)
    before = left.seconds
    clock.now += 3
    assert before is not None
    assert left.seconds == pytest.approx(before - 3, abs=0.01)
    clock.now += 1000
    assert left.seconds == 0.0


def test_another_stage_is_estimated_anew() -> None:
    clock = Clock()
    left = TimeLeft(clock)
    stage(clock, left, 0.1, 0, 500)
    left.update(Progress("fitting", 0, 10))
    assert left.seconds is None


def test_a_log_tells_every_stage_and_how_far_a_long_one_is() -> None:
    clock, log = Clock(), io.StringIO()
    line = ProgressLine(log, clock)
    line.show(Progress("open", 0))
    for done in range(101):
        line.show(Progress("sweep", done, 100, note="slope, zero"))
        clock.now += 1
    line.close()
    lines = log.getvalue().splitlines()
    assert lines[:2] == ["open", "sweep"]
    assert len(lines) == 2 + 100 // LOG_SECONDS
    assert lines[5] == "sweep 40% slope, zero 60 s left"
