"""Holding back what is painted for a moment, so that an edit and the answer to it are one frame.

Textual paints at once what changed and then nothing for a sixtieth of a second. An answer that comes a few
milliseconds after the key would wait for that, and the rows that it changes would cross a slow connection twice.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from textual.app import App
from textual.timer import Timer

__all__ = ["OnePaint"]

HOLD_SECONDS = 0.02  # a frame and a little more: who waits longer than that for an answer sees the edit before it


class OnePaint:
    """Nothing of an app is painted from `begin` to `end`, for the seconds that `longest` says at most."""

    def __init__(self, app: App[Any]) -> None:
        self._app = app
        self._batch = ExitStack()
        self._timer: Timer | None = None

    @property
    def longest(self) -> float:
        """Seconds after which what is held back is painted all the same."""
        return HOLD_SECONDS

    @property
    def is_holding(self) -> bool:
        """Whether anything would be held back now."""
        return self._timer is not None

    def begin(self) -> None:
        """Hold back from now on; what is held back already is not held longer."""
        if self._timer is None:
            self._batch.enter_context(self._app.batch_update())
            self._timer = self._app.set_timer(self.longest, self.end)

    def end(self) -> None:
        """Paint what changed meanwhile; nothing while the app closes: a timer still ticks when its screens are gone."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
            if self._app.is_running:
                self.draw()
            self._batch.close()
            if self._app.is_running:
                self._app.screen.check_idle()  # Textual looks for what is to be painted where a queue runs empty

    def draw(self) -> None:
        """What a subclass has to draw before anything is painted."""
