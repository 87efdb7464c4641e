"""Every way out by every state: exit code, terminal settings, files left behind and what the user is told."""

from __future__ import annotations

import signal
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tui.terminal_session import HUNG_UP, IN_TIME, LEFT, READY, Session

STATES = ("idle", "job", "dialog")
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
KEPT = {"demo.json", "demo.notes", "recent.json"}
NOT_KEPT = b"tpe: the session is not kept for the next start: "

Open = Callable[..., Session]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens the inspector on a fake session and brings it into a state."""
    sessions: list[Session] = []
    job = tmp_path / "job"
    monkeypatch.setenv("TPE_FAKE_JOB", str(job))

    def start(state: str, home: Path = tmp_path, file_bytes: int | None = None, apart: bool = False) -> Session:
        session = Session(home, file_bytes=file_bytes, apart=apart)
        sessions.append(session)
        session.until(READY)
        if state == "job":
            session.press(b"r")
            session.until(b"detection")
            until_begun(job)
        elif state == "dialog":
            session.press(b"p")
            session.until(b"is a new line")
        if state != "job":  # which never stops painting
            session.settle(0.2)
        return session

    yield start
    for session in sessions:
        session.close()


def until_begun(job: Path) -> None:
    """Wait until the job itself runs: what is queued and never began is not closed either."""
    while not job.exists():
        time.sleep(0.01)


def files(home: Path) -> dict[str, int]:
    """Everything in the home but the log: names and sizes."""
    return {
        path.name: path.stat().st_size
        for path in home.rglob("*")
        if path.is_file() and path.suffix != ".log" and path.name != "job" and "pycache" not in str(path)
    }


def is_ended_job(tmp_path: Path, state: str) -> bool:
    return state != "job" or (tmp_path / "job").read_text() == "closed"


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_job_keeps_the_view_and_leaves_a_clean_terminal(
    opened: Open, tmp_path: Path, number: signal.Signals, state: str
) -> None:
    session = opened(state)
    session.process.send_signal(number)
    sent = time.monotonic()
    assert session.ended() == 128 + number
    assert time.monotonic() - sent <= IN_TIME + 1
    assert termios.tcgetattr(session.slave) == session.before
    assert session.seen.split(LEFT)[-1].count(b"tpe: ") == 0
    assert set(files(tmp_path)) == KEPT
    assert min(files(tmp_path).values()) > 0
    assert is_ended_job(tmp_path, state)


@pytest.mark.parametrize("state", STATES)
def test_kill_9_leaves_no_half_written_file(opened: Open, tmp_path: Path, state: str) -> None:
    session = opened(state)
    session.process.kill()
    assert session.process.wait(10) == -signal.SIGKILL
    left = files(tmp_path)
    assert set(left) <= {*KEPT, "demo.lock"}, "a lock that nobody holds is no lock"
    assert min(left.values(), default=1) > 0
    assert termios.tcgetattr(session.slave) != session.before  # nobody is left to clean it


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("which", ["keys", "screen"])
def test_half_a_terminal_that_goes_ends_the_process_and_the_other_half_is_clean(
    opened: Open, tmp_path: Path, which: str, state: str
) -> None:
    session = opened(state, apart=True)
    closed = session.vanish(which)
    while session.process.poll() is None and time.monotonic() - closed < 15:
        if which == "keys":
            session.settle(0.05, most=0.2)
        time.sleep(0.05)
    assert session.process.wait(0.1) == HUNG_UP
    assert time.monotonic() - closed <= IN_TIME + 1
    if which == "screen":
        assert termios.tcgetattr(session.keys_slave) == session.before
    else:
        session.settle(0.1)
        assert LEFT in session.seen
    assert set(files(tmp_path)) == KEPT
    assert is_ended_job(tmp_path, state)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("disk", ["full", "read-only"])
def test_a_disk_that_refuses_leaves_nothing_behind_and_the_user_is_told(
    opened: Open, tmp_path: Path, disk: str, state: str
) -> None:
    if disk == "full":
        home, file_bytes = tmp_path, 0  # every file is too large from its first byte
    else:
        (tmp_path / "file").write_text("no folder")
        home, file_bytes = tmp_path / "file", None
    session = opened(state, home, file_bytes)
    session.process.send_signal(signal.SIGTERM)
    assert session.ended() == 128 + signal.SIGTERM
    assert termios.tcgetattr(session.slave) == session.before
    assert session.seen.split(LEFT)[-1].count(NOT_KEPT) == 1
    assert set(files(tmp_path)) <= {"file"}, files(tmp_path)
    assert disk == "full" or is_ended_job(tmp_path, state)  # on a full disk there is no room for a note of it
