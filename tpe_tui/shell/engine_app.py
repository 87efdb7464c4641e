"""What every full-screen command shares: the engine thread, the theme, the user's keys, signals, the way out.

It opens nothing; what is on screen and what the engine is asked for is its subclasses'.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events, on
from textual.app import App
from textual.binding import BindingType
from textual.driver import Driver
from textual.filter import LineFilter, Monochrome, NoColor
from textual.geometry import Size
from textual.message import Message
from textual.signal import Signal

from tpe_core.options import RunOptions
from tpe_core.outputs import shown_path
from tpe_tui.dialogs.error import ErrorScreen
from tpe_tui.dialogs.question import Question
from tpe_tui.engine.host import EngineHost
from tpe_tui.engine.messages import Answer, Failure, JobUpdate, Waiting
from tpe_tui.glyphs import wants_ascii
from tpe_tui.keymap import app_bindings, default_keys_file, load_keymap
from tpe_tui.shell.burst import Burst
from tpe_tui.shell.counts import Counts
from tpe_tui.shell.direct_keys import act, goes_to_app
from tpe_tui.shell.driver import TerminalDriver
from tpe_tui.shell.input_order import InputOrder
from tpe_tui.shell.line_filters import AsciiFilter
from tpe_tui.shell.responsive import stay_responsive
from tpe_tui.shell.terminal_title import TerminalTitle, understands_titles
from tpe_tui.shell.theme import FEW_COLOURS, THEME, theme_of
from tpe_tui.shell.view_memory import default_state_dir
from tpe_tui.sizes import short_name
from tpe_tui.workspace import Change, Workspace

__all__ = ["EngineApp", "run_in_terminal"]

if TYPE_CHECKING:
    from textual.screen import Screen
    from textual.theme import Theme

    from tpe_tui.shell.terminal_output import TerminalOutput

LEAVE_SECONDS = 5.0
COPY_NAME = "copied.txt"
SENT = "sent to the terminal's clipboard"  # whether it took it cannot be known


class EngineApp(App[int]):
    """One engine thread that starts after the first frame is painted; the app's return value is the exit code.

    It owns the `workspace` and hands it what the engine says; screens subscribe to `changed`. `state_dir`, `keys_file`
    and `clock` are the user's folders and the time; tests hand in their own. `engine` makes the engine thread, or a
    part of one that several apps share, from what is to be told. `problem` is why the app cannot do what it
    was started for, once that is known.
    """

    CSS_PATH = Path(__file__).with_name("app.tcss")
    TITLE = "tpe"
    BINDINGS: ClassVar[list[BindingType]] = app_bindings()

    def __init__(
        self,
        options: RunOptions,
        state_dir: Path | None = None,
        keys_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        engine: Callable[[Callable[[Message], object]], EngineHost] = EngineHost,
    ) -> None:
        """Nothing starts before the app runs."""
        super().__init__()
        self.register_theme(THEME)
        self.theme = THEME.name
        self.stylesheet.set_variables(self.get_css_variables())  # before the styles are parsed, so that once will do
        self._styled = False
        self.state_dir = default_state_dir() if state_dir is None else state_dir
        self.keys_file = default_keys_file() if keys_file is None else keys_file
        self.keymap = load_keymap(self.keys_file)
        self.host = engine(self._from_engine)
        self.changed: Signal[Change] = Signal(self, "changed")
        self.workspace = Workspace(
            options,
            self.host,
            self.keymap,
            clock=clock,
            changed=self.changed.publish,
            failed=self.show_failure,
        )
        self.problem: Failure | None = None
        self.ascii: AsciiFilter | None = None  # what draws in ASCII, where that was asked for
        self.few_colours = False
        self.burst = Burst(self, self.host.give_way)
        self.input_order = InputOrder(self, self.burst)
        self.counts = Counts(self, self.workspace.status)
        self.unsaved: list[str] = []  # sentences for the user, who is told once the terminal is a shell's again
        self.on_gone: Callable[[str], object] | None = None
        self.terminal_title = TerminalTitle(self._write_title, clock)
        self._mounted_context: contextvars.Context | None = None
        self._painted_size: Size | None = None

    def suit(self, ascii_only: bool, few_colours: bool, theme: Theme = THEME) -> None:
        """Draw for a terminal that has ASCII only, or few colours or none, else in a theme; before the app runs."""
        self.ascii = AsciiFilter() if ascii_only else None
        self.workspace.ascii_only = ascii_only
        self.few_colours = few_colours or self.no_color or theme is FEW_COLOURS
        chosen = FEW_COLOURS if self.few_colours else theme
        if chosen is not THEME:
            self.register_theme(chosen)
            self.theme = chosen.name
            self.stylesheet.set_variables(self.get_css_variables())

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's hook: its own filters, then the one that draws in ASCII.

        Where NO_COLOR asks for no colour, Textual's greys would still be colours.
        """
        own = [NoColor() if isinstance(each, Monochrome) else each for each in super().get_line_filters()]
        return [*own, *([] if self.ascii is None else [self.ascii])]

    def get_driver_class(self) -> type[Driver]:
        """The driver that survives a terminal that does not."""
        chosen = super().get_driver_class()
        return TerminalDriver if issubclass(TerminalDriver, chosen) else chosen

    def begin(self) -> None:
        """Ask the engine for the first thing; the frame is painted and the thread runs."""
        raise NotImplementedError

    async def on_event(self, event: events.Event) -> None:
        """Textual's hook: input is handled one at a time, each after everything that the one before it set off."""
        if not InputOrder.concerns(event):
            await super().on_event(event)
        elif self.input_order.admit(event):
            self.terminal_title.seen()
            try:
                await self._take_input(event)
            finally:
                self.input_order.handled(event)

    async def _take_input(self, event: events.Event) -> None:
        """Handle one input; a key that is part of a number goes no further."""
        if isinstance(event, events.Key):
            if await self.counts.takes(event):
                return
            if goes_to_app(self, event):
                self.app_focus = True
                await act(self, event.key)
                return
        elif isinstance(event, (events.MouseDown, events.Paste)):
            self.counts.drop()
        await super().on_event(event)

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
        self._mounted_context = contextvars.copy_context()
        self.call_after_refresh(self._start)

    @property
    def output(self) -> TerminalOutput | None:
        """What is written to the terminal; None where there is none (any thread may ask)."""
        driver = self._driver
        return driver.output if isinstance(driver, TerminalDriver) else None

    def terminal_gone(self, reason: str) -> None:
        """Called on any thread: the terminal takes or gives nothing more."""
        if self.output is not None:
            self.output.give_up()
        if self.on_gone is not None:
            self.on_gone(reason)

    def leave_soon(self, code: int) -> bool:
        """Called on any thread: leave as a key would; whether the app is there to do so."""
        loop, context = self._loop, self._mounted_context
        if loop is None or context is None:
            return False
        with contextlib.suppress(RuntimeError):  # it has left
            loop.call_soon_threadsafe(self.leave, code, context=context)
        return True

    def wake(self) -> None:
        """Called on any thread: let the main thread look at what has happened."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(lambda: None)

    def save(self) -> None:
        """Keep what is to be kept when the process ends; any thread may call it."""

    def repaint(self) -> None:
        """Paint every cell, whatever the terminal shows."""
        if self.is_running:
            self.screen.refresh()

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        """Paint, unless the terminal is too slow: then the last state is painted once it has taken what waits."""
        if self.output is not None and self.output.skip_frame(self._caught_up):
            return
        super()._display(screen, renderable)

    def _caught_up(self) -> None:
        with contextlib.suppress(RuntimeError):
            self.call_later(self.repaint)

    @on(Driver.SignalResume)
    def _repaint_when_resumed(self) -> None:
        self.repaint()
        self.terminal_title.again()

    def _write_title(self, text: str) -> None:
        if self.output is not None and understands_titles(os.environ):
            self.output.write(text)

    def on_resize(self, event: events.Resize) -> None:
        """The layout paints another size; the same one means that somebody else has painted over it."""
        if event.size == self._painted_size:
            self.call_after_refresh(self.repaint)
        self._painted_size = event.size

    def action_app_redraw(self) -> None:
        """Paint the whole screen again."""
        self.repaint()

    def action_app_suspend(self) -> None:
        """Stop the whole process group and give the terminal back to the shell, as its own key would."""
        if self.output is not None:
            self.app_suspend_signal.publish(self)
            os.kill(0, signal.SIGTSTP)

    def _start(self) -> None:
        self.host.start()
        self.begin()

    def _from_engine(self, message: Message) -> None:
        """Called on the engine thread; posting is safe from there."""
        self.post_message(message)

    async def _dispatch_message(self, message: Message) -> None:
        """Textual's hook: what the engine sends while the app closes has no screen any more that would show it."""
        if self.is_running or not isinstance(message, (Answer, Waiting, JobUpdate)):
            await super()._dispatch_message(message)

    def on_answer(self, message: Answer) -> None:
        """An answer of the engine."""
        self.workspace.answer(message)

    def on_waiting(self, message: Waiting) -> None:
        """An answer takes long."""
        self.workspace.wait(message)

    def on_job_update(self, message: JobUpdate) -> None:
        """A job took a step, or ended; the terminal's title says so of one that the user waits for."""
        status = self.workspace.status
        label, seconds, is_shown = status.label, status.clock() - status.started, message.job == status.job
        self.workspace.update(message)
        self.terminal_title.model = short_name(self.workspace.options.model)
        if is_shown and message.state != "running":
            self.terminal_title.ended(label, message.state, seconds, len(self.workspace.jobs.waited_for))
        elif is_shown and message.progress is not None:
            self.terminal_title.running(label, message.progress, status.queued)

    def show_jobs(self) -> None:
        """Show the list of jobs."""
        raise NotImplementedError

    def show_failure(self, title: str, failure: Failure, advice: str = "") -> None:
        """Show a failure over the screen, once."""
        top = self.screen
        if not (isinstance(top, ErrorScreen) and top.failure.sentence == failure.sentence):
            self.push_screen(ErrorScreen(title, failure, self.copy_text, advice))

    def copy_text(self, text: str) -> str:
        """Copy through the terminal and to a file; the sentence that says so."""
        from tpe_core.store import write_file

        self.copy_to_clipboard(text)
        path = self.state_dir / COPY_NAME
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, [f"{text}\n".encode("utf-8", "backslashreplace")])
        except OSError as error:
            return f"{SENT}; {shown_path(path)} could not be written ({error.strerror})"
        return f"{SENT}, and written to {shown_path(path)}"

    def leave(self, code: int | None = None) -> None:
        """End the app: with `code`, or 1 where there was a problem, else 0."""
        self.exit(code if code is not None else 1 if self.problem is not None else 0)

    def losses(self) -> list[str]:
        """What leaving now would lose, a sentence each."""
        return []

    def ask_to_leave(self) -> None:
        """Leave as a key asks for it: at once where nothing is lost, else after a question."""
        losses = self.losses()
        if not losses:
            self.leave()
        elif not any(isinstance(screen, LeaveQuestion) for screen in self.screen_stack):
            self.push_screen(LeaveQuestion("Leave?", losses, {"y": "leaves"}, "stays"), self._asked_to_leave)

    def _asked_to_leave(self, key: str | None) -> None:
        if key is not None:
            self.leave()

    async def action_quit(self) -> None:
        """Textual's own way out does the same."""
        self.ask_to_leave()


class LeaveQuestion(Question):
    """Whether to leave."""


def run_in_terminal(
    app: EngineApp,
    leave: Callable[[int], object] = os._exit,
    ascii_only: bool | None = None,
    theme: str | None = None,
) -> int:
    """Run an app in this terminal, then end the process with its exit code; `ascii_only` None asks the locale.

    `theme` is the name of one, None as `theme_of` says; raises `TpeError` before anything runs where there is none.

    Native code's writes go to a log file meanwhile. The engine thread gets two seconds to end; `leave` ends
    the process without waiting for anything else (tests hand in a function that returns).
    """
    from tpe_tui.shell.terminal import complain, flush, guarded, log_file

    stay_responsive()
    few_colours = app.console.color_system in (None, "standard")
    app.suit(wants_ascii() if ascii_only is None else ascii_only, few_colours, theme_of(theme, os.environ))
    with guarded(app):
        value = app.run()
        if value is None:  # by a mistake of its own
            with contextlib.suppress(Exception):
                app.save()
    code = 1 if value is None else value
    limit = threading.Timer(LEAVE_SECONDS, leave, [code])  # a terminal that takes nothing cannot keep the process
    limit.daemon = True
    limit.start()
    app.host.stop()
    if value is None:
        log = log_file()
        kept = f"{log} holds the details to report" if log.exists() else f"its details are lost ({log} was not written)"
        complain(f"stopped by a mistake of its own: {kept}.")
    elif app.problem is not None and code == 1:
        complain(app.problem.sentence)
    for sentence in app.unsaved:
        complain(sentence)
    flush()
    limit.cancel()
    leave(code)
    return code
