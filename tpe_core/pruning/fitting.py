"""Fitting a pruned head: weights that minimise the mean KL(P || P') over stored hidden states.

A `HeadParameterisation` says how its weights make logits out of the kept dimensions and what the gradient is; Adam,
the positions held back and the choice of the best weights are the same for all of them. Every parameterisation works on
white coordinates of the kept dimensions, so that one step size serves all of them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.analysis import Analysis
from tpe_core.detection.detection import Detection
from tpe_core.detection.hidden import HiddenSample
from tpe_core.detection.reading import corpus_spec
from tpe_core.detection.samples import read_sample
from tpe_core.edits.reconstruction import covariance
from tpe_core.errors import NumericalError, TpeError
from tpe_core.models.head import OutputHead
from tpe_core.models.model import LanguageModel
from tpe_core.pauses import pause
from tpe_core.progress import Progress, Steps
from tpe_core.pruning.pruned_head import PrunedHead
from tpe_core.store import Store

__all__ = [
    "BATCH",
    "CHECK_PRODUCTS",
    "POSITIONS",
    "SLOWER",
    "Adam",
    "HeadParameterisation",
    "Objective",
    "Outcome",
    "Whitening",
    "copy_weights",
    "fit_weights",
    "fitting_sample",
    "mean_kl",
    "products",
    "usual_positions",
]

Floats = NDArray[np.float64]

POSITIONS = 131_072  # of the detecting text: so many weights fit what they have seen better than what follows
FEWEST, SMALL = 16_384, 8_000_000  # positions of a large model, parameters of one that reads `POSITIONS` in minutes
SPREAD = 4  # positions read for each one fitted on: those of one document are alike, and other documents are asked for
SAMPLE_BYTES = 2**30  # of the hidden states that are kept, at most
BATCH = 256  # positions a step
CHECK_EVERY = 50  # steps between two looks at the positions held back
HELD_BACK, HELD_BACK_MOST = 0.1, 4096  # share of the positions, and how many at most
STEP_PRODUCTS, CHECK_PRODUCTS = 3, 2  # as wide as the vocabulary, of a batch: two heads' logits; a gradient's beside
BETAS, EPSILON = (0.9, 0.99), 1e-8
SLOWER = 0.25  # share of the step that is left after a start that led nowhere


class Whitening:
    """White coordinates of kept dimensions: ``h_K = mean + factor e`` with E[e] = 0 and E[e eᵀ] = 1."""

    def __init__(self, kept: Sequence[int] | NDArray[np.int64], detection: Detection, head: OutputHead) -> None:
        self.kept = np.asarray(kept, dtype=np.int64)  # ascending
        spread = covariance(detection)[:, self.kept]
        self.factor: Floats = scipy.linalg.cholesky(spread[self.kept], lower=True)  # L of C_KK = L Lᵀ
        self.inverse: Floats = scipy.linalg.solve_triangular(self.factor, np.eye(len(self.kept)), lower=True)
        self.mean: Floats = detection.mean_hidden[self.kept]
        self.map: Floats = spread @ self.inverse.T  # [d, k]: E[h | h_K] = E[h] + map e
        device = head.columns.device
        self._forward, self._mean = (torch.from_numpy(part).to(device) for part in (self.inverse.T.copy(), self.mean))
        self._kept = torch.from_numpy(self.kept).to(device)

    def of(self, hidden: Tensor) -> Tensor:
        """[n, k] float32 coordinates of hidden states [n, d]."""
        return ((hidden[:, self._kept].double() - self._mean) @ self._forward).float()

    def head(self, columns: Tensor, constant: Tensor, base: OutputHead) -> PrunedHead:
        """The pruned head with logits ``post(columnsᵀ e + constant)``, columns [k, V_all] and constant [V_all]."""
        of_kept = self._forward @ columns.double()
        moved = constant.double() - self._mean @ of_kept
        return PrunedHead(self._kept, of_kept.float(), moved.float(), base.post, base.hidden_size)


class HeadParameterisation(ABC):
    """The weights of a pruned head, and what they make of white coordinates e [n, k]."""

    weights: tuple[Tensor, ...]  # changed in place
    rates: tuple[float, ...]  # Adam's step at first, for each of them

    @abstractmethod
    def raw(self, e: Tensor) -> Tensor:
        """[n, V_all] logits before the cap, in memory of their own."""

    @abstractmethod
    def gradients(self, e: Tensor, slope: Tensor) -> tuple[Tensor, ...]:
        """Gradients of a loss by the weights, from its gradient by the raw logits [n, V_all], already averaged."""


def copy_weights(into: Sequence[Tensor], weights: Sequence[Tensor]) -> None:
    """Give tensors the values of others, one of each."""
    for each, values in zip(into, weights, strict=True):
        each.copy_(values)


class Adam:
    """Adam (Kingma & Ba 2015) on weights, in place, its step falling to 0 along a cosine over `steps`."""

    def __init__(self, parameterisation: HeadParameterisation, steps: int, share: float = 1.0) -> None:
        self._parameterisation, self._steps, self._step = parameterisation, steps, 0
        self._share = share  # of the parameterisation's rates
        self._since, self._moments = 0, self._none()

    def _none(self) -> list[tuple[Tensor, Tensor]]:
        return [(torch.zeros_like(each), torch.zeros_like(each)) for each in self._parameterisation.weights]

    def restart(self, weights: Sequence[Tensor]) -> None:
        """Go on from these weights with a quarter of the rates, all gradients so far forgotten."""
        copy_weights(self._parameterisation.weights, weights)
        self._share *= SLOWER
        self._since, self._moments = self._step, self._none()

    def step(self, gradients: Sequence[Tensor]) -> None:
        """One step against the gradients, one of each of the weights."""
        self._step += 1
        fall = self._share * 0.5 * (1 + math.cos(math.pi * self._step / self._steps))
        seen = self._step - self._since
        scale = math.sqrt(1 - BETAS[1] ** seen) / (1 - BETAS[0] ** seen)
        for weights, gradient, (first, second), rate in zip(
            self._parameterisation.weights, gradients, self._moments, self._parameterisation.rates, strict=True
        ):
            first.lerp_(gradient, 1 - BETAS[0])
            second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            weights.addcdiv_(first, second.sqrt().add_(EPSILON), value=-rate * fall * scale)


@dataclass(frozen=True)
class Objective:
    """KL(P || P') between a head and what a parameterisation makes of the kept dimensions, and its gradient.

    Both may be some rows of a larger vocabulary (`row_sample`), whose final logits take `log_weight` [rows] then.
    """

    head: OutputHead
    parameterisation: HeadParameterisation
    white: Whitening
    log_weight: Tensor | None = None

    def losses(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """([n] KL of hidden states [n, d], e [n, k], [n, rows] the gradient of every KL by the raw logits)."""
        kl, e, final, p, spare = self._compared(hidden)
        slope = torch.softmax(final, 1, out=spare).sub_(p)
        post = self.head.post
        if self.log_weight is not None and not post.is_linear:
            final.sub_(self.log_weight)
        return kl, e, post.chain(slope, final, out=slope)

    def kl(self, hidden: Tensor) -> Tensor:
        """[n] KL of hidden states [n, d], nats."""
        return self._compared(hidden)[0]

    def _compared(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(KL, e, weighted logits of P', P, memory of their size)."""
        e = self.white.of(hidden)
        pause()
        base = self.head.logits(hidden)
        pause()
        final = self.head.post.apply_(self.parameterisation.raw(e))
        pause()
        if self.log_weight is not None:
            base, final = base.add_(self.log_weight), final.add_(self.log_weight)
        log_p, log_q = torch.log_softmax(base, 1), torch.log_softmax(final, 1)
        pause()
        p = torch.softmax(base, 1)
        kl = torch.where(p > 0, log_p.sub_(log_q).mul_(p), 0.0).sum(1)
        pause()
        return kl, e, final, p, log_q


@dataclass(frozen=True)
class Outcome:
    """Mean KL on the positions held back, at the start and at its best, and after how many steps that was. Nats."""

    kl_before: float
    kl_after: float
    steps: int


def products(steps: int, positions: int, share: float = 1.0) -> int:
    """Batches' products as wide as the vocabulary that a fit of so many steps on so many positions takes.

    Where `share` of the rows is drawn for a step, only the first look and the last are at all of them.
    """
    looks, batches = 1 + math.ceil(steps / CHECK_EVERY), math.ceil(_held_back(positions) / BATCH)
    whole = 0 if share == 1 else 2
    return round(share * (STEP_PRODUCTS * steps + CHECK_PRODUCTS * batches * looks) + CHECK_PRODUCTS * batches * whole)


def _held_back(positions: int) -> int:
    return min(max(1, round(HELD_BACK * positions)), HELD_BACK_MOST)


class _Work:
    """How far a fit is, in `products`: looks at the positions held back count beside the steps."""

    def __init__(self, label: str, steps: int, positions: int, share: float) -> None:
        self._label, self._step, self._steps, self._share = label, 0, steps, share
        self._done, self._total = 0.0, products(steps, positions, share)
        self.best: float | None = None  # mean KL on the positions held back, nats

    def step_done(self) -> None:
        """Count a step."""
        self._step, self._done = self._step + 1, self._done + self._share * STEP_PRODUCTS

    def counted(self, batches: Iterable[Tensor], share: float = 1.0) -> Iterator[Tensor]:
        """The same batches of positions held back, at a share of the rows; each counts once the next is asked for."""
        for batch in batches:
            yield batch
            self._done += share * CHECK_PRODUCTS

    def told(self) -> Progress:
        """The progress, which reads as steps, with the least KL so far."""
        amount = f"{self._step:,}/{self._steps:,}"
        note = "" if self.best is None else f"KL {self.best:.4f}"
        return Progress(self._label, min(round(self._done), self._total), self._total, note=note, amount=amount)


def usual_positions(model: LanguageModel) -> int:
    """How many positions are fitted on where nobody says: `POSITIONS`, and fewer, down to `FEWEST`, of a larger model.

    Reading them takes as long as its parameters are many: an hour for the 524,288 positions that `POSITIONS` are drawn
    from, with 135 M on one busy CPU core. It is the same on every machine, so that a mask is refitted alike everywhere.
    """
    parameters: int = sum(parameter.numel() for parameter in model.hf.parameters())
    return max(FEWEST, min(POSITIONS, POSITIONS * SMALL // max(1, parameters)))


def fitting_sample(
    analysis: Analysis, positions: int | None = None, *, seed: int = 0, store: Store | None = None
) -> Steps[HiddenSample]:
    """Hidden states of the detecting text to fit on, drawn at random from `SPREAD` times as many: a cached job.

    `positions` are `usual_positions` by default, as far as the text goes and `SAMPLE_BYTES` hold them. On the bundled
    model a distilled head with 70 % removed costs .456 nats on held-out text when its 131,072 positions are spread like
    that, .474 when they follow one another.
    """
    asked = usual_positions(analysis.model) if positions is None else positions
    many = min(asked, SAMPLE_BYTES // (4 * analysis.model.head.hidden_size))
    spec = corpus_spec(analysis.source, analysis.model, SPREAD * many)
    return (yield from read_sample(analysis.model, spec, many, seed, store))


def fit_weights(
    whole: Objective,
    hidden: NDArray[np.float32],
    *,
    steps: int,
    seed: int,
    label: str,
    drawn: Callable[[], Objective] | None = None,
    share: float = 1.0,
) -> Steps[Outcome]:
    """Give a parameterisation the weights with the least mean KL on held-back positions among those Adam passes: a job.

    `hidden` is [N, d]. Where a look finds them worse than they began, Adam goes back to the best with a quarter of its
    step: how large a step may be is a property of the model (a head whose h has outlier dimensions bears less).
    `drawn` makes the objective of a step, over a `share` of the rows of `whole` and with its weights; the looks in
    between are over rows of their own then, the same for all, and what comes of it is measured over all rows: weights
    that cost more than the first ones are not taken. The same seed gives the same weights. Raises `TpeError` for fewer
    than two positions, `NumericalError` where the KL to begin with is no finite number.
    """
    if len(hidden) < 2:
        raise TpeError(f"a pruned head cannot be fitted on a sample of {len(hidden)} positions: give more text.")
    device, weights = whole.head.columns.device, whole.parameterisation.weights
    shuffled = np.random.default_rng(seed).permutation(len(hidden))
    held = _held_back(len(hidden))
    checked = torch.from_numpy(hidden[shuffled[:held]]).to(device).split(BATCH)
    work = _Work(label, steps, len(hidden), share)
    before = work.best = yield from mean_kl(whole, work.counted(checked), work.told)
    if not math.isfinite(before):
        raise NumericalError(
            f"a pruned head cannot be fitted: its KL is {before} before the first step, as logits overflow: remove "
            "fewer dimensions, or check the checkpoint."
        )
    look, first = whole, before
    if drawn is not None:
        look = drawn()
        first = yield from mean_kl(look, work.counted(checked, share), work.told)
    start = [each.clone() for each in weights]
    chosen, best, best_step = start, first, 0
    adam, batches = Adam(whole.parameterisation, steps), _batches(shuffled[held:], seed)
    for step in range(1, steps + 1):
        yield work.told()
        with torch.inference_mode():
            here = whole if drawn is None else drawn()
            pause()
            _, e, slope = here.losses(torch.from_numpy(hidden[next(batches)]).to(device))
            pause()
            gradients = here.parameterisation.gradients(e, slope.div_(len(e)))
            pause()
            adam.step(gradients)
        work.step_done()
        if step % CHECK_EVERY == 0 or step == steps:
            now = yield from mean_kl(look, work.counted(checked, share), work.told)
            if not now <= first:
                adam.restart(chosen)
            elif now < best:
                best = work.best = now
                chosen, best_step = [each.clone() for each in weights], step
    copy_weights(weights, chosen)
    if drawn is not None:
        best = yield from mean_kl(whole, work.counted(checked), work.told)
        if not best <= before:
            copy_weights(weights, start)
            best, best_step = before, 0
    return Outcome(before, best, best_step)


def _batches(positions: NDArray[np.int64], seed: int) -> Iterator[NDArray[np.int64]]:
    """Endless minibatches of positions, each pass in another order."""
    rng = np.random.default_rng([seed, 1])
    while True:
        yield from np.array_split(rng.permutation(positions), max(1, len(positions) // BATCH))


def mean_kl(objective: Objective, batches: Iterable[Tensor], told: Callable[[], Progress]) -> Steps[float]:
    """Mean KL(P || P') over batches of hidden states [n, d], nats: a job that says `told` before each of them."""
    total, positions = 0.0, 0
    for hidden in batches:
        yield told()
        with torch.inference_mode():
            total += float(objective.kl(hidden).sum())
        positions += len(hidden)
    return total / positions
