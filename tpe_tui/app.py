"""The inspector application: one screen over one engine thread, its start, its memory and its exit.

Importing it costs no torch; the engine starts after the first frame is painted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual.command import Provider

from tpe_core.busy import busy_notice
from tpe_core.options import RunOptions
from tpe_tui.dialogs.model_picker import Choice, PickerScreen
from tpe_tui.dynamics.reader import DYNAMICS, EXPORT, ReadTrajectory
from tpe_tui.engine.host import list_cached, open_live, read_dynamics
from tpe_tui.engine.messages import Answer, JobUpdate, Waiting
from tpe_tui.engine.session import Lister, Opener, Session
from tpe_tui.generation.state import GENERATE
from tpe_tui.glyphs import ascii_token
from tpe_tui.inspector.forecast import FORECAST
from tpe_tui.inspector.mask_actions import REFIT
from tpe_tui.inspector.screen import InspectScreen
from tpe_tui.keymap import BY_ID
from tpe_tui.palette import TpeCommands
from tpe_tui.shell.engine_app import EngineApp, run_in_terminal
from tpe_tui.shell.view_memory import ViewMemory
from tpe_tui.steering.screen import SteerScreen, study_update
from tpe_tui.steering.state import READ, WHO
from tpe_tui.sweep.state import SWEEP

if TYPE_CHECKING:
    from tpe_core.edit_history import EncodingTable
    from tpe_core.models.hub import CachedModel

__all__ = ["TpeApp", "run_app"]


class TpeApp(EngineApp):
    """`tpe`: inspect the output embedding of `options.model`; its return value is the exit code.

    `mask` is a manifest to load once the model is open, `prompt` what to start
    from instead of the last one. `opener`, `lister`, `dynamics_reader`, `state_dir`,
    `keys_file` and `clock` are the engine, the models at hand, what reads a training's checkpoints, the user's folders
    and the time; tests hand in their own.
    """

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
        dynamics_reader: Callable[[RunOptions], ReadTrajectory] = read_dynamics,
        keys_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing starts before the app runs."""
        super().__init__(state_dir, keys_file, clock)
        self.options = options
        self.mask = mask
        self.prompt = prompt
        self.opener: Opener = open_live if opener is None else opener
        self.lister = lister
        self.dynamics_reader = dynamics_reader
        self.memory = ViewMemory(self.state_dir)
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

    def begin(self) -> None:
        """Open the model."""
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

    def on_answer(self, message: Answer) -> None:
        """An answer of the engine."""
        if message.kind.startswith("steer"):
            for screen in self.screen_stack:
                if isinstance(screen, SteerScreen):
                    screen.accept(message)
        elif message.kind == EXPORT:
            self.bench.dynamics_update(message)
        elif message.kind != "models":
            self.bench.accept(message)
        elif isinstance(self.screen, PickerScreen) and message.failure is not None:
            self.screen.problem(message.failure.sentence)
        elif isinstance(self.screen, PickerScreen):
            self.screen.show(cast("Sequence[CachedModel]", message.value))

    def on_waiting(self, message: Waiting) -> None:
        """A request takes long."""
        self.bench.waiting(message)

    def on_job_update(self, message: JobUpdate) -> None:
        """A job of the engine: the sweep, a refit, a steering study's, or opening a model."""
        bench = self.bench
        own = {
            SWEEP: bench.sweep_update, REFIT: bench.refit_update, DYNAMICS: bench.dynamics_update,
            FORECAST: bench.forecast_update, GENERATE: bench.generate_update,
        }  # fmt: skip
        if message.name in own:
            own[message.name](message)
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

    def drawn(self, table: EncodingTable) -> EncodingTable:
        """The table as it is drawn: its tokens escaped where the terminal has ASCII only."""
        if self.ascii is None:
            return table
        return replace(table, tokens=[ascii_token(text) for text in table.tokens])

    def _opened(self, session: Session) -> None:
        self.problem = None
        if self._opening != self.options:
            self.remember()
            self.options = self._opening
        self.bench.opened(session)
        table = session.table
        self.bench.strip.say(f"{table.positions:,} positions of {table.text}; ? lists the keys")
        for warning in (*session.warnings, *filter(None, [self.memory.set_aside, busy_notice(table.info.device)])):
            self.notify(warning, severity="warning", markup=False)
        self.memory.set_aside = ""
        if self.mask is not None:
            self.bench.import_mask(str(self.mask))
            self.mask = None

    def perform(self, action_id: str) -> None:
        """Run an action of the key table by its id."""
        self.call_later(self.bench.run_action, BY_ID[action_id].method)

    def remember(self) -> None:
        """Keep the view for the next start; where that fails, the user is told when the app has left."""
        if self._bench is not None and self._bench.session is not None:
            self.memory.remember(self.options.model, self._bench.view())
            self.unsaved = [self.memory.problem] if self.memory.problem else []

    def save(self) -> None:
        """Keep the view."""
        self.remember()

    def losses(self) -> list[str]:
        """Edits that no file holds, and a job under way."""
        if self._bench is None or self._bench.session is None:
            return []
        strip = self._bench.strip
        running = [f"A job is running ({strip.label}) and would be stopped."] if strip.job is not None else []
        return [*self._bench.unsaved(), *running]

    def leave(self, code: int | None = None) -> None:
        """End the app: with `code`, or 1 where no model could be opened, else 0."""
        self.remember()
        super().leave(code)


def run_app(
    options: RunOptions,
    mask: Path | None = None,
    prompt: str = "",
    leave: Callable[[int], object] = os._exit,
    ascii_only: bool | None = None,
) -> int:
    """Run the inspector in this terminal, then `leave` with its exit code: see `run_in_terminal`."""
    return run_in_terminal(TpeApp(options, mask, prompt=prompt), leave, ascii_only)
