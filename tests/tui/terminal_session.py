"""The fake inspector in a pty."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyte

HERE = Path(__file__).parent
READY = b"positions of"
LEFT = b"\x1b[?1049l"
IN_TIME = 5.0  # seconds
PRIVATE = re.compile(rb"\x1b\[[<>=][\d;]*u|\x1b\[\?[\d;]*\$p")  # what pyte writes out instead of obeying
HUNG_UP = 128 + signal.SIGHUP


class Session:
    """The app in a terminal; `apart` has its keys come from another one, `limit` is called in its process."""

    def __init__(self, home: Path, *args: str, limit: Callable[[], object] | None = None, apart: bool = False) -> None:
        self.master, self.slave = pty.openpty()
        self.keys_master, self.keys_slave = pty.openpty() if apart else (self.master, self.slave)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        folders = {f"XDG_{name}_HOME": str(home / name) for name in ("STATE", "CONFIG", "CACHE")}
        env = {**os.environ, **folders, "HOME": str(home), "TERM": "xterm-256color"}
        command = [sys.executable, str(HERE / "run_fake.py"), *args]
        self.process = subprocess.Popen(
            command, stdin=self.keys_slave, stdout=self.slave, stderr=self.slave, env=env, start_new_session=True,
            preexec_fn=limit,  # noqa: PLW1509 - it sets a limit and nothing else
        )  # fmt: skip
        self.seen = b""

    def close(self) -> None:
        """End everything."""
        self.process.kill()
        self.process.wait()
        self.vanish("screen")
        self.vanish("keys")

    def until(self, what: bytes, seconds: float = 40.0) -> None:
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
