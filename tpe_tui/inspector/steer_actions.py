"""The keys that steer: each action of the key table is one method named after its id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tpe_core.edits.intervention import METHODS
from tpe_tui.cells import number
from tpe_tui.inspector.frame import InspectFrame
from tpe_tui.ratios import parse_ratio, stepped

__all__ = ["SteerActions"]


class SteerActions:
    """The keys of `frame` that steer the token under the cursor."""

    def __init__(self, frame: InspectFrame) -> None:
        self.frame, self.workspace = frame, frame.workspace

    def _steer(self, choose: Callable[[float], float]) -> None:
        token_id = self.frame.tokens.token_id
        if not self.workspace.has_table() or token_id is None:
            return
        self.frame.tokens.selected = token_id
        ratio = choose(self.workspace.history.intervention.ratio(token_id))
        text = self.workspace.table.tokens[token_id] if self.workspace.table else ""
        said = f"{text} ×{number(ratio)} by {self.workspace.history.method}" if ratio != 1 else f"{text} is not steered"
        self.workspace.edit(lambda: self.workspace.history.steer(token_id, ratio), said, f"{text} is not steered")

    def steer_up(self, count: int = 1) -> None:
        """Steer the selected token up by `count` steps of 2^¼."""
        self._steer(lambda ratio: stepped(ratio, count))

    def steer_down(self, count: int = 1) -> None:
        """Steer the selected token down by `count` steps."""
        self._steer(lambda ratio: stepped(ratio, -count))

    def steer_reset(self) -> None:
        """Stop steering the selected token."""
        self._steer(lambda _ratio: 1.0)

    def steer_exact(self) -> None:
        """Ask for an exact ratio of the selected token."""
        token_id = self.frame.tokens.token_id
        table = self.workspace.table
        if not self.workspace.has_table() or token_id is None or table is None:
            return
        self.frame.tokens.selected = token_id
        ratio = self.workspace.history.intervention.ratio(token_id)

        def check(text: str) -> str | None:
            return (
                None if parse_ratio(text) is not None else "a ratio is a finite number above 0: 2 doubles, 0.5 halves"
            )

        def steer(text: str) -> None:
            self._steer(lambda _ratio: parse_ratio(text) or 1.0)

        question = f"ratio for {table.tokens[token_id]}"
        self.frame.question(question, steer, f"{ratio:.6g}", "2 doubles its mean probability, 1 stops steering", check)

    def steer_method(self) -> None:
        """Use the next steering method."""
        if not self.workspace.has_table():
            return
        self.workspace.history.method = METHODS[(METHODS.index(self.workspace.history.method) + 1) % len(METHODS)]
        edit, method = self.workspace.history.intervention, self.workspace.history.method
        moved = replace(edit, steering=tuple(replace(entry, method=method) for entry in edit.steering))
        said = f"steering by {method}"
        self.workspace.edit(lambda: self.workspace.history.apply(moved), said, said)

    def tokens_order(self) -> None:
        """Order tokens by their probability before or after the edit."""
        self.frame.tokens.by_base = not self.frame.tokens.by_base
        self.frame.tokens.rebuild()
        self.frame.retitle()
