"""The app in a real pseudo-terminal: native noise, signals, exit codes, a clean terminal afterwards, or none at all."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tui.terminal_session import HERE, HUNG_UP, IN_TIME, LEFT, READY, Session


@pytest.fixture
def open_terminal(tmp_path: Path) -> Iterator:
    opened: list[Session] = []

    def start(*args: str) -> Session:
        opened.append(Session(tmp_path, *args))
        return opened[-1]

    yield start
    for session in opened:
        session.close()


def test_native_output_goes_to_the_log_and_q_leaves_cleanly(open_terminal, tmp_path: Path) -> None:
    session = open_terminal()
    session.until(READY)
    session.press(b" ")
    session.until(b"pruned 1/64")
    assert session.left_unsaved() == 0
    assert b"NATIVE" not in session.seen
    assert LEFT in session.seen
    assert termios.tcgetattr(session.slave) == session.before
    logs = [path.read_text() for path in tmp_path.rglob("native-*.log")]
    assert len(logs) == 1
    assert "NATIVE-OUT" in logs[0]
    assert "NATIVE-ERR" in logs[0]


@pytest.mark.parametrize("is_kept", [True, False], ids=["a log", "no log"])
def test_a_mistake_of_the_apps_own_names_a_file_that_is_there(open_terminal, tmp_path: Path, is_kept: bool) -> None:
    if not is_kept:
        (tmp_path / "STATE").write_text("no folder")  # where the log's folder would be
    session = open_terminal("crash")
    session.until(READY)
    session.press(b"y")
    assert session.ended() == 1
    said = b"".join(session.seen.rpartition(b"tpe: stopped by a mistake of its own: ")[1:]).decode()
    named = Path(re.sub(r"\s", "", re.search(r"[(\s](/\S+native-\d+\.log)", said.replace("\r\n", ""))[1]))
    assert named.exists() is is_kept
    assert ("are lost" in said) is not is_kept
    if is_kept:
        assert "ZeroDivisionError" in named.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_signals_leave_a_clean_terminal(open_terminal, number: signal.Signals) -> None:
    session = open_terminal()
    session.until(READY)
    session.process.send_signal(number)
    assert session.ended() == 128 + number
    assert LEFT in session.seen
    assert termios.tcgetattr(session.slave) == session.before


def test_a_failed_open_ends_with_1_and_its_sentence(open_terminal) -> None:
    session = open_terminal("fail")
    session.until(b"esc closes")
    session.press(b"\x1b")
    session.until(b"tries again", 5)
    time.sleep(0.5)
    session.press(b"q")
    assert session.ended() == 1
    assert b"tpe: no model is called 'nope': give a hub id, a folder, or demo." in session.seen.split(LEFT)[-1]


def test_keys_cost_little_on_the_wire(open_terminal) -> None:
    session = open_terminal("prompt-answers")
    session.until(READY)
    session.settle()
    session.press(b"G")
    session.settle()
    toggles, moves = [], []
    for _ in range(12):
        session.press(b" ")
        toggles.append(session.settle())
        session.press(b"k")
        moves.append(session.settle())
    assert sorted(toggles)[-2] <= 4096, toggles
    assert min(toggles) > 0
    assert max(moves) <= 512, moves
    assert session.left_unsaved() == 0


def rounds(folder: Path, seed: int, count: int) -> list[dict[str, object]]:
    """What `vanishing` saw."""
    command = [sys.executable, str(HERE / "vanishing.py"), str(folder), str(seed), str(count)]
    env = {**os.environ, "TERM": "xterm-256color"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60 + 30 * count)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("count", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_a_terminal_that_vanishes_while_it_is_painted_leaves_no_process_behind(tmp_path: Path, count: int) -> None:
    seen = rounds(tmp_path, 14, count)
    assert len(seen) == count
    for one in seen:
        assert one["ready"], one
        assert one["code"] == HUNG_UP, one
        assert one["seconds"] <= IN_TIME, one
        assert one["saved"], one
        assert one["job"] == ("closed" if one["at_work"] else ""), one


def test_a_terminal_that_vanishes_ends_a_process_whose_main_thread_hangs(open_terminal, tmp_path: Path) -> None:
    session = open_terminal("stuck")
    session.until(READY)
    session.press(b"y")
    session.settle()
    closed = session.vanish()
    assert session.process.wait(15) == HUNG_UP
    assert time.monotonic() - closed <= IN_TIME
    assert any(tmp_path.rglob("demo.json"))


def test_a_signal_ends_a_process_whose_main_thread_hangs_and_cleans_its_terminal(open_terminal) -> None:
    session = open_terminal("stuck")
    session.until(READY)
    session.press(b"y")
    session.settle()
    session.process.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    assert session.ended() == 128 + signal.SIGTERM
    assert time.monotonic() - sent <= IN_TIME + 1
    assert LEFT in session.seen
    assert termios.tcgetattr(session.slave) == session.before


def test_a_reader_that_stops_for_good_ends_the_process_and_its_job(open_terminal, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TPE_FAKE_JOB", str(tmp_path / "job"))
    session = open_terminal()
    session.until(READY)
    session.press(b"r")
    for _ in range(40):  # more than the terminal's buffer holds
        session.press(b"\x0c")
        time.sleep(0.02)
    stopped = time.monotonic()
    assert session.process.wait(30) == HUNG_UP
    assert time.monotonic() - stopped <= IN_TIME + 1
    assert (tmp_path / "job").read_text() == "closed"


@pytest.mark.slow
def test_a_terminal_that_is_merely_slow_loses_nothing(open_terminal, tmp_path: Path) -> None:
    keys = [b"G", b"k", b" ", b"\x0c", b"g", b"\t", b"j", b"\x0c", b"\t", b"z", b"z", b"j", b"\x0c"] * 3
    pictures = []
    for size, pause in ((65536, 0.0), (200, 0.02)):
        session = open_terminal()
        session.until(READY)
        for key in keys:
            session.press(key)
            if not pause:
                session.settle(0.1)
        while select.select([session.master], [], [], 1.5)[0]:
            session.seen += os.read(session.master, size)
            time.sleep(pause)
        assert session.process.poll() is None
        pictures.append(session.picture())
        assert session.left_unsaved() == 0
        shutil.rmtree(tmp_path / "STATE")  # the next one begins as this one did
    assert any("pruned 1/64" in line for line in pictures[0]), pictures[0]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(
    "data",
    [
        b"\x1b[M \xc8\x30",
        b"\x1b[M \xc8\xb0",
        b"\x1b[M#\xff\xff",
        b"\xe9a",
        b"\xff\xfe\x80\x00",
        b"\x1b[1114112u\x1b[99999999999;1u",
        b"\x1b[48;0;0;0;0t",
        b"\x1b[<0;99999999;99999999M",
        b"\xe2\x82",
    ],
)
def test_bytes_that_are_no_key_leave_the_app_running(open_terminal, data: bytes) -> None:
    session = open_terminal()
    session.until(READY)
    session.press(data)
    session.settle(0.7)
    session.press(b"\x1b")
    session.settle()
    session.press(b" ")
    session.until(b"pruned 1/64", 5)
    assert session.left_unsaved() == 0


@pytest.mark.parametrize("numbers", [(signal.SIGCONT,), (signal.SIGSTOP, signal.SIGCONT), (signal.SIGTSTP,)])
def test_signals_that_stop_and_continue_leave_the_app_usable_and_its_terminal_clean(open_terminal, numbers) -> None:
    session = open_terminal()
    session.until(READY)
    for number in numbers:
        session.process.send_signal(number)
        session.settle()
    assert session.seen.count(READY) > 1  # painted again
    session.press(b" ")
    session.until(b"pruned 1/64", 5)
    assert session.left_unsaved() == 0
    assert termios.tcgetattr(session.slave) == session.before
