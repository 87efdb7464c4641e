"""A terminal of a given size, run by tmux on a server of its own, in which a test types and reads.

It waits by looking, never by sleeping for a fixed time, and shows the screen where it waited in vain. What a program
paints is waited for, not asserted: a look may fall between two frames, and tmux crops an old one to a new size.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

__all__ = ["PATIENCE", "Row", "Terminal", "gone"]

PATIENCE = 120.0  # seconds
LOOK = 0.05  # seconds between two looks
PROMPT = "ready>"
ROW = re.compile(r"^│? ([ ✗▏]) +(\d+) +(\d+)((?: +[+-][\d.e+-]+){3,4})", re.MULTILINE)

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One row of the dimension table, numbers as they are written there."""

    pruned: bool
    dim: int
    slope: str
    std: str
    r: str


class Terminal:
    """A shell in a detached tmux session; `close` ends it with everything in it."""

    def __init__(self, folder: Path, env: Mapping[str, str], columns: int = 80, rows: int = 24) -> None:
        if shutil.which("tmux") is None:
            raise AssertionError("these tests drive a real terminal: install tmux (apt-get install tmux).")
        self.name = f"tpe-{uuid.uuid4().hex[:12]}"
        self._sockets = tempfile.mkdtemp(prefix="tpe-tmux-")  # short: a socket's path may have 100 characters or so
        self.env = {**env, "TMUX_TMPDIR": self._sockets}
        self.folder = folder
        self.pid_file = folder / "pid"
        size = ("-x", str(columns), "-y", str(rows))
        self.tmux("new-session", "-d", *size, "-c", str(folder), "sh")
        try:
            self.command(f"PS1='{PROMPT[:3]}''{PROMPT[3:]}'")  # in two parts: whole only once the shell has read it
            self.wait(f"{PROMPT}$")
        except BaseException:
            self.close()
            raise

    def tmux(self, *arguments: str) -> str:
        """Run a tmux command on this terminal's server."""
        command = ["tmux", "-L", self.name, "-f", "/dev/null", *arguments]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def close(self) -> None:
        """End the server; programs in it get SIGHUP."""
        command = ["tmux", "-L", self.name, "kill-server"]
        subprocess.run(command, env=self.env, capture_output=True, check=False, timeout=PATIENCE)
        shutil.rmtree(self._sockets, ignore_errors=True)

    def screen(self) -> str:
        """What is on screen now."""
        return self.tmux("capture-pane", "-p")

    def type(self, text: str) -> None:
        """Type characters as they are."""
        self.tmux("send-keys", "-l", text)

    def keys(self, *names: str) -> None:
        """Press keys by tmux's names: j, Space, Enter, C-u."""
        self.tmux("send-keys", *names)

    def answer(self, question: str, text: str) -> None:
        """Answer an open question with `text` instead of what stands there."""
        self.wait(question)
        self.keys("C-u")
        self.wait(r"(?m)^█ *$")  # a key that is bound takes effect later than one that is typed
        self.type(text)
        self.keys("Enter")

    def command(self, line: str) -> None:
        """Type a line into the shell and start it."""
        self.type(line)
        self.keys("Enter")

    def start(self, line: str) -> None:
        """Run a command; its process id goes to a file, its exit code to the screen as ``EXIT=0``."""
        self.pid_file.unlink(missing_ok=True)
        self.command(f"sh -c 'echo $$ >{self.pid_file.name}; exec {line}'; echo EXIT=$?")

    def pid(self) -> int:
        """The process id of what was started."""
        return int(
            self.until(lambda: self.pid_file.exists() and self.pid_file.read_text().strip(), "the program starts")
        )

    def resize(self, columns: int, rows: int) -> None:
        """Another size, as if the window were dragged."""
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def until(self, look: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
        """Look until `look` gives something true, and return that."""
        end = time.monotonic() + seconds
        while True:
            found = look()
            if found:
                return found
            if time.monotonic() > end:
                raise AssertionError(f"waited {seconds:g} s until {what}; the screen:\n{self.screen()}")
            time.sleep(LOOK)

    def wait(self, pattern: str, seconds: float = PATIENCE) -> re.Match[str]:
        """Wait until a pattern is on screen."""
        found = self.until(
            lambda: re.search(pattern, self.screen(), re.MULTILINE), f"{pattern!r} is on screen", seconds
        )
        assert found is not None
        return found

    def wait_without(self, text: str) -> None:
        """Wait until a text is not on screen: one look is not enough, as a frame may be half painted or still old."""
        self.until(lambda: text not in self.screen(), f"{text!r} is gone")

    def rows(self) -> dict[int, Row]:
        """The dimension table by rank."""
        found = {}
        for row in ROW.finditer(self.screen()):
            slope, std, *_, r = row[4].split()
            found[int(row[2])] = Row(row[1] == "✗", int(row[3]), slope, std, r)
        return found

    def pruned(self) -> set[int]:
        """The ranks on screen whose dimension is marked as pruned."""
        return {rank for rank, row in self.rows().items() if row.pruned}

    def exit_code(self, seconds: float = PATIENCE) -> int:
        """Wait until what was started has ended."""
        return int(self.wait(r"EXIT=(\d+)$", seconds)[1])

    def assert_clean(self) -> None:
        """The shell has its screen, its cursor, its mouse and its line editing back."""
        flags = "#{alternate_on} #{cursor_flag} #{mouse_any_flag} #{keypad_flag} #{keypad_cursor_flag}"
        assert self.tmux("display-message", "-p", flags).split() == ["0", "1", "0", "0", "0"]
        self.command("echo al''ive")
        self.wait("alive$")


def gone(pid: int) -> bool:
    """Whether a process has ended and was reaped."""
    return not Path("/proc", str(pid)).exists()
