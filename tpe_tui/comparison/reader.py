"""The job that analyses the models of a comparison, and what is known of them so far."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from tpe_core.encoding_comparison import EncodingComparison, Figure, compare_encodings, write_comparison
from tpe_core.options import RunOptions
from tpe_core.outputs import shown_path
from tpe_tui.comparison.values import shown_value
from tpe_tui.engine.messages import Answer, Failure, JobUpdate
from tpe_tui.workspace import CallbackJob, Workspace

__all__ = ["COMPARISON", "ComparisonReader"]

COMPARISON = "comparison"
"""The name of the job."""

EXPORT = "comparison-export"
"""The kind of its requests."""


class ComparisonReader:
    """Analyses `sources` one after the other; `result` holds those that are done, and is None before the first.

    With `budget`, in nats of KL, each one's prunable share is measured, too.
    """

    def __init__(self, workspace: Workspace, sources: Sequence[RunOptions | Path], budget: float | None = None) -> None:
        """Nothing is read before `start`."""
        self.workspace, self.sources, self.budget = workspace, tuple(sources), budget
        self.result: EncodingComparison | None = None
        self.job: int | None = None
        self.failure: Failure | None = None  # where no model at all could be analysed

    @property
    def figures(self) -> tuple[Figure, ...]:
        """The rows of the table."""
        return () if self.result is None else self.result.figures

    @property
    def waiting(self) -> int:
        """How many models are still to be analysed."""
        done = 0 if self.result is None else len(self.result.models) + len(self.result.problems)
        return max(0, len(self.sources) - done) if self.job is not None else 0

    def start(self) -> None:
        """Analyse all of them; what the cache holds is not computed again."""
        if not self.workspace.free(self.job):
            return
        sources, budget = self.sources, self.budget
        job = CallbackJob(COMPARISON, lambda: compare_encodings(sources, budget), self.update)
        self.job = self.workspace.run(job, instead_of=self.job, subject=self)

    def cancel(self) -> None:
        """Stop; the models that are done stay."""
        self.workspace.cancel(self.job)

    def update(self, message: JobUpdate) -> str | None:
        """Take in a model, or the end, and say how it ended."""
        if message.progress is not None:
            if isinstance(message.progress.partial, EncodingComparison):
                self.result = message.progress.partial
            return None
        self.job = None
        if message.failure is not None:
            self.failure = message.failure
            self._say(message.failure.sentence, "bad")
            return None
        if message.state == "cancelled":
            self._say(f"stopped: {self.workspace.keymap.shown('run.rerun')} goes on; what is done is kept", "warn")
        else:
            self.result, self.failure = cast("EncodingComparison", message.value), None
            problems = self.result.problems
            self._say(problems[-1] if problems else "all models are analysed", "bad" if problems else "good")
        return f"{0 if self.result is None else len(self.result.models)} models compared"

    def export(self, path: Path, replace: bool) -> None:
        """Ask the engine to write the comparison; `answer` says what came of it."""
        result = self.result
        if result is not None:
            self.workspace.ask(
                EXPORT, lambda: write_comparison(result, path, shown_value, replace=replace), self.answer,
                of_session=False,
            )  # fmt: skip

    def answer(self, message: Answer) -> None:
        """The file is written, or could not be."""
        if message.failure is not None:
            self._say(message.failure.sentence, "bad")
        else:
            self._say(f"written to {shown_path(cast('Path', message.value))}", "good")

    def _say(self, text: str, role: str) -> None:
        self.workspace.status.say(text, role)
