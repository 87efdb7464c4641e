"""The table under the dose-response: achieved ratios on three texts by every method, what they cost, and who paid.

It is the plot's legend as well. Figures of another token, ratio or method than the one in force are dimmed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.message import Message

from tpe_core.corpus.domains import DOMAINS, UNSEEN
from tpe_core.edits.intervention import METHODS, Method
from tpe_core.printable import printable_token
from tpe_core.steering.results import DoseResponse, Steerable, SteeringResult
from tpe_core.token_sets.token_set import TokenSet
from tpe_tui.cells import count, fit, four_decimals, number
from tpe_tui.ratios import share, short_ratio
from tpe_tui.steering.state import METHOD_MARKS, SteerState
from tpe_tui.widgets.curve_style import CURVE_ROLES
from tpe_tui.widgets.line_widget import Line, LineWidget

__all__ = ["HEAD_ROWS", "DoseTable"]

HEAD_ROWS = 2
NAME_CELLS = 17
CELLS = {"local": 8, "heldout": 9, "ood": 9}
COSTS = ("JS", "KL")  # the last one stays where only one fits
SIZE = 11
WIDE = NAME_CELLS + 3 * sum(CELLS.values()) + SIZE + 2
MOST_OTHERS = {False: 3, True: 12}  # further tokens shown, by whether the table is wide


class DoseTable(LineWidget):
    """A row for each method, for each further token, and two lines about the token looked at."""

    COMPONENT_CLASSES: ClassVar[set[str]] = CURVE_ROLES

    can_focus = True

    class Picked(Message):
        """A method's row was clicked."""

        def __init__(self, method: Method) -> None:
            super().__init__()
            self.method = method

    def __init__(self, state: SteerState, tokens: Sequence[str]) -> None:
        """The table of `state`; `tokens` are the vocabulary's texts."""
        super().__init__("dose-table")
        self.state = state
        self.tokens = tokens
        self.wide = False
        self._costs: tuple[str, ...] = COSTS  # those that fit

    @property
    def others(self) -> tuple[Steerable, ...]:
        """The further tokens and sets that are steered."""
        return tuple(each for each in self.state.tokens if each != self.state.steered)

    @property
    def rows(self) -> int:
        """Lines that it wants."""
        most = MOST_OTHERS[self.wide]
        return HEAD_ROWS + len(METHODS) + min(len(self.others), most) + (len(self.others) > most) + 2

    def _domains(self) -> tuple[str, ...]:
        """The texts whose divergences are shown."""
        return tuple(DOMAINS) if self.wide else UNSEEN

    def _fitting(self, width: int) -> int:
        """How many of the costs find room, each whole."""
        cells = sum(CELLS[name] for name in self._domains())
        return max(0, min(len(COSTS), (width - NAME_CELLS - sum(CELLS.values())) // cells))

    def line(self, y: int, width: int) -> tuple[Line, str]:
        """Two lines of head, methods, further tokens, the ceiling, who paid."""
        self.wide = width >= WIDE
        self._costs = COSTS[len(COSTS) - self._fitting(width) :]
        if y < HEAD_ROWS:
            return self._head(y), "row"
        index = y - HEAD_ROWS
        if index < len(METHODS):
            method = METHODS[index]
            return self._method(method), "cursor" if method == self.state.method else "row"
        index -= len(METHODS)
        others, most = self.others, MOST_OTHERS[self.wide]
        if index < min(len(others), most):
            return self._other(others[index]), "row"
        index -= min(len(others), most)
        if len(others) > most:
            if index == 0:
                return [(f"   and {count(len(others) - most)} more", "muted")], "row"
            index -= 1
        if index == 0:
            return self._ceiling(width), "row"
        return (self._paid(width) if index == 1 else []), "row"

    def _head(self, y: int) -> Line:
        parts = [("achieved ratio", tuple(DOMAINS)), *((f"{name}, nats", self._domains()) for name in self._costs)]
        if y == 0:
            titles = "".join(fit(text, sum(CELLS[name] for name in names), right=True) for text, names in parts)
            return [(" " * NAME_CELLS + titles, "head")]
        text = "".join(fit(DOMAINS[name].short, CELLS[name], right=True) for _, names in parts for name in names)
        return [(fit("   by", NAME_CELLS) + text + (fit("|dW|/|W|", SIZE, right=True) if self.wide else ""), "head")]

    def _method(self, method: Method) -> Line:
        state, figures = self.state, self.state.known
        mark, role = METHOD_MARKS[method]
        plain = "muted" if state.stale else "row"
        line: Line = [
            ("▸" if method == state.method else " ", "key"),
            (mark, "muted" if state.stale else role),
            (fit(f" {method}", NAME_CELLS - 2), plain),
        ]
        if figures is None:
            return line
        result = figures.results[method][0]
        domains = self._domains()
        parts = {"JS": result.js, "KL": result.kl}
        cost = "".join(
            fit(four_decimals(parts[cost][name]), CELLS[name], True) for cost in self._costs for name in domains
        )
        line.append((self._ratios(result) + cost + self._edited(result), plain))
        return line

    @staticmethod
    def _ratios(result: SteeringResult) -> str:
        values = ((name, result.achieved[name]) for name in DOMAINS)
        return "".join(fit(f"×{number(got)}" if math.isfinite(got) else "–", CELLS[name], True) for name, got in values)

    def _edited(self, result: SteeringResult) -> str:
        return fit(_size(result.relative_edit), SIZE, True) if self.wide else ""

    def _other(self, steered: Steerable) -> Line:
        state, figures = self.state, self.state.figures
        plain = "muted" if state.stale else "row"
        tag = f" ×{short_ratio(state.tokens[steered])}"
        name = printable_token(steered.label) if isinstance(steered, TokenSet) else self.tokens[steered]
        line: Line = [(" + ", "steered"), (fit(name, NAME_CELLS - 3 - len(tag)), plain)]
        line.append((tag, "steered"))
        if figures is None or steered not in figures.request.steered:
            return line
        result = figures.results[state.method][figures.request.steered.index(steered)]
        blank = " " * (len(self._costs) * sum(CELLS[name] for name in self._domains()))
        return [*line, (self._ratios(result) + blank + self._edited(result), plain)]

    def _ceiling(self, width: int) -> Line:
        figures, state = self.state.known, self.state
        if figures is None:
            return []
        if not self.wide:
            size = f"|dW|/|W| {_size(figures.results[state.method][0].relative_edit)}; at most "
            return [("   edit     ", "head"), *_ceiling(figures, state, width - 12, size)]
        return [("   at most  ", "head"), *_ceiling(figures, state, width - 12)]

    def _paid(self, width: int) -> Line:
        paid, used = self.state.paid, 12
        if paid is None or paid.request.token_id != self.state.token_id:
            return [("   paid by  ", "head"), ("…" if self.state.ratio != 1 else "", "muted")]
        gains = bool(paid.tokens) and paid.tokens[0].lost < 0
        line: Line = [("   gain     " if gains else "   paid by  ", "head")]
        plain = "muted" if self.state.unpaid else "row"
        for one in paid.tokens:
            text = f"{fit(self.tokens[one.token_id], 14).rstrip()} {-one.lost * 100:+z.3g}  "
            used += len(text)
            if used + 6 <= width:
                line.append((text, plain))
        return [*line, ("points", "muted")] if paid.tokens else line

    def on_click(self, event: events.Click) -> None:
        """Choose the method under the mouse."""
        at = event.get_content_offset(self)
        if at is not None and 0 <= at.y - HEAD_ROWS < len(METHODS):
            self.post_message(self.Picked(METHODS[at.y - HEAD_ROWS]))


def _ceiling(figures: DoseResponse, state: SteerState, width: int, before: str = "") -> Line:
    """What any edit of the row reaches on the local text, and whether the ratio in force asks for more."""
    own, (lowest, highest) = figures.token.alpha["local"], figures.token.attainable
    if own <= 0:
        return [(fit("its mean probability is 0 on the local text: no ratio of it says anything", width), "warn")]
    text = f"{before}×{short_ratio(highest / own)}, mean p {share(highest)} on local text"
    if lowest > 0:
        text += f"; at least ×{short_ratio(lowest / own)}"
    beyond = own * state.ratio >= highest or own * state.ratio <= lowest
    return [(fit(f"{'out of reach: ' if beyond else ''}{text}", width), "warn" if beyond else "row")]


def _size(value: float | None) -> str:
    return "–" if value is None else number(value)
