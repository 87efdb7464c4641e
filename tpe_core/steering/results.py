"""What a steering study of an inspector asks for and shows: asked and achieved ratios of one token beside its others.

Plain values without torch, so that a front end can draw them while the engine measures (`steering.live_steering`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tpe_core.edits.intervention import Intervention, Method

__all__ = ["Calibrated", "DoseFigures", "DoseRequest", "Dosed", "MostAffected", "TextsRead"]

DOUBLINGS = 5  # a dose-response curve goes so far down and up, farther where the ratio does
STEPS = 10  # on either side of 1


@dataclass(frozen=True, slots=True)
class DoseRequest:
    """The token looked at, the method in force, and the whole edit: what is pruned, and every steered token.

    The token is one of them, unless its ratio is 1. All tokens are steered by the one method.
    """

    token_id: int
    method: Method
    edit: Intervention

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The token looked at, then the others that are steered with it."""
        others = (entry.token_id for entry in self.edit.steering if entry.token_id != self.token_id)
        return (self.token_id, *others)

    @property
    def ratios(self) -> tuple[float, ...]:
        """The ratio asked of each."""
        return tuple(self.edit.ratio(token_id) for token_id in self.token_ids)

    @property
    def grid(self) -> tuple[float, ...]:
        """The ratios asked along a dose-response curve: evenly on a logarithmic scale, 1 in the middle."""
        reach = max(DOUBLINGS, math.ceil(abs(math.log2(self.edit.ratio(self.token_id)))))
        return tuple(float(2 ** (reach * step / STEPS)) for step in range(-STEPS, STEPS + 1))


@dataclass(frozen=True, kw_only=True)
class Dosed:
    """The edit by one method; mappings are by domain, divergences those of all tokens at once, nats."""

    curve: tuple[float, ...]  # achieved by the token looked at, at the ratios of `DoseFigures.asked`, on held-out text
    achieved: Mapping[str, tuple[float, ...]]  # [m] mean probability after / before
    kl: Mapping[str, float]
    js: Mapping[str, float]
    relative_edit: tuple[float | None, ...]  # [m] |dW| / |W_w|; None by `bias`, which edits no row


@dataclass(frozen=True, kw_only=True)
class DoseFigures:
    """The answer to a `DoseRequest`, for its tokens [m] in order."""

    request: DoseRequest
    asked: tuple[float, ...]
    alpha: Mapping[str, tuple[float, ...]]  # [m] mean probability before, by domain
    attainable: tuple[tuple[float, float], ...]  # [m] ends of what any edit of the row reaches on the local text
    methods: Mapping[Method, Dosed]


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The ratios to ask of a request's tokens [m] so that each achieves the one it asks now, on the local text."""

    request: DoseRequest
    ratios: tuple[float, ...]
    achieved: tuple[float, ...]  # with `ratios` asked
    reached: tuple[bool, ...]  # where not, `achieved` is the nearest that there is


@dataclass(frozen=True, slots=True)
class MostAffected:
    """The tokens that lost most mean probability on held-out text to an edit, or gained most where it steers down."""

    request: DoseRequest
    lost: tuple[tuple[int, float], ...]  # (token id, probability), below 0 where it gains


@dataclass(frozen=True)
class TextsRead:
    """What a study measures on, by domain, once it is read."""

    texts: Mapping[str, str]
    positions: Mapping[str, int]
    warnings: tuple[str, ...] = ()
