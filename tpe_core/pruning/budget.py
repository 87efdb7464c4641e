"""How far one can prune under a budget: the largest mask along an order that a KL or a perplexity still allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tpe_core.analysis import Analysis
from tpe_core.clamping import at_least, at_most
from tpe_core.detection.hidden import HiddenSample
from tpe_core.detection.samples import Samples
from tpe_core.edits.replacements import ROTATE
from tpe_core.errors import TpeError
from tpe_core.metrics import METRICS
from tpe_core.progress import Progress, Steps, relayed
from tpe_core.pruning.paths import path_of, planned
from tpe_core.pruning.results import Cost, MeasuredOn, figures_of
from tpe_core.pruning.saliency import gather_evidence
from tpe_core.pruning.sweep import sweep
from tpe_core.shares import count_of
from tpe_core.store import Store

__all__ = ["BUDGETS", "BudgetResult", "Largest", "NoMaskError", "check_budget", "largest_under", "search"]

COARSE = 16  # steps of the first pass
SECTIONS = 4  # parts into which every later pass cuts what is left

BUDGETS = tuple(metric.name for metric in METRICS.values() if metric.budget)


class NoMaskError(TpeError):
    """Not even one dimension can go under the budget."""


@dataclass(frozen=True, kw_only=True)
class Largest:
    """The largest number of dimensions that one order can remove under a budget, measured on one sample."""

    order: str
    replace: str
    draw: int  # of `random`
    metric: str  # of the budget
    budget: float
    width: int
    removed: int
    cost: Cost
    following: Cost | None  # of removing one more; None where only one dimension is left
    dims: tuple[int, ...]  # those removed, first to last; empty where they are not dimensions
    ood: Cost | None = None  # the same mask on other text

    def to_dict(self) -> dict[str, Any]:
        """One entry of `tpe prune --budget --json`."""
        return {
            "order": self.order,
            "replace": self.replace,
            "draw": self.draw,
            "fraction": self.removed / self.width,
            "removed": self.removed,
            **figures_of([self.cost]),
            "ood": None if self.ood is None else figures_of([self.ood]),
            "following": None if self.following is None else figures_of([self.following]),
            "dims": list(self.dims),
        }


def check_budget(budget: float, metric: str = "kl") -> None:
    """Raise `TpeError` where a budget is no finite number above 0, or of an unknown metric."""
    if metric not in BUDGETS:
        raise TpeError(f"unknown budget {metric!r}: choose one of {', '.join(BUDGETS)}.")
    if not (math.isfinite(budget) and budget > 0):
        raise TpeError(f"a budget must be a finite number above 0, not {budget}.")


def largest_under(
    analysis: Analysis,
    sample: HiddenSample,
    order: str,
    replacement: str,
    budget: float,
    *,
    metric: str = "kl",
    ood: HiddenSample | None = None,
    draw: int = 0,
    seed: int = 0,
    store: Store | None = None,
) -> Steps[Largest]:
    """The largest k with ``cost(k) <= budget < cost(k + 1)`` along one order, on `sample`: a job.

    `metric` is ``kl`` (nats) or ``perplexity``; `draw` is that of a random order. A coarse pass over all k finds the
    last stretch that leaves the budget, then every pass cuts that into `SECTIONS`. Where the cost is not monotone,
    a longer mask between two points of the coarse pass may be under the budget again. `ood` is measured at the same
    mask. Raises `NoMaskError` where not even one dimension can go.
    """
    check_budget(budget, metric)
    ((name, made_by, _),) = planned([] if replacement == ROTATE else [order], [replacement])
    evidence = yield from gather_evidence({name} - {ROTATE}, analysis, seed=seed, store=store)
    width = analysis.model.head.hidden_size
    along, dims = path_of(evidence, (name, made_by, draw))
    costs: dict[int, Cost] = {}
    wanted = sorted({count_of(step / COARSE, width - 1) for step in range(COARSE + 1)})
    while wanted:
        measured = yield from sweep(analysis.model.head, {"": along}, wanted, sample)
        costs.update(zip(wanted, measured.costs[""], strict=True))
        # Pruning nothing costs no KL at all, whatever rounding says.
        under = [k for k, cost in costs.items() if (metric == "kl" and k == 0) or getattr(cost, metric) <= budget]
        low = max(under, default=-1)
        high = min((k for k in costs if k > low), default=low)
        inside = {low + round((high - low) * part / SECTIONS) for part in range(1, SECTIONS)}
        wanted = sorted(inside - costs.keys()) if low >= 0 else []
    if low < 1:
        what = "pruning nothing" if low < 0 else "removing its first dimension"
        value = getattr(costs[max(0, low + 1)], metric)
        raise NoMaskError(
            f"no mask of {name}, {made_by} stays under {METRICS[metric].budget.format(budget)}: "
            f"{what} already gives {value:.4g}, so raise the budget."
        )
    outside = None
    if ood is not None:
        outside = yield from sweep(analysis.model.head, {"": along}, (low,), ood)
    return Largest(
        order=name,
        replace=made_by,
        draw=draw,
        metric=metric,
        budget=budget,
        width=width,
        removed=low,
        cost=costs[low],
        following=costs.get(low + 1),
        dims=dims[:low],
        ood=None if outside is None else outside.costs[""][0],
    )


@dataclass(frozen=True, kw_only=True)
class BudgetResult(MeasuredOn):
    """The largest masks under one budget by order and replacement, and why there is none for the others."""

    found: tuple[Largest, ...]
    refused: tuple[str, ...]
    metric: str
    budget: float

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `tpe prune --budget`."""
        return {
            **self.facts(),
            "budget": {"metric": self.metric, "value": self.budget},
            "largest": [entry.to_dict() for entry in self.found],
        }


class _Within:
    """How far a search is within one of its entries: passes over the samples, of about as many as it takes."""

    SHARES = 1000  # of an entry, told apart

    def __init__(self, at: int, entries: int, name: str, width: int) -> None:
        """`at` of all `entries` were done before."""
        self._at, self._entries, self._name = at, entries, name
        narrowing = math.log(at_least(1.0, width / COARSE)) / math.log(SECTIONS)
        self._expected = 2 + math.ceil(narrowing)  # the coarse pass, those that narrow, other text
        self._passes, self._before = 0, -1

    def told(self, event: Progress) -> Progress:
        """The progress of all entries, from that of a pass; of what an order needs it stays its own."""
        if event.label != "sweep":
            return replace(event, partial=None)
        self._passes += event.done <= self._before
        self._before = event.done
        share = at_most(1.0, (self._passes + (event.fraction or 0.0)) / self._expected)
        done, total = round(self.SHARES * (self._at + share)), self.SHARES * self._entries
        note = f"{self._name}: pass {self._passes + 1}"
        return Progress("budget", done, total, note=note, amount=f"{self._at}/{self._entries}")


def search(
    analysis: Analysis,
    samples: Samples,
    orders: Sequence[str],
    replacements: Sequence[str],
    budget: float,
    *,
    metric: str = "kl",
    seeds: int = 1,
    seed: int = 0,
    store: Store | None = None,
) -> Steps[BudgetResult]:
    """`largest_under` for every order and replacement on held-out text, `seeds` draws of a random one: a job.

    Progress carries the `BudgetResult` so far in `partial`.

    Raises `TpeError` where none of them has a mask under the budget.
    """
    head, base = analysis.model.head, {}
    for domain, sample in (("heldout", samples.heldout), ("ood", samples.ood)):
        base[domain] = (yield from sweep(head, {}, (), sample)).base
    masks: list[Largest] = []
    refused: list[str] = []

    def so_far() -> BudgetResult:
        return BudgetResult(
            found=tuple(masks),
            refused=tuple(refused),
            metric=metric,
            budget=budget,
            baseline=base,
            positions={"heldout": len(samples.heldout), "ood": len(samples.ood)},
            model=analysis.model.name,
            revision=analysis.model.revision,
            width=head.hidden_size,
            texts={"heldout": samples.heldout_text, "ood": samples.ood_text},
        )

    plan = planned(orders, replacements, seeds)
    for done, (name, made_by, draw) in enumerate(plan):
        partial = so_far() if masks else None
        shares = _Within.SHARES
        yield Progress(
            "budget", shares * done, shares * len(plan), note=f"{name}, {made_by}", partial=partial,
            amount=f"{done}/{len(plan)}",
        )  # fmt: skip
        steps = largest_under(
            analysis, samples.heldout, name, made_by, budget,
            metric=metric, ood=samples.ood, draw=draw, seed=seed, store=store,
        )  # fmt: skip
        within = _Within(done, len(plan), f"{name}, {made_by}", head.hidden_size)
        try:
            largest = yield from relayed(steps, within.told)
        except NoMaskError as error:
            refused.append(str(error))
        else:
            masks.append(largest)
    if not masks:
        raise NoMaskError(refused[0])
    return so_far()
