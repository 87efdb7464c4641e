"""The inspector's pruning sweep: every curve early and rough, then all of them on every position.

The figures are those of `tpe_core.pruning.curves.prune`, taken in short steps so that the engine answers between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tpe_core.analysis import Analysis
from tpe_core.corpus.domains import UNSEEN
from tpe_core.detection.hidden import HiddenSample
from tpe_core.detection.samples import Samples
from tpe_core.edits.replacements import ROTATE
from tpe_core.metrics import AVERAGED
from tpe_core.models.head import OutputHead
from tpe_core.progress import Progress, Steps, run
from tpe_core.pruning.curves import path_of, planned
from tpe_core.pruning.evidence import Evidence
from tpe_core.pruning.orders import ORDERS
from tpe_core.pruning.results import SweepRequest, SweepResult, SweptCurve
from tpe_core.pruning.saliency import gather_evidence
from tpe_core.pruning.sweep import Cost, counts_of, sweep
from tpe_core.store import Store

__all__ = ["sweep_orders", "sweep_seconds"]

FIRST = 512  # positions of each domain that every curve is drawn from before any is refined
STEP_LOGITS = 2**19  # a step on a CPU is this many logits for each fraction: about a tenth of a second
STEP_POSITIONS = 256
READ_TOKENS = 64  # in a block that is read to see how fast that is

Key = tuple[str, str, int]  # order, replacement, draw


@dataclass
class _Sums:
    """One path's sums over the positions so far [points, 5], by domain."""

    dims: tuple[int, ...] = ()
    totals: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)

    def add(self, domain: str, costs: tuple[Cost, ...], positions: int) -> None:
        each = np.array([[getattr(cost, name) for name in AVERAGED] for cost in costs]) * positions
        self.totals[domain] = self.totals.get(domain, 0.0) + each
        self.positions[domain] = self.positions.get(domain, 0) + positions


def sweep_orders(
    analysis: Analysis, samples: Samples, request: SweepRequest, *, seed: int = 0, store: Store | None = None
) -> Steps[SweepResult]:
    """Measure all curves of a request on held-out and out-of-domain text: a job.

    Progress carries the `SweepResult` so far in `partial`. The first `FIRST` positions of all curves come before the
    rest of any, and orders that need the Fisher information after those that do not. Raises `TpeError` for unknown
    names and fractions outside 0 to 1.
    """
    head = analysis.model.head
    removed = counts_of(request.fractions, head.hidden_size)
    keys = _plan(request)
    by_domain = {name: sample for name, sample in samples.items() if name in UNSEEN}
    wanted = {name: len(sample) for name, sample in by_domain.items()}
    texts = {"heldout": samples.heldout_text, "ood": samples.ood_text}
    evidence = Evidence(analysis=analysis, seed=seed)
    sums_of: dict[Key, _Sums] = {}

    def so_far() -> SweepResult:
        return SweepResult(
            curves=tuple(_curves(sums_of, removed)),
            width=head.hidden_size,
            wanted=wanted,
            texts=texts,
            warnings=samples.warnings,
        )

    total, done = len(keys) * sum(wanted.values()), 0
    for label, part in (("first look", slice(0, FIRST)), ("full sweep", slice(FIRST, None))):
        for number, key in enumerate(keys, 1):
            order, replacement, draw = key
            if order != ROTATE and ORDERS[order].needs and evidence.fisher is None:
                names = {name for name, *_ in keys} - {ROTATE}
                evidence = yield from gather_evidence(names, analysis, seed=seed, store=store)
            coordinates, dims = path_of(evidence, order, replacement, draw)
            for domain, sample in by_domain.items():
                for piece in _pieces(head, sample, part):
                    partial = so_far() if sums_of else None
                    yield Progress(
                        label,
                        done,
                        total,
                        note=f"{order}, {replacement}",
                        partial=partial,
                        amount=f"{number}/{len(keys)}",
                    )
                    curve = run(sweep(head, {"": coordinates}, removed, piece)).curves[""]
                    sums_of.setdefault(key, _Sums(dims)).add(domain, curve.costs, len(piece))
                    done += len(piece)
    return so_far()


def sweep_seconds(analysis: Analysis, request: SweepRequest, positions: int, *, read: bool) -> float:
    """How long `sweep_orders` should take here and now, by taking one of its steps: a tenth of a second on a CPU.

    `positions` are measured of each text. Unless both are `read` already, a block of tokens is read for that. What
    orders need beside (the Fisher information) is not in it. Raises `TpeError` for fractions outside 0 to 1.
    """
    model, removed = analysis.model, counts_of(request.fractions, analysis.model.head.hidden_size)
    coordinates, _ = path_of(Evidence(analysis=analysis), "slope", "zero")
    piece = next(_pieces(model.head, analysis.detection.sample, slice(0, None)))
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


def _plan(request: SweepRequest) -> list[Key]:
    """Every path, those without Fisher information first under each replacement, the reference after the first."""
    quick = [name for name in request.orders if not ORDERS.choose(name).needs]
    orders = [*quick, *(name for name in request.orders if name not in quick)]
    keys: list[Key] = []
    for at, replacement in enumerate(request.replacements):
        keys += planned(orders, [replacement], request.draws)
        if at == 0 and request.reference:
            keys += [(ROTATE, ROTATE, 0)]
    return keys


def _pieces(head: OutputHead, sample: HiddenSample, part: slice) -> Iterator[HiddenSample]:
    """Positions of a sample, as many as one step measures."""
    on_cpu = head.columns.device.type == "cpu"
    size = max(16, min(STEP_POSITIONS, STEP_LOGITS // head.total_rows)) if on_cpu else STEP_POSITIONS
    first, end, _ = part.indices(len(sample))
    for at in range(first, end, size):
        rows = slice(at, min(at + size, end))
        yield HiddenSample(sample.size, sample.hidden[rows], sample.next_ids[rows], sample.priority[rows])


def _curves(sums_of: dict[Key, _Sums], removed: tuple[int, ...]) -> Iterator[SweptCurve]:
    """Curves of the paths so far; draws of a random order together, each over the positions that it has seen."""
    for order, replacement in dict.fromkeys(key[:2] for key in sums_of):
        draws = [sums for key, sums in sums_of.items() if key[:2] == (order, replacement)]
        figures, positions = {}, {}
        for domain in draws[0].totals:
            seen = [one for one in draws if domain in one.totals]
            figures[domain] = np.stack([one.totals[domain] / one.positions[domain] for one in seen])
            positions[domain] = min(one.positions[domain] for one in seen)
        yield SweptCurve(
            order=order, replace=replacement, removed=removed, dims=draws[0].dims, figures=figures, positions=positions
        )
