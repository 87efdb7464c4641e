"""What a sweep of an inspector asks for and shows: curves by order and replacement, complete or still growing.

Plain values without torch, so that a front end can draw them while the engine measures (`tpe_core.pruning.live_study`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tpe_core.edits.replacements import REPLACEMENTS, ROTATE
from tpe_core.lazy import Deferred
from tpe_core.metrics import AVERAGED
from tpe_core.pruning.orders import ORDERS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
else:
    np = Deferred("numpy")

__all__ = ["SweepRequest", "SweepResult", "SweptCurve"]

STEPS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRequest:
    """Orders to compare and replacements to compare them under, those that matter first."""

    orders: tuple[str, ...] = ("slope", "random", "activation", "fisher", "fisher-obs")
    replacements: tuple[str, ...] = field(default_factory=lambda: REPLACEMENTS.ready)
    reference: bool = True  # measure `ROTATE` as well
    draws: int = 5  # of the order random
    fractions: tuple[float, ...] = tuple(step / STEPS for step in range(STEPS))

    @property
    def paths(self) -> int:
        """How many sweeps that is."""
        orders = sum(self.draws if ORDERS[name].is_drawn else 1 for name in self.orders)
        return orders * len(self.replacements) + self.reference


@dataclass(frozen=True, kw_only=True)
class SweptCurve:
    """One order with one replacement, over the positions measured so far.

    `figures` holds `AVERAGED` [draws, points, 5] by domain, each a mean over at least `positions`; `dims` are the
    dimensions in their order of removal (of the first draw), none where a mask of dimensions cannot say it.
    """

    order: str
    replace: str
    removed: tuple[int, ...]
    dims: tuple[int, ...]
    figures: Mapping[str, Floats]
    positions: Mapping[str, int]

    def draws(self, domain: str, metric: str) -> Floats:
        """[draws, points] of kl, js, top1, nll, entropy or perplexity; no rows for a domain not measured yet."""
        if domain not in self.figures:
            return np.empty((0, len(self.removed)))
        nll = metric == "perplexity"
        values: Floats = self.figures[domain][:, :, AVERAGED.index("nll" if nll else metric)]
        return _exp(values) if nll else values

    def mean(self, domain: str, metric: str) -> Floats:
        """[points] averaged over draws, perplexity as that of the mean loss; NaN for a domain not measured yet."""
        if domain not in self.figures:
            return np.full(len(self.removed), np.nan)
        if metric == "perplexity":
            return _exp(self.draws(domain, "nll").mean(0))
        values: Floats = self.draws(domain, metric).mean(0)
        return values


def _exp(losses: Floats) -> Floats:
    """Perplexities of losses in nats; infinite beyond what a float holds."""
    with np.errstate(over="ignore"):
        perplexity: Floats = np.exp(losses)
    return perplexity


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """Curves so far; `wanted` is how many positions each will have been measured on, by domain."""

    curves: tuple[SweptCurve, ...]
    width: int  # d
    wanted: Mapping[str, int]
    texts: Mapping[str, str]  # what was read, by domain, for people
    warnings: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every curve that was begun has seen every position."""
        return all(dict(curve.positions) == dict(self.wanted) for curve in self.curves)

    def curve(self, order: str, replacement: str) -> SweptCurve | None:
        """The curve of that name, if it was begun; the reference under any replacement."""
        wanted = (order, ROTATE if order == ROTATE else replacement)
        return next((curve for curve in self.curves if (curve.order, curve.replace) == wanted), None)
