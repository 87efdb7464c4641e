"""What a token set is before anything is applied: how many tokens, their probability, and the likeliest of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tpe_core.lazy import Deferred
from tpe_core.token_sets.token_set import TokenSet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = Deferred("numpy")

__all__ = ["SetSummary", "summarize_set"]

EXAMPLES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSummary:
    """A set on the detecting text: the sum of its tokens' mean probabilities, and its likeliest tokens first."""

    token_set: TokenSet
    probability: float
    came: int  # how often one of its tokens really came next
    positions: int  # of the text
    examples: tuple[tuple[int, float], ...]  # (id, mean probability)
    notes: tuple[str, ...] = ()  # a sentence for each part of the definition that names no token

    def to_dict(self, tokens: Sequence[str]) -> dict[str, Any]:
        """An entry of ``sets`` in the JSON document of `tpe steer`; `tokens` [V] are printable texts."""
        return {
            "name": self.token_set.label,
            "definition": self.token_set.definition,
            "tokens": len(self.token_set),
            "probability": self.probability,
            "came": self.came,
            "examples": [
                {"token": tokens[token_id], "token_id": token_id, "probability": probability}
                for token_id, probability in self.examples
            ],
        }


def summarize_set(
    token_set: TokenSet,
    log_alpha: NDArray[np.float64],
    counts: NDArray[np.int64],
    positions: int,
    examples: int = EXAMPLES,
) -> SetSummary:
    """The summary of a set, of a detection's log alpha [V_all] and how often each token came [V_all]."""
    ids = token_set.ids
    own = np.exp(log_alpha[ids])
    best = np.argsort(-own, kind="stable")[:examples]
    return SetSummary(
        token_set=token_set,
        probability=float(own.sum()),
        came=int(counts[ids].sum()),
        positions=positions,
        examples=tuple((int(ids[at]), float(own[at])) for at in best),
    )
