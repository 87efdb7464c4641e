"""The orders in which dimensions are pruned: each a name, a sentence, what it needs, and a saliency.

A new order is one function under `order` in this file: the help of `tpe prune`, its completion, the sweep screen, the
curves' marks and the documentation are made from `ORDERS`. Importing this module imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tpe_core.lazy import Deferred
from tpe_core.pruning.evidence import Evidence
from tpe_core.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Dims = NDArray[np.int64]
else:
    np = Deferred("numpy")

__all__ = ["ORDERS", "Need", "Order", "order"]

Need = Literal["fisher", "surgery", "refitted"]
"""The field of `Evidence` that an order asks for beside the analysis."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """One order of removal."""

    name: str
    about: str  # what it ranks by, for people; at most about 60 characters
    saliency: Callable[[Evidence], Floats]  # [d] what each dimension is worth; the smallest is removed first
    needs: tuple[Need, ...] = ()
    is_drawn: bool = False  # whether every draw of `Evidence.draw` is another order
    of_components: bool = False  # whether it ranks principal components of W instead of dimensions


ORDERS: Registry[Order] = Registry("order")
"""Every order by name."""


def order(
    name: str, about: str, *, needs: tuple[Need, ...] = (), is_drawn: bool = False, of_components: bool = False
) -> Callable[[Callable[[Evidence], Floats]], Callable[[Evidence], Floats]]:
    """Register the saliency below as the order `name`."""

    def register(saliency: Callable[[Evidence], Floats]) -> Callable[[Evidence], Floats]:
        ORDERS.register(
            Order(
                name=name,
                about=about,
                saliency=saliency,
                needs=needs,
                is_drawn=is_drawn,
                of_components=of_components,
            )
        )
        return saliency

    return register


@order("slope", "|slope| of the regression, the paper's order")
def _slope(evidence: Evidence) -> Floats:
    """|A_i|, of the log-linear law (Cho et al. 2025, section 4: the paper's order)."""
    return np.abs(evidence.analysis.encoding.slope)


@order("slope-std", "|slope| times the column's spread")
def _slope_std(evidence: Evidence) -> Floats:
    """|A_i| sd(W_:i): the standardised slope, comparable across dimensions."""
    return np.abs(evidence.analysis.encoding.slope_std)


@order("random", "several draws: what an order has to beat", is_drawn=True)
def _random(evidence: Evidence) -> Floats:
    """Uniform, by seed and draw: what an order must beat to mean anything."""
    width = evidence.analysis.model.head.hidden_size
    return np.random.default_rng([evidence.seed, 2, evidence.draw]).random(width)


@order("magnitude", "the column's length")
def _magnitude(evidence: Evidence) -> Floats:
    """||W_:i||: the length of the column that goes (magnitude pruning), from its mean and standard deviation."""
    encoding, mean = evidence.analysis.encoding, evidence.analysis.mean_row
    result: Floats = np.sqrt(encoding.rows * (encoding.scale**2 + mean**2))
    return result


@order("activation", "spread of the hidden state times that of the column")
def _activation(evidence: Evidence) -> Floats:
    """sd(h_i) sd(W_:i): how far dimension i moves logits apart, over contexts and tokens."""
    result: Floats = np.sqrt(evidence.analysis.detection.variance_hidden) * evidence.analysis.encoding.scale
    return result


@order("fisher", "forecast cost of removing it alone", needs=("fisher",))
def _fisher(evidence: Evidence) -> Floats:
    """M_ii = E[h_i² (W_yi - E_p[W_i])²]: twice the forecast KL of removing i alone (LeCun et al. 1990, on gates)."""
    return np.diag(evidence.gates).copy()


@order("fisher-greedy", "forecast cost beside all that is removed already", needs=("fisher",))
def _fisher_greedy(evidence: Evidence) -> Floats:
    """The place in the order whose every step increases the forecast ½ 1ᵀ M 1 least."""
    from tpe_core.pruning.fisher import greedy_order

    return _places(greedy_order(evidence.gates))


@order("fisher-obs", "the same once the kept ones make up for it", needs=("fisher", "surgery"))
def _fisher_obs(evidence: Evidence) -> Floats:
    """The place in the order of cheapest least-squares residuals, folded as they go (Hassibi & Stork 1993, on h)."""
    return _places(evidence.gathered(evidence.surgery))


@order("fisher-refit", "the same, refitted by KL every few removals", needs=("fisher", "refitted"))
def _fisher_refit(evidence: Evidence) -> Floats:
    """The place in the order that goes on folding, and refits the head after every few removals (`refit_order`)."""
    return _places(evidence.gathered(evidence.refitted))


@order("component", "principal components instead of dimensions", of_components=True)
def _component(evidence: Evidence) -> Floats:
    """Variance of W along each principal component, instead of a dimension.

    Not the correlation with -log alpha, which would be the other choice: components of little variance move few
    logits whatever they correlate with, and leaving them out first costs less from 30 % on (bundled model, half of
    the components by 0: KL 0.69 by variance, 1.01 by correlation).
    """
    return evidence.analysis.components.explained_variance_ratio


def _places(dims: Dims) -> Floats:
    places = np.empty(len(dims))
    places[dims] = np.arange(len(dims))
    return places
