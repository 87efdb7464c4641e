"""What is written to the terminal, by a thread of its own: nobody else ever waits for a terminal that takes nothing."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress

__all__ = ["TerminalOutput"]

AT_ONCE = 65_536  # bytes
AT_ONCE_BLOCKING = 256  # bytes: few enough that a slow terminal is seen to take them
BEHIND = 32_768  # bytes that wait: more frames would only show what is past
WAIT_MS = 250
BAD = select.POLLHUP | select.POLLERR | select.POLLNVAL


class TerminalOutput:
    """Writes text to the terminal of `descriptor`, in order; `write` returns at once.

    `on_gone` is told the reason once the terminal takes nothing more; what is written afterwards is dropped. All
    callbacks are called on the writing thread.
    """

    def __init__(self, descriptor: int, on_gone: Callable[[str], object]) -> None:
        self._descriptor, self._blocking = _opened_again(descriptor)
        self._on_gone = on_gone
        self._changed = threading.Condition()
        self._waiting = bytearray()
        self._writing = 0  # bytes that are out of the queue and not yet with the terminal
        self._owed: Callable[[], object] | None = None
        self.taken = 0
        self.gone = False
        threading.Thread(target=self._run, name="tpe-terminal-output", daemon=True).start()

    @property
    def waiting(self) -> int:
        """Bytes that the terminal has not taken yet."""
        return len(self._waiting) + self._writing

    def write(self, text: str) -> None:
        """Queue text."""
        with self._changed:
            if not self.gone:
                self._waiting += text.encode("utf-8", "replace")
                self._changed.notify_all()

    def skip_frame(self, when_taken: Callable[[], object]) -> bool:
        """Whether the terminal is too far behind for another frame; `when_taken` is called once it has caught up."""
        with self._changed:
            if self.gone or self.waiting <= BEHIND:
                return False
            self._owed = when_taken
            return True

    def drain(self, seconds: float) -> bool:
        """Wait until everything is with the terminal, at most so long; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self.gone or not self.waiting, seconds) and not self.gone

    def give_up(self) -> None:
        """Drop what waits and all that follows: the terminal is gone."""
        with self._changed:
            self.gone = True
            self._waiting.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        while not self.gone:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self.gone)
                data = bytes(self._waiting)
                self._waiting.clear()
                self._writing = len(data)
            reason = self._put(data)
            if reason:
                self.give_up()
                self._on_gone(reason)
                return
            with self._changed:
                owed = None if self._waiting else self._owed
                if owed is not None:
                    self._owed = None
                self._changed.notify_all()
            if owed is not None:
                owed()

    def _put(self, data: bytes) -> str:
        """Write all of `data`; why that is not possible, or nothing."""
        left = memoryview(data)
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        while left and not self.gone:
            try:
                if self._blocking and not any(mask & select.POLLOUT for _, mask in poll.poll(WAIT_MS)):
                    if any(mask & BAD for _, mask in poll.poll(0)):
                        return "it hung up"
                    continue
                count = os.write(self._descriptor, left[: AT_ONCE_BLOCKING if self._blocking else AT_ONCE])
            except BlockingIOError:
                if any(mask & BAD for _, mask in poll.poll(WAIT_MS)):
                    return "it hung up"
                continue
            except OSError as error:
                return f"writing to it: {error.strerror or error}"
            left = left[count:]
            self.taken += count
            self._writing = len(left)
        return ""


def _opened_again(descriptor: int) -> tuple[int, bool]:
    """The terminal opened anew without blocking, else the descriptor itself; and whether writing to it can block.

    Not the flag of the descriptor: the shell that started the program shares it.
    """
    with suppress(OSError):
        path = os.ttyname(descriptor)
        own = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        if os.fstat(own).st_rdev == os.fstat(descriptor).st_rdev:
            return own, False
        os.close(own)
    return descriptor, True
