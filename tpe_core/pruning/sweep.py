"""The nested sweep: what pruning more and more costs, from one pass over stored hidden states.

Masks along one order are nested and head edits never change h, so the model is not run at all: per fraction only the
newly removed coordinates' product is taken off the running logits. Every fraction is measured on every position.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
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

CHUNK_BYTES = 24 * 2**20  # of float32 logits edited at a time: products of fewer positions wait for W's columns
CHUNK_POSITIONS = 48  # at least, for the same reason
PASS_BYTES = 3 * 2**19  # of them measured at a time by each thread: few enough that passes stay in a CPU's cache
CUDA_CHUNK_BYTES = 64 * 2**20  # of either where many positions at once are what is fast
LOG2_E = 1 / math.log(2)
TINY = float(np.finfo(np.float32).tiny)
MOST_BITS = 32.0  # that the largest logit may lie from the base's log Z
LOWEST_BITS = 2.0**30  # below it, what a token that is never predicted has in place of -inf
BLOCK = 1024  # products added up in turn
HAS_VECTOR_LOOPS = sys.platform == "linux" and torch.backends.cpu.get_cpu_capability() == "AVX512"
"""Whether NumPy takes float32 powers of two and logarithms to base 2 many at a time."""


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
    """Float32 memory for logits: the base's of a chunk of positions, two more of its size, those measured at a time."""

    base: Tensor  # [N, V]
    chunk: Tensor  # [2, N, V]
    passes: Tensor  # [2, m, V], m <= N

    @classmethod
    def of(cls, head: OutputHead, positions: int) -> _Buffers:
        device, rows = head.columns.device, head.total_rows
        if device.type == "cpu":
            many = max(CHUNK_POSITIONS, CHUNK_BYTES // (4 * rows))
            few = PASS_BYTES * torch.get_num_threads() // (4 * rows)
        else:
            many = few = CUDA_CHUNK_BYTES // (4 * rows)
        many = max(1, min(positions, many))
        shapes = ((many, rows), (2, many, rows), (2, max(1, min(many, few)), rows))
        return cls(*(torch.empty(shape, dtype=torch.float32, device=device) for shape in shapes))


class _Reference:
    """The base distribution of one chunk of positions, and buffers to measure others against it.

    Logits are measured in bits above the base's log Z, ``y = (z - log Z) / log 2``: the base's own probabilities are
    2^y, and those of an edit near it need neither a factor nor a maximum taken off before the power.
    """

    def __init__(self, head: OutputHead, buffers: _Buffers, raw: Tensor, targets: Tensor) -> None:
        self.head, self.raw, self._buffers = head, raw, buffers
        self._p, self._running = buffers.chunk[:, : len(raw)]
        self._has_masked = False
        parts = [self._base(rows) for rows in self._slices()]
        self._log_z, first, own = (torch.cat(values) for values in zip(*parts, strict=True))
        self._entropy = -own  # [n] float64 bits
        self._places = torch.cat([first, targets[:, None]], 1)  # [n, 2] the most probable token, and the target
        self.nll = self._log_z[:, 0] - head.post(raw.gather(1, targets[:, None]))[:, 0].double()

    def _slices(self) -> Iterator[slice]:
        step = self._buffers.passes.shape[1]
        for first in range(0, len(self.raw), step):
            yield slice(first, first + step)

    def _base(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """[m, 1] float64 log Z, [m, 1] most probable token and [m] float64 p . y of the base; fills in `_p`."""
        p = self._p[rows]
        y, spare = self._buffers.passes[:, : len(p)]
        final = self._final(self.raw[rows], spare)
        highest = final.amax(1, keepdim=True)
        torch.add(highest * -LOG2_E, final, alpha=LOG2_E, out=y).clamp_min_(-LOWEST_BITS)
        total = _exp2(y, p).sum(1, keepdim=True)
        p.div_(total).clamp_min_(TINY)  # so that every sum with other probabilities has a logarithm
        # The maximum's bits were rounded before they were taken off.
        log_z = (highest * LOG2_E).double() / LOG2_E + total.double().log()
        return log_z, _argmax(final), _added(_products(p, y.sub_(total.log2()), spare))

    def _final(self, raw: Tensor, spare: Tensor) -> Tensor:
        """Final logits; the raw ones themselves where nothing is capped, else in `spare`."""
        return raw if self.head.post.is_linear else self.head.post.apply_(spare.copy_(raw))

    @property
    def unit(self) -> float:
        """By what a change of the raw logits is multiplied in `running`: 1 / log 2 for bits, or 1 under a cap."""
        return LOG2_E if self.head.post.is_linear else 1.0

    def running(self) -> Tensor:
        """[n, V] raw logits of the base in memory to edit, for `sums`; the same memory at every call."""
        if self.head.post.is_linear:
            return self._bits(self.raw, slice(None), self._running)
        return self._running.copy_(self.raw)

    def _bits(self, final: Tensor, rows: slice, out: Tensor) -> Tensor:
        return torch.add((self._log_z[rows] * -LOG2_E).float(), final, alpha=LOG2_E, out=out)

    def sums(self, running: Tensor) -> Tensor:
        """[5] float64 sums of `AVERAGED` over the chunk for the logits that `running` [n, V] was edited to."""
        if self.head.post.is_linear:
            return self._sums(lambda rows, _: running[rows])
        return self._sums(lambda rows, out: self._bits(self._final(running[rows], out), rows, out))

    def sums_of(self, logits: Tensor) -> Tensor:
        """The same for any final logits [n, V]."""
        return self._sums(lambda rows, out: self._bits(logits[rows], rows, out))

    def _sums(self, bits: Callable[[slice, Tensor], Tensor]) -> Tensor:
        """`sums` of logits that `bits` gives for rows: [m, V] y, in memory of its own or in that offered."""
        spare = self._buffers.passes[1]
        parts = [self._passes(bits(rows, spare[: len(self._p[rows])]), rows) for rows in self._slices()]
        highest, total, at, *products = (torch.cat(values) for values in zip(*parts, strict=True))
        cross, own, mixed = map(_added, products)
        if not self._has_masked and not bool((cross + own).isfinite().all()):
            self._has_masked = True  # the same again, for 0 times -inf counts as 0
            return self._sums(bits)
        total = total[:, 0].double()
        log_z = total.log2()
        stays = (at[:, :1] >= highest).sum()  # the maximum's place would cost a pass more
        entropy = log_z - own / total
        # H(M) of M = (P + P') / 2 from their sum s: 1 bit - (s . log2 s) / 2.
        js = 1 - mixed / 2 - (entropy + self._entropy) / 2
        kl, nll = log_z - cross - self._entropy, log_z - at[:, 1].double()
        bits_of = {"kl": kl, "js": js, "nll": nll, "entropy": entropy}
        return torch.stack([stays.double() if name == "top1" else bits_of[name].sum() / LOG2_E for name in AVERAGED])

    def _passes(self, y: Tensor, rows: slice) -> tuple[Tensor, ...]:
        """What `_sums` needs of some rows [m, V]; all passes over the vocabulary are here. May change `y`.

        [m, 1] maximum y and sum of e = 2^y, [m, 2] y at `_places`, and parts [m, ?] of p . y, e . y and s . log2 s.
        """
        p, (e, spare) = self._p[rows], self._buffers.passes[:, : len(y)]
        free = None if y.data_ptr() == spare.data_ptr() else spare
        highest = y.amax(1, keepdim=True)
        lowest, most = highest.aminmax()
        if not -MOST_BITS < float(lowest) <= float(most) < MOST_BITS:  # else powers of 2 could leave float32
            y.sub_(highest)
            highest = torch.zeros_like(highest)
        at = y.gather(1, self._places[rows])
        if self._has_masked:
            y.clamp_min_(-LOWEST_BITS)
            at.masked_fill_(at <= -LOWEST_BITS / 2, -math.inf)
        total = _exp2(y, e).sum(1, keepdim=True)
        cross, own = _products(p, y, free), _products(e, y, free)
        both = torch.addcmul(p, e, total.reciprocal(), out=e)
        return highest, total, at, cross, own, _products(both, _log2(both, spare), both)

    def own(self) -> Tensor:
        """[5] the base's."""
        zero = self.nll.new_zeros(())
        return torch.stack([zero, zero, zero + len(self.nll), self.nll.sum(), self._entropy.sum() / LOG2_E])


def _argmax(final: Tensor) -> Tensor:
    """[n, 1] places of the largest logits: by NumPy on a CPU, a tenth of what torch's search costs."""
    if final.device.type != "cpu":
        return final.argmax(1, keepdim=True)
    return torch.from_numpy(final.numpy().argmax(1, keepdims=True))


def _serial(values: Tensor) -> bool:
    """Whether loops that NumPy runs on one core are the faster ones: torch's share the work among its threads."""
    return bool(values.device.type == "cpu" and torch.get_num_threads() == 1)


def _exp2(values: Tensor, out: Tensor) -> Tensor:
    """Powers of two: a third of what torch's exp costs on a CPU."""
    if HAS_VECTOR_LOOPS and _serial(values):
        np.exp2(values.numpy(), out=out.numpy())
        return out
    return torch.exp2(values, out=out)


def _log2(values: Tensor, out: Tensor) -> Tensor:
    """Logarithms to base 2. On a CPU by NumPy's loops, which take a quarter to a half of what torch's do."""
    if out.device.type != "cpu":
        return torch.log2(values, out=out)
    if HAS_VECTOR_LOOPS:
        np.log2(values.numpy(), out=out.numpy())
        return out
    np.log(values.numpy(), out=out.numpy())
    return out.mul_(LOG2_E)


def _products(p: Tensor, values: Tensor, out: Tensor | None = None) -> Tensor:
    """[n, ?] float32 sums of p * values by parts of a row, for `_added`; may overwrite `out`.

    A product of whole rows adds V terms up in turn and is off by 1e-3 at V = 50,000; `BLOCK` of them are harmless.
    """
    if not _serial(p):
        return torch.mul(p, values, out=out).sum(1, keepdim=True)
    rows, width = p.shape
    blocks, rest = divmod(width, BLOCK)
    shape = rows, blocks, BLOCK
    parts = np.empty((rows, blocks + (rest > 0)), np.float32)
    p_rows, value_rows = p.numpy(), values.numpy()
    whole = slice(0, width - rest)
    with np.errstate(invalid="ignore"):
        np.vecdot(p_rows[:, whole].reshape(shape), value_rows[:, whole].reshape(shape), out=parts[:, :blocks])
        if rest:
            np.vecdot(p_rows[:, -rest:], value_rows[:, -rest:], out=parts[:, blocks])
    return torch.from_numpy(parts)


def _added(parts: Tensor) -> Tensor:
    """[n] float64 row-wise sums of what `_products` gives."""
    return parts.double().sum(1)


def _references(head: OutputHead, sample: HiddenSample) -> Iterator[tuple[int, Tensor, _Reference]]:
    """(positions before it, its hidden states [n, d], its base) of every chunk of a sample; use each at once."""
    device, buffers = head.columns.device, _Buffers.of(head, len(sample))
    size = len(buffers.base)
    for begin in range(0, len(sample), size):
        states = torch.from_numpy(sample.hidden[begin : begin + size]).to(device)
        targets = torch.from_numpy(sample.next_ids[begin : begin + size]).to(device)
        with torch.inference_mode():
            pause()
            raw = head.raw(states, out=buffers.base[: len(states)])
            pause()
            reference = _Reference(head, buffers, raw, targets)
        yield begin, states, reference


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
    running = reference.running()
    before = 0
    for index, count in enumerate(removed):
        if count > before:
            running.addmm_(e[:, before:count], coordinates.columns[before:count], alpha=-reference.unit)
            before = count
        pause()
        total[index] += reference.sums(running)


def measure(head: OutputHead, edited: Any, sample: HiddenSample) -> Steps[Cost]:
    """What any edit of the logits costs: a job. `edited` maps hidden states [n, d] to final logits [n, V_all]."""
    total = torch.zeros(len(AVERAGED), dtype=torch.float64, device=head.columns.device)
    for seen, hidden, reference in _references(head, sample):
        yield Progress("measure", seen, len(sample))
        with torch.inference_mode():
            pause()
            total += reference.sums_of(edited(hidden))
    return _cost(total, len(sample))
