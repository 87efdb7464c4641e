"""The keys that run something: a prompt, another model, a study; each action is one method named after its id.

A screen is imported when it is opened: all of them together take a tenth of a second, which the first frame does not
wait for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpe_core.edits.intervention import Intervention
from tpe_core.options import DEMO
from tpe_tui.cells import typed_prompt
from tpe_tui.dialogs.ask_prompt import AskPrompt
from tpe_tui.engine.messages import Answer
from tpe_tui.engine.session import Session
from tpe_tui.generation.job import GenerateJob
from tpe_tui.generation.state import GenerateState
from tpe_tui.inspector.frame import InspectFrame
from tpe_tui.job_list import JobRecord
from tpe_tui.prompts.state import PromptList
from tpe_tui.shell.session_memory import SessionMemory
from tpe_tui.steering.reading import TextsReading
from tpe_tui.sweep.job import SweepJob
from tpe_tui.sweep.state import SweepState

if TYPE_CHECKING:
    from tpe_tui.dynamics.reader import DynamicsReader
    from tpe_tui.steering.screen import SteerScreen

__all__ = ["RunActions"]


class RunActions:
    """The keys of `frame` that ask for a prompt, open a model or a study; it keeps what the studies show."""

    def __init__(self, frame: InspectFrame) -> None:
        self.frame, self.workspace = frame, frame.workspace
        self.dynamics: DynamicsReader | None = None
        self.sweep = SweepState()
        self.generation = GenerateState()
        self.texts: TextsReading | None = None
        self.prompts = PromptList()

    def forget(self, is_another: bool) -> None:
        """Keep what belongs to the session that was opened: a sweep of an earlier detection is marked as such."""
        self.sweep.outdated = self.sweep.result is not None
        self.prompts.forget()
        if is_another:
            self.dynamics, self.sweep, self.generation, self.texts = None, SweepState(), GenerateState(), None

    def restore_sweep(self, memory: SessionMemory) -> None:
        """Take the curves that the session's last sweep measured, where none are there."""
        if self.sweep.result is None and (found := memory.kept_sweep()) is not None:
            self.sweep.recall(*found)

    def run_prompt(self) -> None:
        """Type another prompt."""
        hint = self.workspace.session.prompt_hint if self.workspace.session is not None else ""
        self.ask_prompt(self.workspace.history.prompt, hint or "\\n is a new line, \\t a tab, \\\\ a backslash")

    def ask_prompt(self, prompt: str, hint: str) -> None:
        """Ask for a prompt, `prompt` being there already."""
        if self.workspace.ready():
            front = self.frame.front
            self.frame.put(AskPrompt(prompt, hint, front.prompts.earlier(), front.edit_text), self._set_prompt)

    def prompt_list(self) -> None:
        """Open the list of prompts."""
        from tpe_tui.prompts.screen import PromptsScreen

        if not self.workspace.ready():
            return
        front = self.frame.front
        screen = PromptsScreen(
            self.workspace, self.prompts, front.prompts.earlier, front.edit_text, act=self.frame.run_action
        )

        def take(_edit: Intervention | None) -> None:
            if screen.chosen is not None and screen.chosen != self.workspace.history.prompt:
                self._show_prompt(screen.chosen)

        self.frame.app.push_screen(screen, take)

    def run_chat(self) -> None:
        """Wrap the prompt in the model's chat template, or unwrap it."""
        self.ask_chat(toggle=True)

    def ask_chat(self, *, toggle: bool) -> None:
        """Have the engine wrap the prompt; with `toggle` one that is wrapped is unwrapped."""
        session, prompt = self.workspace.session, self.workspace.history.prompt
        if not self.workspace.ready() or session is None:
            return

        def receive(answer: Answer) -> None:
            if answer.failure is not None:
                self.workspace.status.say(answer.failure.sentence, "bad")
            elif self.workspace.history.prompt == prompt and answer.value != prompt:
                self._show_prompt(str(answer.value))

        self.workspace.ask("chat", lambda: session.chat_prompt(prompt, toggle), receive)

    def _set_prompt(self, line: str) -> None:
        prompt, prompts = typed_prompt(line), self.frame.front.prompts
        prompts.add(self.workspace.history.prompt, prompt)
        if prompts.problem:
            self.workspace.status.say(prompts.problem, "warn")
        self._show_prompt(prompt)

    def _show_prompt(self, prompt: str) -> None:
        self.frame.prompt_bar.show(prompt)
        self.workspace.set_prompt(prompt)

    def run_rerun(self) -> None:
        """Run the detection again, or try again to open the model."""
        self.frame.front.open_model(again=self.workspace.session is not None)

    def run_open(self) -> None:
        """Open another model: a cached one, a hub id, a folder or a GGUF file."""
        self.frame.front.choose_model()

    def run_steer(self) -> None:
        """Open the steering study of the selected token."""
        from tpe_tui.steering.screen import SteerScreen

        session = self.workspace.session
        if self.workspace.ready() and session is not None:
            texts = self._texts_of(session, self.workspace.history.intervention)
            self._open_study(SteerScreen(self.workspace, session, self.frame.tokens.token_id, texts))

    def _texts_of(self, session: Session, edit: Intervention) -> TextsReading:
        """The texts of a study over an edit: those of the one before where they are the same."""
        if self.texts is None or not self.texts.is_of(session, edit):
            self.texts = TextsReading(self.workspace, session, edit)
        return self.texts

    def _reopen_study(self, left: TextsReading) -> None:
        """Open the last study that measured on some texts as it was left; they are read anew where others were."""
        from tpe_tui.steering.screen import SteerScreen

        session, state = self.workspace.session, left.state
        if session is not None and state is not None:
            texts = self._texts_of(session, left.edit)
            self._open_study(SteerScreen(self.workspace, session, state.token_id, texts, state))

    def _open_study(self, study: SteerScreen) -> None:
        def steer(edit: Intervention | None) -> None:
            if edit is not None:
                self.workspace.history.method = study.state.method
                self.frame.tokens.selected = study.state.token_id
                self.workspace.apply(edit, f"{study.said()}; {self.workspace.keymap.shown('mask.undo')} undoes")

        self.frame.app.push_screen(study, steer)

    def run_dynamics(self) -> None:
        """Training dynamics: when the encoding came, when the parameters did."""
        from tpe_tui.dynamics.reader import DynamicsReader
        from tpe_tui.dynamics.screen import DynamicsScreen

        if not self.workspace.ready():
            return
        options, first = self.workspace.options, self.dynamics is None
        if self.dynamics is None:
            reader = self.frame.front.dynamics_reader(options)
            self.dynamics = DynamicsReader(self.workspace, reader, names=[options.model])
        self.frame.app.push_screen(DynamicsScreen(self.dynamics))
        if first and options.model == DEMO:
            self.dynamics.start()  # what comes with the package costs nothing; anything else is read when asked for

    def run_sweep(self) -> None:
        """Open the pruning sweep."""
        from tpe_tui.sweep.screen import SweepScreen

        if self.workspace.ready():
            self.frame.app.push_screen(SweepScreen(self.workspace, self.sweep), self._prune_as_swept)

    def _prune_as_swept(self, edit: Intervention | None) -> None:
        if edit is not None:
            undo = self.workspace.keymap.shown("mask.undo")
            said = f"{self.sweep.said_of(len(edit.pruned))}; {undo} undoes"
            self.workspace.apply(edit, said, "that mask is in force already")

    def run_fit(self) -> None:
        """Open the fit: its figures, and every token in it."""
        from tpe_tui.fit.screen import FitScreen

        if self.workspace.ready():
            screen = FitScreen(self.workspace, self.frame.tokens.token_id)

            def jump(_edit: Intervention | None) -> None:
                if screen.jump_to is not None:
                    self.frame.show_pane(2)
                    self.frame.tokens.select(screen.jump_to)

            self.frame.app.push_screen(screen, jump)

    def run_edits(self) -> None:
        """Open the edits: every step, every named one."""
        from tpe_tui.edits.screen import EditsScreen

        if self.workspace.ready():
            self.frame.app.push_screen(EditsScreen(self.workspace))

    def run_generate(self) -> None:
        """Open the continuation of the prompt with and without the edit."""
        self._open_texts(again=True)

    def _open_texts(self, *, again: bool) -> None:
        from tpe_tui.generation.screen import GenerateScreen

        table, act = self.workspace.table, self.frame.run_action
        if self.workspace.ready() and table is not None:
            screen = GenerateScreen(self.workspace, self.generation, table, self.frame.dims, act=act, again=again)
            self.frame.app.push_screen(screen)

    def run_cancel(self) -> None:
        """Cancel the running job."""
        self.workspace.cancel()

    def run_jobs(self) -> None:
        """Open the list of jobs."""
        self.frame.front.show_jobs()

    def reopen(self, record: JobRecord) -> None:
        """Open the screen of a job, with its progress or its result."""
        from tpe_tui.dynamics.reader import DynamicsReader

        match record.subject:
            case SweepJob() as sweep:
                sweep.recall()
                self.run_sweep()
            case GenerateJob() as text:
                text.recall()
                self._open_texts(again=False)
            case TextsReading() as texts:
                self._reopen_study(texts)
            case DynamicsReader():
                self.run_dynamics()
