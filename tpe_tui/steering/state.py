"""What the steering study looks at: a token, its ratio, the others steered with it, and what the engine said of them.

No widgets and no engine: the screen reads this, keys change it, answers feed it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tpe_core.edits.intervention import METHODS, Intervention, Method
from tpe_core.steering.results import (
    CalibratedRatios,
    DoseRequest,
    DoseResponse,
    MostAffected,
    Steerable,
    TextsRead,
    edit_of,
)
from tpe_core.token_sets.token_set import TokenSet
from tpe_tui.ratios import stepped

__all__ = ["METHOD_MARKS", "READ", "WHO", "SteerState"]

READ = "steering study"
WHO = "who pays"
"""The names of its jobs."""

METHOD_MARKS: dict[Method, tuple[str, str]] = {
    "least-squares": ("●", "curve0"),
    "min-norm": ("○", "curve3"),
    "top-k": ("▲", "curve2"),
    "bias": ("×", "curve5"),
}
"""The mark and the role of every method."""


@dataclass(kw_only=True)
class SteerState:
    """`below` is the edit that the study begins with; its steered tokens are `added`, and what they were is kept.

    A token set that it steers is one of them: looking at one of its tokens is looking at the set.
    """

    below: Intervention
    token_id: int
    ratio: float
    method: Method
    added: dict[Steerable, float] = field(default_factory=dict)
    read: TextsRead | None = None
    figures: DoseResponse | None = None
    paid: MostAffected | None = None
    problem: str = ""  # why there are no figures of this token

    @staticmethod
    def of(edit: Intervention, token_id: int, method: Method) -> SteerState:
        """The study of a token over an edit: at the ratio that it has there, or doubled."""
        ratios: dict[Steerable, float] = {each: edit.how(each).ratio for each in edit.sets}
        ratios |= {entry.token_id: entry.ratio for entry in edit.singles}
        used = edit.steering[0].method if edit.steering else method
        own = edit.set_of(token_id) or token_id
        return SteerState(below=edit, token_id=token_id, ratio=ratios.get(own, 2.0), method=used, added=ratios)

    @property
    def steered(self) -> Steerable:
        """What is looked at: the token, or the steered set that it is in."""
        return self.below.set_of(self.token_id) or self.token_id

    @property
    def tokens(self) -> dict[Steerable, float]:
        """Every token and set with its ratio, what is looked at included, in the order of adding."""
        return {**self.added, self.steered: self.ratio}

    @property
    def edit(self) -> Intervention:
        """The whole edit as it would be applied."""
        return edit_of(
            replace(self.below, steering=(), sets=()),
            [(each, ratio, self.method) for each, ratio in self.tokens.items()],
        )

    @property
    def request(self) -> DoseRequest:
        """What the engine is to measure."""
        return DoseRequest(self.token_id, self.method, self.edit)

    @property
    def known(self) -> DoseResponse | None:
        """The figures, where they are of the token looked at."""
        return self.figures if self.figures is not None and self.figures.request.token_id == self.token_id else None

    @property
    def stale(self) -> bool:
        """Whether the figures are of another token, ratio or method than the one in force."""
        return self.figures is not None and self.figures.request != self.request

    @property
    def unpaid(self) -> bool:
        """Whether who pays is not known for what is in force."""
        return self.paid is None or self.paid.request != self.request

    # what keys do

    def set_ratio(self, ratio: float) -> None:
        """Another ratio of the token looked at."""
        self.ratio = ratio
        if self.steered in self.added:
            self.added[self.steered] = ratio

    def calibrate(self, calibrated: CalibratedRatios) -> bool:
        """Ask what was found; False where something else is in force by now."""
        if calibrated.request != self.request:
            return False
        for result in calibrated.results:
            if result.steered in self.added:
                self.added[result.steered] = result.ratio
        self.ratio = calibrated.results[0].ratio
        return True

    def slide(self, steps: int) -> None:
        """Quarter doublings up or down."""
        self.set_ratio(stepped(self.ratio, steps))

    def next_method(self) -> None:
        """The next method, for every token."""
        self.method = METHODS[(METHODS.index(self.method) + 1) % len(METHODS)]

    def look_at(self, token_id: int) -> None:
        """Another token: at its own ratio where it was added, else at the one in force."""
        self.token_id, self.problem = token_id, ""
        self.ratio = self.added.get(self.steered, self.ratio if self.ratio != 1 else 2.0)

    def turn(self, step: int) -> bool:
        """The next added token; whether there is another one."""
        all_steered = list(self.tokens)
        other = all_steered[(all_steered.index(self.steered) + step) % len(all_steered)]
        if other == self.steered:
            return False
        self.look_at(other.token_ids[0] if isinstance(other, TokenSet) else other)
        return True

    def toggle(self) -> bool:
        """Add the token looked at, or take it out again; whether it is added now."""
        if self.steered in self.added:
            del self.added[self.steered]
            return False
        self.added[self.steered] = self.ratio
        return True
