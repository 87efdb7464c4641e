"""Keys that come faster than they are handled are painted together, some twenty times a second.

A held key, or a paste of keys over a slow line, changes the same rows again and again. Each change would be drawn
and sent on its own while the keys behind it wait; nobody could see them apart.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from textual.timer import Timer

if TYPE_CHECKING:
    from textual.app import App

    from tpe_tui.widgets.line_widget import LineWidget

__all__ = ["Burst"]

FRAME_SECONDS = 0.05


class Burst:
    """Holds back what is drawn while keys wait, for `FRAME_SECONDS` at most, then draws what changed."""

    def __init__(self, app: App[Any]) -> None:
        self._app = app
        self._batch = ExitStack()
        self._timer: Timer | None = None
        self._stale: dict[LineWidget, None] = {}  # in the order in which they changed

    def begin(self) -> None:
        """Hold back from now on; what is held back already is not held longer."""
        if self._timer is None:
            self._batch.enter_context(self._app.batch_update())
            self._timer = self._app.set_timer(FRAME_SECONDS, self.end)

    def end(self) -> None:
        """Draw what changed meanwhile."""
        if self._timer is None:
            return
        self._timer.stop()
        self._timer = None
        stale, self._stale = self._stale, {}
        for widget in stale:
            widget.repaint()
        self._batch.close()
        self._app.screen.check_idle()  # Textual looks for what is to be painted where a queue runs empty

    def postpone(self, widget: LineWidget) -> bool:
        """Whether `widget` is drawn at the end and need not be now."""
        if self._timer is None:
            return False
        self._stale[widget] = None
        return True
