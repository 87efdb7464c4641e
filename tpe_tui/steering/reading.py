"""The texts that a steering study measures on, read under one mask: a job that studies over that mask share."""

from __future__ import annotations

from dataclasses import replace

from tpe_core.edits.intervention import Intervention
from tpe_core.progress import Steps
from tpe_core.steering.results import TextsRead
from tpe_tui.cells import count
from tpe_tui.engine.messages import JobUpdate
from tpe_tui.engine.session import Session
from tpe_tui.steering.state import READ, SteerState
from tpe_tui.workspace import Workspace

__all__ = ["TextsReading"]


class TextsReading:
    """Reads the texts under the pruned dimensions of `edit`, once. `state` is that of the study that asked last."""

    name = READ

    def __init__(self, workspace: Workspace, session: Session, edit: Intervention) -> None:
        """Nothing is read before `begin`."""
        self._workspace, self._session, self.edit = workspace, session, replace(edit, steering=())
        self.state: SteerState | None = None
        self.read: TextsRead | None = None
        self.job: int | None = None

    def is_of(self, session: Session | None, edit: Intervention) -> bool:
        """Whether it is what a study of `session` over `edit` needs."""
        return self._session is session and self.edit == replace(edit, steering=())

    def begin(self) -> None:
        """Queue the job, unless it is there or the texts are read."""
        if self.read is None and self.job is None:
            self.job = self._workspace.run(self, screen="run.steer", subject=self)

    def start(self) -> Steps[TextsRead]:
        """Make the generator of its steps; called on the engine thread."""
        return self._session.read_for_steering(self.edit)

    def update(self, message: JobUpdate) -> str | None:
        """Keep the texts that were read, and say how it ended."""
        if message.state == "running":
            return None
        self.job = None
        workspace = self._workspace
        if isinstance(message.value, TextsRead):
            self.read = message.value
            lists = workspace.keymap.shown("run.jobs")
            workspace.status.say(f"the steering study's texts are read; {lists} and enter open it")
            for warning in message.value.warnings:
                workspace.status.say(warning, "warn")
            return f"{count(min(message.value.positions.values()))} positions of each text"
        workspace.status.say(f"the steering study was {message.state}", "warn")
        if message.failure is not None:
            workspace.fail("the steering study failed", message.failure)
        return None
