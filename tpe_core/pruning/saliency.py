"""Orders in which dimensions are pruned, by what each is worth: from the paper's slopes to second-order forecasts.

Every name in `ORDERS` has a saliency [d]; the smallest is removed first. What a saliency needs beyond the analysis
is gathered once by `gather_evidence`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tpe_core.analysis import Analysis
from tpe_core.edits.reconstruction import covariance
from tpe_core.errors import NumericalError, TpeError
from tpe_core.progress import Steps
from tpe_core.pruning.fisher import Fisher, fisher_information, greedy_order, obs_order
from tpe_core.pruning.fitting import fitting_sample
from tpe_core.pruning.refit import refit_order
from tpe_core.store import Store

__all__ = ["ORDERS", "Evidence", "gather_evidence", "order_of", "saliency_of"]

Floats = NDArray[np.float64]
Order = NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What an order is made from; `fisher`, `surgery` and `refitted` are None where no order asked for needs them."""

    analysis: Analysis
    fisher: Fisher | None = None
    surgery: Order | None = None  # [d] the order of `fisher-obs`
    refitted: Order | None = None  # [d] that of `fisher-refit`
    replacement: str = "zero"  # what the removed dimensions will be replaced by
    seed: int = 0
    draw: int = 0  # of `random`

    @property
    def gates(self) -> Floats:
        """[d, d] M of the replacement."""
        return _gathered(self.fisher).gates(self.replacement)


def _gathered(found: T | None) -> T:
    if found is None:
        raise TpeError("this order needs the Fisher information: gather the evidence for it first.")
    return found


def _slope(evidence: Evidence) -> Floats:
    """|A_i|, of the log-linear law (Cho et al. 2025, section 4: the paper's order)."""
    return np.abs(evidence.analysis.encoding.slope)


def _slope_std(evidence: Evidence) -> Floats:
    """|A_i| sd(W_:i): the standardised slope, comparable across dimensions."""
    return np.abs(evidence.analysis.encoding.slope_std)


def _random(evidence: Evidence) -> Floats:
    """Uniform, by seed and draw: what an order must beat to mean anything."""
    width = evidence.analysis.model.head.hidden_size
    return np.random.default_rng([evidence.seed, 2, evidence.draw]).random(width)


def _magnitude(evidence: Evidence) -> Floats:
    """||W_:i||: the length of the column that goes (magnitude pruning), from its mean and standard deviation."""
    encoding, mean = evidence.analysis.encoding, evidence.analysis.mean_row
    result: Floats = np.sqrt(encoding.rows * (encoding.scale**2 + mean**2))
    return result


def _activation(evidence: Evidence) -> Floats:
    """sd(h_i) sd(W_:i): how far dimension i moves logits apart, over contexts and tokens."""
    result: Floats = np.sqrt(evidence.analysis.detection.variance_hidden) * evidence.analysis.encoding.scale
    return result


def _fisher(evidence: Evidence) -> Floats:
    """M_ii = E[h_i² (W_yi - E_p[W_i])²]: twice the forecast KL of removing i alone (LeCun et al. 1990, on gates)."""
    return np.diag(evidence.gates).copy()


def _fisher_greedy(evidence: Evidence) -> Floats:
    """The place in the order whose every step increases the forecast ½ 1ᵀ M 1 least."""
    return _places(greedy_order(evidence.gates))


def _fisher_obs(evidence: Evidence) -> Floats:
    """The place in the order of cheapest least-squares residuals, folded as they go (Hassibi & Stork 1993, on h)."""
    return _places(_gathered(evidence.surgery))


def _fisher_refit(evidence: Evidence) -> Floats:
    """The place in the order that goes on folding, and refits the head after every few removals (`refit_order`)."""
    return _places(_gathered(evidence.refitted))


def _component(evidence: Evidence) -> Floats:
    """Variance of W along each principal component, instead of a dimension.

    Not the correlation with -log alpha, which would be the other choice: components of little variance move few
    logits whatever they correlate with, and leaving them out first costs less from 30 % on (bundled model, half of
    the components by 0: KL 0.69 by variance, 1.01 by correlation).
    """
    return evidence.analysis.components.explained_variance_ratio


def _places(order: Order) -> Floats:
    places = np.empty(len(order))
    places[order] = np.arange(len(order))
    return places


ORDERS: Mapping[str, Callable[[Evidence], Floats]] = {
    "slope": _slope,
    "slope-std": _slope_std,
    "random": _random,
    "magnitude": _magnitude,
    "activation": _activation,
    "fisher": _fisher,
    "fisher-greedy": _fisher_greedy,
    "fisher-obs": _fisher_obs,
    "fisher-refit": _fisher_refit,
    "component": _component,
}
"""Saliencies [d] by name; ``component`` is over principal components of W, every other one over dimensions."""


def gather_evidence(
    names: Iterable[str], analysis: Analysis, *, seed: int = 0, store: Store | None = None
) -> Steps[Evidence]:
    """What the orders `names` need: a job. Raises `TpeError` for a name that is not in `ORDERS`."""
    wanted = set(names)
    for name in sorted(wanted - ORDERS.keys()):
        raise TpeError(f"unknown order {name!r}: choose one of {', '.join(ORDERS)}.")
    fisher, surgery, refitted, detection = None, None, None, analysis.detection
    if any(name.startswith("fisher") for name in wanted):
        fisher = yield from fisher_information(
            analysis.model.head, detection.sample, detection.mean_hidden, seed=seed, store=store
        )
        if "fisher-obs" in wanted:
            surgery, _ = yield from obs_order(fisher.metric, covariance(detection))
        if "fisher-refit" in wanted:
            sample = yield from fitting_sample(analysis, seed=seed, store=store)
            head = analysis.model.head
            refitted = yield from refit_order(head, detection, sample, fisher.metric, seed=seed, store=store)
    return Evidence(analysis=analysis, fisher=fisher, surgery=surgery, refitted=refitted, seed=seed)


def saliency_of(name: str, evidence: Evidence) -> Floats:
    """[d] what each dimension (component) is worth. Raises `TpeError` where the name or its evidence is unknown."""
    if name not in ORDERS:
        raise TpeError(f"unknown order {name!r}: choose one of {', '.join(ORDERS)}.")
    return ORDERS[name](evidence)


def order_of(name: str, evidence: Evidence) -> Order:
    """[d] the order of removal: ascending saliency, the first dimension (component) removed first."""
    saliency = saliency_of(name, evidence)
    if np.isnan(saliency).any():
        raise NumericalError(
            f"the order {name!r} is not defined for dimension {int(np.isnan(saliency).argmax())}: choose another order."
        )
    return np.argsort(saliency, kind="stable").astype(np.int64)
