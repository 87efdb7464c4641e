"""The probe's log: read whole or torn, resumed, followed while it grows, and told apart when it ends or dies."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tpe_core.dynamics.probe_log import LogWriter, follow, open_log, read_log
from tpe_core.dynamics.trajectory import Trajectory, log_steps
from tpe_core.errors import TpeError
from tpe_core.progress import Progress, run

START = {"frequencies": "9 tokens of a text", "fingerprint": "f", "tokens": 9, "unseen": 2, "total": 8}


def point(step: int, r2: float = 0.5, **others: Any) -> dict[str, Any]:
    clock = {"probe_seconds": 0.5, "training_seconds": 100.0}
    return {"kind": "point", "name": f"step{step}", "step": step, "r2_adjusted": r2, **clock, **others}


def write(path: Path, *records: dict[str, Any], step: int = 0) -> None:
    writer = LogWriter(path, START, step)
    for record in records:
        writer.write(record)
    writer.close()


def test_a_finished_run_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "run" / "log.jsonl"  # its folder is made
    loss = {"kind": "loss", "step": 1, "loss": 3.5}
    end = {"kind": "end", "step": 8, "reason": "finished", "probe_seconds": 0.5, "training_seconds": 200.0}
    first, second = point(0, 0.1, top_dims=[4, 7], travel={"all": 0.0}), point(1, 0.5, top_dims=[7, 9])
    write(path, first, second, loss, end)
    trajectory = read_log(path)
    assert [(p.step, p.r2_adjusted, p.loss) for p in trajectory.points] == [(0, 0.1, None), (1, 0.5, 3.5)]
    assert [p.top_overlap for p in trajectory.points] == [0.5, 1.0]
    assert trajectory.points[0].travel == {"all": 0.0}
    assert (trajectory.tokens, trajectory.unseen, trajectory.frequencies) == (9, 2, "9 tokens of a text")
    assert trajectory.warnings == ()
    log = open_log(path)
    assert (log.ended, log.last_step, log.total, log.share) == ("finished", 8, 8, 0.0025)


def test_a_torn_last_line_is_ignored_and_the_run_goes_on_after_it(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write(path, point(0), point(1))
    whole = path.read_bytes()
    for cut in range(len(whole) - 1, whole.rfind(b"\n", 0, -1), -7):
        path.write_bytes(whole[:cut])
        assert [p.step for p in read_log(path).points] == [0]
    write(path, point(2), step=2)
    assert [p.step for p in read_log(path).points] == [0, 2]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_resumed_run_has_every_step_once(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write(path, *(point(step, 0.1) for step in (0, 1, 2, 4)))
    write(path, point(2, 0.2), point(4, 0.2), point(8, 0.2), step=2)
    assert [(p.step, p.r2_adjusted) for p in read_log(path).points] == [
        (0, 0.1),
        (1, 0.1),
        (2, 0.2),
        (4, 0.2),
        (8, 0.2),
    ]
    write(path, point(0, 0.3), step=0)  # from the start: another run, which replaces the first
    assert [(p.step, p.r2_adjusted) for p in read_log(path).points] == [(0, 0.3)]


def test_a_broken_line_is_named_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write(path, point(0), {"kind": "point", "step": 1}, {"kind": "end", "step": 8, "reason": "finished"})
    lines = path.read_text().splitlines()
    lines[2:3] = ['{"kind": "point", "step": ', json.dumps(point(2) | {"r2_adjusted": "high"}), "[]", "\x00"]
    path.write_text("\n".join(lines) + "\n")
    trajectory = read_log(path)
    assert [p.step for p in trajectory.points] == [0]
    assert [warning.split()[1] for warning in trajectory.warnings] == ["3", "4", "5", "6"]


@pytest.mark.parametrize(
    "content", ["a diary\n", "{}\n", '{"kind": "start", "schema": 2}\n', "", '["start"]\n', "\xff"]
)
def test_what_is_no_log_is_refused_and_never_written(tmp_path: Path, content: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(TpeError, match="does not begin like a probe log"):
        read_log(path)
    if content:
        with pytest.raises(TpeError, match="is no probe log and is left as it is"):
            LogWriter(path, START, 0)
    assert path.read_text(encoding="latin-1") == content


def test_missing_files_say_so(tmp_path: Path) -> None:
    with pytest.raises(TpeError, match="there is no probe log at"):
        read_log(tmp_path / "log.jsonl")
    with pytest.raises(TpeError, match="cannot be read"):
        read_log(tmp_path)
    with pytest.raises(TpeError, match="there is no folder"):
        run(follow(tmp_path / "no" / "log.jsonl"))


def test_other_frequencies_and_a_second_writer_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    writer = LogWriter(path, START, 0)
    with pytest.raises(TpeError, match="another run is writing"):
        LogWriter(path, START, 0)
    writer.close()
    with pytest.raises(TpeError, match="other frequencies"):
        LogWriter(path, START | {"fingerprint": "g"}, 0)


def test_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write(path, point(0, float("nan"), change={"all": 0.5, "mlp": float("inf")}))
    assert "NaN" not in path.read_text()
    assert "Infinity" not in path.read_text()
    found = read_log(path).points[0]
    assert (found.r2_adjusted, found.change) == (None, {"all": 0.5})


def test_how_a_run_stands_is_said(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    writer = LogWriter(path, START, 0)
    writer.write(point(2))
    assert read_log(path).warnings == ("the run is at step 2 of 8 or beyond and goes on.",)
    writer.close()
    assert "the run died after step 2 of 8" in read_log(path).warnings[0]
    write(path, {"kind": "end", "step": 5, "reason": "MemoryError: it was too much"}, step=4)
    assert read_log(path).warnings == (
        "the run ended at step 5 of 8 before it was finished: MemoryError: it was too much.",
    )


@contextmanager
def training(path: Path, body: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that writes a log."""
    script = (
        "import sys, time; from pathlib import Path; from tests.core.dynamics.test_probe_log import START, point\n"
        "from tpe_core.dynamics.probe_log import LogWriter\n"
        f"writer = LogWriter(Path(sys.argv[1]), START, 0)\n{body}"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(path)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def watch(path: Path, until: int) -> tuple[list[Progress], Any]:
    """Follow until a step was seen."""
    steps, seen = follow(path, poll=0.02), []
    for event in steps:
        seen.append(event)
        if event.done >= until:
            return seen, steps
    raise AssertionError("it ended")


def test_a_growing_log_is_followed_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    steps = follow(path, poll=0.01)
    assert next(steps).note == f"waiting for {path}, which is not there"

    def train() -> None:
        writer = LogWriter(path, START, 0)
        for step in (0, 1, 2, 4):
            writer.write(point(step, top_dims=[step]))
            time.sleep(0.05)
        writer.write({"kind": "end", "step": 8, "reason": "finished"})
        writer.close()

    thread = threading.Thread(target=train)
    thread.start()
    seen: list[Progress] = []
    trajectory = run(steps, seen.append)
    thread.join()
    assert [p.step for p in trajectory.points] == [0, 1, 2, 4]
    assert trajectory.warnings == ()
    assert [p.top_overlap for p in trajectory.points] == [0, 0, 0, 1]
    partial = [event.partial for event in seen if isinstance(event.partial, Trajectory)]
    sizes = [len(each.points) for each in partial]
    assert sizes == sorted(sizes)
    assert {p.top_overlap for p in partial[0].points} <= {None}  # with the last ones, which are not known yet
    assert len(set(sizes)) >= 3  # it was seen growing
    assert {event.total for event in seen if event.partial is not None} == {8}
    assert seen[-1].note == "step 8, adjusted R2 0.500"


def test_a_run_that_is_killed_while_followed_is_said(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with training(path, "writer.write(point(0)); writer.write(point(2)); time.sleep(600)") as process:
        seen, steps = watch(path, until=2)
        assert "died" not in seen[-1].note
        process.send_signal(signal.SIGKILL)
        trajectory = run(steps)
    assert [p.step for p in trajectory.points] == [0, 2]
    assert trajectory.warnings[-1].startswith("the run died after step 2 of 8: nothing is written any more")


def test_a_run_that_ends_early_while_followed_says_why(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    end = {"kind": "end", "step": 3, "reason": "it was stopped"}
    with training(path, f"writer.write(point(2)); sys.stdin.read(0); writer.write({end}); writer.close()"):
        trajectory = run(follow(path, poll=0.02))
    assert trajectory.warnings == ("the run ended at step 3 of 8 before it was finished: it was stopped.",)


def test_following_is_cancelled_by_closing_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    writer = LogWriter(path, START, 0)
    steps = follow(path, poll=30.0)
    next(steps)
    started = time.monotonic()
    steps.close()
    assert time.monotonic() - started < 5
    writer.close()


def test_whoever_waits_for_a_log_that_is_not_there_sees_those_that_are(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.jsonl").touch()
    steps = follow(tmp_path / "e.jsonl", poll=0.01)
    assert next(steps).note.endswith("e.jsonl, which is not there; in that folder: a.jsonl, b.jsonl, c.jsonl, …")
    steps.close()
    steps = follow(tmp_path / f"{'n' * 300}.jsonl", poll=0.01)  # a name that the disk cannot have
    assert "which is not there" in next(steps).note
    steps.close()


def test_a_log_that_is_begun_anew_while_followed(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    writer = LogWriter(path, START, 0)
    writer.write(point(4, 0.9))
    _, steps = watch(path, until=4)
    path.unlink()
    assert next(steps).note == f"waiting for {path}, which is not there"
    again = LogWriter(path, START, 0)
    again.write(point(1, 0.2))
    event = next(steps)
    assert isinstance(event.partial, Trajectory)
    assert [p.step for p in event.partial.points] == [1]
    writer.close()
    again.close()


def test_a_log_that_goes_away_while_it_is_read_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.jsonl"
    writer = LogWriter(path, START, 0)
    writer.write(point(1))
    real = Path.read_bytes

    def once(self: Path) -> bytes:
        content = real(self)
        path.unlink()
        return content

    monkeypatch.setattr(Path, "read_bytes", once)
    steps = follow(path, poll=0.01)
    assert isinstance(next(steps).partial, Trajectory)  # what was there when it was read
    monkeypatch.undo()
    assert next(steps).note == f"waiting for {path}, which is not there"
    writer.close()


def test_log_steps_are_two_per_doubling() -> None:
    assert log_steps(20) == [0, 1, 2, 3, 4, 6, 8, 11, 16, 20]
    assert log_steps(0) == [0]
    assert len(log_steps(10**6)) == 41
