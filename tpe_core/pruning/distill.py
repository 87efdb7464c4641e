"""Distilling a pruned head: the kept columns and the constant refitted to give the full head's own distribution.

Starts at a refitted head (`pruning.refit`), there with a constant per token as well, and minimises the mean
KL(P || P') over stored hidden states, which is convex in both: all V_all (k + 1) weights are free now, where refitting
moves d k of them and the constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tpe_core.detection.detection import Detection
from tpe_core.detection.hidden import HiddenSample
from tpe_core.models.head import OutputHead
from tpe_core.progress import Progress, Steps, relayed
from tpe_core.pruning.fitting import BATCH, HeadParameterisation, Objective, Outcome, Whitening, fit_weights, products
from tpe_core.pruning.pruned_head import PrunedHead, kept_dims
from tpe_core.pruning.refit import STEPS as REFIT_STEPS
from tpe_core.pruning.refit import StateMapWithBias
from tpe_core.store import Store

__all__ = ["Columns", "Distilled", "distill"]

STEPS = 1200  # at least
PASSES = 4  # over the positions, at least
PRIOR = 1.0  # weight of staying at the refitted head, in positions: rare tokens' rows are seen too seldom to be fitted
RATE = 0.03  # Adam's step at first, as a share of the root mean square of the white coordinates' columns


@dataclass(frozen=True)
class Distilled(Outcome):
    """A distilled head and how it went, from the least-squares fold on; `steps` are those after refitting."""

    head: PrunedHead


class Columns(HeadParameterisation):
    """``z' = columnsᵀ e + constant``, every weight free; a Gaussian `prior` draws the columns to where they start."""

    def __init__(self, columns: Tensor, constant: Tensor, prior: float = 0.0) -> None:
        self.weights = columns, constant  # [k, V_all], [V_all]
        self._start, self._prior = columns.clone(), prior  # the prior's precision over the number of positions
        rate = RATE * float(columns.square().mean().sqrt())
        self.rates = rate, rate

    def raw(self, e: Tensor) -> Tensor:
        """[n, V_all] logits of e [n, k]."""
        columns, constant = self.weights
        return torch.addmm(constant, e, columns)

    def gradients(self, e: Tensor, slope: Tensor) -> tuple[Tensor, ...]:
        """Gradients by the columns and by the constant."""
        towards = (self.weights[0] - self._start).mul_(self._prior)
        return towards.addmm_(e.T, slope), slope.sum(0)


def distill(
    head: OutputHead,
    removed: Sequence[int],
    detection: Detection,
    sample: HiddenSample,
    *,
    steps: int | None = None,
    seed: int = 0,
    store: Store | None = None,
) -> Steps[Distilled]:
    """Refit the kept columns of `head` without dimensions `removed`: a job. `store` is not used: they are large.

    `steps` is `STEPS`, or as many as make `PASSES` over the sample. The same seed gives the same head.
    Raises `TpeError` where the sample has fewer than two positions.
    """
    steps = max(STEPS, PASSES * len(sample) // BATCH) if steps is None else steps
    white = Whitening(kept_dims(removed, head.hidden_size), detection, head)
    rebuilt = StateMapWithBias(head, detection.mean_hidden, white.map)
    refitting = min(REFIT_STEPS, steps)
    before, after = (products(many, len(sample)) for many in (refitting, steps))

    def of_both(event: Progress) -> Progress:
        first = event.label == "refit"
        amount = f"{event.label} {event.amount}"
        return replace(
            event, label="distill", done=event.done + (0 if first else before), total=before + after, amount=amount
        )

    fitting = fit_weights(Objective(head, rebuilt, white), sample.hidden, steps=refitting, seed=seed, label="refit")
    first = yield from relayed(fitting, of_both)
    parameterisation = Columns(*rebuilt.columns(), prior=PRIOR / len(sample))
    whole = Objective(head, parameterisation, white)
    fitting = fit_weights(whole, sample.hidden, steps=steps, seed=seed, label="distill")
    then = yield from relayed(fitting, of_both)
    columns, constant = parameterisation.weights
    return Distilled(first.kl_before, then.kl_after, then.steps, white.head(columns, constant, head))
