"""What every full-screen command shares: the engine thread, the theme, the user's keys, signals, the way out.

It opens nothing; what is on screen and what the engine is asked for is its subclasses'.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from textual import events
from textual.app import App
from textual.message import Message

from tpe_tui.host import EngineHost
from tpe_tui.input_order import InputOrder
from tpe_tui.keymap import default_keys_file, load_keymap
from tpe_tui.messages import Failure
from tpe_tui.state import default_state_dir
from tpe_tui.theme import THEME

__all__ = ["EngineApp", "run_in_terminal"]

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
COPY_NAME = "copied.txt"


class EngineApp(App[int]):
    """One engine thread that starts after the first frame is painted; the app's return value is the exit code.

    `state_dir`, `keys_file` and `clock` are the user's folders and the time; tests hand in their own. `problem` is why
    the app cannot do what it was started for, once that is known.
    """

    CSS_PATH = "app.tcss"
    TITLE = "tpe"

    def __init__(
        self,
        state_dir: Path | None = None,
        keys_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing starts before the app runs."""
        super().__init__()
        self.register_theme(THEME)
        self.theme = THEME.name
        self.stylesheet.set_variables(self.get_css_variables())  # before the styles are parsed, so that once will do
        self._styled = False
        self.state_dir = default_state_dir() if state_dir is None else state_dir
        self.keys_file = default_keys_file() if keys_file is None else keys_file
        self.clock = clock
        self.keymap = load_keymap(self.keys_file)
        self.host = EngineHost(self._from_engine)
        self.problem: Failure | None = None
        self.input_order = InputOrder(self)
        self.on_signal: Callable[[int], object] | None = None

    def begin(self) -> None:
        """Ask the engine for the first thing; the frame is painted and the thread runs."""
        raise NotImplementedError

    async def on_event(self, event: events.Event) -> None:
        """Textual's hook: input is handled one at a time, each after everything that the one before it set off."""
        if not InputOrder.concerns(event):
            await super().on_event(event)
        elif self.input_order.admit(event):
            try:
                await super().on_event(event)
            finally:
                self.input_order.handled(event)

    def refresh_css(self, animate: bool = True) -> None:
        """Parse the styles anew; not for the theme that they were parsed with, as Textual asks for at every start."""
        if self._styled:
            super().refresh_css(animate)
        self._styled = True

    def on_mount(self) -> None:
        """Paint first, then start the engine."""
        self.set_keymap(dict(self.keymap.overrides))
        for problem in self.keymap.problems:
            self.notify(problem, severity="warning", markup=False, timeout=10)
        if self.on_signal is not None:
            for number in SIGNALS:
                asyncio.get_running_loop().add_signal_handler(number, self._signalled, number)
        self.call_after_refresh(self._start)

    def _signalled(self, number: int) -> None:
        """A signal asks the process to end: leave as a key would."""
        if self.on_signal is not None:
            self.on_signal(number)
        self.leave(128 + number)

    def _start(self) -> None:
        self.host.start()
        self.begin()

    def _from_engine(self, message: Message) -> None:
        """Called on the engine thread; posting is safe from there."""
        self.post_message(message)

    def copy_text(self, text: str) -> str:
        """Copy through the terminal and to a file; the sentence that says so."""
        self.copy_to_clipboard(text)
        path = self.state_dir / COPY_NAME
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            return f"copied to the clipboard; {path} could not be written ({error.strerror})"
        return f"copied to the clipboard and to {path}"

    def leave(self, code: int | None = None) -> None:
        """End the app: with `code`, or 1 where there was a problem, else 0."""
        self.exit(code if code is not None else 1 if self.problem is not None else 0)

    async def action_quit(self) -> None:
        """Textual's own way out does the same."""
        self.leave()


def run_in_terminal(app: EngineApp, leave: Callable[[int], object] = os._exit) -> int:
    """Run an app in this terminal, then end the process with its exit code.

    Native code's writes go to a log file meanwhile. The engine thread gets two seconds to end; `leave` ends
    the process without waiting for anything else (tests hand in a function that returns).
    """
    from tpe_tui.terminal import complain, flush, guarded, log_file

    with guarded(app):
        value = app.run()
    app.host.stop()
    code = 1 if value is None else value
    if value is None:
        complain(f"tpe stopped by a mistake of its own: {log_file()} holds the details to report.")
    elif app.problem is not None and code == 1:
        complain(app.problem.sentence)
    flush()
    leave(code)
    return code
