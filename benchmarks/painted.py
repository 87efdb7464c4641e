"""A program in a pseudo-terminal whose output is kept with the time it arrived, and painted on a pyte screen.

Output is stamped when it is read, before it is painted, so that the painting costs the program nothing.
"""

from __future__ import annotations

import os
import re
import select
import signal
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyte

__all__ = ["Arrival", "Painted"]

COLUMNS, ROWS = 80, 24
QUERIES = re.compile(rb"\x1b\[[?>=<][0-9;]*\$?[pqu]")  # questions and modes that pyte does not know
READ = 65536  # bytes
PATIENCE = 120.0  # seconds


@dataclass(frozen=True)
class Arrival:
    """Bytes that arrived together, and when (``time.perf_counter``)."""

    at: float
    data: bytes


class Painted:
    """`command` in a terminal of 80 by 24 cells; `started` is when it was executed."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self.screen)
        self._held = b""
        self.master, slave = os.openpty()
        termios.tcsetwinsize(slave, (ROWS, COLUMNS))
        name = os.ttyname(slave)
        copies = [(os.POSIX_SPAWN_DUP2, 0, descriptor) for descriptor in (1, 2)]
        actions = [(os.POSIX_SPAWN_OPEN, 0, name, os.O_RDWR, 0), *copies]
        variables = {**env, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self.started = time.perf_counter()
        self.pid = os.posix_spawnp(command[0], list(command), variables, file_actions=actions, setsid=True)
        os.close(slave)

    def arrivals(self, quiet: float) -> list[Arrival]:
        """What arrives until nothing has for `quiet` seconds. Nothing is painted yet."""
        found: list[Arrival] = []
        while select.select([self.master], [], [], quiet)[0]:
            try:
                data = os.read(self.master, READ)
            except OSError:  # the program closed the terminal
                break
            found.append(Arrival(time.perf_counter(), data))
        return found

    def paint(self, arrival: Arrival) -> list[str]:
        """The screen's lines after one arrival."""
        data = self._held + arrival.data
        cut = data.rfind(b"\x1b", max(0, len(data) - 16))  # a sequence may be split between two reads
        whole = len(data) if cut < 0 or re.search(rb"[@-Z\\^-~]", data[cut + 2 :]) else cut
        self._held = data[whole:]
        self._stream.feed(QUERIES.sub(b"", data[:whole]))
        return list(self.screen.display)

    def until(self, shown: Callable[[list[str]], bool]) -> float:
        """Seconds from start to the arrival after which `shown` holds of the screen's lines."""
        end = time.perf_counter() + PATIENCE
        while time.perf_counter() < end:
            if not select.select([self.master], [], [], 1.0)[0]:
                continue
            try:
                arrival = Arrival(time.perf_counter(), os.read(self.master, READ))
            except OSError:
                break
            if shown(self.paint(arrival)):
                return arrival.at - self.started
        lines = "\n".join(self.screen.display)
        raise RuntimeError(f"the program did not show what was waited for; the screen:\n{lines}")

    def press(self, key: str) -> float:
        """Write a key; when."""
        at = time.perf_counter()
        os.write(self.master, key.encode())
        return at

    def close(self) -> None:
        """Ask the program to end, and wait for that, reading what it says so that it can."""
        os.kill(self.pid, signal.SIGTERM)
        end = time.perf_counter() + 10
        while os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            if time.perf_counter() > end:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                break
            self.arrivals(0.05)
        os.close(self.master)
