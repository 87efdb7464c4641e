"""What the program says: beside a job, about undo, about files and the clipboard, and in the log it leaves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.helpers.tiny_models import save_tiny
from tests.tui.fakes import FakeSession
from tests.tui.helpers import Gate, Start, lines, until
from tpe_core.edits.intervention import Intervention
from tpe_core.progress import Progress
from tpe_tui.cli.main import main
from tpe_tui.edit_words import change_between
from tpe_tui.job_status import JobStatus
from tpe_tui.shell import terminal
from tpe_tui.shell.engine_app import COPY_NAME
from tpe_tui.widgets.job_strip import JobStrip


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def shown(status: JobStatus, width: int = 80) -> str:
    text = "".join(part for part, _ in JobStrip(status, "x").line(0, width)[0])
    assert cell_len(text) <= width
    return text


@pytest.fixture
def status() -> tuple[JobStatus, Clock]:
    clock = Clock()
    made = JobStatus(clock, lambda: None)
    made.begin(1, "sweep")
    made.step(Progress("sweep", 42, 100))
    return made, clock


@pytest.mark.parametrize("width", [60, 80, 160])
def test_a_message_and_the_job_are_both_read_while_the_job_runs(status: tuple[JobStatus, Clock], width: int) -> None:
    made, clock = status
    assert "42%" in shown(made, width)
    made.say("dim 193 pruned")
    for part in ("dim 193 pruned", "42%", "0:00", "x cancel"):
        assert part in shown(made, width)
    clock.now = 30.0
    assert "dim 193" not in shown(made, width)
    for part in ("42/100", "42%", "0:30", "x cancel"):
        assert part in shown(made, width)


def test_a_job_tells_its_share_and_the_time_that_is_left(status: tuple[JobStatus, Clock]) -> None:
    made, clock = status
    assert "left" not in shown(made), "nothing is known of its pace"
    for seconds in range(1, 9):
        clock.now = float(seconds)
        made.step(Progress("sweep", 42 + seconds, 100))
    assert " 50%  0:08, 50 s left " in shown(made)


def test_how_many_jobs_are_queued_stands_behind_the_time_of_the_one_that_runs(status: tuple[JobStatus, Clock]) -> None:
    made, _ = status
    made.queue(2)
    assert " 42%  0:00, 2 queued  x cancel" in shown(made)
    made.say("dim 193 pruned")
    assert " 42% 0:00 +2  x cancel" in shown(made)


@pytest.mark.parametrize("kind", ["step", "behind"])
def test_steps_of_a_job_are_shown_ten_times_a_second_at_most_and_another_stage_at_once(kind: str) -> None:
    told: list[int] = []
    clock = Clock()
    status = JobStatus(clock, lambda: told.append(1))
    show = getattr(status, kind)
    for step in range(1000):
        clock.now = step / 1000
        show(Progress("reading", step, 1000))
    assert 9 <= len(told) <= 11
    told.clear()
    show(Progress("sorting", 0, 10))
    assert len(told) == 1
    status.behind(None)
    assert len(told) == 2


async def test_a_busy_machine_is_told_by_the_inspector(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tpe_tui.app.busy_notice", lambda device: f"{device} is shared: --threads 1")
    async with start() as (app, _):
        assert [notice.message for notice in app._notifications] == ["cpu is shared: --threads 1"]


@pytest.mark.parametrize("command", ["check", "analyze", "prune"])
def test_a_busy_machine_is_told_by_every_command_that_runs_a_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    monkeypatch.setattr("tpe_core.busy.busy_notice", lambda device: f"{device} is shared: --threads 1")
    text = tmp_path / "text.txt"
    text.write_text(" ".join(f"Return the value {i} of the array at index {i % 7}." for i in range(3000)))
    reading = [] if command == "check" else ["--text", str(text), "--positions", "1024", "--no-cache"]
    pruning = ["--order", "slope", "--fractions", "0.5", "--ood", str(text)] if command == "prune" else []
    assert main([command, str(save_tiny(tmp_path / "model")), *reading, *pruning]) == 0
    assert "tpe: cpu is shared: --threads 1\n" in capsys.readouterr().err


def test_a_long_message_has_the_row_alone_for_as_long_as_it_takes_to_read(status: tuple[JobStatus, Clock]) -> None:
    made, clock = status
    sentence = "written to ~/a/folder/with/a/long/name/and/then/a/file/tpe-mask-pythia.json"
    made.say(sentence)
    assert sentence in shown(made)
    clock.now = 5.0
    assert sentence in shown(made), "it is longer than others"
    clock.now = 20.0
    assert "42/100" in shown(made)
    made.say(sentence)
    assert sentence in shown(made), "said again"


async def test_messages_are_seen_beside_a_job_on_the_inspector_and_on_a_study(start: Start) -> None:
    session, gate = FakeSession(), Gate(3)
    session.sweep_step = gate
    async with start(session) as (app, pilot):
        await pilot.press("w", "r")
        await until(pilot, lambda: app.workspace.status.job is not None)
        await pilot.press("r")
        strip = app.screen.strip  # type: ignore[attr-defined]
        await until(pilot, lambda: "the pruning sweep is there already" in lines(strip)[0])
        assert "x cancel" in lines(strip)[0]
        await pilot.press("q", "space")
        await until(pilot, lambda: "pruned" in lines(app.inspector.strip)[0])
        assert "x cancel" in lines(app.inspector.strip)[0]
        gate.open()
        await until(pilot, lambda: app.workspace.status.job is None)


TOKENS = [f"t{i}" for i in range(9)]
EMPTY = Intervention()
CHANGES = [
    (EMPTY, Intervention((193,)), "prune dim 193"),
    (Intervention((1, 2)), Intervention((1,)), "restore dim 2"),
    (EMPTY, Intervention((1, 2, 3)), "prune 3 dims"),
    (Intervention((1,)), Intervention((2, 3)), "prune 2 dims, restore dim 1"),
    (EMPTY, EMPTY.steer(4, 2.0), "steer t4 ×2"),
    (EMPTY.steer(4, 2.0), EMPTY.steer(4, 2.0, "top-k"), "steer t4 by top-k"),
    (Intervention((1,)).steer(4, 2.0), Intervention((1,)), "stop steering t4"),
    (EMPTY, EMPTY.steer(4, 2.0).steer(5, 2.0), "steer 2 tokens"),
    (Intervention((1,)), Intervention((1,), "mean"), "replace by mean"),
    (Intervention((1, 2)).steer(4, 2.0), EMPTY, "clear 2 pruned, 1 steered"),
]


@pytest.mark.parametrize(("before", "after", "said"), CHANGES, ids=[said for *_, said in CHANGES])
def test_what_changed_between_two_edits_is_said(before: Intervention, after: Intervention, said: str) -> None:
    words = change_between(before, after, TOKENS)
    assert words == said or words.startswith(said), words


async def test_undo_and_redo_say_what_they_undid(start: Start) -> None:
    async with start() as (app, pilot):
        dim = app.inspector.dims.dim
        await pilot.press("space", "u")
        assert app.workspace.status.text == f"undone: prune dim {dim}"
        await pilot.press("U")
        assert app.workspace.status.text == f"redone: prune dim {dim}"


async def test_a_copy_says_that_it_was_sent_and_where_the_file_lies(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    async with start() as (app, pilot):
        await pilot.press("y")
        assert app.workspace.status.text == f"sent to the terminal's clipboard, and written to ~/state/{COPY_NAME}"
        (tmp_path / "state" / COPY_NAME).unlink()
        (tmp_path / "state" / COPY_NAME).mkdir()
        await pilot.press("y")
        assert app.workspace.status.text.startswith("sent to the terminal's clipboard; ~/state/")


def test_the_log_of_a_run_is_emptied_by_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_log_dir", lambda _: str(tmp_path))
    earlier = tmp_path / "native-999999.log"
    earlier.write_text("a crash\n")
    running = tmp_path / f"native-{os.getppid()}.log"
    running.write_text("an instance beside this one\n")
    old = [tmp_path / f"native-{4_000_000 + at}.log" for at in range(20)]
    for at, path in enumerate(old):
        path.write_text("long ago\n")
        os.utime(path, (at, at))
    descriptor = terminal._open_log()
    os.write(descriptor, b"mine\n")
    os.close(descriptor)
    terminal._tidy(terminal.log_file())  # when leaving
    assert terminal.log_file().read_text() == "mine\n"
    assert (earlier.read_text(), running.read_text()) == ("a crash\n", "an instance beside this one\n")
    assert [path for path in old if path.exists()] == old[-(terminal.KEPT_LOGS - 1) :], "the newest stay"


def test_a_run_that_said_nothing_leaves_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_log_dir", lambda _: str(tmp_path))
    os.close(terminal._open_log())
    terminal._drop_if_empty(terminal.log_file())
    assert [*tmp_path.iterdir()] == []
