"""Keys that come faster than they are handled are painted together, some twenty times a second.

A held key, or a paste of keys over a slow line, changes the same rows again and again. Each change would be drawn
and sent on its own while the keys behind it wait; nobody could see them apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tpe_tui.shell.one_paint import OnePaint

if TYPE_CHECKING:
    from textual.app import App

    from tpe_tui.widgets.line_widget import LineWidget

__all__ = ["Burst"]

FRAME_SECONDS = 0.05


class Burst(OnePaint):
    """Holds back what is drawn while keys wait, for `FRAME_SECONDS` at most, then draws what changed."""

    def __init__(self, app: App[Any]) -> None:
        super().__init__(app)
        self._stale: dict[LineWidget, None] = {}  # in the order in which they changed

    @property
    def longest(self) -> float:
        """Seconds between two frames of a burst."""
        return FRAME_SECONDS

    def draw(self) -> None:
        """Draw the widgets that changed meanwhile, each once."""
        stale, self._stale = self._stale, {}
        for widget in stale:
            widget.repaint()

    def postpone(self, widget: LineWidget) -> bool:
        """Whether `widget` is drawn at the end and need not be now."""
        if self.is_holding:
            self._stale[widget] = None
        return self.is_holding
