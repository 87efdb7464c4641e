"""A tour of three steps: a strip above the footer that names the keys to begin with and takes none of them.

A step that was done, pruning a dimension or asking about another text, brings the next one by itself.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from tpe_core.edits.intervention import Intervention
from tpe_tui.widgets.line_widget import Line, LineWidget

__all__ = ["TourStrip", "tour_steps"]

PRUNE, ASK = 0, 1  # the steps that are over by what was done
NAMED = (
    "mask.toggle", "mask.undo", "run.prompt", "pane.next", "steer.up", "find.search", "run.sweep", "run.fit",
    "out.export", "app.help",
)  # fmt: skip


def tour_steps(shown: Callable[[str], str]) -> tuple[tuple[str, str], ...]:
    """(title, text) of each step; `shown` gives an action's key as people write it."""
    key = {action: shown(action) for action in NAMED}
    return (
        (
            "Prune",
            f"{key['mask.toggle']} prunes the dimension under the cursor. Pane 2 shows what becomes of the next token, "
            f"KL in the first line what it costs; {key['mask.undo']} takes it back.",
        ),
        (
            "Ask",
            f"{key['run.prompt']} types another text. {key['pane.next']}, or 1 to 4, goes to another pane: in pane 2 "
            f"{key['steer.up']} makes a token more likely, {key['find.search']} finds any.",
        ),
        (
            "Go on",
            f"{key['run.sweep']} measures how much can be pruned, {key['run.fit']} explains every figure of the fit, "
            f"{key['out.export']} exports the edit, {key['app.help']} lists every key.",
        ),
    )


class TourStrip(LineWidget):
    """Seen while it is open; `at` is its step, None while it is closed."""

    def __init__(self, shown: Callable[[str], str]) -> None:
        super().__init__("tour")
        self._shown = shown
        self.at: int | None = None
        self._asked = ""  # the prompt when the second step began

    @property
    def is_open(self) -> bool:
        """Whether it is on screen."""
        return self.at is not None

    def turn(self, prompt: str) -> None:
        """Open it, go to the next step, or close it after the last one."""
        last = len(tour_steps(self._shown)) - 1
        self.go(0 if self.at is None else None if self.at == last else self.at + 1, prompt)

    def go(self, step: int | None, prompt: str = "") -> None:
        """Show a step; None closes it."""
        self.at, self._asked = step, prompt
        self.set_class(step is not None, "-open")
        self._fit_height()
        self.repaint()

    def follow(self, edit: Intervention, prompt: str) -> None:
        """What was done: the step that is about it is over."""
        if (self.at == PRUNE and not edit.is_empty) or (self.at == ASK and prompt != self._asked):
            self.turn(prompt)

    def on_resize(self) -> None:
        """Another width takes other lines."""
        super().on_resize()
        self._fit_height()

    def _fit_height(self) -> None:
        self.styles.height = 1 + len(self._lines(self.app.size.width))

    def _lines(self, width: int) -> list[str]:
        return [] if self.at is None else textwrap.wrap(tour_steps(self._shown)[self.at][1], max(10, width - 2))

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """The step's title with the keys of the tour, then its text."""
        if self.at is None:
            return [], "row"
        if y:
            lines = self._lines(width)
            return ([(f" {lines[y - 1]}", "row")] if y <= len(lines) else []), "row"
        steps = tour_steps(self._shown)
        title = f" tour {self.at + 1} of {len(steps)} · {steps[self.at][0]}"
        goes = "closes" if self.at == len(steps) - 1 else "goes on"
        keys = f"{self._shown('app.tour')} {goes}, {self._shown('app.escape')} ends it "
        room = max(1, width - len(title) - len(keys))
        return [(title, "title"), (" " * room, "row"), (keys, "key")], "row"
