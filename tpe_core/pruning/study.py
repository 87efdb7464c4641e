"""What pruning costs, by number of dimensions removed, order and replacement: the job behind every curve.

Every curve is a nested sweep over stored hidden states (`pruning.sweep`) on held-out and on out-of-domain text, or a
fit at every point; `random` is several draws, for the band that an order has to leave to mean anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tpe_core.analysis import Analysis
from tpe_core.corpus.domains import UNSEEN
from tpe_core.detection.hidden import HiddenSample
from tpe_core.detection.samples import Samples
from tpe_core.edits.replacements import REPLACEMENTS, ROTATE
from tpe_core.metrics import AVERAGED
from tpe_core.models.head import OutputHead
from tpe_core.progress import Progress, Steps, relayed, run
from tpe_core.pruning.coordinates import Coordinates
from tpe_core.pruning.distill import distill
from tpe_core.pruning.evidence import Evidence
from tpe_core.pruning.fitting import BATCH, CHECK_PRODUCTS, fitting_sample
from tpe_core.pruning.orders import ORDERS
from tpe_core.pruning.paths import Key, path_of, planned, removal_order
from tpe_core.pruning.refit import refit
from tpe_core.pruning.results import Cost, PruningCurve, PruningRequest, PruningResult
from tpe_core.pruning.saliency import gather_evidence
from tpe_core.pruning.sweep import Sweep, counts_of, measure, sweep
from tpe_core.store import Store

__all__ = ["FITS", "Schedule", "prune", "sweep_seconds"]

FITS: Mapping[str, Callable[..., Steps[Any]]] = {"refit": refit, "distill": distill}
"""What fits a head at every point, by replacement (`pruning.refit`, `pruning.distill`)."""

Schedule = Literal["throughput", "interactive"]
"""``throughput`` measures several paths in one pass over a sample. ``interactive`` measures a path at a time in short
steps: the first `FIRST` positions of all before the rest of any, those that need Fisher information last."""

COLUMNS_BYTES = 256 * 2**20  # of coordinates' columns held at once
FIRST = 512  # positions of each domain
STEP_LOGITS = 2**21  # a step on a CPU is this many logits for each fraction: about a tenth of a second
STEP_POSITIONS = 256
SHARES = 1000  # of a point that is fitted, told apart
READ_TOKENS = 64  # in a block that is read to see how fast that is


@dataclass(frozen=True)
class _Means:
    """Means of `AVERAGED` [points, 5] over so many positions of one domain."""

    figures: NDArray[np.float64]
    positions: int

    @classmethod
    def of(cls, costs: Sequence[Cost], positions: int) -> _Means:
        return cls(np.array([[getattr(cost, name) for name in AVERAGED] for cost in costs]), positions)

    def after(self, before: _Means | None) -> _Means:
        """The means over the positions of both."""
        if before is None:
            return self
        positions = before.positions + self.positions
        sums = before.positions * before.figures + self.positions * self.figures
        return _Means(sums / positions, positions)


class _Point:
    """How far the fit of one point among many is, its measuring included."""

    def __init__(self, at: int, points: int, name: str, samples: Mapping[str, HiddenSample]) -> None:
        """`at` of all `points` were done before."""
        self._at, self._points, self._name = at, points, name
        self._fit, self.measured = 0, 0  # products of batches, positions
        self._to_measure = sum(len(sample) for sample in samples.values())

    def fitting(self, event: Progress) -> Progress:
        """The progress of all points, from that of a fit."""
        self._fit = event.total or 0
        return self.told(event.done / self._work, f"{event.label} {event.amount} {event.note}")

    def measuring(self, event: Progress) -> Progress:
        """The progress of all points, from that of measuring one sample."""
        return self.told((self._fit + _products(self.measured + event.done)) / self._work, event.label)

    @property
    def _work(self) -> float:
        return self._fit + _products(self._to_measure)

    def told(self, share: float, note: str) -> Progress:
        """The progress of all points, from the share of this one."""
        parts = SHARES * (self._at + share)
        amount = f"{self._at + (share >= 1)}/{self._points}"
        words = ": ".join(filter(None, (self._name, note.strip())))
        return Progress("fit heads", round(parts), SHARES * self._points, note=words, amount=amount)


def _products(positions: int) -> float:
    return CHECK_PRODUCTS * positions / BATCH


Paths = Mapping[Key, Mapping[str, _Means]]
"""Means by path and domain."""
BASE: Key = ("", "", 0)  # under which they hold the unpruned head's own


@dataclass(kw_only=True)
class _Study:
    """What one study measures, and what it has measured so far."""

    analysis: Analysis
    samples: Mapping[str, HiddenSample]  # by domain
    texts: Mapping[str, str]
    plan: Sequence[Key]
    removed: tuple[int, ...]
    evidence: Evidence
    store: Store | None
    paths: Paths = field(default_factory=dict)
    dims: dict[Key, tuple[int, ...]] = field(default_factory=dict)

    def gather(self, keys: Sequence[Key]) -> Steps[None]:
        """Gather what the orders of the whole plan need, once one of `keys` needs any of it: a job."""
        if self.evidence.fisher is None and any(ORDERS[key[0]].needs for key in keys if key[1] != ROTATE):
            names = {key[0] for key in self.plan} - {ROTATE}
            self.evidence = yield from gather_evidence(names, self.analysis, seed=self.evidence.seed, store=self.store)

    def coordinates(self, keys: Sequence[Key]) -> dict[Key, Coordinates]:
        """What to sweep along."""
        along = {}
        for key in keys:
            along[key], self.dims[key] = path_of(self.evidence, key)
        return along

    def sweep(
        self,
        along: Mapping[Key, Coordinates],
        domain: str,
        piece: HiddenSample,
        here: Progress,
        *,
        with_base: bool,
    ) -> Steps[None]:
        """Measure paths on more positions of a domain: a job. `here` is how far the study is."""

        def added(found: Sweep[Key]) -> Paths:
            costs = {**found.costs, BASE: (found.base,)} if with_base else found.costs
            paths = dict(self.paths)
            for key, each in costs.items():
                before = paths.get(key, {})
                paths[key] = {**before, domain: _Means.of(each, found.positions).after(before.get(domain))}
            return paths

        def with_partial(event: Progress) -> Progress:
            partial = self.so_far(added(event.partial)) if isinstance(event.partial, Sweep) else None
            return replace(here, done=here.done + max(1, len(along)) * event.done, partial=partial)

        steps = sweep(self.analysis.model.head, along, self.removed, piece)
        self.paths = added((yield from relayed(steps, with_partial)))

    def fit(self, key: Key, material: HiddenSample, before: int, points: int) -> Steps[None]:
        """Fit and measure a head at every point of a path: a job, with `before` of all `points` done already."""
        head, detection, seed = self.analysis.model.head, self.analysis.detection, self.evidence.seed
        dims = self.dims[key] = tuple(removal_order(self.evidence, key).tolist())
        costs: dict[str, list[Cost]] = {domain: [] for domain in self.samples}
        for at, count in enumerate(self.removed, before):
            point = _Point(at, points, f"{key[0]}, {key[1]}, {count:,} removed", self.samples)
            steps = FITS[key[1]](head, list(dims[:count]), detection, material, seed=seed, store=self.store)
            small = (yield from relayed(steps, point.fitting)).head
            for domain, sample in self.samples.items():
                costs[domain].append((yield from relayed(measure(head, small, sample), point.measuring)))
                point.measured += len(sample)
            means = {domain: _Means.of(each, len(self.samples[domain])) for domain, each in costs.items()}
            self.paths = {**self.paths, key: means}
            yield replace(point.told(1.0, ""), partial=self.so_far())

    def so_far(self, paths: Paths | None = None) -> PruningResult:
        """The result over `paths`, by default over what was measured."""
        paths, model = self.paths if paths is None else paths, self.analysis.model
        return PruningResult(
            curves=tuple(self._curves(paths)),
            baseline={domain: Cost.of(means.figures[0].tolist()) for domain, means in paths.get(BASE, {}).items()},
            positions={domain: len(sample) for domain, sample in self.samples.items()},
            model=model.name,
            revision=model.revision,
            width=model.head.hidden_size,
            texts=self.texts,
        )

    def _curves(self, paths: Paths) -> Iterator[PruningCurve]:
        """Curves of `paths`; draws of a random order together, each over the positions that it has seen."""
        keys = [key for key in self.plan if key in paths]
        for order, replacement in dict.fromkeys(key[:2] for key in keys):
            same = [key for key in keys if key[:2] == (order, replacement)]
            draws = [paths[key] for key in same]
            seen = {domain: [draw[domain] for draw in draws if domain in draw] for domain in draws[0]}
            figures = {domain: np.stack([means.figures for means in each]) for domain, each in seen.items()}
            yield PruningCurve(
                order=order,
                replace=replacement,
                removed=self.removed[: next(iter(figures.values())).shape[1]],
                width=self.analysis.model.head.hidden_size,
                dims=self.dims[same[0]],
                figures=figures,
                positions={domain: min(means.positions for means in each) for domain, each in seen.items()},
            )


def prune(
    analysis: Analysis,
    samples: Samples,
    request: PruningRequest,
    *,
    schedule: Schedule = "throughput",
    fit_positions: int | None = None,
    domains: Sequence[str] = UNSEEN,
    seed: int = 0,
    store: Store | None = None,
) -> Steps[PruningResult]:
    """Measure all curves of a request: a job.

    `fit_positions` is how many of the detecting text's positions a refitted or distilled head is fitted on, as far as
    the text goes and 1 GiB holds them, `fitting.usual_positions` by default; `domains` are names of `Samples`. Either
    schedule measures the same.
    Progress carries the `PruningResult` so far in `partial`: curves over the positions so far, domains as they come.
    Raises `TpeError` for unknown names and fractions outside 0 to 1.
    """
    head, interactive = analysis.model.head, schedule == "interactive"
    by_domain = {name: sample for name, sample in samples.items() if name in domains}
    texts = {"local": analysis.text, "heldout": samples.heldout_text, "ood": samples.ood_text}
    study = _Study(
        analysis=analysis,
        samples=by_domain,
        texts={name: texts[name] for name in by_domain},
        plan=_plan(request, interactive),
        removed=counts_of(request.fractions, head.hidden_size),
        evidence=Evidence(analysis=analysis, seed=seed),
        store=store,
    )
    swept = [key for key in study.plan if not REPLACEMENTS[key[1]].is_fitted]
    fitted = [key for key in study.plan if REPLACEMENTS[key[1]].is_fitted]
    at_once = 1 if interactive else max(1, COLUMNS_BYTES // (4 * head.hidden_size * head.total_rows))
    # Without anything to sweep, the unpruned head is still measured.
    groups = [swept[first : first + at_once] for first in range(0, len(swept), at_once)] or [[]]
    parts = {"first look": slice(0, FIRST), "full sweep": slice(FIRST, None)} if interactive else {"prune": slice(None)}
    total, done = max(1, len(swept)) * sum(len(sample) for sample in by_domain.values()), 0
    for label, part in parts.items():
        for number, group in enumerate(groups, 1):
            yield from study.gather(group)
            along, weight = study.coordinates(group), max(1, len(group))
            note = "".join(f"{order}, {replacement}" for order, replacement, _ in group) if interactive else ""
            amount = f"{number}/{len(groups)}" if interactive else ""
            for domain, sample in by_domain.items():
                for piece in _pieces(head, sample, part, whole=not interactive):
                    here = Progress(label, done, total, note=note or domain, amount=amount)
                    yield from study.sweep(along, domain, piece, here, with_base=number == 1)
                    done += weight * len(piece)
    if fitted:
        yield from study.gather(fitted)
        material = yield from fitting_sample(analysis, fit_positions, seed=seed, store=store)
        for number, key in enumerate(fitted):
            points = len(study.removed)
            yield from study.fit(key, material, number * points, len(fitted) * points)
    return study.so_far()


def _plan(request: PruningRequest, quick_first: bool) -> list[Key]:
    """Every path, the reference after the first replacement; orders without Fisher information first if asked to."""
    orders = list(request.orders)
    if quick_first:
        orders.sort(key=lambda name: bool(ORDERS.choose(name).needs))
    replacements = list(request.replacements)
    if request.reference:
        replacements.insert(1, ROTATE)
    return planned(orders, replacements, request.draws)


def sweep_seconds(analysis: Analysis, request: PruningRequest, positions: int, *, read: bool) -> float:
    """How long the interactive schedule should take here and now, by one of its steps: a tenth of a second on a CPU.

    `positions` are measured of each text. Unless both are `read` already, a block of tokens is read for that. What
    orders need beside (the Fisher information) is not in it. Raises `TpeError` for fractions outside 0 to 1.
    """
    model, removed = analysis.model, counts_of(request.fractions, analysis.model.head.hidden_size)
    coordinates, _ = path_of(Evidence(analysis=analysis), ("slope", "zero", 0))
    piece = next(_pieces(model.head, analysis.detection.sample, slice(None)))
    step = min(_seconds(lambda: run(sweep(model.head, {"": coordinates}, removed, piece))) for _ in range(2))
    seconds = step * request.paths * len(UNSEEN) * positions / len(piece)
    if not read:
        length = model.sampling.room(min(READ_TOKENS, model.context))
        ids = model.example_inputs()
        ids = {name: rows[:1, :1].expand(1, length) for name, rows in ids.items()}
        seconds += _seconds(lambda: model.hidden(ids)) * len(UNSEEN) * positions / length
    return seconds


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _pieces(head: OutputHead, sample: HiddenSample, part: slice, *, whole: bool = False) -> Iterator[HiddenSample]:
    """Positions of a sample, as many as one step measures, or all of them at once."""
    on_cpu = head.columns.device.type == "cpu"
    size = max(16, min(STEP_POSITIONS, STEP_LOGITS // head.total_rows)) if on_cpu else STEP_POSITIONS
    first, end, _ = part.indices(len(sample))
    size = max(1, len(sample)) if whole else size
    for at in range(first, end, size):
        rows = slice(at, min(at + size, end))
        yield HiddenSample(sample.size, sample.hidden[rows], sample.next_ids[rows], sample.priority[rows])
