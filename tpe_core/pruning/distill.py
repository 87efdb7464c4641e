"""Distilling a pruned head: the kept columns and the constant refitted to give the full head's own distribution.

Starts at the least-squares fold and minimises the mean KL(P || P') over stored hidden states, which is convex in both.
Adam on minibatches in white coordinates of the kept dimensions, the step falling to 0; a part of the positions
is held back, and the best head on them is what comes out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from tpe_core.detecting.detection import Detection, HiddenSample
from tpe_core.edits.reconstruction import covariance
from tpe_core.errors import TpeError
from tpe_core.models.head import OutputHead
from tpe_core.progress import Progress, Steps
from tpe_core.pruning.pruned_head import PrunedHead, fold

__all__ = ["Distilled", "distill"]

BATCH = 256  # positions a step
STEPS = 1200  # at least
PASSES = 3  # over the positions, at least
RATE = 0.05  # Adam's step at first, as a share of the root mean square of the white coordinates' columns
CHECK_EVERY = 50  # steps between two looks at the positions held back
HELD_BACK = 0.1  # share of the sample
BETAS, EPSILON = (0.9, 0.99), 1e-8


@dataclass(frozen=True)
class Distilled:
    """A distilled head and how it went: mean KL on the positions held back, at the start and at its best. Nats."""

    head: PrunedHead
    kl_before: float
    kl_after: float
    steps: int  # after which it was best


def distill(
    head: OutputHead,
    removed: Sequence[int],
    detection: Detection,
    sample: HiddenSample,
    *,
    steps: int | None = None,
    seed: int = 0,
) -> Steps[Distilled]:
    """Refit the kept columns of `head` without dimensions `removed`: a job.

    `steps` is `STEPS`, or as many as make `PASSES` over the sample. The same seed gives the same head.
    Raises `TpeError` where the sample has fewer than two positions.
    """
    if len(sample) < 2:
        raise TpeError(f"a sample of {len(sample)} positions cannot be distilled on: give more text.")
    steps = max(STEPS, PASSES * len(sample) // BATCH) if steps is None else steps
    start = fold(head, removed, "least-squares", detection)
    kept = start.kept.cpu().numpy()
    device = head.columns.device
    factor = scipy.linalg.cholesky(covariance(detection)[np.ix_(kept, kept)], lower=True)
    white = torch.from_numpy(scipy.linalg.solve_triangular(factor, np.eye(len(kept)), lower=True).T.copy()).to(device)
    mean = torch.from_numpy(detection.mean_hidden[kept]).to(device)
    hidden = torch.from_numpy(sample.hidden).to(device)
    e = ((hidden[:, start.kept].double() - mean) @ white).float()
    # Columns of the white coordinates, and the constant as one more of them that is always 1.
    backward = torch.from_numpy(factor.T.copy()).to(device)
    weights = torch.cat([(backward @ start.columns.double()), (mean @ start.columns.double() + start.constant)[None]])
    weights = weights.float()
    e = torch.cat([e, torch.ones(len(e), 1, device=device)], 1)
    shuffled = np.random.default_rng(seed).permutation(len(e))
    held = max(1, round(HELD_BACK * len(e)))
    checked, used = (torch.from_numpy(part).to(device) for part in (shuffled[:held], shuffled[held:]))
    before = best = _divergence(head, hidden, e, weights, checked)
    kept_weights, at, found = weights.clone(), 0, 0
    first, second = torch.zeros_like(weights), torch.zeros_like(weights)
    largest = RATE * float(weights[:-1].square().mean().sqrt())
    batches = _batches(used, seed)
    for step in range(1, steps + 1):
        yield Progress("distill", step - 1, steps, f"KL {best:.4f}")
        with torch.inference_mode():
            batch = next(batches)
            _, gradient = _loss(head, hidden[batch], e[batch], weights)
            first.lerp_(gradient, 1 - BETAS[0])
            second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            rate = largest * 0.5 * (1 + math.cos(math.pi * step / steps))
            scale = math.sqrt(1 - BETAS[1] ** step)
            weights.addcdiv_(first, second.sqrt().add_(EPSILON), value=-rate * scale / (1 - BETAS[0] ** step))
        at = step
        if step % CHECK_EVERY == 0 or step == steps:
            now = _divergence(head, hidden, e, weights, checked)
            if now < best:
                best, found = now, at
                kept_weights.copy_(weights)
    columns = white @ kept_weights[:-1].double()
    constant = kept_weights[-1].double() - mean @ columns
    made = PrunedHead(start.kept, columns.float(), constant.float(), head.post, head.hidden_size)
    return Distilled(made, before, best, found)


def _batches(positions: Tensor, seed: int) -> Iterator[Tensor]:
    """Endless minibatches of positions, each pass in another order."""
    rng = np.random.default_rng([seed, 1])
    while True:
        for part in np.array_split(rng.permutation(len(positions)), max(1, len(positions) // BATCH)):
            yield positions[torch.from_numpy(part).to(positions.device)]


def _loss(head: OutputHead, hidden: Tensor, e: Tensor, weights: Tensor) -> tuple[float, Tensor]:
    """(mean KL(P || P') of a batch, its gradient by the columns [k + 1, V])."""
    log_p = torch.log_softmax(head.logits(hidden), 1)
    final = head.post(e @ weights)
    log_q = torch.log_softmax(final, 1)
    p = log_p.exp()
    kl = torch.where(p > 0, p * (log_p - log_q), 0.0).sum(1).mean()
    slope = log_q.exp_().sub_(p)
    if head.post.cap is not None:
        slope.mul_(1 - (final / head.post.cap) ** 2)
    return float(kl), e.T @ slope / len(e)


def _divergence(head: OutputHead, hidden: Tensor, e: Tensor, weights: Tensor, positions: Tensor) -> float:
    """Mean KL(P || P') over some positions."""
    with torch.inference_mode():
        parts = [(_loss(head, hidden[part], e[part], weights)[0], len(part)) for part in positions.split(BATCH)]
    return sum(kl * count for kl, count in parts) / len(positions)
