"""The forecast of an edit's cost, beside what the edit does after the prompt: prepared in the background, once.

It asks the engine and keeps the last answer; it shows nothing.
"""

from __future__ import annotations

from tpe_core.edit_history import PruningForecast
from tpe_core.edits.intervention import Intervention
from tpe_tui.engine.host import EngineHost
from tpe_tui.engine.messages import JobUpdate
from tpe_tui.engine.session import Session

__all__ = ["FORECAST", "Forecaster"]

FORECAST = "forecast"  # of the background job and of the requests after it


class Forecaster:
    """Of one session at a time. Preparing begins with the first pruned dimension: who never prunes never waits."""

    def __init__(self, host: EngineHost) -> None:
        """Nothing is prepared."""
        self._host = host
        self._session: Session | None = None
        self._job: int | None = None
        self._ready = self._ended = False
        self.answer: PruningForecast | None = None

    def begin(self, session: Session) -> None:
        """Another session: what was known is of the one before."""
        if self._job is not None:
            self._host.cancel(self._job)
        self._session, self._job, self.answer = session, None, None
        self._ready = self._ended = False

    def ask(self, edit: Intervention) -> int | None:
        """Ask for an edit's forecast, once one can be had; the request's number."""
        session = self._session
        if session is None or not edit.pruned:
            return None
        if self._ready:
            return self._host.latest(FORECAST, lambda: session.forecast(edit))
        if self._job is None:
            self._job = self._host.job(FORECAST, session.prepare_forecast, background=True)
            self._ended = False
        return None

    @property
    def preparing(self) -> bool:
        """Whether the background job is queued or running."""
        return self._job is not None and not self._ended

    def cancel(self) -> None:
        """Stop preparing; the next change of the mask begins anew."""
        if self._job is not None:
            self._host.cancel(self._job)

    def update(self, message: JobUpdate) -> bool:
        """The background job took a step or ended; whether forecasts can be asked for from now on."""
        if message.job != self._job or message.state == "running":
            return False
        self._ready, self._ended = message.state == "done", True
        if message.state == "cancelled":
            self._job = None
        return self._ready

    def of(self, edit: Intervention) -> PruningForecast | None:
        """The forecast, where it is this edit's."""
        found = self.answer
        if found is None:
            return None
        wanted = (edit.pruned, edit.replacement, edit.steering)
        return found if (found.pruned, found.replacement, found.steering) == wanted else None
