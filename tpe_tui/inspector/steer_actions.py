"""The keys that steer: each action of the key table is one method named after its id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tpe_core.edits.intervention import METHODS, Intervention
from tpe_core.errors import TpeError
from tpe_core.printable import printable_token
from tpe_core.token_sets.definition import filter_definition, named_definition, parse_definition
from tpe_core.token_sets.summary import SetSummary
from tpe_core.token_sets.token_set import TokenSet
from tpe_tui.cells import count, number, percent
from tpe_tui.engine.messages import Answer
from tpe_tui.inspector.frame import InspectFrame
from tpe_tui.ratios import parse_ratio, stepped

__all__ = ["SteerActions"]


def _no_ratio(text: str) -> str | None:
    return None if parse_ratio(text) is not None else "a ratio is a finite number above 0: 2 doubles, 0.5 halves"


def _unreadable(text: str) -> str | None:
    """Why a definition cannot be read; None where it can."""
    try:
        parse_definition(named_definition(text)[1])
    except TpeError as error:
        return str(error)
    return None


class SteerActions:
    """The keys of `frame` that steer the token under the cursor."""

    def __init__(self, frame: InspectFrame) -> None:
        self.frame, self.workspace = frame, frame.workspace
        self._refused = ""  # the definition of a set typed last, where no set came of it: it is offered once

    def forget(self) -> None:
        """Forget what was typed: it was about another model."""
        self._refused = ""

    def _steer(self, choose: Callable[[float], float]) -> None:
        token_id = self.frame.tokens.token_id
        if not self.workspace.has_table() or token_id is None:
            return
        self.frame.tokens.selected = token_id
        edit = self.workspace.history.intervention
        ratio = choose(edit.ratio(token_id))
        if (steered := edit.set_of(token_id)) is not None:
            self._steer_set(steered, ratio)
            return
        text = self.workspace.table.tokens[token_id] if self.workspace.table else ""
        said = f"{text} ×{number(ratio)} by {self.workspace.history.method}" if ratio != 1 else f"{text} is not steered"
        self.workspace.edit(lambda: self.workspace.history.steer(token_id, ratio), said, f"{text} is not steered")

    def _steer_set(self, token_set: TokenSet, ratio: float) -> None:
        history = self.workspace.history
        name = f"the set {printable_token(token_set.label)}"
        said = f"{name} ×{number(ratio)} by {history.method}" if ratio != 1 else f"{name} is not steered"
        self.workspace.edit(lambda: history.steer_set(token_set, ratio), said, f"{name} is not steered")

    def steer_mark(self) -> None:
        """Mark the selected token for a set, or unmark it."""
        if self.workspace.has_table():
            marked = self.frame.tokens.mark()
            self.workspace.status.say(f"{marked} {'token' if marked == 1 else 'tokens'} marked")

    def steer_set(self) -> None:
        """Define a token set: by what is marked, by the filter of the list, or by typing; then ask for its ratio."""
        if not self.workspace.has_table():
            return
        tokens = self.frame.tokens
        begun = "marked" if tokens.marked else filter_definition(tokens.filter) if tokens.filter else "script:"
        begun, self._refused = self._refused or begun, ""
        hint = "regex:^ing script:Han class:digits near:TOKEN:20 =TEXT #17 marked file:PATH; joined by + and -"
        self.frame.question("tokens to steer as one", self._find_set, begun, hint, _unreadable)

    def _find_set(self, definition: str) -> None:
        session, marked, asked = self.workspace.session, tuple(self.frame.tokens.marked), self.workspace.history
        if session is None:
            return

        def receive(answer: Answer) -> None:
            self._refused = "" if answer.failure is None else definition
            if answer.failure is not None:
                self.workspace.status.say(answer.failure.sentence, "bad")
            elif isinstance(answer.value, SetSummary) and self.workspace.history is asked:
                self._ask_ratio(answer.value)

        self.workspace.ask("token set", lambda: session.find_set(definition, marked), receive)

    def _ask_ratio(self, found: SetSummary) -> None:
        some, table = found.token_set, self.workspace.table
        if table is None:
            return
        shown = [f"{table.tokens[token_id]} {percent(own)}" for token_id, own in found.examples[:4]]
        question = f"ratio for {printable_token(some.label)}: {count(len(some))} tokens"
        hint = f"mean p {percent(found.probability)} together: {', '.join(shown)}"
        edit = self.workspace.history.intervention
        ratio = edit.how(some).ratio if some in edit.sets else 0.01

        def steer(text: str) -> None:
            self.frame.tokens.selected = found.examples[0][0]  # so that the keys of a token go on with the set
            self._steer_set(some, parse_ratio(text) or 1.0)

        def would(text: str) -> Intervention:
            return edit.steer_set(some, parse_ratio(text) or 1.0, self.workspace.history.method)

        self.frame.question(question, steer, f"{ratio:.6g}", hint, _no_ratio, would=would)

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

        def steer(text: str) -> None:
            self._steer(lambda _ratio: parse_ratio(text) or 1.0)

        def would(text: str) -> Intervention:
            history = self.workspace.history
            edit, ratio = history.intervention, parse_ratio(text) or 1.0
            steered = edit.set_of(token_id)
            if steered is not None:
                return edit.steer_set(steered, ratio, history.method)
            return edit.steer(token_id, ratio, history.method)

        question, hint = f"ratio for {table.tokens[token_id]}", "2 doubles its mean probability, 1 stops steering"
        self.frame.question(question, steer, f"{ratio:.6g}", hint, _no_ratio, would=would)

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
