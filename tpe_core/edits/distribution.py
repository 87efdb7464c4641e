"""The softmax of one vector of logits in as few passes as its uses need, and divergences between two of them.

Only weights relative to the most probable token are made: ``p = weights / total``, ``log p = z - log Z``. All float64
(float32 on a device without it), so that figures as small as a rounding of float32 are real.
"""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from tpe_core.clamping import at_least, at_most

__all__ = ["Distribution"]


class Distribution:
    """``softmax(z)`` of logits z [V_all]; rows of -inf have probability 0.

    Holds on to `logits` without a copy: where they are `EditedHead`'s, it lasts until that head's next edit. Logits
    that hold NaN or infinity give a `log_z` that is NaN.
    """

    def __init__(self, logits: Tensor) -> None:
        top = logits.amax()
        self.logits = logits
        self.weights = (logits - top).exp_()  # [V_all] 1 for the most probable
        self.total = float(self.weights.sum())
        self.log_z = float(top) + math.log(self.total)  # nats
        self._top: dict[tuple[int, int], Tensor] = {}

    def probabilities(self) -> Tensor:
        """[V_all] p."""
        return self.weights / self.total

    def at(self, ids: Tensor | int) -> Tensor:
        """p of one token, or [k] of several."""
        return self.weights[ids] / self.total

    def attainable(self, token_id: int, highest: float) -> float:
        """The p that one token would have if its logit alone rose to `highest`; 1 where that is infinite."""
        if math.isinf(highest):
            return 1.0
        rest = self.total - float(self.weights[token_id])
        if rest <= 0:
            return 1.0
        return 1 / (1 + math.exp(at_most(700.0, self.log_z - math.log(self.total) + math.log(rest) - highest)))

    def top(self, count: int, rows: int) -> Tensor:
        """[count] ids of the most probable of the first `rows` tokens, most probable first; made once."""
        if (count, rows) not in self._top:
            self._top[count, rows] = self.weights[:rows].topk(count).indices
        return self._top[count, rows]

    def expectation(self, values: Tensor) -> float:
        """sum_w p_w values_w of values [V_all]; tokens of probability 0 contribute nothing, even against -inf."""
        total = float(self.weights.dot(values))
        if math.isnan(total):
            total = float(torch.where(self.weights > 0, self.weights * values, 0.0).sum())
        return total / self.total

    @cached_property
    def mean_logit(self) -> float:
        """sum_w p_w z_w; made once."""
        return self.expectation(self.logits)

    @property
    def entropy(self) -> float:
        """-sum_w p_w log p_w, nats."""
        return at_least(0.0, self.log_z - self.mean_logit)

    def kl(self, other: Distribution) -> float:
        """KL(self || other) in nats, never below 0 by rounding: two means of logits and two log Z make it up."""
        return at_least(0.0, self.mean_logit - self.log_z - (self.expectation(other.logits) - other.log_z))

    def js(self, other: Distribution) -> float:
        """Jensen-Shannon divergence in nats: the entropy of the mean less the mean of the entropies."""
        middle = torch.add(self.probabilities(), other.weights, alpha=1 / other.total).mul_(0.5)
        middle.clamp_(min=torch.finfo(middle.dtype).tiny)  # the log of 0
        return at_least(0.0, -float(middle.dot(middle.log())) - (self.entropy + other.entropy) / 2)
