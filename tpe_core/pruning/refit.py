"""Refitting what a pruned head rebuilds: all of h from the kept dimensions, at the least KL.

Least squares rebuilds the removed dimensions with the least error in h. What is wanted is the least error in the
distribution, and the two differ where much is removed: with 60 % of the bundled model's dimensions gone the
least-squares head costs 2.7 times the KL that ``½ tr(F Σ)`` forecasts. So h is rebuilt as ``m + B e``, e white
coordinates of the kept dimensions, and m [d] and B [d, k] minimise the mean KL(P || P') of ``post(W (m + B e) + b)``
themselves, starting at least squares. That is d (k + 1) weights where distilling frees V_all (k + 1), so little text
is enough; and it is an edit of h, which a file, a hook or a checkpoint can hold (replacement ``refit``).

`refit_order` chooses the dimensions along the way: a few at a time by what least squares over the rest would cost,
each round judged at the distribution of the head refitted since the last. It is fitted on as much text as the fits
are: chosen on 4,096 positions, the 30 % that the bundled model keeps cost .003 nats more after refitting.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.analysis import Analysis
from tpe_core.detection.detection import Detection
from tpe_core.detection.hidden import HiddenSample
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.reconstruction import Reconstruction, covariance
from tpe_core.errors import TpeError
from tpe_core.models.head import OutputHead
from tpe_core.pauses import pause
from tpe_core.progress import Progress, Steps, run
from tpe_core.pruning.fisher import Metric, obs_order, widened
from tpe_core.pruning.fitting import (
    BATCH,
    SLOWER,
    Adam,
    HeadParameterisation,
    Objective,
    Outcome,
    Whitening,
    copy_weights,
    fit_weights,
    fitting_sample,
    mean_kl,
)
from tpe_core.pruning.pruned_head import PrunedHead, kept_dims
from tpe_core.pruning.row_sample import ROWS, DrawnRows, RowSampler
from tpe_core.store import Store

__all__ = ["Refitted", "StateMap", "StateMapWithBias", "refit", "refit_basis", "refit_order"]

Floats = NDArray[np.float64]
Order = NDArray[np.int64]

STEPS = 900
RATE = 0.04  # Adam's step at first for B, as a share of its root mean square
CONSTANT_RATE = 0.01  # nats
VERSION, REFIT_VERSION = 2, 2
OUTCOME = ("kl_before", "kl_after", "steps")
ROUND_SHARE, ROUND_LEAST = 0.05, 0.02  # a round of `refit_order` removes this share of the kept, at least of all dims
ROUND_STEPS = 100  # of Adam, after every round
METRIC_BATCHES = 8  # of positions, that the metric of a round is made from


@dataclass(frozen=True)
class Refitted(Outcome):
    """A refitted head and how it went: what it rebuilds h from, and the logits that makes."""

    head: PrunedHead
    reconstruction: Reconstruction  # of all dimensions


class _OfState(HeadParameterisation):
    """A parameterisation whose logits are the whole head's, of an h rebuilt around a mean from ``B e``."""

    def __init__(self, head: OutputHead, mean: Floats, rebuilding: Floats) -> None:
        device = head.columns.device
        self._head, self._mean = head, torch.from_numpy(mean).to(device).float()
        self._start = torch.from_numpy(rebuilding.T.copy()).to(device).float()  # Bᵀ [k, d]
        self._rate = RATE * float(self._start.square().mean().sqrt())

    def _by_state(self, slope: Tensor) -> Tensor:
        """[n, d] a gradient by the h rebuilt, from that by the raw logits [n, V_all]."""
        gradient = torch.zeros(len(slope), self._head.hidden_size, device=slope.device)
        for rows, columns in widened(self._head):
            gradient += slope[:, rows] @ columns.T
        return gradient


class StateMapWithBias(_OfState):
    """``z' = W (mean + B e) + b + c`` with the whole head's W and b, and a constant c per token."""

    def __init__(self, head: OutputHead, mean: Floats, rebuilding: Floats) -> None:
        super().__init__(head, mean, rebuilding)
        self.weights = self._start, torch.zeros(head.total_rows, device=self._start.device)  # Bᵀ [k, d], c [V_all]
        self.rates = self._rate, CONSTANT_RATE

    def raw(self, e: Tensor) -> Tensor:
        """[n, V_all] logits of e [n, k]."""
        rebuilding, constant = self.weights
        return self._head.raw(torch.addmm(self._mean, e, rebuilding)).add_(constant)

    def gradients(self, e: Tensor, slope: Tensor) -> tuple[Tensor, ...]:
        """Gradients by Bᵀ and by c."""
        return e.T @ self._by_state(slope), slope.sum(0)

    def columns(self) -> tuple[Tensor, Tensor]:
        """([k, V_all] columns of e, [V_all] constant) of the logits: the same head, multiplied out."""
        rebuilding, constant = self.weights
        columns = torch.cat([rebuilding @ part for _, part in widened(self._head)], 1)
        return columns, self._head.raw(self._mean) + constant


class StateMap(_OfState):
    """``z' = W (mean + m + B e) + b``: every constant is one of h, so that an edit of h says all of it."""

    def __init__(self, head: OutputHead, mean: Floats, rebuilding: Floats) -> None:
        super().__init__(head, mean, rebuilding)
        self.weights = self._start, torch.zeros_like(self._mean)  # Bᵀ [k, d], m [d]
        self.rates = self._rate, self._rate

    def raw(self, e: Tensor) -> Tensor:
        """[n, V_all] logits of e [n, k]."""
        rebuilding, shift = self.weights
        return self._head.raw(torch.addmm(self._mean + shift, e, rebuilding))

    def gradients(self, e: Tensor, slope: Tensor) -> tuple[Tensor, ...]:
        """Gradients by Bᵀ and by m."""
        by_state = self._by_state(slope)
        return e.T @ by_state, by_state.sum(0)

    def on(self, head: OutputHead) -> StateMap:
        """The same weights, to be changed by either, before another head of the same h: some rows of this one."""
        other = copy.copy(self)
        other._head = head
        return other

    def over(self, part: DrawnRows, white: Whitening) -> Objective:
        """What a step on drawn rows makes least, by the same weights."""
        return Objective(part.head, self.on(part.head), white, part.log_weight)

    def reconstruction(self, white: Whitening) -> tuple[Floats, Floats]:
        """(fold [d, k], constant [d]) with ``h' = fold h_K + constant``, of the coordinates' h_K."""
        rebuilding, shift = (each.double().cpu().numpy() for each in self.weights)
        fold: Floats = rebuilding.T @ white.inverse
        return fold, self._mean.double().cpu().numpy() + shift - fold @ white.mean


def refit(
    head: OutputHead,
    removed: Sequence[int],
    detection: Detection,
    sample: HiddenSample,
    *,
    steps: int = STEPS,
    rows: int = ROWS,
    seed: int = 0,
    store: Store | None = None,
) -> Steps[Refitted]:
    """Rebuild h without dimensions `removed` at the least KL over `sample`: a job, cached in `store`.

    For a step `rows` of the vocabulary are drawn where it has at least twice as many, else it is taken whole; what the
    fit gains is measured over all of it. The same seed gives the same head. Raises `TpeError` where the sample has
    fewer than two positions.
    """
    kept = kept_dims(removed, head.hidden_size)
    draws = rows if head.total_rows >= 2 * rows else None
    how = (REFIT_VERSION, steps, RATE, seed, sorted(removed)) + (() if draws is None else (draws,))
    key = "" if store is None else _key(f"refit {how}", head, sample, detection.mean_hidden)
    entry = None if store is None else store.load(key)
    if entry is None or not _holds(entry, head.hidden_size, len(kept)):
        white = Whitening(kept, detection, head)
        parameterisation = StateMap(head, detection.mean_hidden, white.map)
        whole = Objective(head, parameterisation, white)
        if draws is None:
            fitting = fit_weights(whole, sample.hidden, steps=steps, seed=seed, label="refit")
        else:
            sampler = RowSampler(head, detection.log_alpha, rows=draws, seed=seed)

            def drawn() -> Objective:
                return parameterisation.over(sampler.draw(), white)

            fitting = fit_weights(
                whole, sample.hidden, steps=steps, seed=seed, label="refit", drawn=drawn, share=sampler.share
            )
        outcome = yield from fitting
        fold, constant = parameterisation.reconstruction(white)
        entry = {"fold": fold, "constant": constant}, {name: getattr(outcome, name) for name in OUTCOME}
        if store is not None:
            store.save(key, *entry, kind="refit")
    arrays, facts = entry
    rebuilt = Reconstruction(
        removed=tuple(sorted(removed)),
        kept=tuple(int(dim) for dim in kept),
        fold=arrays["fold"],
        constant=arrays["constant"],
        is_refit=True,
    )
    return Refitted(facts["kl_before"], facts["kl_after"], facts["steps"], _folded(head, rebuilt), rebuilt)


def refit_basis(
    analysis: Analysis,
    pruned: Sequence[int],
    basis: EditStatistics,
    positions: int | None = None,
    *,
    seed: int = 0,
    store: Store | None = None,
) -> Steps[EditStatistics]:
    """A basis that knows the refit of one mask, on so many `positions` of the detecting text, and else `basis`: a job.

    As many as `fitting.usual_positions` where none are given.
    Raises `TpeError` where nothing is pruned, or everything.
    """
    if not pruned:
        raise TpeError("nothing is pruned, so there is nothing to refit: prune dimensions first.")
    sample = yield from fitting_sample(analysis, positions, seed=seed, store=store)
    refitted = yield from refit(analysis.model.head, pruned, analysis.detection, sample, seed=seed, store=store)
    return basis.overridden(basis.given, rebuilt=refitted.reconstruction)


def _holds(entry: tuple[Mapping[str, NDArray[Any]], Mapping[str, Any]], width: int, kept: int) -> bool:
    arrays, facts = entry
    shapes = {name: array.shape for name, array in arrays.items()}
    return shapes == {"fold": (width, kept), "constant": (width,)} and facts.keys() >= set(OUTCOME)


def _folded(head: OutputHead, rebuilt: Reconstruction) -> PrunedHead:
    """The small head that gives what the whole one makes of a rebuilt h."""
    device = head.columns.device
    fold, constant = (torch.from_numpy(each).to(device) for each in (rebuilt.fold, rebuilt.constant))
    columns = torch.cat([fold.float().T @ part for _, part in widened(head)], 1)
    at = torch.tensor(rebuilt.kept, dtype=torch.int64, device=device)
    return PrunedHead(at, columns, head.raw(constant.float()), head.post, head.hidden_size)


def refit_order(
    head: OutputHead,
    detection: Detection,
    sample: HiddenSample,
    metric: Floats,
    *,
    seed: int = 0,
    store: Store | None = None,
) -> Steps[Order]:
    """[d] removal order, cheapest after refitting first: a job, cached in `store`.

    `metric` [d, d] is F of the whole head (`Fisher.metric`): it judges the first round, and later rounds by the same
    expectation under the refitted head's own distribution. A round that refitting leaves worse goes without it, and
    those after it take a quarter of the step. The last dimension is never judged. The same seed gives the same order.
    """
    width = head.hidden_size
    how = (VERSION, ROUND_SHARE, ROUND_LEAST, ROUND_STEPS, METRIC_BATCHES, RATE, CONSTANT_RATE)
    key = "" if store is None else _key(f"refit order {how} {seed}", head, sample, metric)
    entry = None if store is None else store.load(key)
    if entry is not None and sorted(entry[0].get("order", ())) == list(range(width)):
        return entry[0]["order"].astype(np.int64)
    spread, mean = covariance(detection), detection.mean_hidden
    kept, rebuild, constant, share = np.arange(width), np.eye(width), None, 1.0
    rng = np.random.default_rng([seed, 3])
    order: list[int] = []
    while len(kept) > 1:
        within = spread[np.ix_(kept, kept)]
        count = min(len(kept) - 1, max(1, round(ROUND_SHARE * len(kept)), round(ROUND_LEAST * width)))
        pause()
        gone, _ = run(obs_order(rebuild.T @ metric @ rebuild, within, count))
        stay = np.setdiff1d(np.arange(len(kept)), gone)
        fold = scipy.linalg.solve(within[np.ix_(stay, stay)], within[np.ix_(stay, gone)], assume_a="pos").T
        rebuild = rebuild[:, stay] + rebuild[:, gone] @ fold
        order += kept[gone].tolist()
        kept = kept[stay]
        white = Whitening(kept, detection, head)
        parameterisation = StateMapWithBias(head, mean, rebuild @ white.factor)
        if constant is not None:
            parameterisation.weights[1].copy_(constant)
        progress = Progress("fisher-refit order", len(order), width)
        batches = (_drawn(sample, rng, head) for _ in range(ROUND_STEPS + METRIC_BATCHES))
        metric, share = yield from _round(head, parameterisation, white, batches, share=share, progress=progress)
        rebuild, constant = (
            parameterisation.weights[0].double().cpu().numpy().T @ white.inverse,
            parameterisation.weights[1],
        )
    order_of_all = np.array([*order, *kept.tolist()], dtype=np.int64)
    if store is not None:
        store.save(key, {"order": order_of_all}, {}, kind="refit order")
    return order_of_all


def _round(
    head: OutputHead,
    parameterisation: HeadParameterisation,
    white: Whitening,
    batches: Iterator[Tensor],
    *,
    share: float,
    progress: Progress,
) -> Steps[tuple[Floats, float]]:
    """Refit between two removals of `refit_order`, `ROUND_STEPS` batches to fit on and the others to judge by: a job.

    Returns ([d, d] the metric at the refitted head's distribution, the share of the step for the next round): where
    refitting led to a larger KL, the weights are what they were and the share is smaller.
    """
    start = [each.clone() for each in parameterisation.weights]
    adam, objective = Adam(parameterisation, ROUND_STEPS, share), Objective(head, parameterisation, white)
    for _ in range(ROUND_STEPS):
        yield progress
        with torch.inference_mode():
            _, e, slope = objective.losses(next(batches))
            pause()
            gradients = parameterisation.gradients(e, slope.div_(len(e)))
            pause()
            adam.step(gradients)
    judges = list(batches)
    after = yield from mean_kl(objective, judges, lambda: progress)
    refitted = [each.clone() for each in parameterisation.weights]
    copy_weights(parameterisation.weights, start)
    if after <= (yield from mean_kl(objective, judges, lambda: progress)):
        copy_weights(parameterisation.weights, refitted)
    else:
        share *= SLOWER
    metric = Metric(head)
    for states in judges:
        yield progress
        with torch.inference_mode():
            metric.add(head.post.apply_(parameterisation.raw(white.of(states))))
    return metric.value(), share


def _drawn(sample: HiddenSample, rng: np.random.Generator, head: OutputHead) -> Tensor:
    """[BATCH, d] hidden states, drawn with replacement."""
    return torch.from_numpy(sample.hidden[rng.integers(len(sample), size=BATCH)]).to(head.columns.device)


def _key(what: str, head: OutputHead, sample: HiddenSample, numbers: Floats) -> str:
    digest = hashlib.sha256(f"{what} {head.sha256} {sample.hidden.shape}".encode())
    digest.update(np.ascontiguousarray(sample.hidden).tobytes())
    digest.update(numbers.astype(np.float32).tobytes())
    return digest.hexdigest()
