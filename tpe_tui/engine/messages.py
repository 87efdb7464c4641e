"""What the engine thread tells the screens: answers to requests and the state of jobs.

Messages carry values only, errors included; they never carry callbacks and never raise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from textual.message import Message

from tpe_core.progress import Progress

__all__ = ["Answer", "Failure", "JobUpdate", "State", "Waiting"]

State = Literal["running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed: one sentence for the screen, and the details worth copying into a report."""

    sentence: str
    details: str = ""

    @property
    def report(self) -> str:
        """The text to copy."""
        return f"{self.sentence}\n\n{self.details}".strip()


class Answer(Message):
    """The answer to the request `seq` of one `kind`: a value, or a failure and no value."""

    def __init__(self, kind: str, seq: int, value: object = None, failure: Failure | None = None) -> None:
        super().__init__()
        self.kind = kind
        self.seq = seq
        self.value = value
        self.failure = failure


class Waiting(Message):
    """The request `seq` of one `kind` takes long: how far its answer is."""

    def __init__(self, kind: str, seq: int, progress: Progress) -> None:
        super().__init__()
        self.kind = kind
        self.seq = seq
        self.progress = progress


class JobUpdate(Message):
    """A job took a step or ended. `value` is set when done, `failure` when failed, `progress` while running."""

    def __init__(
        self,
        job: int,
        name: str,
        state: State,
        *,
        progress: Progress | None = None,
        value: object = None,
        failure: Failure | None = None,
    ) -> None:
        super().__init__()
        self.job = job
        self.name = name
        self.state: State = state
        self.progress = progress
        self.value = value
        self.failure = failure
