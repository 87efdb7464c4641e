"""The nested sweep: what pruning more and more costs, from one pass over stored hidden states.

Masks along one order are nested and head edits never change h, so the model is not run at all: per fraction only the
newly removed coordinates' product is taken off the running logits. Every fraction is measured on every position.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.clamping import at_least
from tpe_core.detection.hidden import HiddenSample
from tpe_core.errors import NumericalError, TpeError
from tpe_core.metrics import AVERAGED
from tpe_core.models.head import OutputHead
from tpe_core.pauses import pause
from tpe_core.progress import Progress, Steps
from tpe_core.pruning.coordinates import Coordinates
from tpe_core.pruning.results import Cost
from tpe_core.shares import count_of

__all__ = ["Sweep", "counts_of", "measure", "sweep"]

K = TypeVar("K")
Floats = NDArray[np.float64]

BASE_BYTES = 24 * 2**20  # of float32 base logits at a time: whole products are fast for many positions
CHUNK_BYTES = 6 * 2**20  # of them edited at a time: products of fewer positions wait for W's columns
PASS_BYTES = 3 * 2**20  # of them measured at a time: few enough that passes over them stay in a CPU's cache
CUDA_CHUNK_BYTES = 64 * 2**20  # of either where many positions at once are what is fast
LOG2_E = 1 / math.log(2)


@dataclass(frozen=True)
class Sweep(Generic[K]):
    """Costs by name, for each number of removed coordinates, and the base head's own, on one sample."""

    base: Cost
    costs: Mapping[K, tuple[Cost, ...]]
    positions: int


def counts_of(fractions: Sequence[float], width: int) -> tuple[int, ...]:
    """Dimensions removed at each fraction of `width`, ascending and distinct.

    Raises `TpeError` for a fraction outside 0 to 1; at least one dimension is always kept.
    """
    for fraction in fractions:
        if not 0 <= fraction <= 1:
            raise TpeError(f"a fraction of removed dimensions must lie between 0 and 1, not {fraction}.")
    return tuple(sorted({min(width - 1, count_of(fraction, width)) for fraction in fractions}))


@dataclass(frozen=True)
class _Buffers:
    """Float32 memory for logits: of many positions of the base, of a chunk of them, of those measured at a time."""

    base: Tensor  # [N, V]
    chunk: Tensor  # [2, n, V], n <= N
    passes: Tensor  # [2, m, V], m <= n

    @classmethod
    def of(cls, head: OutputHead, positions: int) -> _Buffers:
        device, rows = head.columns.device, head.total_rows
        wanted = (BASE_BYTES, CHUNK_BYTES, PASS_BYTES) if device.type == "cpu" else (CUDA_CHUNK_BYTES,) * 3
        sizes = [max(8, min(positions, size // (4 * rows))) for size in wanted]
        shapes = ((sizes[0], rows), (2, sizes[1], rows), (2, sizes[2], rows))
        return cls(*(torch.empty(shape, dtype=torch.float32, device=device) for shape in shapes))


class _Reference:
    """The base distribution of one chunk of positions, and buffers to measure others against it."""

    def __init__(self, head: OutputHead, buffers: _Buffers, raw: Tensor, targets: Tensor) -> None:
        self.head, self.raw, self.targets, self._buffers = head, raw, targets[:, None], buffers
        self._p, self._running = buffers.chunk[:, : len(raw)]
        parts = [self._base(rows) for rows in self._slices()]
        self._first, self._entropy, self.nll = (torch.cat(values) for values in zip(*parts, strict=True))

    def _slices(self) -> Iterator[slice]:
        step = self._buffers.passes.shape[1]
        for first in range(0, len(self.raw), step):
            yield slice(first, first + step)

    def _base(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """([n, 1] most probable tokens, [n] float64 entropies, [n] float64 losses) of the base; fills in `_p`."""
        p = self._p[rows]
        e, spare = self._buffers.passes[:, : len(p)]
        final = self._final(self.raw[rows], spare)
        log_z, _, total = _normalise(final, e)
        torch.div(e, total, out=p)
        entropy = log_z - _dot(p, final, self._free(spare))
        nll = log_z - final.gather(1, self.targets[rows])[:, 0].double()
        return final.argmax(1, keepdim=True), entropy, nll

    def _free(self, spare: Tensor) -> Tensor | None:
        """A buffer that nothing is in while final logits are used."""
        return spare if self.head.post.is_linear else None

    def _final(self, raw: Tensor, spare: Tensor) -> Tensor:
        """Final logits; the raw ones themselves where nothing is capped, else in `spare`."""
        return raw if self.head.post.is_linear else self.head.post.apply_(spare.copy_(raw))

    def sums(self, raw: Tensor) -> Tensor:
        """[5] float64 sums of `AVERAGED` over the chunk for other raw logits [n, V]."""
        total = self.nll.new_zeros(len(AVERAGED))
        for rows in self._slices():
            total += self._sums(raw[rows], rows)
        return total

    def _sums(self, raw: Tensor, rows: slice) -> Tensor:
        p = self._p[rows]
        e, spare = self._buffers.passes[:, : len(p)]
        final = self._final(raw, spare)
        log_z, highest, total = _normalise(final, e)
        # The maximum's place would cost a pass more.
        stays = (final.gather(1, self._first[rows]) >= highest).sum().double()
        kl = log_z - _dot(p, final, self._free(spare)) - self._entropy[rows]
        nll = log_z - final.gather(1, self.targets[rows])[:, 0].double()
        entropy = log_z - _dot(e, final, self._free(spare)) / total[:, 0].double()
        # H(M) of M = (P + P') / 2 from their sum s: log 2 - (s . log s) / 2.
        both = torch.addcmul(p, e, total.reciprocal(), out=e)
        mixed = math.log(2) - _dot(both, _log(both, spare), both) / 2
        js = mixed - (entropy + self._entropy[rows]) / 2
        return torch.stack([kl.sum(), js.sum(), stays, nll.sum(), entropy.sum()])

    def running(self) -> Tensor:
        """[n, V] raw logits of the base in memory to edit; the same memory at every call."""
        return self._running.copy_(self.raw)

    def own(self) -> Tensor:
        """[5] the base's."""
        zero = self.nll.new_zeros(())
        return torch.stack([zero, zero, zero + len(self.nll), self.nll.sum(), self._entropy.sum()])


def _normalise(final: Tensor, e: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """([n] float64 log Z, [n, 1] maximum, [n, 1] sum of `e`) of final logits; `e` is given exp(logit - maximum).

    As a power of two: a third of what torch's exp costs on a CPU.
    """
    highest = final.amax(1, keepdim=True)
    total = torch.sub(final, highest, out=e).mul_(LOG2_E).exp2_().sum(1, keepdim=True)
    return (highest.double() + total.double().log())[:, 0], highest, total


def _log(values: Tensor, out: Tensor) -> Tensor:
    """Natural logarithms, finite where a value is 0. On a CPU by NumPy's vector loop, half of what torch's costs."""
    torch.clamp_min(values, torch.finfo(values.dtype).tiny, out=out)
    if out.device.type != "cpu":
        return out.log_()
    np.log(out.numpy(), out=out.numpy())
    return out


def _dot(p: Tensor, values: Tensor, out: Tensor | None = None) -> Tensor:
    """[n] float64 row-wise sums of p * values, where p = 0 counts as 0 even against -inf; `out` may be overwritten.

    Multiplied first and summed pairwise: a matrix product adds V terms up in turn and is off by 1e-3 at V = 50,000.
    """
    sums = torch.mul(p, values, out=out).sum(1)
    if not bool(sums.isfinite().all()):
        sums = torch.where(p > 0, p * values, 0.0).sum(1)
    return sums.double()


def _references(head: OutputHead, sample: HiddenSample) -> Iterator[tuple[int, Tensor, _Reference]]:
    """(positions before it, its hidden states [n, d], its base) of every chunk of a sample; use each at once."""
    device, buffers = head.columns.device, _Buffers.of(head, len(sample))
    many, size = len(buffers.base), buffers.chunk.shape[1]
    for begin in range(0, len(sample), many):
        states = torch.from_numpy(sample.hidden[begin : begin + many]).to(device)
        targets = torch.from_numpy(sample.next_ids[begin : begin + many]).to(device)
        with torch.inference_mode():
            pause()
            raw = head.raw(states, out=buffers.base[: len(states)])
        for first in range(0, len(states), size):
            part = slice(first, first + size)
            with torch.inference_mode():
                reference = _Reference(head, buffers, raw[part], targets[part])
            yield begin + first, states[part], reference


def _cost(sums: Tensor, positions: int) -> Cost:
    values = [float(value) / positions for value in sums]
    if wrong := [name for name, value in zip(AVERAGED, values, strict=True) if math.isnan(value)]:
        raise NumericalError(
            f"the {wrong[0]} of the edited head is no number over {positions:,} positions: its logits overflow, "
            "so prune or steer less, or check the checkpoint."
        )
    kl, js, top1, nll, entropy = values
    return Cost(kl=at_least(0.0, kl), js=at_least(0.0, js), top1=top1, nll=nll, entropy=entropy)


def sweep(
    head: OutputHead, along: Mapping[K, Coordinates], removed: Sequence[int], sample: HiddenSample
) -> Steps[Sweep[K]]:
    """Measure leaving out the first `removed` coordinates of each of several `along`: a job.

    `removed` is ascending (see `counts_of`). Progress carries the `Sweep` over the positions so far in `partial`.
    """
    if not len(sample):
        raise TpeError("there are no stored hidden states to measure on: give more text or a larger sample.")
    device = head.columns.device
    totals = {name: torch.zeros(len(removed), len(AVERAGED), dtype=torch.float64, device=device) for name in along}
    base = torch.zeros(len(AVERAGED), dtype=torch.float64, device=device)
    seen = 0

    def so_far() -> Sweep[K]:
        costs = {name: tuple(_cost(row, seen) for row in total) for name, total in totals.items()}
        return Sweep(_cost(base, seen), costs, seen)

    for seen, hidden, reference in _references(head, sample):
        yield Progress("sweep", seen, len(sample), partial=so_far() if seen else None)
        with torch.inference_mode():
            base += reference.own()
            for name, coordinates in along.items():
                pause()
                _nested(reference, coordinates, removed, hidden, totals[name])
    seen = len(sample)
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
    raw = reference.running()
    before = 0
    for index, count in enumerate(removed):
        if count > before:
            raw.addmm_(e[:, before:count], coordinates.columns[before:count], alpha=-1)
            before = count
        pause()
        total[index] += reference.sums(raw)


def measure(head: OutputHead, edited: Any, sample: HiddenSample) -> Steps[Cost]:
    """What any edit of the logits costs: a job. `edited` maps hidden states [n, d] to final logits [n, V_all]."""
    total = torch.zeros(len(AVERAGED), dtype=torch.float64, device=head.columns.device)
    plain = OutputHead(
        columns=head.columns,
        bias=head.bias,
        post=type(head.post)(),
        vocab_rows=head.vocab_rows,
        tied=head.tied,
        module=head.module,
    )
    for seen, hidden, reference in _references(head, sample):
        yield Progress("measure", seen, len(sample))
        reference.head = plain  # `edited` has applied the cap
        with torch.inference_mode():
            pause()
            total += reference.sums(edited(hidden))
    return _cost(total, len(sample))
