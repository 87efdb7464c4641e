"""What steering does to whole distributions, in closed form from p_x(w) and h_x: no forward pass, no V-wide product.

Only the steered tokens' logits move, by D_x(w). With ``S_x = 1 + sum_w p_x(w) (e^D_x(w) - 1)`` every steered token's
probability becomes ``p e^D / S`` and every other one is scaled by 1/S, so one pass over a sample's logits answers for
any number of tokens, ratios and methods: O(N d) each, exact.

A token set whose rows all move alike is one token here, with the sum of its tokens' probabilities: the odds inside it
stay, so its probability becomes ``P e^D / S``. Under a soft cap its tokens' final logits move differently, and it is
refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.clamping import at_least
from tpe_core.detection.hidden import HiddenSample
from tpe_core.errors import TpeError
from tpe_core.models.head import OutputHead, Post
from tpe_core.progress import Progress, Steps
from tpe_core.steering.results import AffectedToken, Steerable
from tpe_core.token_sets.token_set import TokenSet

__all__ = [
    "Effect", "Observed", "effects", "log_normaliser", "logit_chunks", "most_affected", "observe", "observe_again",
    "unit",
]  # fmt: skip

Floats = NDArray[np.float64]

CHUNK_BYTES = 4 * 2**20  # of float32 logits at a time
SUM_VALUES = 2**23  # sums of lost probability at a time, over edits and vocabulary
LOG_2 = math.log(2)
TINY = 1e-300  # stands in for 0 in a logarithm
BLOCK = 512  # states that are float64 at a time
ROUNDING = 8 * np.finfo(np.float64).eps  # of log S, which is log 1 where nothing is steered


@dataclass(frozen=True, kw_only=True)
class Observed:
    """All that any edit of k tokens' (or sets') logits needs of a sample of N positions. CPU tensors, float64, nats."""

    steered: tuple[Steerable, ...]
    hidden: Tensor  # [N, d] float32, the sample's own
    z: Tensor  # [k, N] logits before the soft cap; of a set the log of the sum of its tokens' exponentials
    log_p: Tensor  # [k, N]
    log_z: Tensor  # [N] of the whole softmax
    post: Post

    def rows(self, steered: Sequence[Steerable]) -> list[int]:
        """Where tokens and sets stand among `steered`."""
        return [self.steered.index(each) for each in steered]

    def alpha(self, steered: Steerable) -> float:
        """The mean probability of a token or set over the sample."""
        return float(self.log_p[self.steered.index(steered)].exp().mean())

    def shift(self, rows: Sequence[int], moved: Tensor) -> Tensor:
        """[..., m, N] D, the moves of final logits, for moves [..., m, N] of logits before the cap."""
        if self.post.is_linear:
            return moved
        z = self.z[rows]
        return self.post(z + moved) - self.post(z)

    def attainable(self, steered: Steerable) -> tuple[float, float]:
        """(infimum, supremum) of its mean probability under any edit of its rows: 0 and 1 but under a cap."""
        if self.post.is_linear:
            return 0.0, 1.0
        at = self.rows([steered])
        own = self.post(self.z[at])
        lowest, highest = (
            float((self.log_p[at] + _after(self.log_p[at], sign * self.post.highest - own)[0]).exp().mean())
            for sign in (-1, 1)
        )
        return lowest, highest


def logit_chunks(head: OutputHead, states: NDArray[np.float32]) -> Iterator[tuple[slice, Tensor]]:
    """(positions, their final logits [n, V_all] float32) of hidden states [N, d], in one buffer: use it at once."""
    size = max(8, min(len(states), CHUNK_BYTES // (4 * head.total_rows)))
    buffer = torch.empty(size, head.total_rows, dtype=torch.float32, device=head.columns.device)
    for first in range(0, len(states), size):
        hidden = torch.from_numpy(states[first : first + size]).to(buffer.device)
        yield slice(first, first + len(hidden)), head.post.apply_(head.raw(hidden, out=buffer[: len(hidden)]))


def observe(head: OutputHead, sample: HiddenSample, steered: Sequence[Steerable]) -> Steps[Observed]:
    """One V-wide pass over a sample: a job. Raises `TpeError` where a token has no row, or no probability, ever, and
    for a set under a soft cap.
    """
    if not len(sample):
        raise TpeError("there are no stored hidden states to measure on: give more text or a larger sample.")
    checked = _checked(head, steered)
    log_z = torch.empty(len(sample), dtype=torch.float64)
    with torch.inference_mode():
        for part, logits in logit_chunks(head, sample.hidden):
            yield Progress("observe", part.start, len(sample))
            log_z[part] = _log_z(logits)
    return _observed(head, torch.from_numpy(sample.hidden), log_z, checked)


def observe_again(head: OutputHead, observed: Observed, steered: Sequence[Steerable]) -> Observed:
    """The same positions for other tokens and sets, without a V-wide pass. Raises as `observe` does."""
    return _observed(head, observed.hidden, observed.log_z, _checked(head, steered), observed)


def _checked(head: OutputHead, steered: Sequence[Steerable]) -> tuple[Steerable, ...]:
    for each in dict.fromkeys(steered):
        highest = each.token_ids[-1] if isinstance(each, TokenSet) else each
        if not 0 <= highest < head.vocab_rows:
            raise TpeError(f"token id {highest} does not exist: this head has {head.vocab_rows} rows in use.")
        if isinstance(each, TokenSet):
            if not head.post.is_linear:
                raise TpeError(
                    f"the set {each.label!r} cannot be measured as one under this model's soft cap, which moves the "
                    "logits of its tokens differently: steer them as tokens, with --token and --together."
                )
        elif head.bias is not None and float(head.bias[each]) == -math.inf:
            raise TpeError(f"token id {each} is never predicted by this model: no edit of its row changes that.")
    return tuple(dict.fromkeys(steered))


def _observed(
    head: OutputHead, hidden: Tensor, log_z: Tensor, steered: tuple[Steerable, ...], before: Observed | None = None
) -> Observed:
    ids = [each for each in steered if not isinstance(each, TokenSet)]
    at = torch.tensor(ids, dtype=torch.int64, device=head.columns.device)
    of_tokens = _products(hidden, head.columns[:, at].cpu().double()).T
    if head.bias is not None:
        of_tokens += head.bias[at].cpu().double()[:, None]
    rows = dict(zip(ids, of_tokens, strict=True))
    z = torch.empty(len(steered), len(hidden), dtype=torch.float64)
    for place, each in enumerate(steered):
        if not isinstance(each, TokenSet):
            z[place] = rows[each]
        elif before is not None and each in before.steered:
            z[place] = before.z[before.steered.index(each)]
        else:
            z[place] = _set_logit(head, hidden, each)
    return Observed(steered=steered, hidden=hidden, z=z, log_p=head.post(z) - log_z, log_z=log_z, post=head.post)


def _products(hidden: Tensor, columns: Tensor) -> Tensor:
    """h @ c in float64, of states [N, d] float32 and [d] or [d, k] float64: some at a time, as twice N d is much."""
    return torch.cat([some.double() @ columns for some in hidden.split(BLOCK)])


def _set_logit(head: OutputHead, hidden: Tensor, token_set: TokenSet) -> Tensor:
    """[N] float64 log of the sum of exp(z_w) over a set's tokens, of hidden states [N, d]: products in float32."""
    device = head.columns.device
    ids = torch.from_numpy(token_set.ids).to(device)
    columns = head.columns[:, ids].float()
    bias = None if head.bias is None else head.bias[ids].float()
    size = max(8, CHUNK_BYTES // (4 * len(token_set)))
    found = torch.empty(len(hidden), dtype=torch.float64)
    with torch.inference_mode():
        for first in range(0, len(hidden), size):
            z = hidden[first : first + size].to(device) @ columns
            if bias is not None:
                z += bias
            found[first : first + size] = torch.logsumexp(z.cpu().double(), 1)
    return found


def _log_z(logits: Tensor) -> Tensor:
    """[n] float64 log of the softmax's normaliser, of logits [n, V]: of the largest entry, which never underflows."""
    largest = torch.softmax(logits, 1).amax(1)
    return logits.amax(1).cpu().double() - largest.cpu().double().log()


def unit(observed: Observed, direction: Floats | None) -> Tensor:
    """[N] by how much a step of 1 along a direction [d] moves a logit before the cap: h.v, or 1 where it is None."""
    if direction is None:
        return torch.ones(len(observed.hidden), dtype=torch.float64)
    return _products(observed.hidden, torch.from_numpy(direction))


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What an edit of m tokens does on one sample. Divergences are means over positions, nats."""

    alpha: tuple[float, ...]  # [m] mean probability before
    now: tuple[float, ...]  # [m] and after
    spread: tuple[float, ...]  # [m] standard deviation over positions of log(p'_x / p_x), nats
    kl: float  # E[KL(P || P')]
    js: float  # E[Jensen-Shannon divergence]

    @property
    def achieved(self) -> tuple[float, ...]:
        """[m] now / alpha."""
        return tuple(now / alpha if alpha > 0 else math.nan for now, alpha in zip(self.now, self.alpha, strict=True))


def _after(log_p: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """([..., m, N] log(p'/p), [..., N] log S) where the final logits of tokens with log p [m, N] move by D."""
    moved = log_p + shift
    rest = (1 - log_p.exp().sum(0)).clamp_min_(0).log_()
    log_s = torch.logaddexp(rest, moved[..., 0, :] if len(log_p) == 1 else torch.logsumexp(moved, -2))
    return shift - log_s[..., None, :], log_s


def _shifts(observed: Observed, steered: Sequence[Steerable], steps: Floats, unit: Tensor) -> tuple[Tensor, Tensor]:
    """([m, N] log p, [R, m, N] D) of m tokens whose logits before the cap move by steps [R, m] times unit [N]."""
    rows = observed.rows(steered)
    return observed.log_p[rows], observed.shift(rows, torch.from_numpy(steps)[:, :, None] * unit)


def log_normaliser(observed: Observed, steered: Sequence[Steerable], steps: Floats, unit: Tensor) -> Tensor:
    """[R, N] log S of edits with steps [R, m]: every token that is not steered is scaled by 1/S."""
    return _after(*_shifts(observed, steered, steps, unit))[1]


def effects(observed: Observed, steered: Sequence[Steerable], steps: Floats, unit: Tensor) -> list[Effect]:
    """R edits of m tokens or sets at once: edit r moves token i's logit before the cap by ``steps[r, i] * unit`` [N].

    A step is log r, in nats; `unit` is h.v of the direction (`unit`). With ``t = log(q/p)``, which is ``D - log S`` for
    a steered token and ``-log S`` for all others, KL(P || P') is ``log S - sum_w p_w D_w``. The others keep their
    shares, so the Jensen-Shannon divergence takes them as one: half of ``sum p log(2p / (p+q)) + q log(2q / (p+q))``.
    """
    log_p, shift = _shifts(observed, steered, steps, unit)
    t, log_s = _after(log_p, shift)
    p, q = log_p.exp(), (log_p + t).exp_()
    rest, rest_now = ((1 - _over_tokens(some)).clamp_min_(0) for some in (p, q))
    kl = log_s - _over_tokens(p * shift)
    js = _over_tokens(_pair(p, log_p, q, t)) + _pair(rest, rest.clamp_min(TINY).log(), rest_now, -log_s)
    spread = (t - t.mean(2, keepdim=True)).square_().mean(2).sqrt()
    alpha = tuple(p.mean(1).tolist())
    rows = zip(q.mean(2).tolist(), spread.tolist(), kl.mean(1).tolist(), js.mean(1).tolist(), strict=True)
    return [
        Effect(
            alpha=alpha, now=tuple(now), spread=tuple(wide), kl=at_least(0.0, divergence), js=at_least(0.0, middle / 2)
        )
        for now, wide, divergence, middle in rows
    ]


def _over_tokens(values: Tensor) -> Tensor:
    """[..., N] sums over tokens of [..., m, N], without a copy where there is one."""
    return values[..., 0, :] if values.shape[-2] == 1 else values.sum(-2)


def _pair(p: Tensor, log_p: Tensor, q: Tensor, t: Tensor) -> Tensor:
    """p log(2p / (p+q)) + q log(2q / (p+q)), of log p and ``t = log(q/p)``."""
    both = p + q
    return (log_p + LOG_2 - both.clamp_min(TINY).log_()).mul_(both).add_(q * t)


def most_affected(
    head: OutputHead,
    sample: HiddenSample,
    log_z: Tensor,
    edits: Sequence[tuple[tuple[Steerable, ...], Tensor]],
    count: int = 5,
) -> Steps[list[tuple[AffectedToken, ...]]]:
    """The `count` unsteered tokens that lose most to each edit, or gain most where it steers down: a job.

    An edit is given as its tokens or sets and log S [N] (`log_normaliser`), `log_z` [N] is that of the sample. A
    token u loses ``E_x[p_x(u) (1 - 1/S_x)]``. Where log S is nothing but rounding, as at a ratio of 1, nobody does.
    """
    affected: list[tuple[AffectedToken, ...]] = []
    device, batch = head.columns.device, max(1, SUM_VALUES // head.total_rows)
    normaliser = log_z.float().to(device)
    for first in range(0, len(edits), batch):
        edit_batch = edits[first : first + batch]
        taken = torch.stack([-torch.expm1(-log_s) for _, log_s in edit_batch]) / len(sample)
        weights = taken.float().to(device)  # [E, N]
        lost = torch.zeros(len(edit_batch), head.total_rows, dtype=torch.float32, device=device)
        with torch.inference_mode():
            for part, logits in logit_chunks(head, sample.hidden):
                yield Progress("who pays", first * len(sample) + part.start * len(edit_batch), len(edits) * len(sample))
                lost.addmm_(weights[:, part], logits.sub_(normaliser[part, None]).exp_())
        for row, (steered, log_s) in zip(lost[:, : head.vocab_rows], edit_batch, strict=True):
            if float(log_s.abs().max()) <= ROUNDING:
                affected.append(())
                continue
            for each in steered:
                row[list(each.token_ids) if isinstance(each, TokenSet) else each] = 0.0
            sign = 1.0 if float(row.sum()) >= 0 else -1.0
            top = (sign * row).topk(min(count, len(row)))
            pairs = zip(top.indices.tolist(), (sign * top.values).tolist(), strict=True)
            affected.append(tuple(AffectedToken(token_id, value) for token_id, value in pairs if value))
    return affected
