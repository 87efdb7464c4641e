"""How far two next-token distributions over one vocabulary lie apart, from their final logits.

All sums are float64, taken term by term so that equal logits give exactly 0. KL's terms are
``p log(p / q) - p + q``: none is negative, and they add up to KL because p and q both add up to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["KEPT", "Apart", "apart", "flips", "retained"]

KEPT = (5, 10, 100)
"""Of how many of the base's most probable tokens it is asked whether they are among the other's."""

TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True, kw_only=True)
class Apart:
    """Divergences of some positions [n], and sums over these positions by token [V]; float64, in nats."""

    kl: Tensor  # [n] KL(P || Q)
    kl_reverse: Tensor  # [n] KL(Q || P)
    js: Tensor  # [n]
    nll: Tensor  # [2, n] of the token that really followed, under P and under Q
    by_token: Tensor  # [V] of KL's terms
    p: Tensor  # [V] of P


def apart(base: Tensor, other: Tensor, targets: Tensor) -> Apart:
    """Compare P = softmax of `base` [n, V] with Q = that of `other` [n, V]; `targets` [n] are ids.

    A token that both never predict (-inf) counts nothing; one that only Q never predicts makes KL infinite.
    """
    log_p, log_q = (torch.log_softmax(z.double(), 1) for z in (base, other))
    p, q = log_p.exp(), log_q.exp()
    nll = -torch.stack([each.gather(1, targets[:, None])[:, 0] for each in (log_p, log_q)])
    ratio = log_p.sub_(log_q)  # NaN where both are -inf, and both p and q are 0 there
    forward = torch.where(p > 0, p * ratio, 0.0) - (p - q)
    backward = torch.where(q > 0, -q * ratio, 0.0) + (p - q)
    mean = ((p + q) / 2).clamp_min_(TINY)
    js = (torch.special.xlogy(p, p / mean) + torch.special.xlogy(q, q / mean)).sum(1) / 2
    return Apart(
        kl=forward.sum(1).clamp_min_(0),
        kl_reverse=backward.sum(1).clamp_min_(0),
        js=js.clamp_min_(0),
        nll=nll,
        by_token=forward.sum(0),
        p=p.sum(0),
    )


def flips(base: Tensor, other: Tensor) -> Tensor:
    """[n] whether the base's most probable token is not the other's; one that ties for it stays."""
    first = base.argmax(1, keepdim=True)
    return other.gather(1, first)[:, 0] < other.amax(1)


def retained(base: Tensor, other: Tensor) -> Tensor:
    """[n, len(KEPT)] float64: which share of the base's k most probable tokens is among the other's k, for k of `KEPT`.

    With fewer than k tokens all are: 1.
    """
    most = min(max(KEPT), base.shape[1])
    ours, theirs = (each.topk(most, 1).indices for each in (base, other))
    return torch.stack(
        [
            (ours[:, :k, None] == theirs[:, None, :k]).any(2).double().mean(1)
            for k in (min(each, most) for each in KEPT)
        ],
        1,
    )
