"""How long a stage still takes, and what a log says of a long one."""

from __future__ import annotations

import io
import re

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


def left_after(waited: float, last: int, total: int = 20, each: int = 1) -> float | None:
    """Seconds left when steps of ten seconds and `each` units came up to `last`, and one takes `waited` already."""
    clock = Clock()
    left = TimeLeft(clock)
    for done in range(0, last + 1, each):
        left.update(Progress("reading", done, total))
        clock.now += 10
    clock.now += waited - 10
    return left.seconds


@pytest.mark.parametrize("waited", [0.0, 3.0, 9.0])
def test_time_left_goes_down_while_a_step_lasts(waited: float) -> None:
    assert left_after(waited, last=10) == pytest.approx(100 - waited)
    assert left_after(waited, last=10, each=5) == pytest.approx(20 - waited)


def test_a_step_that_takes_longer_than_others_makes_the_rest_take_longer_and_nothing_jumps() -> None:
    seconds = [left_after(waited, last=10) for waited in (9.99, 10.0, 10.01, 20.0, 40.0, 400.0)]
    assert None not in seconds
    on_time, due, late, *later = (second for second in seconds if second is not None)
    assert on_time == pytest.approx(due, abs=0.1)
    assert due == pytest.approx(late, abs=0.1)
    assert later == sorted(later)
    assert later[0] > due
    assert later[-1] == pytest.approx(9 * (4 * 10 + 400) / 5), "nine more, as the last five in a third of the time"


def test_nothing_is_said_of_a_last_step_that_is_late() -> None:
    assert left_after(9.0, last=19) == pytest.approx(1.0)
    assert left_after(11.0, last=19) is None


def test_another_stage_is_estimated_anew() -> None:
    clock = Clock()
    left = TimeLeft(clock)
    stage(clock, left, 0.1, 0, 500)
    left.update(Progress("fitting", 0, 10))
    assert left.seconds is None


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(written: str) -> list[str]:
    """The rows that a terminal shows of what was written on it."""
    rows = [""]
    for part in re.split(r"(\r|\n|\x1b\[K)", written):
        if part == "\n":
            rows.append("")
        elif part in ("\r", "\x1b[K"):
            rows[-1] = ""
        else:
            rows[-1] += part
    return rows


def log_of(clock: Clock, log: io.StringIO) -> ProgressLine:
    return ProgressLine(log, clock, lambda: f"12:00:{clock.now - 100:02.0f}")


def test_a_log_tells_every_stage_how_far_a_long_one_is_and_how_long_it_took() -> None:
    clock, log = Clock(), io.StringIO()
    line = log_of(clock, log)
    line.show(Progress("open", 0))
    for done in range(51):
        line.show(Progress("sweep", done, 100, note="slope, zero"))
        clock.now += 1
    line.show(Progress("save", 0))
    clock.now += LOG_SECONDS - 1
    line.close(finished=True)
    assert log.getvalue().splitlines() == [
        "12:00:00  open",
        "12:00:00  sweep  slope, zero",
        "12:00:10  sweep  10/100   10%  2 min left  slope, zero",
        "12:00:20  sweep  20/100   20%  80 s left  slope, zero",
        "12:00:30  sweep  30/100   30%  70 s left  slope, zero",
        "12:00:40  sweep  40/100   40%  60 s left  slope, zero",
        "12:00:50  sweep  50/100   50%  50 s left  slope, zero",
        "12:00:51  sweep  done in 50 s",
        "12:00:51  save",
    ]


def test_a_log_says_that_the_time_left_is_not_known_before_it_is() -> None:
    clock, log = Clock(), io.StringIO()
    line = log_of(clock, log)
    line.show(Progress("fit", 3, 10))
    clock.now += 12
    line.tick()
    assert log.getvalue().splitlines()[1] == "12:00:12  fit  3/10   30%  — left"


def test_a_log_tells_of_a_step_without_end_that_takes_long_while_it_lasts() -> None:
    clock, log = Clock(), io.StringIO()
    line = log_of(clock, log)
    line.show(Progress("load model", 0, note="needs 5 GB"))
    for _ in range(25):
        clock.now += 1
        line.tick()
    line.close()
    assert log.getvalue().splitlines() == [
        "12:00:00  load model  needs 5 GB",
        "12:00:10  load model  0:10 so far  needs 5 GB",
        "12:00:20  load model  0:20 so far  needs 5 GB",
    ]


def test_stages_that_take_turns_have_a_line_each_and_then_one_every_ten_seconds() -> None:
    clock, log = Clock(), io.StringIO()
    line = log_of(clock, log)
    for done in range(300):
        line.show(Progress(("read", "write")[done % 2], 0))
        clock.now += 0.1
    lines = log.getvalue().splitlines()
    assert len(lines) == 2 + 2
    assert {text.split()[1] for text in lines} == {"read", "write"}


def test_a_job_that_fails_is_not_said_to_be_done() -> None:
    clock, log = Clock(), io.StringIO()
    line = log_of(clock, log)
    line.show(Progress("fit", 0, 10))
    clock.now += 60
    line.close()
    assert "done" not in log.getvalue()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_a_terminal_shows_one_row_that_fits_and_leaves_none_behind(width: int) -> None:
    clock, shown = Clock(), Terminal()
    line = ProgressLine(shown, clock, width=lambda: width)
    rows = []
    for done in range(60):
        line.show(Progress("Fisher information", done, 100, note="of 4,096 positions"))
        rows.append(screen(shown.getvalue()))
        clock.now += 1
    assert {len(each) for each in rows} == {1}
    assert all(len(each[0]) < width for each in rows)
    line.close(finished=True)
    assert screen(shown.getvalue()) == [""]


def test_a_terminal_shows_a_bar_of_the_share_with_the_step_and_the_time_left() -> None:
    clock, shown = Clock(), Terminal()
    line = ProgressLine(shown, clock, width=lambda: 100)
    for done in range(61):
        line.show(Progress("sweep", done, 120, note="held-out"))
        clock.now += 1
    (row,) = screen(shown.getvalue())
    assert row == f"sweep {'━' * 15}{'─' * 15} 60/120  50%  60 s left  held-out"


def test_rows_are_printed_above_the_bar_which_stays_the_last_line() -> None:
    clock, shown = Clock(), Terminal()
    line = ProgressLine(shown, clock, width=lambda: 60)
    line.show(Progress("fit", 1, 2))
    line.print_rows(["slope  0.1", "slope  0.3"], shown)
    rows = screen(shown.getvalue())
    assert rows[:2] == ["slope  0.1", "slope  0.3"]
    assert rows[2].startswith("fit ━")
    line.close()
    assert screen(shown.getvalue()) == ["slope  0.1", "slope  0.3", ""]


def test_a_stream_that_holds_ascii_only_gets_stand_ins() -> None:
    clock, raw = Clock(), io.BytesIO()
    line = ProgressLine(io.TextIOWrapper(raw, encoding="ascii"), clock, lambda: "12:00:00")
    line.show(Progress("fit", 1, 2))
    clock.now += 60
    line.tick()
    assert raw.getvalue().decode("ascii").splitlines()[1] == "12:00:00  fit  1/2   50%  - left"
