"""The forecast of an edit's cost, beside what the edit does after the prompt: prepared in the background, once.

It asks the engine and keeps the last answer; it shows nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from tpe_core.edits.intervention import Intervention
from tpe_core.snapshots import PruningForecast
from tpe_tui.engine.messages import Answer, JobUpdate
from tpe_tui.engine.session import Session
from tpe_tui.workspace import CallbackJob, Workspace

__all__ = ["FORECAST", "Forecaster"]

FORECAST = "forecast"  # of the background job and of the requests after it


class Forecaster:
    """Of one session at a time. Preparing begins with the first pruned dimension: who never prunes never waits.

    `receive` is called with the engine's answers, failures included.
    """

    def __init__(self, workspace: Workspace, receive: Callable[[Answer], object]) -> None:
        self._workspace, self._receive = workspace, receive
        self._session: Session | None = None
        self._job: int | None = None
        self._ready = False
        self.answer: PruningForecast | None = None

    def begin(self, session: Session) -> None:
        """Forecast for another session: what was known is of the one before."""
        if self._job is not None:
            self._workspace.drop(self._job)
        self._session, self._job, self.answer = session, None, None
        self._ready = False

    def ask(self) -> None:
        """Ask for the forecast of the edit in force, once one can be had."""
        session, edit = self._session, self._workspace.history.intervention
        if session is None or not edit.pruned:
            return
        if self._ready:
            self._workspace.ask(FORECAST, lambda: session.forecast(edit), self._receive)
        elif self._job is None:
            self._job = self._workspace.run_behind(CallbackJob(FORECAST, session.prepare_forecast, self._update))

    def _update(self, message: JobUpdate) -> None:
        """Ask for the first forecast once it can be had; a job that failed is not begun anew."""
        status = self._workspace.status
        if message.state == "done":
            self._ready = True
            self.ask()
        elif message.state == "cancelled":
            self._job = None
            status.say("the forecast was cancelled; the next change of the mask prepares it again", "warn")
        elif message.failure is not None:
            status.say(f"there is no forecast: {message.failure.sentence}", "warn")

    def of(self, edit: Intervention) -> PruningForecast | None:
        """The forecast, where it is this edit's."""
        found = self.answer
        if found is None:
            return None
        wanted = (edit.pruned, edit.replacement, edit.steering)
        return found if (found.pruned, found.replacement, found.steering) == wanted else None
