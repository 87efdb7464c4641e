"""Reading sources of training dynamics, one job for all of them: it feeds the state and says how it stands.

It outlives the screen, which may be closed while a run is followed. It asks the engine and never calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from tpe_core.dynamics.recorded import is_log
from tpe_core.dynamics.trajectory import Trajectory
from tpe_core.dynamics.trajectory_file import write_trajectories
from tpe_core.outputs import shown_path
from tpe_core.progress import Progress, Steps
from tpe_core.tables import Table, write_table
from tpe_tui.cells import escape_controls
from tpe_tui.dynamics.experiment_reader import ExperimentReader
from tpe_tui.dynamics.state import DynamicsState, Status
from tpe_tui.engine.host import failure_of
from tpe_tui.engine.messages import Answer, Failure, JobUpdate
from tpe_tui.workspace import CallbackJob, Workspace

__all__ = ["DYNAMICS", "EXPORT", "DynamicsReader", "ReadTrajectory", "Report", "gather"]

DYNAMICS = "training dynamics"
"""The name of the job."""

EXPORT = "dynamics-export"
"""The kind of its requests."""

UNDER_WAY = ("reading", "following")

ReadTrajectory = Callable[[str], Steps[Trajectory]]
"""Makes the job that reads a source; called on the engine thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is new about one source: what it will cost, the trajectory so far, or why there is none."""

    name: str
    status: Status
    trajectory: Trajectory | None = None
    budget: str = ""
    failure: Failure | None = None


def gather(names: Sequence[str], reader: ReadTrajectory) -> Steps[None]:
    """Read sources one after the other, those that can grow last and in turns; reports are the `partial` of its steps.

    A source that fails is reported and the others go on.
    """
    yield Progress(DYNAMICS, 0)  # what makes the first step slow is then the job's and not the key's
    logs = [name for name in names if is_log(name)]
    for group in (*([name] for name in names if not is_log(name)), logs):
        running = {name: reader(name) for name in group}
        try:
            while running:
                for name, steps in [*running.items()]:
                    progress, report = _step(name, steps)
                    if report.status not in UNDER_WAY:
                        del running[name]
                    yield replace(progress, partial=report)
        finally:
            for steps in running.values():
                steps.close()


def _step(name: str, steps: Steps[Trajectory]) -> tuple[Progress, Report]:
    """One step of a source's job, whatever comes of it."""
    try:
        progress = next(steps)
    except StopIteration as stop:
        return Progress(DYNAMICS, 0), Report(name=name, status="done", trajectory=stop.value)
    except Exception as error:  # whatever it is, the other sources are read on, and it is said
        return Progress(DYNAMICS, 0), Report(name=name, status="failed", failure=failure_of(error))
    status: Status = "following" if is_log(name) else "reading"
    if isinstance(progress.partial, Trajectory):
        return progress, Report(name=name, status=status, trajectory=progress.partial)
    return progress, Report(name=name, status=status, budget=str(progress.partial or ""))


class DynamicsReader:
    """The state of one screen, and the job of a workspace that fills it.

    `words` are the options on a command line that mean what `reader` does.
    """

    def __init__(
        self,
        workspace: Workspace,
        reader: ReadTrajectory,
        *,
        names: Iterable[str] = (),
        words: Sequence[str] = (),
        experiment: Path | None = None,
    ) -> None:
        """Nothing is read before `start`. `experiment` is the folder that the second page follows."""
        self.workspace, self.reader, self.words = workspace, reader, tuple(words)
        self.state = DynamicsState()
        self.state.add(names)
        self.state.selected = 0
        self.failure: Failure | None = None  # of the last job that failed
        self.experiment = ExperimentReader(workspace, experiment)

    def start(self) -> None:
        """Read what waits. Where sources are being read already, a new job takes them up from where they are."""
        state = self.state
        if not self.workspace.free(state.job):
            return
        names = [source.name for source in state.sources if source.pending]
        if not names:
            return
        for source in state.sources:
            source.status = "waiting" if source.pending else source.status
        reader = self.reader
        job = CallbackJob(DYNAMICS, lambda: gather(names, reader), self.update)
        grows = any(map(is_log, names))  # it is followed until it is cancelled: other jobs go first
        state.job = self.workspace.run(job, instead_of=state.job, screen="run.dynamics", subject=self, behind=grows)

    def say(self, text: str, role: str = "row") -> None:
        """Say a sentence in the strip."""
        self.workspace.status.say(text, role)

    def again(self) -> None:
        """Read every source anew."""
        self.state.add([source.name for source in self.state.sources])
        self.start()

    def add(self, name: str) -> None:
        """Read another source as well."""
        if self.state.full and self.state.find(name) is None:
            self.say(f"only {len(self.state.sources)} sources can be told apart: remove one first", "warn")
            return
        self.state.add([name])
        self.start()

    def drop(self) -> None:
        """Remove the selected source and stop reading it."""
        short = "" if self.state.source is None else self.state.short(self.state.source)
        source = self.state.drop()
        if source is None:
            return
        self.say(f"{escape_controls(short)} is removed; its data stay where they are")
        if source.pending and self.state.job is not None:
            if any(other.pending for other in self.state.sources):
                self.start()
            else:
                self.cancel()

    def cancel(self) -> None:
        """Stop reading; what is read stays."""
        self.workspace.cancel(self.state.job)

    def export(self, path: Path, replace: bool) -> None:
        """Ask the engine to write what is read; `answer` says what came of it."""
        found = tuple(self.state.trajectories())
        self.workspace.ask(
            EXPORT, lambda: write_trajectories(path, found, replace=replace), self.answer, of_session=False
        )

    def write_table(self, table: Table, path: Path, replace: bool) -> None:
        """Ask the engine to write a table; `answer` says what came of it."""
        self.workspace.ask(EXPORT, lambda: write_table(table, path, replace=replace), self.answer, of_session=False)

    def answer(self, message: Answer) -> None:
        """The data are written, or could not be."""
        if message.failure is not None:
            self.say(message.failure.sentence, "bad")
        else:
            self.say(f"written to {shown_path(cast('Path', message.value))}", "good")

    def update(self, message: JobUpdate) -> str | None:
        """Take in a report, or the end, and say how it ended."""
        state = self.state
        if message.progress is not None:
            if isinstance(message.progress.partial, Report):
                self._take(message.progress.partial)
            return None
        state.job = None
        for source in state.sources:
            if source.pending:
                source.status = "cancelled"
        if message.failure is not None:
            self.failure = message.failure
            self.say(message.failure.sentence, "bad")
        elif message.state == "cancelled":
            self.say(f"stopped: what is read stays; {self.workspace.keymap.shown('run.rerun')} reads on", "warn")
        else:
            self._said()
        points = sum(len(source.points) for source in state.sources)
        return None if message.failure is not None else f"{points} checkpoint{'' if points == 1 else 's'} read"

    def _take(self, report: Report) -> None:
        source = self.state.find(report.name)
        if source is None:
            return
        source.status = report.status
        if report.failure is not None:
            source.problem, self.failure = report.failure.sentence, report.failure
        if report.budget:
            source.budget = report.budget
        if report.trajectory is not None:
            source.grow(report.trajectory)

    def _said(self) -> None:
        """What came of it, in the strip; what went wrong before what went well."""
        sources = self.state.sources
        problem = next((source.problem for source in sources if source.problem), "")
        if problem:
            self.say(problem, "bad")
            return
        warnings = [warning for source in sources if source.trajectory for warning in source.trajectory.warnings]
        skipped = sum(len(source.trajectory.skipped) for source in sources if source.trajectory)
        points = sum(len(source.points) for source in sources)
        if warnings:
            self.say(warnings[-1] if len(warnings) == 1 else f"{len(warnings)} warnings: i lists them", "warn")
        elif skipped:
            self.say(f"{points} checkpoints read, {skipped} skipped: i lists them", "warn")
        else:
            self.say(f"{points} checkpoints read", "good")

    @property
    def problem(self) -> Failure | None:
        """Why nothing at all could be read; None where something was, or may yet be."""
        if self.experiment.state.read is not None:
            return None
        hopeless = not self.state.trajectories() and not any(source.pending for source in self.state.sources)
        return self.failure if hopeless else None
