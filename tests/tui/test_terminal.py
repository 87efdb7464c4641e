"""The app in a real pseudo-terminal: native noise, signals, exit codes, a clean terminal afterwards."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
READY = b"positions of"
LEFT = b"\x1b[?1049l"


class Session:
    def __init__(self, home: Path, *args: str) -> None:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.master, self.slave = master, slave
        folders = {f"XDG_{name}_HOME": str(home / name) for name in ("STATE", "CONFIG", "CACHE")}
        env = {**os.environ, **folders, "HOME": str(home), "TERM": "xterm-256color"}
        command = [sys.executable, str(HERE / "run_fake.py"), *args]
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True
        )
        self.seen = b""

    def until(self, what: bytes, seconds: float = 40.0) -> None:
        end = time.monotonic() + seconds
        while what not in self.seen and time.monotonic() < end:
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 65536)
        assert what in self.seen, self.seen[-500:]

    def ended(self) -> int:
        code = self.process.wait(15)
        while select.select([self.master], [], [], 0.1)[0]:
            self.seen += os.read(self.master, 65536)
        return code

    def settle(self, quiet: float = 0.5) -> int:
        """Read until nothing comes for a while; how many bytes came."""
        start = len(self.seen)
        while select.select([self.master], [], [], quiet)[0]:
            self.seen += os.read(self.master, 65536)
        return len(self.seen) - start

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)


@pytest.fixture
def open_terminal(tmp_path: Path) -> Iterator:
    opened: list[Session] = []

    def start(*args: str) -> Session:
        opened.append(Session(tmp_path, *args))
        return opened[-1]

    yield start
    for session in opened:
        session.process.kill()
        session.process.wait()
        os.close(session.master)
        os.close(session.slave)


def test_native_output_goes_to_the_log_and_q_leaves_cleanly(open_terminal, tmp_path: Path) -> None:
    session = open_terminal()
    session.until(READY)
    session.press(b" ")
    session.until(b"pruned 1/64")
    session.press(b"q")
    assert session.ended() == 0
    assert b"NATIVE" not in session.seen
    assert LEFT in session.seen
    assert termios.tcgetattr(session.slave) == session.before
    logs = [path.read_text() for path in tmp_path.rglob("native.log")]
    assert len(logs) == 1
    assert "NATIVE-OUT" in logs[0]
    assert "NATIVE-ERR" in logs[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
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
    session = open_terminal()
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
    session.press(b"q")
    assert session.ended() == 0
