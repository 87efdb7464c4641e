"""Textual's driver for a terminal that may vanish, stall, or send anything: no thread dies of it or waits for it.

It tells the app that the terminal is gone; what happens then is `tpe_tui.shell.ending`'s.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from typing import Any, Protocol, cast

from textual import events
from textual._parser import ParseError
from textual._xterm_parser import XTermParser
from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message

from tpe_tui.shell.terminal_input import InputDecoder, PlainPaste
from tpe_tui.shell.terminal_output import TerminalOutput
from tpe_tui.shell.terminal_title import KEEP, RESTORE, understands_titles

__all__ = ["TerminalDriver"]

DRAIN_SECONDS = 5.0  # longer than it takes to see that the terminal is gone
LOOK_SECONDS = 0.1
PATIENT_LOOKS = 5  # without input, before the beginning of a character is taken for a character
READ_BYTES = 4096


class HearsOfTerminal(Protocol):
    """An app that is told when its terminal is gone."""

    def terminal_gone(self, reason: str) -> None:
        """The terminal takes or gives nothing more. Any thread may call it."""


class TerminalDriver(LinuxDriver):
    """`app` is told by its `terminal_gone` why the terminal takes or gives nothing more."""

    def __init__(self, app: App[Any], **options: Any) -> None:
        super().__init__(app, **options)
        self._told = cast("HearsOfTerminal", app).terminal_gone
        self.output = TerminalOutput(self._file.fileno() if self._file is not None else 1, self._told)

    def start_application_mode(self) -> None:
        """Take the terminal; the title that it has is kept."""
        if understands_titles(os.environ):
            self.write(KEEP)
        super().start_application_mode()  # type: ignore[no-untyped-call]

    def stop_application_mode(self) -> None:
        """Give the terminal back, with the title that it had."""
        super().stop_application_mode()
        if understands_titles(os.environ):
            self.write(RESTORE)

    def write(self, data: str) -> None:
        """Queue `data` for the terminal, without waiting for it."""
        self.output.write(data)

    def close(self) -> None:
        """Wait until the terminal has everything, or is gone."""
        super().close()
        self.output.drain(DRAIN_SECONDS)

    def process_message(self, message: Message) -> None:
        """Hand an event to the app, where there still is one; a terminal without cells is a mistake of the terminal."""
        if isinstance(message, events.Resize) and not message.size.area:
            return
        try:
            super().process_message(message)
        except RuntimeError:  # its loop is closed
            self.exit_event.set()

    def run_input_thread(self) -> None:
        """Read until the app leaves or the terminal gives nothing more; whatever is read, go on."""
        decoder, parser, quiet = InputDecoder(), XTermParser(self._debug), 0
        paste = PlainPaste()
        with selectors.SelectSelector() as selector:
            try:
                selector.register(self.fileno, selectors.EVENT_READ)
                while not self.exit_event.is_set():
                    text = ""
                    if selector.select(LOOK_SECONDS):
                        quiet = 0
                        data = os.read(self.fileno, READ_BYTES)
                        if not data:
                            self._told("its input ended")
                            return
                        text = decoder.decode(data)
                    elif decoder.is_waiting and (quiet := quiet + 1) >= PATIENT_LOOKS:
                        text = decoder.flush()
                    if paste.looks_pasted(text):
                        self.process_message(events.Paste(text))
                        continue
                    for character in text:
                        parser = self._fed(parser, character)
                    for event in parser.tick():
                        self.process_message(event)
            except (OSError, ValueError) as error:
                self._told(f"reading from it: {getattr(error, 'strerror', None) or error}")

    def _fed(self, parser: XTermParser, character: str) -> XTermParser:
        """Parse one character; the parser to go on with, a new one where a sequence made no sense."""
        try:
            for event in parser.feed(character):
                self.process_message(event)
        except (ParseError, StopIteration, ArithmeticError, LookupError, TypeError, ValueError, RuntimeError):
            return XTermParser(self._debug)
        return parser

    def _sigtstp_application(self, *_: object) -> None:
        """Give the terminal back and stop, as the system's own handling does; without a shell to go to, go on."""
        if not self._auto_restart:
            super()._sigtstp_application()
            return
        self.suspend_application_mode()
        self._must_signal_resume = True
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        stopped = time.monotonic()
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._sigtstp_application)
        if self._must_signal_resume and time.monotonic() - stopped < LOOK_SECONDS:  # the system has not stopped it
            self.resume_application_mode()

    def _sigcont_application(self, *_: object) -> None:
        """Take the terminal anew, also where whoever stopped the process gave no time to give it back."""
        if not self._auto_restart:
            return
        if self._key_thread is not None and self._key_thread.is_alive():
            self.suspend_application_mode()
        self._must_signal_resume = True
        self.resume_application_mode()
