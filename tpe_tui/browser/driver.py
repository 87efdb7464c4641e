"""Textual's driver for a view in a browser: what is drawn goes to a function, what is typed comes by calls.

Everything happens on the loop that the app runs in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from textual import events
from textual._parser import ParseError
from textual._xterm_parser import XTermParser
from textual.app import App
from textual.driver import Driver
from textual.geometry import Size

__all__ = ["BrowserDriver"]

BEGIN = "\x1b[?1049h\x1b[?1000h\x1b[?1003h\x1b[?1015h\x1b[?1006h\x1b[?25l\x1b[?2004h"
"""Alternate screen, mouse, hidden cursor, bracketed paste."""

ESCAPE_SECONDS = 0.15  # after which an escape that nothing followed is the escape key
SMALLEST, LARGEST = 1, 1000  # cells, of what a browser says of its size


class BrowserDriver(Driver):
    """Draws by `send`, which must return at once; `feed`, `resize` and `focus` are what the browser said."""

    def __init__(
        self, app: App[Any], *, send: Callable[[str], object], cells: tuple[int, int] = (80, 24), **options: Any
    ) -> None:
        super().__init__(app, **{**options, "size": cells})
        self._send = send
        self._parser = XTermParser(self._debug)
        self._is_open = False

    @property
    def is_web(self) -> bool:
        """Whether it draws in a browser."""
        return True

    def write(self, data: str) -> None:
        """Draw."""
        if self._is_open:
            self._send(data)

    def start_application_mode(self) -> None:
        """Take the browser's terminal."""
        self._is_open = True
        self.write(BEGIN)
        size = Size(*(self._size or (80, 24)))
        self.process_message(events.Resize(size, size))

    def disable_input(self) -> None:
        """Hear nothing more."""
        self._is_open = False

    def stop_application_mode(self) -> None:
        """Draw nothing more: the page says that the view has ended."""
        self._is_open = False

    def feed(self, text: str) -> None:
        """Take what was typed or pasted, as a terminal sends it; what makes no sense is left out."""
        if not self._is_open:
            return
        for character in text:
            try:
                for event in self._parser.feed(character):
                    self.process_message(event)
            except (ParseError, StopIteration, ArithmeticError, LookupError, TypeError, ValueError):
                self._parser = XTermParser(self._debug)
        asyncio.get_running_loop().call_later(ESCAPE_SECONDS, self._tick)

    def _tick(self) -> None:
        if self._is_open:
            for event in self._parser.tick():
                self.process_message(event)

    def resize(self, width: int, height: int) -> None:
        """Draw in another size, in cells."""
        size = Size(*(max(SMALLEST, min(LARGEST, cells)) for cells in (width, height)))
        self._size = size.width, size.height
        if self._is_open:
            self.process_message(events.Resize(size, size))

    def focus(self, has_it: bool) -> None:
        """The page has or has not the keys."""
        if self._is_open:
            self.process_message(events.AppFocus() if has_it else events.AppBlur())
