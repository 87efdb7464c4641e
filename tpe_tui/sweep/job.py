"""The job that measures a pruning sweep, and the time that one should take: both feed a `SweepState`."""

from __future__ import annotations

from dataclasses import replace

from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.progress import Steps
from tpe_core.pruning.results import PruningRequest, PruningResult
from tpe_tui.engine.messages import Answer, JobUpdate
from tpe_tui.engine.session import Session
from tpe_tui.sweep.state import SWEEP, SWEEP_SECONDS, SweepState, figure
from tpe_tui.workspace import Workspace

__all__ = ["SweepJob", "ask_sweep_seconds", "start_sweep"]


class SweepJob:
    """Measures the curves of `request`; `state` grows with them."""

    name = SWEEP

    def __init__(self, workspace: Workspace, session: Session, state: SweepState, request: PruningRequest) -> None:
        """Nothing is measured before `start`."""
        self._workspace, self._session, self._state, self._request = workspace, session, state, request
        self._result: PruningResult | None = None

    def start(self) -> Steps[PruningResult]:
        """Make the generator of its steps; called on the engine thread."""
        return self._session.sweep(self._request)

    def update(self, message: JobUpdate) -> str | None:
        """Take in curves, or the end, and say how it ended."""
        state, keys = self._state, self._workspace.keymap
        found = message.value if message.progress is None else message.progress.partial
        if isinstance(found, PruningResult):
            self._result = found
        state.grow(found)
        if message.state == "running":
            return None
        state.end("" if message.state == "done" else message.state)
        there = "what it measured stays" if state.fresh else "it had measured nothing"
        again = f"{keys.shown('run.sweep')}, {keys.shown('run.rerun')} runs it again"
        said = {
            "done": (f"the pruning sweep is done; {keys.shown('run.jobs')} and enter open it", "good"),
            "failed": (f"the pruning sweep failed; {again}", "bad"),
            "cancelled": (f"the pruning sweep was cancelled: {there}; {again}", "warn"),
        }
        self._workspace.status.say(*said[message.state])
        if message.failure is not None:
            self._workspace.fail("the pruning sweep failed", message.failure)
        words = "" if self._result is None else least_kl(self._result)
        return words if message.state == "done" and words else None

    def recall(self) -> None:
        """Show its result again, unless its own run is under way still."""
        state, result = self._state, self._result
        if result is not None and state.result is not result:
            state.recall(result, self._workspace.session is not self._session)


def least_kl(result: PruningResult, share: float = 0.3) -> str:
    """The least held-out KL at the point next to a share, over the orders of dimensions; empty without curves."""
    found = []
    for curve in result.curves:
        if curve.dims and "heldout" in curve.figures:
            at = min(range(len(curve.removed)), key=lambda point: abs(curve.removed[point] - share * curve.width))
            kl = float(curve.mean("heldout", "kl")[at])
            found.append((kl, curve.removed[at] / curve.width, curve))
    if not found:
        return ""
    kl, removed, best = min(found, key=lambda each: each[0])
    return f"KL {figure('kl', kl)} at {removed:.0%}, {best.order}, {best.replace}"


def start_sweep(workspace: Workspace, state: SweepState) -> None:
    """Queue a sweep; the replacement shown comes first."""
    session = workspace.session
    if not workspace.ready() or session is None:
        return
    if state.job is not None:
        stops = workspace.keymap.shown("run.cancel")
        workspace.status.say(f"the pruning sweep is there already, queued or running; {stops} cancels it", "warn")
        return
    names = (state.replacement, *(name for name in REPLACEMENTS.ready if name != state.replacement))
    job = SweepJob(workspace, session, state, replace(state.request, replacements=names))
    number = workspace.run(job, screen="run.sweep", subject=job)
    if number is not None:
        state.begin(number)


def ask_sweep_seconds(workspace: Workspace, state: SweepState) -> None:
    """Ask the engine how long the next sweep should take, while none runs; a failure of that is no news."""
    session, request = workspace.session, state.request

    def receive(answer: Answer) -> None:
        if isinstance(answer.value, float):
            state.seconds = answer.value
            workspace.changed("job")

    if session is not None and state.job is None:
        workspace.ask(SWEEP_SECONDS, lambda: session.sweep_seconds(request), receive)
