"""The inspector's part in generating: the text it has written, its one job, and the edit it tells that job of.

The generate screen shows it; leaving that screen stops the job and keeps the text.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from tpe_core.generation.paired import Controls, PairRequest, save_pair
from tpe_core.outputs import shown_path
from tpe_tui.engine.messages import Answer, JobUpdate
from tpe_tui.engine.session import Session
from tpe_tui.generation.screen import GenerateScreen
from tpe_tui.generation.state import GENERATE, SAVE, GenerateState
from tpe_tui.inspector.browse_actions import BrowseScreen

if TYPE_CHECKING:
    from tpe_tui.inspector.screen import InspectScreen

__all__ = ["GenerateBench"]


class GenerateBench(BrowseScreen):
    """The inspector with a pair of continuations."""

    def __init__(self) -> None:
        """Nothing was written."""
        super().__init__()
        self.generation = GenerateState()

    def opened(self, session: Session) -> None:
        """Another model's text is dropped."""
        before = self.inspector
        super().opened(session)
        if self.inspector is not before:
            self.generation = GenerateState()

    def changed(self) -> None:
        """The next token is drawn under the edit in force now."""
        super().changed()
        self.tell_controls()
        for screen in self.tpe.screen_stack:
            if isinstance(screen, GenerateScreen):
                screen.edit_changed()

    def tell_controls(self) -> None:
        """The edit and the pace in force, for the next token."""
        state = self.generation
        state.mailbox.put(Controls(self.inspector.intervention, state.pace))

    def action_run_generate(self) -> None:
        """See the key table."""
        session = self.session
        if self._ready() and session is not None:
            self.tpe.push_screen(GenerateScreen(cast("InspectScreen", self), self.table_drawn or session.table))

    def start_generation(self, further: bool = False) -> None:
        """Write a pair after the prompt, or go on with the one there is; a job of ours that runs is dropped."""
        session, state = self.session, self.generation
        if session is None:
            return
        if self.strip.job is not None and self.strip.job != state.job:
            state.problem = "a job is running already; cancel it first"
            self.strip.say(state.problem, "warn")
            return
        self.stop_generation()
        decoding = state.further() if further else state.decoding
        request = PairRequest(self.inspector.prompt, decoding, state.pair if further else None)
        mailbox = state.mailbox
        self.tell_controls()
        state.begin(self.tpe.host.job(GENERATE, lambda: session.generate(request, mailbox)), afresh=not further)
        self.strip.say("")
        self.strip.begin(state.job or 0, GENERATE)

    def stop_generation(self) -> None:
        """Stop after the token under way; what is written stays."""
        state = self.generation
        if state.job is not None:
            self.tpe.host.cancel(state.job)

    def generate_update(self, message: JobUpdate) -> None:
        """A token more, or the end; whoever looks at it sees it."""
        state = self.generation
        if message.job != state.job:
            return
        keys, ended = self.tpe.keymap, message.state != "running"
        new = state.grow(message.progress.partial if message.progress is not None else message.value)
        if not ended and message.progress is not None:
            self.strip.step(message.progress)
        else:
            state.job = None
            self.strip.end()
            written = f"{state.steps} tokens"
            said = {"done": (f"done: {written}", "good"), "cancelled": (f"stopped after {written}", "row")}
            self.strip.say(
                *said.get(message.state, (f"generating failed; {keys.shown('run.rerun')} tries again", "bad"))
            )
        if message.failure is not None:
            state.problem = message.failure.sentence
            if message.failure.details:
                self.fail("generating failed", message.failure)
        for screen in self.tpe.screen_stack:
            if isinstance(screen, GenerateScreen) and (new or ended):
                screen.grown(now=ended)

    def save_generation(self, path: Path, lines: list[str], replace: bool) -> None:
        """Write the pair as JSON and as text, on the engine's thread."""
        pair, options = self.generation.pair, self.tpe.options
        if pair is None:
            return
        document = {"schema": 1, "model": options.model, "revision": options.revision, "intervention": None}
        self.generation.saved = str(path)
        self.tpe.host.latest(SAVE, lambda: save_pair(path, {**document, **pair.to_dict()}, lines, replace=replace))

    def accept(self, answer: Answer) -> None:
        """The files are written; everything else is the inspector's."""
        if answer.kind != SAVE:
            super().accept(answer)
            return
        if answer.failure is not None:
            self.strip.say(answer.failure.sentence, "bad")
        else:
            written = cast("tuple[Path, Path]", answer.value)
            self.strip.say(f"written to {shown_path(written[0])} and {written[1].name}", "good")
        for screen in self.tpe.screen_stack:
            if isinstance(screen, GenerateScreen):
                screen.show()
