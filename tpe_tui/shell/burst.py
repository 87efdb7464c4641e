"""Keys that come faster than they are handled are shown together, some twenty times a second.

A held key, or a paste of keys over a slow line, changes the same rows again and again. Each change would be drawn
and sent on its own while the keys behind it wait, and the engine asked about each; nobody could see them apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textual.app import App
    from textual.timer import Timer

    from tpe_tui.widgets.line_widget import LineWidget

__all__ = ["Burst"]

FRAME_SECONDS = 0.05
DRAWING_SHARE = 0.5  # of the time between two frames, at most, is what drawing the last one took: the rest is for keys
LONGEST_FRAME = 0.15  # seconds, however long drawing takes


class Burst:
    """Holds back what is drawn from `begin` to `end`, for a frame at most, then draws what changed.

    What follows from a key and no other key needs waits for that, too: `later`. A job computes less meanwhile:
    `give_way` is told for how many seconds.
    """

    def __init__(self, app: App[Any], give_way: Callable[[float], object]) -> None:
        self._app = app
        self._give_way = give_way
        self._timer: Timer | None = None
        self._drawing_took = 0.0  # seconds of the last frame
        self._stale: dict[LineWidget, None] = {}  # in the order in which they changed
        self._later: dict[Callable[[], object], None] = {}  # in the order in which they were put off
        self.is_drawing = False  # what was put off is done now

    @property
    def longest(self) -> float:
        """Seconds between two frames: more than `FRAME_SECONDS` where the machine takes long to draw one."""
        return max(FRAME_SECONDS, min(self._drawing_took / DRAWING_SHARE, LONGEST_FRAME))

    @property
    def is_holding(self) -> bool:
        """Whether anything would be held back now."""
        return self._timer is not None

    def begin(self) -> None:
        """Hold back from now on; what is held back already is not held longer."""
        if self._timer is None:
            self._timer = self._app.set_timer(self.longest, self.end)
            self._give_way(self.longest)

    def end(self) -> None:
        """Draw what changed meanwhile; nothing while the app closes: a timer still ticks when its screens are gone."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
            if self._app.is_running:
                begun = time.perf_counter()
                self._draw()
                self._drawing_took = time.perf_counter() - begun

    def _draw(self) -> None:
        """Do what was put off, then draw the widgets that changed meanwhile, each once."""
        later, self._later = self._later, {}
        self.is_drawing = True
        try:
            for action in later:
                action()
        finally:
            self.is_drawing = False
        stale, self._stale = self._stale, {}
        for widget in stale:
            widget.repaint()

    def postpone(self, widget: LineWidget) -> bool:
        """Whether `widget` is drawn at the end and need not be now."""
        if self.is_holding or self.is_drawing:
            self._stale[widget] = None
            return True
        return False

    def later(self, action: Callable[[], object]) -> None:
        """Do `action` now, or once at the end of the frame, however often it is asked for until then."""
        if self.is_holding:
            self._later[action] = None
        else:
            action()
