"""The inspector application: one screen over one engine thread, its start, its memory and its exit.

Importing it costs no torch; the engine starts after the first frame is painted.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import App
from textual.command import Provider
from textual.message import Message

from tpe_core.options import RunOptions
from tpe_tui.commands import TpeCommands
from tpe_tui.forecaster import FORECAST
from tpe_tui.host import EngineHost, list_cached, open_live
from tpe_tui.keymap import BY_ID, default_keys_file, load_keymap
from tpe_tui.messages import Answer, Failure, JobUpdate
from tpe_tui.screens.inspect import InspectScreen
from tpe_tui.screens.picker import Choice, PickerScreen
from tpe_tui.screens.steer import SteerScreen, study_update
from tpe_tui.session import Lister, Opener, Session
from tpe_tui.state import Memory, default_state_dir
from tpe_tui.steer_state import READ, WHO
from tpe_tui.sweep_state import SWEEP
from tpe_tui.theme import THEME

if TYPE_CHECKING:
    from tpe_core.hub import CachedModel

__all__ = ["TpeApp", "run_app"]

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
COPY_NAME = "copied.txt"


class TpeApp(App[int]):
    """`tpe`: inspect the output embedding of `options.model`; its return value is the exit code.

    `mask` is a manifest to load once the model is open, `prompt` what to start
    from instead of the last one. `opener`, `lister`, `state_dir`, `keys_file` and `clock` are
    the engine, the models at hand, the user's folders and the time; tests hand in their own.
    """

    CSS_PATH = "app.tcss"
    TITLE = "tpe"
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {TpeCommands}

    def __init__(
        self,
        options: RunOptions,
        mask: Path | None = None,
        opener: Opener | None = None,
        state_dir: Path | None = None,
        *,
        prompt: str = "",
        lister: Lister = list_cached,
        keys_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing starts before the app runs."""
        super().__init__()
        self.register_theme(THEME)
        self.theme = THEME.name
        self.stylesheet.set_variables(self.get_css_variables())  # before the styles are parsed, so that once will do
        self._styled = False
        self.options = options
        self.mask = mask
        self.prompt = prompt
        self.opener: Opener = open_live if opener is None else opener
        self.lister = lister
        self.state_dir = default_state_dir() if state_dir is None else state_dir
        self.keys_file = default_keys_file() if keys_file is None else keys_file
        self.clock = clock
        self.memory = Memory(self.state_dir)
        self.keymap = load_keymap(self.keys_file)
        self.host = EngineHost(self._from_engine)
        self.problem: Failure | None = None
        self.on_signal: Callable[[int], object] | None = None
        self._bench: InspectScreen | None = None
        self._opening = options

    @property
    def bench(self) -> InspectScreen:
        """The inspector's screen."""
        if self._bench is None:
            raise RuntimeError("the screen exists once the app is mounted")
        return self._bench

    def get_default_screen(self) -> InspectScreen:
        """The inspector is the one screen below all others; Textual would put an empty one there."""
        self._bench = InspectScreen()
        return self._bench

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
        self.open_model()

    def open_model(self, again: bool = False, other: RunOptions | None = None) -> None:
        """Open the model, or an`other` one, as a job; `again` runs the detection anew, whatever the cache holds.

        A model that is open stays until the other one is, and where that one fails.
        """
        strip = self.bench.strip
        if strip.job is not None:
            strip.say("a job is running already; cancel it first", "warn")
            return
        session, options = self.bench.session, other or self.options
        self._opening = options
        if session is None:
            self.options = options
        name = "detection" if again else "opening the model"
        strip.say("")
        strip.begin(
            self.host.job(name, lambda: session.detect_again(options) if again and session else self.opener(options)),
            name,
        )

    def choose_model(self) -> None:
        """Ask which model to open next; what is in the hub's cache is listed as soon as it is read."""
        if self.bench.strip.job is not None:
            self.bench.strip.say("a job is running already; cancel it first", "warn")
            return
        self.push_screen(PickerScreen(), self._chosen)
        self.host.latest("models", self.lister)

    def _chosen(self, choice: Choice | None) -> None:
        """Open what was chosen. Code of its own was allowed to the first model only, and a task meant that one."""
        if choice is not None:
            model, revision = choice
            options = replace(self.options, model=model, revision=revision, task=None, trust_remote_code=False)
            self.open_model(other=options)

    def _from_engine(self, message: Message) -> None:
        """Called on the engine thread; posting is safe from there."""
        self.post_message(message)

    def on_answer(self, message: Answer) -> None:
        """An answer of the engine."""
        if message.kind.startswith("steer"):
            for screen in self.screen_stack:
                if isinstance(screen, SteerScreen):
                    screen.accept(message)
        elif message.kind != "models":
            self.bench.accept(message)
        elif isinstance(self.screen, PickerScreen) and message.failure is not None:
            self.screen.problem(message.failure.sentence)
        elif isinstance(self.screen, PickerScreen):
            self.screen.show(cast("Sequence[CachedModel]", message.value))

    def on_job_update(self, message: JobUpdate) -> None:
        """A job of the engine: the sweep, a steering study's, or opening a model."""
        if message.name == SWEEP:
            self.bench.sweep_update(message)
            return
        if message.name == FORECAST:
            self.bench.forecast_update(message)
            return
        if message.name in (READ, WHO):
            study_update(self.bench, message)
            return
        strip = self.bench.strip
        if message.state == "running" and message.progress is not None:
            strip.step(message.progress)
            return
        strip.end()
        stays = self.bench.session is not None and self._opening != self.options
        retry = self.keymap.shown("run.open" if stays else "run.rerun")
        again = f"{self.options.model} stays open, {retry} chooses again" if stays else f"{retry} tries again"
        if message.state == "done":
            self._opened(cast("Session", message.value))
        elif message.state == "cancelled":
            strip.say(f"{message.name} was cancelled; {again}", "warn")
        elif message.failure is not None:
            if self.bench.session is None:
                self.problem = message.failure
            strip.say(f"{message.name} failed; {again}", "bad")
            advice = f"{again}, {self.keymap.shown('app.quit')} leaves."
            self.bench.fail(f"{message.name} failed", message.failure, advice)

    def _opened(self, session: Session) -> None:
        self.problem = None
        if self._opening != self.options:
            self.remember()
            self.options = self._opening
        self.bench.opened(session)
        table = session.table
        self.bench.strip.say(f"{table.positions:,} positions of {table.text}; ? lists the keys")
        for warning in session.warnings:
            self.notify(warning, severity="warning", markup=False)
        if self.mask is not None:
            self.bench.import_mask(str(self.mask))
            self.mask = None

    def perform(self, action_id: str) -> None:
        """Run an action of the key table by its id."""
        self.call_later(self.bench.run_action, BY_ID[action_id].method)

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

    def remember(self) -> None:
        """Keep the view for the next start."""
        if self.bench.session is not None:
            self.memory.remember(self.options.model, self.bench.view())

    def leave(self, code: int | None = None) -> None:
        """End the app: with `code`, or 1 where no model could be opened, else 0."""
        if self._bench is not None:
            self.remember()
        self.exit(code if code is not None else 1 if self.problem is not None else 0)

    async def action_quit(self) -> None:
        """Textual's own way out does the same."""
        self.leave()


def run_app(
    options: RunOptions, mask: Path | None = None, prompt: str = "", leave: Callable[[int], object] = os._exit
) -> int:
    """Run the inspector in this terminal, then end the process with its exit code.

    Native code's writes go to a log file meanwhile. The engine thread gets two seconds to end; `leave` ends
    the process without waiting for anything else (tests hand in a function that returns).
    """
    from tpe_tui.terminal import complain, flush, guarded, log_file

    app = TpeApp(options, mask, prompt=prompt)
    with guarded(app):
        value = app.run()
    app.host.stop()
    code = 1 if value is None else value
    if value is None:
        complain(f"the inspector stopped by a mistake of its own: {log_file()} holds the details to report.")
    elif app.problem is not None and code == 1:
        complain(app.problem.sentence)
    flush()
    leave(code)
    return code
