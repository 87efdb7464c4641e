"""The job that continues a prompt with and without the edit, and writing what it made: both feed a `GenerateState`."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from tpe_core.generation.paired import Controls, PairedGeneration, PairRequest, save_pair
from tpe_core.outputs import shown_path
from tpe_core.progress import Steps
from tpe_tui.engine.messages import Answer, JobUpdate
from tpe_tui.engine.session import Session
from tpe_tui.generation.state import GENERATE, SAVE, GenerateState
from tpe_tui.workspace import Workspace

__all__ = ["GenerateJob", "save_generation", "start_generation", "stop_generation", "tell_controls"]


class GenerateJob:
    """Writes a pair of continuations; `state` grows with it."""

    name = GENERATE

    def __init__(self, workspace: Workspace, session: Session, state: GenerateState, request: PairRequest) -> None:
        """Nothing is written before `start`."""
        self._workspace, self._session, self._state, self._request = workspace, session, state, request
        self._pair: PairedGeneration | None = None

    def start(self) -> Steps[PairedGeneration]:
        """Make the generator of its steps; called on the engine thread."""
        return self._session.generate(self._request, self._state.mailbox)

    def update(self, message: JobUpdate) -> str | None:
        """Take in a token more, or the end, and say how it ended."""
        state, status = self._state, self._workspace.status
        found = message.progress.partial if message.progress is not None else message.value
        if isinstance(found, PairedGeneration):
            self._pair = found
        state.grow(found)
        if message.state == "running":
            return None
        state.job = state.prompt = None
        written, again = f"{state.steps} tokens", self._workspace.keymap.shown("run.rerun")
        said = {
            "done": (f"done: {written}; {self._workspace.keymap.shown('run.jobs')} and enter open it", "good"),
            "cancelled": (f"stopped after {written}", "row"),
            "failed": (f"generating failed; {again} tries again", "bad"),
        }
        status.say(*said[message.state])
        if message.failure is not None:
            state.problem = message.failure.sentence
            if message.failure.details:
                self._workspace.fail("generating failed", message.failure)
            return None
        at = None if self._pair is None else self._pair.first_difference
        apart = "" if self._pair is None else ", no difference" if at is None else f", differs at token {at + 1}"
        return f"{written}{apart}" if message.state == "done" else f"after {written}"

    def recall(self) -> None:
        """Show its text again, unless another one is being written."""
        if self._state.job is None and self._pair is not None:
            self._state.pair, self._state.at = self._pair, None


def start_generation(workspace: Workspace, state: GenerateState, further: bool = False) -> None:
    """Write a pair after the prompt, or go on with the one there is, in place of the job of `state` that runs."""
    session = workspace.session
    if session is None:
        return
    if not workspace.free(state.job):
        state.problem = workspace.status.text
        return
    decoding = state.further() if further else state.decoding
    request = PairRequest(workspace.history.prompt, decoding, state.pair if further else None)
    tell_controls(workspace, state)
    job = GenerateJob(workspace, session, state, request)
    number = workspace.run(job, instead_of=state.job, screen="run.generate", subject=job)
    if number is not None:
        state.begin(number, request.prompt, afresh=not further)


def stop_generation(workspace: Workspace, state: GenerateState) -> None:
    """Stop after the token under way; what is written stays."""
    if state.job is not None:
        workspace.cancel_job(state.job)


def tell_controls(workspace: Workspace, state: GenerateState) -> None:
    """Set the edit and the pace for the next token."""
    state.mailbox.put(Controls(workspace.history.intervention, state.pace))


def save_generation(workspace: Workspace, state: GenerateState, path: Path, lines: list[str], replace: bool) -> None:
    """Write the pair as JSON and as text, on the engine thread; the status says where."""
    pair, options = state.pair, workspace.options
    if pair is None:
        return
    document = {"schema": 1, "model": options.model, "revision": options.revision, "intervention": None}
    state.saved = str(path)

    def receive(answer: Answer) -> None:
        if answer.failure is not None:
            workspace.status.say(answer.failure.sentence, "bad")
        else:
            written = cast("tuple[Path, Path]", answer.value)
            workspace.status.say(f"written to {shown_path(written[0])} and {written[1].name}", "good")

    def write() -> object:
        return save_pair(path, {**document, **pair.to_dict()}, lines, replace=replace)

    workspace.ask(SAVE, write, receive, of_session=False)
