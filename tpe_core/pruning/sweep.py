"""The nested sweep: what pruning more and more costs, from one pass over stored hidden states.

Masks along one order are nested and head edits never change h, so the model is not run at all: per fraction only the
newly removed coordinates' product is taken off the running logits. Every fraction is measured on every position.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.detecting.hidden import HiddenSample
from tpe_core.errors import TpeError
from tpe_core.models.head import OutputHead
from tpe_core.progress import Progress, Steps
from tpe_core.pruning.coordinates import Coordinates

__all__ = ["Cost", "Curve", "Sweep", "counts_of", "measure", "sweep"]

Floats = NDArray[np.float64]

CHUNK_BYTES = 3 * 2**20  # of float32 logits at a time: small enough that passes over them stay in a CPU's cache
CUDA_CHUNK_BYTES = 64 * 2**20  # where many positions at once are what is fast; four such buffers are in use
METRICS = ("kl", "js", "top1", "nll", "entropy")


@dataclass(frozen=True, slots=True)
class Cost:
    """What an edited head costs against the base one, averaged over positions of a sample. Nats."""

    kl: float  # E[KL(P || P')]
    js: float  # E[Jensen-Shannon divergence]
    top1: float  # share of positions whose most probable token stays
    nll: float  # E[-log p'(the token that really followed)]
    entropy: float  # E[H(P')]

    @property
    def perplexity(self) -> float:
        """exp(nll)."""
        return math.exp(min(self.nll, 700.0))


@dataclass(frozen=True)
class Curve:
    """Costs along one order, for each number of removed coordinates."""

    removed: tuple[int, ...]
    width: int  # d
    costs: tuple[Cost, ...]

    def to_list(self) -> list[dict[str, Any]]:
        """The points of the JSON document of `tpe prune`."""
        return [
            {
                "fraction": removed / self.width,
                "removed": removed,
                "kl": cost.kl,
                "js": cost.js,
                "top1": cost.top1,
                "perplexity": cost.perplexity,
                "entropy": cost.entropy,
            }
            for removed, cost in zip(self.removed, self.costs, strict=True)
        ]


@dataclass(frozen=True)
class Sweep:
    """Curves by name, and the base head's own cost, on one sample."""

    base: Cost
    curves: Mapping[str, Curve]
    positions: int


def counts_of(fractions: Sequence[float], width: int) -> tuple[int, ...]:
    """Dimensions removed at each fraction of `width`, ascending and distinct.

    Raises `TpeError` for a fraction outside 0 to 1; at least one dimension is always kept.
    """
    for fraction in fractions:
        if not 0 <= fraction <= 1:
            raise TpeError(f"a fraction of removed dimensions must lie between 0 and 1, not {fraction}.")
    return tuple(sorted({min(width - 1, round(fraction * width)) for fraction in fractions}))


class _Reference:
    """The base distribution of one chunk of positions, and buffers to measure others against it."""

    def __init__(self, head: OutputHead, buffers: Tensor, hidden: Tensor, targets: Tensor) -> None:
        size = len(hidden)
        self.head, self.targets = head, targets[:, None]
        self.raw, self.p, self.e, self.spare = (buffer[:size] for buffer in buffers)
        head.raw(hidden, out=self.raw)
        final = self._final(self.raw)
        self.first = final.argmax(1, keepdim=True)
        log_z, _, total = self._normalise(final)
        torch.div(self.e, total, out=self.p)
        self.entropy = log_z - _dot(self.p, final, self._free)
        self.nll = log_z - final.gather(1, self.targets)[:, 0].double()

    @property
    def _free(self) -> Tensor | None:
        """A buffer that nothing is in while final logits are used."""
        return self.spare if self.head.post.cap is None else None

    def _final(self, raw: Tensor) -> Tensor:
        """Final logits; the raw ones themselves where nothing is capped, else in `spare`."""
        return raw if self.head.post.cap is None else self.head.post.apply_(self.spare.copy_(raw))

    def _normalise(self, final: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """([n] float64 log Z, [n, 1] maximum, [n, 1] sum of `e`) of final logits; `e` holds exp(logit - maximum)."""
        highest = final.amax(1, keepdim=True)
        total = torch.sub(final, highest, out=self.e).exp_().sum(1, keepdim=True)
        return (highest.double() + total.double().log())[:, 0], highest, total

    def sums(self, raw: Tensor) -> Tensor:
        """[5] float64 sums of `METRICS` over the chunk for other raw logits [n, V]."""
        final = self._final(raw)
        log_z, highest, total = self._normalise(final)
        stays = (final.gather(1, self.first) >= highest).sum().double()  # the maximum's place would cost a pass more
        kl = log_z - _dot(self.p, final, self._free) - self.entropy
        nll = log_z - final.gather(1, self.targets)[:, 0].double()
        entropy = log_z - _dot(self.e, final, self._free) / total[:, 0].double()
        # H(M) of M = (P + P') / 2 from their sum s: log 2 - (s . log s) / 2.
        both = torch.addcmul(self.p, self.e, total.reciprocal(), out=self.e)
        mixed = math.log(2) - _dot(both, torch.clamp_min(both, 1e-38, out=self.spare).log_(), both) / 2
        js = mixed - (entropy + self.entropy) / 2
        return torch.stack([kl.sum(), js.sum(), stays, nll.sum(), entropy.sum()])

    def own(self) -> Tensor:
        """[5] the base's."""
        zero = self.nll.new_zeros(())
        return torch.stack([zero, zero, zero + len(self.nll), self.nll.sum(), self.entropy.sum()])


def _dot(p: Tensor, values: Tensor, out: Tensor | None = None) -> Tensor:
    """[n] float64 row-wise sums of p * values, where p = 0 counts as 0 even against -inf; `out` may be overwritten.

    Multiplied first and summed pairwise: a matrix product adds V terms up in turn and is off by 1e-3 at V = 50,000.
    """
    sums = torch.mul(p, values, out=out).sum(1)
    if not bool(sums.isfinite().all()):
        sums = torch.where(p > 0, p * values, 0.0).sum(1)
    return sums.double()


def _chunks(head: OutputHead, sample: HiddenSample) -> tuple[int, Tensor]:
    """(positions in a chunk, four buffers of so many logits)."""
    device = head.columns.device
    wanted = CHUNK_BYTES if device.type == "cpu" else CUDA_CHUNK_BYTES
    size = max(8, min(len(sample), wanted // (4 * head.total_rows)))
    return size, torch.empty(4, size, head.total_rows, dtype=torch.float32, device=device)


def _cost(sums: Tensor, positions: int) -> Cost:
    kl, js, top1, nll, entropy = (float(value) / positions for value in sums)
    return Cost(max(0.0, kl), max(0.0, js), top1, nll, entropy)


def sweep(
    head: OutputHead, along: Mapping[str, Coordinates], removed: Sequence[int], sample: HiddenSample
) -> Steps[Sweep]:
    """Measure leaving out the first `removed` coordinates of each of several `along`: a job.

    `removed` is ascending (see `counts_of`). Progress carries the `Sweep` over the positions so far in `partial`.
    """
    if not len(sample):
        raise TpeError("there are no stored hidden states to measure on: give more text or a larger sample.")
    size, buffers = _chunks(head, sample)
    device = head.columns.device
    totals = {name: torch.zeros(len(removed), len(METRICS), dtype=torch.float64, device=device) for name in along}
    base = torch.zeros(len(METRICS), dtype=torch.float64, device=device)
    seen = 0

    def so_far() -> Sweep:
        curves = {
            name: Curve(tuple(removed), head.hidden_size, tuple(_cost(row, seen) for row in total))
            for name, total in totals.items()
        }
        return Sweep(_cost(base, seen), curves, seen)

    while seen < len(sample):
        yield Progress("sweep", seen, len(sample), partial=so_far() if seen else None)
        part = slice(seen, seen + size)
        with torch.inference_mode():
            hidden = torch.from_numpy(sample.hidden[part]).to(device)
            targets = torch.from_numpy(sample.next_ids[part]).to(device)
            reference = _Reference(head, buffers, hidden, targets)
            base += reference.own()
            for name, coordinates in along.items():
                _nested(reference, coordinates, removed, hidden, totals[name])
        seen = min(seen + size, len(sample))
    yield Progress("sweep", seen, len(sample), partial=so_far())
    return so_far()


def _nested(
    reference: _Reference, coordinates: Coordinates, removed: Sequence[int], hidden: Tensor, total: Tensor
) -> None:
    """Add one chunk's sums to `total` [len(removed), 5], starting from the base's own logits.

    KL's cross term is a dot over the vocabulary per fraction. As ``(E_p[G]).e`` it would cost a full product once and
    nothing after, which is dearer below some hundred fractions.
    """
    e = coordinates.of(hidden)
    raw = reference.raw.clone()
    before = 0
    for index, count in enumerate(removed):
        if count > before:
            raw.addmm_(e[:, before:count], coordinates.columns[before:count], alpha=-1)
            before = count
        total[index] += reference.sums(raw)


def measure(head: OutputHead, edited: Any, sample: HiddenSample) -> Steps[Cost]:
    """What any edit of the logits costs: a job. `edited` maps hidden states [n, d] to final logits [n, V_all]."""
    size, buffers = _chunks(head, sample)
    total = torch.zeros(len(METRICS), dtype=torch.float64, device=head.columns.device)
    plain = OutputHead(head.columns, head.bias, type(head.post)(), head.vocab_rows, head.tied, head.module)
    for first in range(0, len(sample), size):
        yield Progress("measure", first, len(sample))
        part = slice(first, first + size)
        with torch.inference_mode():
            hidden = torch.from_numpy(sample.hidden[part]).to(head.columns.device)
            reference = _Reference(head, buffers, hidden, torch.from_numpy(sample.next_ids[part]).to(hidden.device))
            reference.head = plain  # `edited` has applied the cap
            total += reference.sums(edited(hidden))
    return _cost(total, len(sample))
