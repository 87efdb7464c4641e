"""The robot of key bursts in a real terminal: ``python -m tests.e2e.robot --bursts 500``, on the bundled model.

Each burst is one write to a pty. The same keys typed slowly, in another process, must end in the same state.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import signal
import struct
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.e2e.conftest import POSITIONS, ROOT, environment
from tests.helpers.bursts import LONGEST, Burst, listed, make_bursts
from tpe_tui.shell.terminal_input import PASTED_LENGTH

__all__ = ["main", "typed"]

EPISODE = 50  # bursts
PATIENCE = 240.0  # seconds
AGAIN = 2.0  # seconds without an answer, after which it is asked again
LOOK = 0.02  # seconds
ALONE = 0.25  # seconds after an escape and a size, before it is asked whether they have been handled
PILED = PASTED_LENGTH - LONGEST  # characters; more that lie unread on a busy machine are read at once, as a paste


def written(burst: Burst) -> bytes:
    """What a terminal writes for a burst."""
    return f"\x1b[200~{burst.paste}\x1b[201~".encode() if burst.paste else burst.keys.encode()


class Driven:
    """The inspector in a pty."""

    def __init__(self, folder: Path, cache: Path) -> None:
        folder.mkdir()
        self.file = folder / "state.json"
        self._piled = 0  # characters since everything was read
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            env = {**environment(folder, cache), "PYTHONPATH": str(ROOT)}
            command = [sys.executable, "-m", "tests.e2e.robot_app", str(self.file), POSITIONS]
            os.execve(sys.executable, command, env)  # noqa: S606
        self.resize(80, 24)
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        self._wait()
        self.settle()

    def _read(self) -> None:
        with suppress(OSError):
            while os.read(self.terminal, 65536):
                pass

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def write(self, burst: Burst) -> None:
        if burst.size is not None:
            self.resize(*burst.size)
            self._alone()  # sizes come by a signal, not in the order of the keys
        else:
            if self._piled + len(burst.keys) > PILED:
                self._alone()
            self._piled += len(burst.keys)
            os.write(self.terminal, written(burst))
            if burst.keys.endswith("\x1b"):
                self._alone()

    def _alone(self) -> None:
        self._piled = 0
        time.sleep(ALONE)
        self.settle()

    def state(self) -> dict[str, Any]:
        self.file.unlink(missing_ok=True)
        self._wait(signal.SIGUSR1)
        found: dict[str, Any] = json.loads(self.file.read_text())
        return found

    def _wait(self, number: int = 0) -> None:
        """Wait for the file, asking with a signal again and again.

        asyncio learns of a signal by a byte in a socket that also has one of every call of another thread: some 280 of
        them, while the loop is busy, fill it, and then the signal's is lost.
        """
        begun = asked = time.monotonic()
        os.kill(self.pid, number)
        while not self.file.exists():
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                raise AssertionError("the inspector has ended")
            if time.monotonic() > asked + AGAIN:
                asked = time.monotonic()
                os.kill(self.pid, number)
            if time.monotonic() > begun + PATIENCE:
                raise AssertionError(f"the inspector does not answer; its threads:\n{self._threads()}")
            time.sleep(LOOK / 4)

    def _threads(self) -> str:
        """What every thread of the inspector is at."""
        os.kill(self.pid, signal.SIGUSR2)
        time.sleep(1)
        read = "the terminal is read" if self._reading.is_alive() else "NOBODY READS THE TERMINAL"
        return f"{read}\n{self.file.with_suffix('.threads').read_text()}"

    def settle(self, *, at_rest: bool = False) -> dict[str, Any]:
        """Wait until everything typed has been answered, and `at_rest` until no job is left; the state without jobs."""
        end, before = time.monotonic() + PATIENCE, {}
        while time.monotonic() < end:
            time.sleep(LOOK)
            now = self.state()
            is_resting = not now.pop("jobs", 0)
            if now["settled"] and now == before and (is_resting or not at_rest):
                return now
            before = now
        raise AssertionError(f"waited in vain; {before}")

    def close(self) -> None:
        with suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
        with suppress(OSError):
            os.waitpid(self.pid, 0)
        os.close(self.terminal)


@contextmanager
def driven(folder: Path, cache: Path) -> Iterator[Driven]:
    """An inspector that is ended afterwards."""
    app = Driven(folder, cache)
    try:
        yield app
    finally:
        app.close()


def typed(bursts: Sequence[Burst], folder: Path, cache: Path, slowly: bool) -> dict[str, Any]:
    """The state after `bursts`, or after their keys one by one, each when everything is done."""
    with driven(folder, cache) as app:
        for burst in bursts:
            for part in [Burst(key) for key in burst.keys] or [burst] if slowly else [burst]:
                app.write(part)
                if slowly:
                    app.settle()
            time.sleep(0 if slowly else burst.gap)
        return app.settle()


def main() -> int:
    """Run episodes and print what fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bursts", type=int, default=500)
    parser.add_argument("--seed", type=int, default=100)
    asked = parser.parse_args()
    begun, count, failed, seed = time.monotonic(), 0, 0, asked.seed
    with tempfile.TemporaryDirectory() as name:
        cache = Path(name, "cache")
        while count < asked.bursts:
            bursts, wrong = make_bursts(seed, min(EPISODE, asked.bursts)), ""
            count += len(bursts)
            try:
                fast = typed(bursts, Path(name, f"fast{seed}"), cache, False)
                slow = typed(bursts, Path(name, f"slow{seed}"), cache, True)
                differing = [key for key in slow if fast[key] != slow[key]]
                wrong = "; ".join(f"{key} {fast[key]}, typed slowly {slow[key]}" for key in differing)
            except AssertionError as error:
                wrong = str(error)
            if wrong:
                failed += 1
                print(f"seed {seed}: {wrong}\n{listed(bursts)}", flush=True)
            seed += 1
            print(f"{count} bursts, {failed} failed, {time.monotonic() - begun:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
