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
from tpe_core.cached_view import CachedView, read_view
from tpe_core.edit_history import EditHistory
from tpe_core.edits.intervention import METHODS, Intervention
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.options import RunOptions
from tpe_core.progress import Steps
from tpe_core.snapshots import EncodingTable
from tpe_tui.dialogs.model_picker import Choice, PickerScreen
from tpe_tui.dynamics.reader import ReadTrajectory
from tpe_tui.edit_words import edit_sizes
from tpe_tui.engine.host import list_cached, open_live, read_dynamics
from tpe_tui.engine.messages import Answer, JobUpdate
from tpe_tui.engine.session import Lister, Opener, Session
from tpe_tui.inspector.screen import InspectScreen
from tpe_tui.keymap import BY_ID
from tpe_tui.palette import TpeCommands
from tpe_tui.shell.engine_app import EngineApp, run_in_terminal
from tpe_tui.shell.prompt_history import PromptHistory
from tpe_tui.shell.view_memory import ViewMemory
from tpe_tui.study import StudyScreen
from tpe_tui.workspace import CallbackJob

if TYPE_CHECKING:
    from tpe_core.models.hub import CachedModel

__all__ = ["TpeApp", "run_app"]


class TpeApp(EngineApp):
    """`tpe`: inspect the output embedding of `options.model`; its return value is the exit code.

    `mask` is a manifest to load once the model is open, `prompt` what to start
    from instead of the last one. `opener`, `lister`, `view_reader`, `dynamics_reader`, `state_dir`,
    `keys_file` and `clock` are the engine, the models at hand, what reads the table that was kept of a model, what
    reads a training's checkpoints, the user's folders and the time; tests hand in their own.
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
        chat: bool = False,
        lister: Lister = list_cached,
        view_reader: Callable[[RunOptions], CachedView | None] = read_view,
        dynamics_reader: Callable[[RunOptions], ReadTrajectory] = read_dynamics,
        keys_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing starts before the app runs."""
        super().__init__(options, state_dir, keys_file, clock)
        self.mask = mask
        self.prompt = prompt
        self.chat = chat  # whether the first prompt is to be wrapped
        self.opener: Opener = open_live if opener is None else opener
        self.lister = lister
        self.view_reader = view_reader
        self.dynamics_reader = dynamics_reader
        self.memory = ViewMemory(self.state_dir)
        self.prompts = PromptHistory(self.state_dir)
        self._inspector: InspectScreen | None = None

    @property
    def inspector(self) -> InspectScreen:
        """The inspector's screen."""
        if self._inspector is None:
            raise RuntimeError("the screen exists once the app is mounted")
        return self._inspector

    def get_default_screen(self) -> InspectScreen:
        """The inspector is the one screen below all others; Textual would put an empty one there."""
        self._inspector = InspectScreen()
        return self._inspector

    def begin(self) -> None:
        """Show what was kept of the model's last analysis, where anything was, and open the model."""
        options = self.workspace.options
        self.workspace.ask("kept view", lambda: self.view_reader(options), self._show_kept, of_session=False)

    def _show_kept(self, answer: Answer) -> None:
        """Open the model once the kept view is painted: importing the engine leaves little time for painting."""
        view = answer.value
        if isinstance(view, CachedView):
            self.workspace.show_preview(view, self._first_history(view.table, view.default_prompt))
            self.inspector.show_kept(view)
        self.call_after_refresh(self.open_model)

    def open_model(self, again: bool = False, other: RunOptions | None = None) -> None:
        """Open the model, or an`other` one, as a job; `again` runs the detection anew, whatever the cache holds.

        A model that is open stays until the other one is, and where that one fails.
        """
        workspace = self.workspace
        if not workspace.free():
            return
        session, options = workspace.session, other or workspace.options
        if session is None:
            workspace.options = options
            workspace.opening_failed = False
            self.inspector.show_status()
        name = "detection" if again else "opening the model"

        def start() -> Steps[Session]:
            return session.detect_again(options) if again and session is not None else self.opener(options)

        def update(message: JobUpdate) -> None:
            if message.state == "done":
                self._opened(cast("Session", message.value), options)
            elif message.state != "running":
                self._not_opened(message, options)

        workspace.run(CallbackJob(name, start, update))

    def choose_model(self) -> None:
        """Ask which model to open next; what is in the hub's cache is listed as soon as it is read."""
        if not self.workspace.free():
            return
        picker = PickerScreen()

        def receive(answer: Answer) -> None:
            if self.screen is not picker:
                return
            if answer.failure is not None:
                picker.problem(answer.failure.sentence)
            else:
                picker.show(cast("Sequence[CachedModel]", answer.value))

        self.push_screen(picker, self._chosen)
        self.workspace.ask("models", self.lister, receive, of_session=False)

    def _chosen(self, choice: Choice | None) -> None:
        """Open what was chosen. Code of its own was allowed to the first model only, and a task meant that one."""
        if choice is not None:
            model, revision = choice
            options = replace(
                self.workspace.options,
                model=model,
                revision=revision,
                adapter=None,
                task=None,
                gguf_file=None,
                trust_remote_code=False,
            )
            self.open_model(other=options)

    def _not_opened(self, message: JobUpdate, options: RunOptions) -> None:
        """Say why a model could not be opened, and what to press."""
        workspace = self.workspace
        stays = workspace.session is not None and options != workspace.options
        retry = self.keymap.shown("run.open" if stays else "run.rerun")
        again = f"{workspace.options.model} stays open, {retry} chooses again" if stays else f"{retry} tries again"
        workspace.opening_failed = workspace.session is None
        self.inspector.show_status()
        if message.failure is None:
            workspace.status.say(f"{message.name} was cancelled; {again}", "warn")
            return
        if workspace.session is None:
            self.problem = message.failure
        workspace.status.say(f"{message.name} failed; {again}", "bad")
        advice = f"{again}, {self.keymap.shown('app.quit')} leaves."
        workspace.fail(f"{message.name} failed", message.failure, advice)

    def _opened(self, session: Session, options: RunOptions) -> None:
        """Show a session; the view of the model that was open before is kept for the next start."""
        self.problem = None
        if options != self.workspace.options:
            self.remember()
            self.workspace.options = options
        self.show_session(session)
        table = session.table
        self.workspace.status.say(f"{table.positions:,} positions of {table.text}; ? lists the keys")
        for warning in (*session.warnings, *filter(None, [self.memory.set_aside, busy_notice(table.info.device)])):
            self.notify(warning, severity="warning", markup=False)
        self.memory.set_aside = ""
        if self.chat:
            self.inspector.runs.ask_chat(toggle=False)
            self.chat = False
        if self.mask is not None:
            self.inspector.files.import_mask(str(self.mask))
            self.mask = None

    def show_session(self, session: Session) -> None:
        """Open a session in the workspace and show it; studies of another model are closed."""
        preview, edit = self.workspace.preview, edit_sizes(self.workspace.history.intervention)
        was_edited = not self.workspace.history.intervention.is_empty
        is_another = self.workspace.open(session, self._first_history(session.table, session.default_prompt))
        if is_another:
            self._close_studies()
        self.inspector.opened(session, is_another)
        if preview is not None and is_another and preview.table.info.name == session.table.info.name:
            lost = f", and the edit made on it ({edit}) is gone with it" if was_edited else ""
            self.notify(
                f"the model that was loaded is not the one whose table was kept: that table is replaced{lost}.",
                severity="warning", markup=False,
            )  # fmt: skip
        self.workspace.queue(CallbackJob("keeping the table", session.keep_view, _ignore), background=True)

    def _first_history(self, table: EncodingTable, prompt: str) -> EditHistory:
        """What the edits of a model begin with: the view of the last time, and nothing edited."""
        view = self.memory.recall(self.workspace.options.model)
        replacement = view.replacement if view.replacement in REPLACEMENTS.ready else REPLACEMENTS.ready[0]
        return EditHistory(
            prompt=self.prompt or view.prompt or prompt,
            hidden_size=table.info.hidden_size,
            vocab_rows=table.info.vocab_rows,
            method=next((name for name in METHODS if name == view.method), METHODS[0]),
            start=Intervention(replacement=replacement),
        )

    def _close_studies(self) -> None:
        """Close every study, with what was asked in it: it has no subject any more."""
        stack = self.screen_stack
        below = next((at for at, screen in enumerate(stack) if isinstance(screen, StudyScreen)), len(stack))
        for _ in stack[below:]:
            self.pop_screen()

    def perform(self, action_id: str) -> None:
        """Run an action of the key table by its id."""
        self.call_later(self.inspector.run_action, BY_ID[action_id].method)

    def remember(self) -> None:
        """Keep the view for the next start; where that fails, the user is told when the app has left."""
        if self._inspector is not None and self.workspace.table is not None:
            self.memory.remember(self.workspace.options.model, self._inspector.view())
            self.unsaved = [self.memory.problem] if self.memory.problem else []

    def save(self) -> None:
        """Keep the view."""
        self.remember()

    def edit_text(self, text: str) -> str:
        """A text as the user leaves it in an editor, which has the terminal meanwhile. Raises `TpeError`."""
        from tpe_tui.shell.editor import edited

        return edited(text, self.suspend, os.environ)

    def losses(self) -> list[str]:
        """Edits that no file holds, and a job under way."""
        return self.workspace.losses() if self.workspace.table is not None else []

    def leave(self, code: int | None = None) -> None:
        """End the app: with `code`, or 1 where no model could be opened, else 0."""
        self.remember()
        super().leave(code)


def _ignore(update: JobUpdate) -> None:
    """Nothing depends on a table being kept."""


def run_app(
    options: RunOptions,
    mask: Path | None = None,
    prompt: str = "",
    leave: Callable[[int], object] = os._exit,
    ascii_only: bool | None = None,
    *,
    chat: bool = False,
    theme: str | None = None,
) -> int:
    """Run the inspector in this terminal, then `leave` with its exit code: see `run_in_terminal`."""
    return run_in_terminal(TpeApp(options, mask, prompt=prompt, chat=chat), leave, ascii_only, theme)
