"""How the process ends when it is told to, or when its terminal is gone: in time, and without the main thread's help.

A thread of its own hears signals, hang-ups and a terminal that takes nothing. It asks the app to leave; where that is
of no use, it saves, ends the job and the process itself.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import termios
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tpe_tui.engine.host import EngineHost
    from tpe_tui.shell.terminal_output import TerminalOutput

__all__ = ["GRACE_SECONDS", "Ending"]

GRACE_SECONDS = 3.0  # for the app to leave by itself
STOP_SECONDS = 1.5  # for the job's last step, where the app does not
LIMIT_SECONDS = 4.6  # from the first word of it to the end of the process, whatever happens
STALL_LOOKS = 15  # in a row at which the terminal has taken nothing of what waits
LOOK_MS = 250
HUNG_UP = 128 + signal.SIGHUP
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
CLEAN = (
    b"\x1b[?2004l\x1b[?7h\x1b[?2048l\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[<u\x1b[?1049l\x1b[?25h\x1b[?1004l"
    b"\x1b[23;2t"
)
"""Bracketed paste, mouse, keyboard protocol, alternate screen, hidden cursor and focus reports off; the title back."""


class EndsWithTerminal(Protocol):
    """What an `Ending` needs of the app that it watches over."""

    host: EngineHost
    on_gone: Callable[[str], object] | None

    @property
    def output(self) -> TerminalOutput | None:
        """What is written to the terminal."""

    def leave_soon(self, code: int) -> bool:
        """Leave as a key would; whether the app is there to do so. Any thread may call it."""

    def save(self) -> None:
        """Keep what is to be kept when the process ends. Any thread may call it."""

    def wake(self) -> None:
        """Let the main thread look at what has happened. Any thread may call it."""


class Ending:
    """Watches over `app` from `start` to `stop`; `terminals` are the descriptors of its screen and its keys.

    `settings` are the terminal's as they were found. The first reason to end decides the exit code: 128 and the
    signal's number, that of a hang-up for a terminal that is gone.
    """

    def __init__(
        self, app: EndsWithTerminal, terminals: Sequence[int], settings: list[Any] | None, end: Callable[[int], object]
    ) -> None:
        """Nothing is watched yet; `end` ends the process at once."""
        self._app = app
        self._terminals = tuple(terminals)
        self._settings = settings
        self._end = end
        self._lock = threading.Lock()
        self._code: int | None = None
        self._rescued = False
        self._stopped = threading.Event()
        self._inbox, self._outbox = socket.socketpair()
        self._before: dict[int, Any] = {}
        self._wakeup = -1

    def start(self) -> None:
        """Hear signals from now on. Only the main thread can do that."""
        self._outbox.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._outbox.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            self._before[number] = signal.signal(number, _heard)
        self._app.on_gone = self.gone
        threading.Thread(target=self._watch, name="tpe-ending", daemon=True).start()

    def stop(self) -> None:
        """Watch no more: the app has left. An end that has begun is not taken back."""
        self._stopped.set()
        self._app.on_gone = None
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)

    def gone(self, reason: str) -> None:
        """The terminal is gone: save, end the job and the process; nobody is left to be asked."""
        if self._begin(HUNG_UP):
            with suppress(OSError):
                os.write(2, f"the terminal is gone: {reason}\n".encode())  # the log, while the app is on screen
        self._rescue(0.0)

    def signalled(self, number: int) -> None:
        """A signal asks the process to end: the app leaves as by a key, and is ended where it does not."""
        if self._begin(128 + number):
            self._rescue(GRACE_SECONDS)
            threading.Thread(target=self._ask, name="tpe-leave", daemon=True).start()

    def _begin(self, code: int) -> bool:
        """Whether this is the first reason to end; from then on the time runs."""
        with self._lock:
            if self._code is not None:
                return False
            self._code = code
        limit = threading.Timer(LIMIT_SECONDS, self._end, [code])
        limit.daemon = True
        limit.start()
        return True

    def _ask(self) -> None:
        while not self._stopped.is_set() and not self._app.leave_soon(self._code or 0):
            time.sleep(LOOK_MS / 1000)  # it has not begun yet

    def _rescue(self, after: float) -> None:
        rescue = threading.Timer(after, self._save_and_end)
        rescue.daemon = True
        rescue.start()

    def _save_and_end(self) -> None:
        with self._lock:
            if self._rescued:
                return
            self._rescued = True
        with suppress(Exception):
            self._app.save()
        self._app.host.stop(STOP_SECONDS)
        self._clean_terminal()
        self._end(self._code or HUNG_UP)

    def _clean_terminal(self) -> None:
        """What a terminal that is still there needs to be of use to a shell, without waiting for it."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        if self._settings is not None:
            with suppress(termios.error):
                termios.tcsetattr(0, termios.TCSANOW, self._settings)
        with suppress(OSError):
            screen = os.open(os.ttyname(self._terminals[0]), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
            os.write(screen, CLEAN)

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._inbox, select.POLLIN)
        for descriptor in self._terminals:
            poll.register(descriptor, 0)  # errors and hang-ups are always told
        taken, stalled = -1, 0
        while not self._stopped.is_set():
            for descriptor, _ in poll.poll(LOOK_MS):
                if descriptor == self._inbox.fileno():
                    for number in self._inbox.recv(64):
                        self._heard(number)
                else:
                    poll.unregister(descriptor)
                    if not self._stopped.is_set():
                        self.gone("it hung up")
            output = self._app.output
            if output is not None:
                stalled = stalled + 1 if output.waiting and output.taken == taken else 0
                taken = output.taken
                if stalled == STALL_LOOKS:
                    self.gone("it takes nothing")

    def _heard(self, number: int) -> None:
        if number in SIGNALS:
            self.signalled(number)
        self._app.wake()  # handlers of other signals run in the main thread, which may be waiting


def _heard(number: int, frame: object) -> None:
    """A handler that does nothing: the thread hears of the signal through a descriptor, whatever this one does."""
