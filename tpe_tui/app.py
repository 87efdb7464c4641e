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
from textual.message import Message

from tpe_core.busy import busy_notice
from tpe_core.cached_view import CachedView, read_view
from tpe_core.models.nearby import LocalModel, local_paths, models_nearby
from tpe_core.options import RunOptions
from tpe_core.progress import Steps
from tpe_core.snapshots import EncodingTable
from tpe_tui.dialogs.model_picker import Choice, PickerScreen, Recent
from tpe_tui.edit_words import edit_sizes
from tpe_tui.engine.host import EngineHost, list_cached, open_live, read_dynamics
from tpe_tui.engine.messages import Answer, JobUpdate
from tpe_tui.engine.session import Lister, Opener, Session
from tpe_tui.inspector.screen import InspectScreen
from tpe_tui.job_list import JobRecord
from tpe_tui.jobs.screen import JobsScreen
from tpe_tui.keymap import BY_ID
from tpe_tui.palette import TpeCommands
from tpe_tui.shell.engine_app import EngineApp, run_in_terminal
from tpe_tui.shell.prompt_history import PromptHistory
from tpe_tui.shell.recent_models import RecentModel, RecentModels, recent_model
from tpe_tui.shell.session_memory import Begun, SessionMemory
from tpe_tui.shell.sessions import HeadFacts
from tpe_tui.shell.tour_seen import TourSeen
from tpe_tui.study import StudyScreen
from tpe_tui.workspace import CallbackJob

if TYPE_CHECKING:
    from tpe_core.models.hub import CachedModel
    from tpe_tui.dynamics.reader import ReadTrajectory

__all__ = ["TpeApp", "run_app"]

TOUR_ROWS = 20  # of a terminal in which the tour shows itself
KEEP_SECONDS = 1.0  # between two looks at whether the session is another than the one that was saved


class TpeApp(EngineApp):
    """`tpe`: inspect the output embedding of `options.model`; its return value is the exit code.

    `mask` is a manifest to load once the model is open, `prompt` what to start from instead of the last one,
    `session_name` the session to restore (None: the model's). One that `asks_model` asks which model to open; that
    one, and one that `offers_tour`, shows the tour where nobody has seen it.
    `opener`, `lister`, `near`, `view_reader`, `dynamics_reader`, `state_dir`, `keys_file` and `clock` are the engine,
    the models of the hub's cache and those near by, what reads the table that was kept of a model, what reads a
    training's checkpoints, the user's folders and the time; tests hand in their own. `engine` is `EngineApp`'s.
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
        session_name: str | None = None,
        lister: Lister = list_cached,
        near: Callable[[], Sequence[LocalModel]] = models_nearby,
        asks_model: bool = False,
        offers_tour: bool = False,
        view_reader: Callable[[RunOptions], CachedView | None] = read_view,
        dynamics_reader: Callable[[RunOptions], ReadTrajectory] = read_dynamics,
        keys_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        engine: Callable[[Callable[[Message], object]], EngineHost] = EngineHost,
    ) -> None:
        """Nothing starts before the app runs."""
        super().__init__(options, state_dir, keys_file, clock, engine)
        self.mask = mask
        self.prompt = prompt
        self.chat = chat  # whether the first prompt is to be wrapped
        self.opener: Opener = open_live if opener is None else opener
        self.lister = lister
        self.near = near
        self.asks_model = asks_model  # until a model is chosen
        self.recent = RecentModels(self.state_dir)
        self.tour_seen = TourSeen(self.state_dir)
        self._offers_tour = offers_tour  # once there is something to see
        self.view_reader = view_reader
        self.dynamics_reader = dynamics_reader
        self.memory = SessionMemory(self.state_dir, session_name)
        self.prompts = PromptHistory(self.state_dir)
        self._inspector: InspectScreen | None = None
        self._told_problem = ""  # why the session could not be written, as it was said

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
        """Show what was kept of the model's last analysis, where anything was, and open the model; or ask which."""
        self.set_interval(KEEP_SECONDS, self._remember_and_tell)
        if self.asks_model:
            self.inspector.show_empty()
            self.choose_model()
        else:
            self._open_with_view()

    def _open_with_view(self) -> None:
        """Show what was kept of the model of the options, and open it."""
        options = self.workspace.options
        self.workspace.ask("kept view", lambda: self.view_reader(options), self._show_kept, of_session=False)

    def _show_kept(self, answer: Answer) -> None:
        """Open the model once the kept view is painted: importing the engine leaves little time for painting."""
        view = answer.value
        if isinstance(view, CachedView):
            begun = self._begin(view.table, view.head_sha256, view.default_prompt, is_preview=True)
            self.workspace.show_preview(view, begun.history)
            self.inspector.show_kept(view)
            self._offer_tour()
            self._tell()
        self.call_after_refresh(self._open_first)

    def _open_first(self) -> None:
        """Open the model, and say beside it what its session brings back on the kept view."""
        self.open_model()
        if self.workspace.preview is not None:
            self._greet()

    def open_model(self, again: bool = False, other: RunOptions | None = None) -> None:
        """Open the model, or an`other` one, as a job; `again` runs the detection anew, whatever the cache holds.

        A model that is open stays until the other one is, and where that one fails.
        """
        if self.asks_model:
            self.choose_model()
            return
        workspace = self.workspace
        if not workspace.free(alone=True):
            return
        session, options = workspace.session, other or workspace.options
        if session is None:
            self.remember()
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

        workspace.run(CallbackJob(name, start, update), alone=True)

    def choose_model(self) -> None:
        """Ask which model to open next; what is in the hub's cache is listed as soon as it is read."""
        if not self.workspace.free(alone=True):
            return
        recent = [_recent(model) for model in self.recent.earlier()]
        if self.workspace.session is not None:  # what is open already is not what is opened next
            here = _recent(recent_model(self.workspace.options)).choice
            recent = [each for each in recent if each.choice != here]
        picker = PickerScreen(recent, lambda text: self._complete_path(picker, text))

        def receive(answer: Answer) -> None:
            if not picker.is_open:
                return
            if answer.failure is not None:
                picker.problem(answer.failure.sentence)
            else:
                picker.show(cast("Sequence[CachedModel]", answer.value))

        def receive_near(answer: Answer) -> None:
            if picker.is_open and answer.failure is None:
                picker.models.show_near(*cast("tuple[Sequence[LocalModel], frozenset[Choice]]", answer.value))

        self.push_screen(picker, self._chosen)
        self.workspace.ask("models near by", lambda: (self.near(), _gone(recent)), receive_near, of_session=False)
        self.workspace.ask("models", self.lister, receive, of_session=False)

    def _complete_path(self, picker: PickerScreen, text: str) -> None:
        """Ask the engine thread for the paths that begin with `text`: a disk may be slow."""

        def receive(answer: Answer) -> None:
            if picker.is_open and answer.failure is None:
                picker.models.show_paths(text, cast("Sequence[tuple[str, bool]]", answer.value))

        self.workspace.ask("paths", lambda: local_paths(text), receive, of_session=False)

    def _chosen(self, choice: Choice | None) -> None:
        """Open what was chosen. Code of its own was allowed to the first model only, and a task meant that one."""
        if choice is None:
            if self.asks_model:
                self._say_empty()
            return
        options = replace(
            self.workspace.options,
            model=choice.model,
            revision=choice.revision,
            adapter=choice.adapter,
            task=None,
            gguf_file=choice.gguf_file,
            trust_remote_code=False,
        )
        if self.asks_model:
            self.asks_model, self._offers_tour = False, True
            self.workspace.options = options
            self._open_with_view()
        else:
            self.open_model(other=options)

    def _say_empty(self) -> None:
        """Say what to press where no model was chosen."""
        keys = self.keymap
        choose, lists = keys.shown("run.open"), keys.shown("app.help")
        self.workspace.status.say(f"no model is open: {choose} chooses one, {lists} lists the keys", "warn")

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
        self.remember()
        self.workspace.options = options
        self.recent.add(options)
        self.show_session(session)
        table = session.table
        self._greet(f"{table.positions:,} positions of {table.text}; ? lists the keys")
        for warning in (*session.warnings, *filter(None, [busy_notice(table.info.device)])):
            self.notify(warning, severity="warning", markup=False)
        if self.chat:
            self.inspector.runs.ask_chat(toggle=False)
            self.chat = False
        if self.mask is not None:
            self.inspector.files.import_mask(str(self.mask))
            self.mask = None

    def show_session(self, session: Session) -> None:
        """Open a session in the workspace and show it; studies of another model are closed."""
        preview, edit = self.workspace.preview, self.workspace.history.intervention
        begun = self._begin(session.table, session.head_sha256, session.default_prompt)
        is_another = self.workspace.open(session, begun.history)
        if is_another:
            self._close_studies()
        self.inspector.opened(session, is_another)
        self._offer_tour()
        if preview is not None and is_another and preview.table.info.name == session.table.info.name:
            gone = f"is kept as the session {begun.kept_as}" if begun.kept_as else "is gone with it"
            lost = "" if edit.is_empty else f", and the edit made on it ({edit_sizes(edit)}) {gone}"
            self.notify(
                f"the model that was loaded is not the one whose table was kept: that table is replaced{lost}.",
                severity="warning", markup=False,
            )  # fmt: skip
            self.memory.take_said()  # which is the same
        self._tell()
        self.workspace.queue(CallbackJob("keeping the table", session.keep_view, _ignore), background=True)

    def _offer_tour(self) -> None:
        """Show the tour where this is the first start; it is shown by itself once."""
        if self._offers_tour and self.size.height >= TOUR_ROWS and not self.tour_seen.is_seen:
            self.inspector.tour.go(0, self.workspace.history.prompt)
            self.tour_seen.remember()
        self._offers_tour = False

    def _begin(self, table: EncodingTable, sha256: str, prompt: str, *, is_preview: bool = False) -> Begun:
        """Open the session of the model whose table is shown."""
        head = _head_of(table, sha256)
        return self.memory.begin(self.workspace.options, head, self.prompt or None, prompt, is_preview=is_preview)

    def _tell(self) -> None:
        """Say once what there is to say of the session."""
        for sentence in self.memory.take_said():
            self.notify(sentence, severity="warning", markup=False)

    def _greet(self, otherwise: str = "") -> None:
        """Say what came back with a session, or what undo would bring back."""
        greeting = self.memory.greeting(self.workspace.history, self.keymap.shown("mask.undo"))
        self.workspace.status.say(greeting or otherwise)

    def _close_studies(self) -> None:
        """Close every study, with what was asked in it: it has no subject any more."""
        stack = self.screen_stack
        of_model = [at for at, screen in enumerate(stack) if isinstance(screen, StudyScreen) and screen.OF_MODEL]
        for _ in stack[of_model[0] if of_model else len(stack) :]:
            self.pop_screen()

    def show_jobs(self) -> None:
        """Show the list of jobs."""
        self.push_screen(JobsScreen(self.workspace, self._show_job))

    def _show_job(self, record: JobRecord) -> None:
        """Show the screen of a job, in the place of the list and of what lies below it."""
        for _ in self.screen_stack[1:]:
            self.pop_screen()
        self.inspector.runs.reopen(record)

    def perform(self, action_id: str) -> None:
        """Run an action of the key table by its id."""
        self.call_later(self.inspector.run_action, BY_ID[action_id].method)

    def _remember_and_tell(self) -> None:
        """Have the session saved, and say once where it cannot be: there is time yet to export the edit."""
        self.remember()
        problem = self.memory.problem
        if problem and problem != self._told_problem:
            self.workspace.status.say(problem, "warn")
        self._told_problem = problem

    def remember(self) -> None:
        """Have the session saved where it has changed; any thread may call it."""
        workspace = self.workspace
        opened = workspace.session or workspace.preview
        if self._inspector is not None and opened is not None:
            head = _head_of(opened.table, opened.head_sha256)
            self.memory.keep(workspace.options, head, self._inspector.view(), workspace.history)
            self.memory.keep_notes(workspace.notebook)
            sweep = self._inspector.runs.sweep
            if sweep.result is not None and sweep.job is None and not sweep.outdated:
                self.memory.keep_sweep(sweep.result)

    def save(self) -> None:
        """Save the session and let others have it."""
        self.remember()
        self.memory.close()
        self.unsaved = [self.memory.problem] if self.memory.problem else []

    def edit_text(self, text: str) -> str:
        """A text as the user leaves it in an editor, which has the terminal meanwhile. Raises `TpeError`."""
        from tpe_tui.shell.editor import edited

        return edited(text, self.suspend, os.environ)

    def losses(self) -> list[str]:
        """Edits that no file holds, which the session keeps all the same, and a job under way."""
        workspace = self.workspace
        losses = workspace.losses() if workspace.table is not None else []
        if not workspace.history.is_unsaved or not self.memory.name:
            return losses
        return [*losses, self.memory.problem or f"The session {self.memory.name} keeps it for the next start."]

    def leave(self, code: int | None = None) -> None:
        """End the app: with `code`, or 1 where no model could be opened, else 0."""
        self.save()
        super().leave(code)


def _recent(model: RecentModel) -> Recent:
    return Recent(Choice(model.model, model.revision, model.adapter, model.gguf_file), model.used)


def _gone(recent: Sequence[Recent]) -> frozenset[Choice]:
    """The local ones that are there no more."""
    return frozenset(choice for choice, _ in recent if os.path.isabs(choice.model) and not os.path.exists(choice.model))


def _ignore(update: JobUpdate) -> None:
    """Nothing depends on a table being kept."""


def _head_of(table: EncodingTable, sha256: str) -> HeadFacts:
    return HeadFacts(sha256=sha256, hidden_size=table.info.hidden_size, vocab_rows=table.info.vocab_rows)


def run_app(
    options: RunOptions,
    mask: Path | None = None,
    prompt: str = "",
    leave: Callable[[int], object] = os._exit,
    ascii_only: bool | None = None,
    *,
    chat: bool = False,
    session_name: str | None = None,
    theme: str | None = None,
    asks_model: bool = False,
) -> int:
    """Run the inspector in this terminal, then `leave` with its exit code: see `run_in_terminal`."""
    app = TpeApp(
        options, mask, prompt=prompt, chat=chat, session_name=session_name, asks_model=asks_model, offers_tour=True
    )
    return run_in_terminal(app, leave, ascii_only, theme)
