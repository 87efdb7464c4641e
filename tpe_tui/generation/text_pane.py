"""Generated text in a pane, every token in the style of its probability; and one step of it with its figures.

They draw a `GenerateState`; they decide nothing.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from textual import events
from textual.message import Message

from tpe_core.printable import printable_token
from tpe_tui.cells import bar, fit, number, percent
from tpe_tui.generation.state import GenerateState
from tpe_tui.token_text import BINS, CHANGED, DIFFERS, END, Tagged, bin_of, tagged, wrap
from tpe_tui.widgets.line_widget import Line, LineWidget

__all__ = ["PairPane", "SaidPane", "StepPane"]

TOKEN_ROLES = frozenset({f"line--{name}" for name in ("likely", "fair", "low", "rare", "differs", "prompt", "here")})
PROMPT_CELLS = 400  # of a long prompt, its end
BLOCKS = "▁▂▃▄▅▆▇█"
FIGURES = 46  # cells of what stands beside a step's token, at most


class PairPane(LineWidget):
    """A pane about a pair of texts: the styles of its tokens, and the step that was clicked."""

    COMPONENT_CLASSES: ClassVar[set[str]] = set(TOKEN_ROLES)
    OWN_SPACES = True  # an underlined word must not run on into the next

    class Pointed(Message):
        """A token, or the figure of a step, was clicked."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step


class SaidPane(PairPane):
    """One side's text after the prompt; it follows the step under the cursor."""

    def __init__(self, state: GenerateState, name: Literal["base", "edited"]) -> None:
        super().__init__(f"said-{name}")
        self.state = state
        self.side: Literal["base", "edited"] = name
        self.prompt = ""
        self.notes: tuple[str, ...] = ()  # instead of the text
        self._lines: list[list[Tagged]] = []
        self._top = 0

    def show(self, prompt: str, notes: tuple[str, ...] = ()) -> None:
        """What the state holds now, or `notes`."""
        self.prompt, self.notes = prompt, notes
        self._wrap()
        self.repaint()

    def on_resize(self) -> None:
        """Other lines."""
        super().on_resize()
        self._wrap()

    def _wrap(self) -> None:
        width, height, state = self.size.width - 2, self.size.height, self.state
        if width < 1:
            return
        cut = self.prompt[-PROMPT_CELLS:]
        stretches = [Tagged(("…" if cut != self.prompt else "") + cut, "prompt")]
        if state.pair is not None:
            side = getattr(state.pair, self.side)
            changes = {step for step, _ in state.pair.edits if step} if self.side == "edited" else set()
            stretches += tagged(side, state.p, state.pair.first_difference, changes)
        self._lines = wrap(stretches, width)
        at = next((y for y, line in enumerate(self._lines) if any(tag.step == state.step for tag in line)), None)
        last = max(0, len(self._lines) - height)
        self._top = last if state.at is None or at is None else max(0, min(at - height // 2, last))

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """One line of the text."""
        if self.notes:
            return [(" " + self.notes[y] if y < len(self.notes) else "", "muted")], "row"
        at = self._top + y
        if at >= len(self._lines):
            return [], "row"
        here = self.state.step if self.state.at is not None else None
        return [(" ", "row"), *((tag.text, "here" if tag.step == here else tag.role) for tag in self._lines[at])], "row"

    def on_click(self, event: events.Click) -> None:
        """Look at the token under the mouse."""
        at = event.get_content_offset(self)
        row = self._top + at.y if at is not None else -1
        if at is None or self.notes or not 0 <= row < len(self._lines):
            return
        x = 1
        for tag in self._lines[row]:
            x += len(tag.text)
            if at.x < x:
                if tag.step >= 0:
                    self.post_message(self.Pointed(tag.step))
                return


class StepPane(PairPane):
    """The step under the cursor on both sides, KL of every step, and what the styles mean."""

    def __init__(self, state: GenerateState) -> None:
        super().__init__("step")
        self.state = state

    @property
    def curve_rows(self) -> int:
        """Lines of the KL curve: what the others leave."""
        return max(1, self.size.height - 3)

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """Two tokens, the curve, the legend."""
        if y < 2:
            return self._token("base" if y == 0 else "edited", width), "row"
        if y < 2 + self.curve_rows:
            return self._curve(self.curve_rows - 1 - (y - 2), width), "row"
        return self._legend(), "row"

    def _token(self, name: Literal["base", "edited"], width: int) -> Line:
        state = self.state
        side = None if state.pair is None else getattr(state.pair, name)
        head = f" {name:<7} "
        if side is None or state.step < 0:
            return [(head + "–", "muted")]
        if state.step >= len(side.tokens):
            return [(head, "muted"), (f"had ended at token {len(side.tokens)}", "muted")]
        said = side.tokens[state.step]
        text = printable_token(said.text) if said.text else f"#{said.token_id}"
        roomy = width >= 100
        runs: Line = [
            (head, "muted"),
            (fit(text, 24 if roomy else max(1, min(16, width - FIGURES))), bin_of(state.p(said)).role),
            (fit(percent(said.p), 8, True) + "  ", "row"),
            (bar(said.p, 24) + "  " if roomy else "", "bar"),
        ]
        if name == "edited":
            runs.append((f"unedited {percent(said.p_base):<7}", "muted"))
            runs.append((f" KL {number(said.kl)}", "row"))
        return runs

    def _window(self, width: int) -> tuple[int, int]:
        """(first step drawn, cells of the curve)."""
        cells = max(1, width - 12)
        return max(0, min(self.state.step - cells // 2, self.state.steps - cells)), cells

    def _curve(self, level: int, width: int) -> Line:
        """Line `level` of the curve, counted from below: a bar for each step, as high as its KL."""
        state = self.state
        all_kls = [said.kl for said in state.pair.edited.tokens] if state.pair else []
        finite = [kl for kl in all_kls if math.isfinite(kl)]
        highest = max(finite, default=0.0) or (1.0 if len(finite) < len(all_kls) else 0.0)
        kls = [min(kl, highest) for kl in all_kls]  # an infinite one, of a token that cannot be said, is a full bar
        top = level == self.curve_rows - 1
        runs: Line = [(fit(f" KL ≤{number(highest)}" if top and highest else " KL" if top else "", 11) + " ", "muted")]
        first, cells = self._window(width)
        for step in range(first, min(first + cells, len(kls))):
            eighths = round(kls[step] / highest * 8 * self.curve_rows) if highest > 0 else 0
            height = eighths - 8 * level
            char = BLOCKS[min(height, 8) - 1] if height > 0 else "·" if level == 0 else " "
            role = "bar" if height > 0 else "muted"
            if step == state.step and state.at is not None:
                role = "steered"
            elif state.pair is not None and step == state.pair.first_difference:
                role = "mark"
            runs.append((char, role))
        return runs

    def _legend(self) -> Line:
        runs: Line = [(" by unedited p " if self.state.by_base else " p ", "muted")]
        for each in BINS:
            runs += [(each.label, each.role), (" ", "row")]
        for mark, role, meaning in (
            (DIFFERS, "differs", "first difference"),
            (CHANGED, "muted", "edit changed"),
            (END, "muted", "end"),
        ):
            runs += [(" ", "row"), (mark, role), (f" {meaning} ", "muted")]
        return runs

    def on_click(self, event: events.Click) -> None:
        """Look at the step under the mouse."""
        at = event.get_content_offset(self)
        if at is None or not 2 <= at.y < 2 + self.curve_rows:
            return
        first, _ = self._window(self.size.width)
        step = first + at.x - 12
        if 0 <= step < self.state.steps and at.x >= 12:
            self.post_message(self.Pointed(step))
