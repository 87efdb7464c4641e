"""What a pruning study asks for and finds: curves by order and replacement, complete or still growing.

Plain values without torch, so that a front end can show them while `tpe_core.pruning.study` measures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tpe_core.edits.intervention import Intervention
from tpe_core.edits.replacements import REPLACEMENTS, ROTATE
from tpe_core.errors import TpeError
from tpe_core.lazy import Deferred
from tpe_core.metrics import AVERAGED, METRICS
from tpe_core.options import several
from tpe_core.pruning.orders import ORDERS
from tpe_core.shown import Shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tpe_core.tables import Table

    Floats = NDArray[np.float64]
else:
    np = Deferred("numpy")

__all__ = [
    "DRAWS",
    "FRACTIONS",
    "Cost",
    "MeasuredOn",
    "PruningCurve",
    "PruningRequest",
    "PruningResult",
    "baseline_figures",
    "figures_of",
    "mean_cost",
    "pruned_intervention",
]

FRACTIONS = (0.1, 0.3, 0.5, 0.6, 0.7)
"""Shares of removed dimensions that a table shows; `PruningRequest` has more, for a plot."""
STEPS = 20
DRAWS = 5  # of `random`


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an edited head costs against the base one, averaged over positions of a sample. Nats."""

    kl: float  # E[KL(P || P')]
    js: float  # E[Jensen-Shannon divergence]
    top1: float  # share of positions whose most probable token stays
    nll: float  # E[-log p'(the token that really followed)]
    entropy: float  # E[H(P')]

    @staticmethod
    def of(values: Iterable[float]) -> Cost:
        """The costs whose figures stand in the order of `AVERAGED`."""
        return Cost(**dict(zip(AVERAGED, values, strict=True)))

    @property
    def perplexity(self) -> float:
        """exp(nll); infinite beyond what a float holds, as where a token that really followed is never predicted."""
        return math.inf if self.nll > 700.0 else math.exp(self.nll)


def mean_cost(costs: Sequence[Cost]) -> Cost:
    """Mean costs, metric by metric; perplexity is then that of the mean loss."""
    return Cost.of(sum(getattr(cost, name) for cost in costs) / len(costs) for name in AVERAGED)


def figures_of(costs: Sequence[Cost]) -> dict[str, Any]:
    """One point's figures, by the names of the JSON document; of several draws the mean, and the ``range`` of each."""
    mean = mean_cost(costs)
    figures: dict[str, Any] = {name: getattr(mean, name) for name in METRICS}
    if len(costs) > 1:
        values = {name: [float(getattr(cost, name)) for cost in costs] for name in METRICS}
        figures["range"] = {name: [min(each), max(each)] for name, each in values.items()}
    return figures


def baseline_figures(base: Mapping[str, Cost]) -> dict[str, Any]:
    """The unpruned head's own: held-out figures, every other domain's under its name."""
    baseline: dict[str, Any] = {}
    for domain, cost in base.items():
        figures = {"perplexity": cost.perplexity, "entropy": cost.entropy}
        baseline.update(figures if domain == "heldout" else {domain: figures})
    return baseline


def pruned_intervention(order: str, replacement: str, dims: Sequence[int]) -> Intervention:
    """The edit that removes `dims`, for the inspector or a file. Raises `TpeError` where a mask cannot say it.

    One that is replaced by ``refit`` still needs its numbers: `tpe_core.session.LiveSession.refit`.
    """
    of_components = replacement != ROTATE and ORDERS.choose(order).of_components
    if of_components or replacement == ROTATE:
        what = "principal components" if of_components else "rotated directions"
        raise TpeError(f"a mask of {what} cannot be saved: a mask names dimensions; choose another order.")
    if replacement not in (masks := REPLACEMENTS.masks):
        raise TpeError(f"a mask that is replaced by {replacement} cannot be saved as one: choose {' or '.join(masks)}.")
    return Intervention(pruned=tuple(dims), replacement=replacement)


@dataclass(frozen=True, slots=True, kw_only=True)
class PruningRequest:
    """Orders to compare and replacements to compare them under, those that matter first; one alone is taken too."""

    orders: tuple[str, ...] = ("slope", "random", "activation", "fisher", "fisher-obs")
    replacements: tuple[str, ...] = field(default_factory=lambda: REPLACEMENTS.ready)
    reference: bool = True  # measure `ROTATE` as well, after the first replacement
    draws: int = DRAWS  # of the order random
    fractions: tuple[float, ...] = tuple(step / STEPS for step in range(STEPS))

    def __post_init__(self) -> None:
        for name in ("orders", "replacements"):
            object.__setattr__(self, name, several(getattr(self, name)))

    @property
    def paths(self) -> int:
        """How many sweeps that is."""
        orders = sum(self.draws if ORDERS[name].is_drawn else 1 for name in self.orders)
        return orders * len(self.replacements) + self.reference


@dataclass(frozen=True, kw_only=True)
class PruningCurve(Shown):
    """One order with one replacement, over the positions measured so far.

    `figures` holds `AVERAGED` [draws, points, 5] by domain, each a mean over at least `positions`; `dims` are the
    dimensions in their order of removal (of the first draw), none where a mask of dimensions cannot say it.
    """

    order: str
    replace: str
    removed: tuple[int, ...]  # at every point
    width: int  # d
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

    def costs(self, domain: str, at: int) -> list[Cost]:
        """The costs of every draw at a point."""
        return [Cost.of(row) for row in self.figures[domain][:, at].tolist()]

    def mask(self, removed: int) -> Intervention:
        """The edit that removes so many dimensions, of the first draw. Raises `TpeError` where no mask can say it."""
        return pruned_intervention(self.order, self.replace, self.dims[:removed])

    def _tables(self) -> Mapping[str, Callable[[], Table]]:
        return {"pruning": lambda: _curves_table([self])}

    def _summary(self) -> Mapping[str, object]:
        return {f"{order}, {by}, {at:.0%} removed": text for order, by, at, text in _key_points([self])}

    def to_record(self) -> dict[str, Any]:
        """JSON-ready, with nothing averaged: what `from_record` makes the same curve of."""
        figures = {domain: values.tolist() for domain, values in self.figures.items()}
        return {
            "order": self.order,
            "replace": self.replace,
            "removed": list(self.removed),
            "width": self.width,
            "dims": list(self.dims),
            "figures": figures,
            "positions": dict(self.positions),
        }

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> PruningCurve:
        """The curve of a record. Raises ValueError, KeyError or TypeError where it holds none."""
        removed, width = tuple(map(int, record["removed"])), int(record["width"])
        figures = {str(domain): np.array(values, dtype=np.float64) for domain, values in record["figures"].items()}
        shapes = {values.shape[1:] for values in figures.values()}
        if not shapes <= {(len(removed), len(AVERAGED))} or not all(0 <= each <= width for each in removed):
            raise ValueError("the figures of a curve are not those of its points")
        return PruningCurve(
            order=str(record["order"]),
            replace=str(record["replace"]),
            removed=removed,
            width=width,
            dims=tuple(map(int, record["dims"])),
            figures=figures,
            positions={str(domain): int(count) for domain, count in record["positions"].items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready order, replacement and points: held-out figures first, every other domain's under its name."""
        points = []
        for at, removed in enumerate(self.removed):
            point: dict[str, Any] = {"fraction": removed / self.width, "removed": removed}
            for domain in self.figures:
                figures = figures_of(self.costs(domain, at))
                point.update(figures if domain == "heldout" else {domain: figures})
            points.append(point)
        return {"order": self.order, "replace": self.replace, "points": points}


def _points_of(curve: PruningCurve) -> Iterable[dict[str, Any]]:
    for domain in curve.figures:
        means = {name: curve.mean(domain, name) for name in ("kl", "js", "top1", "perplexity")}
        for at, removed in enumerate(curve.removed):
            share = removed / curve.width
            row = {"order": curve.order, "replacement": curve.replace, "share": share, "pruned": removed}
            figures = {name: float(values[at]) for name, values in means.items()}
            yield {**row, "text": domain, "kl": figures["kl"], "top1_same": figures["top1"], "js": figures["js"],
                   "perplexity": figures["perplexity"]}  # fmt: skip


def _curves_table(curves: Sequence[PruningCurve]) -> Table:
    """A row for each point of each curve and text: means over draws, divergences in nats."""
    from tpe_core.tables import Table

    return Table.of(row for curve in curves for row in _points_of(curve))


def _key_points(curves: Sequence[PruningCurve]) -> Iterable[tuple[str, str, float, str]]:
    """(order, replacement, share removed, what it costs) of each curve, at the point nearest to half."""
    for curve in curves:
        domain = next(iter(curve.figures), "")
        if not domain or not curve.removed:
            continue
        at = min(range(len(curve.removed)), key=lambda point: abs(curve.removed[point] / curve.width - 0.5))
        cost = f"KL {curve.mean(domain, 'kl')[at]:.3g} nats, {curve.mean(domain, 'top1')[at]:.0%} top-1 the same"
        yield curve.order, curve.replace, curve.removed[at] / curve.width, cost


def _exp(losses: Floats) -> Floats:
    """Perplexities of losses in nats; infinite beyond what a float holds."""
    with np.errstate(over="ignore"):
        perplexity: Floats = np.exp(losses)
    return perplexity


@dataclass(frozen=True, kw_only=True)
class MeasuredOn:
    """What pruning was measured on, and the unpruned head's own figures: the same for curves and for a budget."""

    baseline: Mapping[str, Cost]  # by domain
    positions: Mapping[str, int]  # of each domain that a complete curve has seen
    model: str
    revision: str | None
    width: int  # d
    texts: Mapping[str, str]  # what was read, by domain, for people

    def facts(self) -> dict[str, Any]:
        """The first fields of the JSON documents of `tpe prune`."""
        return {
            "schema": 1,
            "model": self.model,
            "revision": self.revision,
            "hidden_size": self.width,
            "positions": dict(self.positions),
            "texts": dict(self.texts),
            "baseline": baseline_figures(self.baseline),
        }


@dataclass(frozen=True, kw_only=True)
class PruningResult(MeasuredOn, Shown):
    """Curves by order and replacement, those so far where a study is under way."""

    curves: tuple[PruningCurve, ...]

    @property
    def complete(self) -> bool:
        """Whether every curve that was begun has seen every position, in all the draws that it has."""
        return all(
            dict(curve.positions) == dict(self.positions) and len({len(each) for each in curve.figures.values()}) <= 1
            for curve in self.curves
        )

    def _tables(self) -> Mapping[str, Callable[[], Table]]:
        return {"pruning": lambda: _curves_table(self.curves)}

    def _subject(self) -> str:
        return self.model

    def _summary(self) -> Mapping[str, object]:
        points = {f"{order}, {by}, {at:.0%} removed": text for order, by, at, text in _key_points(self.curves)}
        return {"curves": len(self.curves), "dimensions": self.width, **points}

    def curve(self, order: str, replacement: str) -> PruningCurve | None:
        """The curve of that name, if it was begun; the reference under any replacement."""
        wanted = (order, ROTATE if order == ROTATE else replacement)
        return next((curve for curve in self.curves if (curve.order, curve.replace) == wanted), None)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `tpe prune`."""
        return {**self.facts(), "curves": [curve.to_dict() for curve in self.curves]}

    def to_record(self) -> dict[str, Any]:
        """JSON-ready, with nothing averaged: what `from_record` makes the same result of."""
        return {
            "model": self.model,
            "revision": self.revision,
            "width": self.width,
            "texts": dict(self.texts),
            "positions": dict(self.positions),
            "baseline": {domain: [getattr(cost, name) for name in AVERAGED] for domain, cost in self.baseline.items()},
            "curves": [curve.to_record() for curve in self.curves],
        }

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> PruningResult:
        """The result of a record. Raises ValueError, KeyError or TypeError where it holds none."""
        revision = record["revision"]
        return PruningResult(
            model=str(record["model"]),
            revision=None if revision is None else str(revision),
            width=int(record["width"]),
            texts={str(domain): str(text) for domain, text in record["texts"].items()},
            positions={str(domain): int(count) for domain, count in record["positions"].items()},
            baseline={str(domain): Cost.of(map(float, values)) for domain, values in record["baseline"].items()},
            curves=tuple(map(PruningCurve.from_record, record["curves"])),
        )
