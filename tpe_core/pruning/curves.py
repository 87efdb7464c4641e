"""Pruning curves: the cost of removing dimensions, by number removed, order and replacement.

Every curve is a nested sweep over stored hidden states (`pruning.sweep`) on held-out and on out-of-domain text;
`random` is several draws, for the band that an order has to leave to mean anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from tpe_core.analysis import Analysis
from tpe_core.corpus.domains import UNSEEN
from tpe_core.detection.samples import Samples
from tpe_core.edits.intervention import Intervention
from tpe_core.edits.replacements import REPLACEMENTS, ROTATE
from tpe_core.errors import TpeError
from tpe_core.metrics import AVERAGED, METRICS
from tpe_core.progress import Progress, Steps, relayed
from tpe_core.pruning.coordinates import Coordinates, along, least_squares, rotated
from tpe_core.pruning.distill import distill
from tpe_core.pruning.evidence import Evidence
from tpe_core.pruning.fitting import POSITIONS, fitting_sample
from tpe_core.pruning.orders import ORDERS
from tpe_core.pruning.refit import refit
from tpe_core.pruning.saliency import gather_evidence, order_of
from tpe_core.pruning.sweep import Cost, Curve, Sweep, counts_of, measure, sweep
from tpe_core.store import Store

__all__ = [
    "FITS",
    "FRACTIONS",
    "MeasuredOn",
    "PruningCurve",
    "PruningResult",
    "baseline_figures",
    "coordinates_of",
    "figures_of",
    "mask_of",
    "path_of",
    "planned",
    "prune",
    "pruned_intervention",
]

T = TypeVar("T")
Floats = NDArray[np.float64]
Order = NDArray[np.int64]

FRACTIONS = (0.1, 0.3, 0.5, 0.6, 0.7)
DRAWS = 5  # of `random`
FITS: Mapping[str, Callable[..., Steps[Any]]] = {"refit": refit, "distill": distill}
"""What fits a head at every point, by replacement (`pruning.refit`, `pruning.distill`)."""

COLUMNS_BYTES = 256 * 2**20  # of coordinates' columns held at once


def figures_of(costs: Sequence[Cost]) -> dict[str, Any]:
    """One point's figures, by the names of the JSON document; of several draws the mean, and the ``range`` of each."""
    values = {name: [float(getattr(cost, name)) for cost in costs] for name in METRICS}
    figures: dict[str, Any] = {name: getattr(_mean(costs), name) for name in METRICS}
    if len(costs) > 1:
        figures["range"] = {name: [min(each), max(each)] for name, each in values.items()}
    return figures


def baseline_figures(base: Mapping[str, Cost]) -> dict[str, Any]:
    """The unpruned head's own: held-out figures, every other domain's under its name."""
    baseline: dict[str, Any] = {}
    for domain, cost in base.items():
        figures = {"perplexity": cost.perplexity, "entropy": cost.entropy}
        baseline.update(figures if domain == "heldout" else {domain: figures})
    return baseline


def _mean(costs: Sequence[Cost]) -> Cost:
    """Mean costs, metric by metric; perplexity is then that of the mean loss."""
    return Cost.of(sum(getattr(cost, name) for cost in costs) / len(costs) for name in AVERAGED)


@dataclass(frozen=True)
class PruningCurve:
    """One order with one replacement: for each domain a curve, or one for every draw of a random order."""

    order: str
    replace: str
    draws: Mapping[str, tuple[Curve, ...]]

    def mean(self, domain: str = "heldout") -> Curve:
        """The curve, averaged over draws."""
        draws = self.draws[domain]
        return replace(draws[0], costs=tuple(_mean(costs) for costs in zip(*(d.costs for d in draws), strict=True)))

    def band(self, domain: str = "heldout", metric: str = "kl") -> list[tuple[float, float]]:
        """(least, most) of a metric over draws at every point; the same twice where there is one draw."""
        columns = zip(*(draw.costs for draw in self.draws[domain]), strict=True)
        values = [[float(getattr(cost, metric)) for cost in costs] for costs in columns]
        return [(min(each), max(each)) for each in values]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready order, replacement and points: held-out figures first, every other domain's under its name."""
        first, points = next(iter(self.draws.values()))[0], []
        for at, removed in enumerate(first.removed):
            point: dict[str, Any] = {"fraction": removed / first.width, "removed": removed}
            for domain, draws in self.draws.items():
                figures = figures_of([draw.costs[at] for draw in draws])
                point.update(figures if domain == "heldout" else {domain: figures})
            points.append(point)
        return {"order": self.order, "replace": self.replace, "points": points}


@dataclass(frozen=True, kw_only=True)
class MeasuredOn:
    """What pruning was measured on, and the unpruned head's own figures: the same for curves and for a budget."""

    baseline: Mapping[str, Cost]  # by domain
    positions: Mapping[str, int]
    model: str
    revision: str | None
    width: int  # d
    texts: Mapping[str, str]

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
class PruningResult(MeasuredOn):
    """Curves by order and replacement."""

    curves: tuple[PruningCurve, ...]
    is_rough: bool = False  # whether some curve is over the positions so far only

    def curve(self, order: str, replacement: str) -> PruningCurve:
        """The curve of that name. Raises KeyError where it was not asked for."""
        for curve in self.curves:
            if (curve.order, curve.replace) == (order, replacement):
                return curve
        raise KeyError((order, replacement))

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `tpe prune`."""
        return {**self.facts(), "curves": [curve.to_dict() for curve in self.curves]}


def coordinates_of(analysis: Analysis, name: str, order: Order, replacement: str) -> Coordinates:
    """What a sweep of `order` [d], made by the order `name`, runs along. Raises `TpeError` for a wrong replacement."""
    head, detection = analysis.model.head, analysis.detection
    chosen = REPLACEMENTS.choose(replacement)
    if chosen.is_fitted:
        raise TpeError(f"{replacement} is fitted at every point, so that it has no path: choose another replacement.")
    components = analysis.components
    basis = components.directions
    if replacement == ROTATE:
        return rotated(head, (basis * components.explained_variance_ratio) @ basis.T, detection)
    if not chosen.rebuilds:
        centre = None if chosen.fill is None or not chosen.is_measured else chosen.fill(detection.mean_hidden)
        return along(head, order, centre, basis if ORDERS[name].of_components else None)
    if not ORDERS[name].of_components:
        return least_squares(head, order, detection)
    turn = torch.from_numpy(basis).to(head.columns.device).float()
    turned = least_squares(
        replace(head, columns=turn.T @ head.columns.float()),
        order,
        replace(detection, h_sum=basis.T @ detection.h_sum, hh_sum=basis.T @ detection.hh_sum @ basis),
    )
    return replace(turned, forward=turned.forward @ basis.T, centre=basis @ turned.centre)


Key = tuple[str, str, int]  # order, replacement, draw


def planned(orders: Sequence[str], replacements: Sequence[str], draws: int = 1) -> list[Key]:
    """Every (order, replacement, draw) to measure, once: `rotate` has its own order, only `random` is drawn again.

    A fitted random order is drawn once: each of its points takes minutes. Raises `TpeError` for an unknown name, for
    fitting along components, or where nothing is left to measure.
    """
    for name in orders:
        ORDERS.choose(name)
    for name in replacements:
        REPLACEMENTS.choose(name)
    for replacement in REPLACEMENTS.fitted:
        if replacement in replacements and any(ORDERS[name].of_components for name in orders):
            raise TpeError(f"{replacement} keeps dimensions, not principal components: choose another order for it.")
    if draws < 1:
        raise TpeError(f"the order random needs at least one draw, not {draws}.")
    keys = [
        (name, replacement, draw)
        for replacement in replacements
        for name in (orders if replacement != ROTATE else [ROTATE])
        for draw in range(
            draws if replacement != ROTATE and not REPLACEMENTS[replacement].is_fitted and ORDERS[name].is_drawn else 1
        )
    ]
    if not keys:
        raise TpeError("nothing is asked for: name at least one order and one replacement.")
    return list(dict.fromkeys(keys))


def path_of(evidence: Evidence, order: str, replacement: str, draw: int = 0) -> tuple[Coordinates, tuple[int, ...]]:
    """(what to sweep along, the dimensions in their order of removal; none where they are not dimensions)."""
    width = evidence.analysis.model.head.hidden_size
    if replacement == ROTATE:
        return coordinates_of(evidence.analysis, order, np.arange(width), ROTATE), ()
    chosen = order_of(order, replace(evidence, replacement=replacement, draw=draw))
    dims = () if ORDERS[order].of_components else tuple(chosen.tolist())
    return coordinates_of(evidence.analysis, order, chosen, replacement), dims


def prune(
    analysis: Analysis,
    samples: Samples,
    orders: Sequence[str] = ("slope", "random"),
    replacements: Sequence[str] = ("zero",),
    fractions: Sequence[float] = FRACTIONS,
    *,
    seeds: int = DRAWS,
    seed: int = 0,
    fit_positions: int = POSITIONS,
    domains: Sequence[str] = UNSEEN,
    store: Store | None = None,
) -> Steps[PruningResult]:
    """The cost of removing `fractions` of the dimensions in every order with every replacement: a job.

    `seeds` is how many random orders are drawn; `fit_positions` how many of the detecting text's positions a
    refitted or distilled head is fitted on, as far as the text goes and 1 GiB holds them; `domains` are names of
    `Samples`.
    Progress carries the `PruningResult` so far in `partial`: curves over the positions so far, domains as they come.
    Raises `TpeError` for unknown names and fractions outside 0 to 1.
    """
    head, removed = analysis.model.head, counts_of(fractions, analysis.model.head.hidden_size)
    plan = planned(orders, replacements, seeds)
    evidence = yield from gather_evidence({key[0] for key in plan} - {ROTATE}, analysis, seed=seed, store=store)
    by_domain = {name: sample for name, sample in samples.items() if name in domains}
    texts = {"local": analysis.text, "heldout": samples.heldout_text, "ood": samples.ood_text}
    curves_of: dict[Key, dict[str, Curve]] = {key: {} for key in plan}
    base: dict[str, Cost] = {}

    def so_far(domain: str = "", partial: Sweep | None = None) -> PruningResult:
        latest = {} if partial is None else partial.curves
        seen: dict[tuple[str, str], dict[str, tuple[Curve, ...]]] = {}
        for key in plan:
            curves = curves_of[key] | ({domain: latest[_name(key)]} if _name(key) in latest else {})
            mine = seen.setdefault(key[:2], {})
            for name, curve in curves.items():
                mine[name] = (*mine.get(name, ()), curve)
        return PruningResult(
            curves=tuple(PruningCurve(*names, draws=draws) for names, draws in seen.items() if draws),
            baseline={**base} if partial is None else {domain: partial.base, **base},
            positions={name: len(sample) for name, sample in by_domain.items()},
            model=analysis.model.name,
            revision=analysis.model.revision,
            width=head.hidden_size,
            texts={name: texts[name] for name in by_domain},
            is_rough=partial is not None,
        )

    at_once = max(1, COLUMNS_BYTES // (4 * head.hidden_size * head.total_rows))
    swept = [key for key in plan if not REPLACEMENTS[key[1]].is_fitted]
    total, done = len(swept) * sum(len(sample) for sample in by_domain.values()), 0
    for first in range(0, len(swept), at_once):
        group = swept[first : first + at_once]
        paths = {_name(key): path_of(evidence, *key)[0] for key in group}
        for domain, sample in by_domain.items():

            def told(event: Progress, domain: str = domain, before: int = done, many: int = len(group)) -> Progress:
                partial = so_far(domain, event.partial) if isinstance(event.partial, Sweep) else None
                return Progress("prune", before + many * event.done, total, note=domain, partial=partial)

            measured = yield from relayed(sweep(head, paths, removed, sample), told)
            base[domain] = measured.base
            for key in group:
                curves_of[key][domain] = measured.curves[_name(key)]
            done += len(group) * len(sample)
        yield Progress("prune", done, total, partial=so_far())
    fitted = [key for key in plan if REPLACEMENTS[key[1]].is_fitted]
    for domain, sample in by_domain.items():
        if domain not in base:  # nothing was swept, so that the unpruned head was not measured beside it
            base[domain] = (yield from sweep(head, {}, removed, sample)).base
    if fitted:
        material = yield from fitting_sample(analysis, fit_positions, seed=seed, store=store)
    for key in fitted:
        order = order_of(key[0], replace(evidence, replacement="least-squares", draw=key[2]))
        costs: dict[str, tuple[Cost, ...]] = dict.fromkeys(by_domain, ())
        for count in removed:
            dims = order[:count].tolist()
            fit = FITS[key[1]]
            small = (yield from fit(head, dims, analysis.detection, material, seed=seed, store=store)).head
            for domain, sample in by_domain.items():
                costs[domain] += ((yield from measure(head, small, sample)),)
                curves_of[key][domain] = Curve(removed[: len(costs[domain])], head.hidden_size, costs[domain])
            yield Progress("prune", len(costs[domain]), len(removed), note=key[1], partial=so_far())
    return so_far()


def _name(key: Key) -> str:
    return f"{key[0]}, {key[1]}, {key[2]}"


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


def mask_of(
    analysis: Analysis, order: str, replacement: str, removed: int, *, seed: int = 0, store: Store | None = None
) -> Steps[Intervention]:
    """The edit at one point of a curve, of the first draw where the order is random: a job.

    Raises `TpeError` where the order or the replacement is not one of dimensions.
    """
    pruned_intervention(order, replacement, ())
    evidence = yield from gather_evidence([order], analysis, seed=seed, store=store)
    ordered = replace(evidence, replacement="least-squares" if REPLACEMENTS[replacement].is_fitted else replacement)
    dims = order_of(order, ordered)[:removed]
    return pruned_intervention(order, replacement, dims.tolist())
