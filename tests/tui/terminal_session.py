"""The fake inspector in a pty."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import resource
import select
import signal
import struct
import sys
import termios
import time
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pyte

from tests.helpers.forked import forked

HERE = Path(__file__).parent
READY = b"positions of"
LEFT = b"\x1b[?1049l"
IN_TIME = 5.0  # seconds
PRIVATE = re.compile(rb"\x1b\[[<>=][\d;]*u|\x1b\[\?[\d;]*\$p")  # what pyte writes out instead of obeying
HUNG_UP = 128 + signal.SIGHUP


class Process:
    """What is asked of the process of the app, as of a `subprocess.Popen`."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float | None = None) -> int:
        """Wait for its end; the exit code."""
        self._process.join(seconds)
        code = self.poll()
        assert code is not None, f"it has not ended after {seconds} s"
        return code

    def send_signal(self, number: int) -> None:
        """Nothing where it has ended."""
        if self.poll() is None:
            assert self._process.pid is not None
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """SIGKILL, where it still runs."""
        self.send_signal(signal.SIGKILL)


def run_app(terminals: tuple[str, str], env: dict[str, str], words: tuple[str, ...], file_bytes: int | None) -> None:
    """Run the fake inspector on the terminals of its keys and its screen, in a process that neither controls."""
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    if file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    keys, screen = (os.open(name, os.O_RDWR | os.O_NOCTTY) for name in terminals)
    for descriptor, opened in ((0, keys), (1, screen), (2, screen)):
        os.dup2(opened, descriptor)
    os.close(keys)
    os.close(screen)
    sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)  # type: ignore[misc]  # multiprocessing closed them
    sys.path.insert(0, str(HERE))
    import fake_app

    fake_app.run(words)


class Session:
    """The app in a terminal; `apart` has its keys come from another one, no file may have more than `file_bytes`."""

    def __init__(self, home: Path, *args: str, file_bytes: int | None = None, apart: bool = False) -> None:
        self.master, self.slave = pty.openpty()
        self.keys_master, self.keys_slave = pty.openpty() if apart else (self.master, self.slave)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        folders = {f"XDG_{name}_HOME": str(home / name) for name in ("STATE", "CONFIG", "CACHE")}
        env = {**os.environ, **folders, "HOME": str(home), "TERM": "xterm-256color"}
        names = os.ttyname(self.keys_slave), os.ttyname(self.slave)
        self.process = Process(forked(run_app, names, env, args, file_bytes))
        self.seen = b""

    def close(self) -> None:
        """End everything."""
        self.process.kill()
        self.process.wait()
        self.vanish("screen")
        self.vanish("keys")

    def until(self, what: bytes, seconds: float = 120.0) -> None:
        end = time.monotonic() + seconds
        while what not in self.seen and time.monotonic() < end:
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 65536)
        assert what in self.seen, self.seen[-500:]

    def ended(self) -> int:
        """Read until the process has ended; its exit code."""
        end = time.monotonic() + 15
        while self.process.poll() is None and time.monotonic() < end:
            self.settle(0.05, most=0.2)
        code = self.process.wait(0.1)
        self.settle(0.1)
        return code

    def settle(self, quiet: float = 0.5, most: float = 5.0) -> int:
        """Read until nothing comes for a while, for `most` seconds where a job paints all the time; how many bytes."""
        start, end = len(self.seen), time.monotonic() + most
        while time.monotonic() < end and select.select([self.master], [], [], quiet)[0]:
            self.seen += os.read(self.master, 65536)
        return len(self.seen) - start

    def press(self, keys: bytes) -> None:
        os.write(self.keys_master, keys)

    def vanish(self, which: str = "screen") -> float:
        """Close both ends of the terminal, or of the one that only has the keys; when."""
        names = ("master", "slave") if which == "screen" else ("keys_master", "keys_slave")
        for descriptor in (getattr(self, name) for name in names):
            with suppress(OSError):
                os.close(descriptor)
        for name in names:
            setattr(self, name, -1)
        return time.monotonic()

    def picture(self) -> list[str]:
        """What a terminal shows that took everything."""
        screen = pyte.Screen(80, 24)
        stream = pyte.ByteStream(screen)
        stream.feed(PRIVATE.sub(b"", self.seen))
        return list(screen.display)

    def left_unsaved(self) -> int | None:
        """Leave with an edit that is in no file, which asks first; the exit code."""
        self.press(b"q")
        self.until(b"is in no file")
        self.press(b"y")
        return self.ended()
