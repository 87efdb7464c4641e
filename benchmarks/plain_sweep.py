"""A nested sweep as it was measured until 2026-11-26, kept to be timed beside `tpe_core.pruning.sweep`.

Natural units, chunks of 6 MiB, passes over 3 MiB by torch, and products added up in two passes. No cap, no masks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tpe_core.detection.hidden import HiddenSample
from tpe_core.models.head import OutputHead
from tpe_core.pruning.coordinates import Coordinates

__all__ = ["plain_sweep"]

LOG2_E = 1 / math.log(2)
BASE_BYTES, CHUNK_BYTES, PASS_BYTES = 24 * 2**20, 6 * 2**20, 3 * 2**20


def plain_sweep(
    head: OutputHead, along: Mapping[str, Coordinates], removed: Sequence[int], sample: HiddenSample
) -> dict[str, Tensor]:
    """[len(removed), 5] means of KL, JS, top-1, loss and entropy along each of `along`."""
    totals = {name: torch.zeros(len(removed), 5, dtype=torch.float64) for name in along}
    many, size, step = (
        max(8, min(len(sample), wanted // (4 * head.total_rows))) for wanted in (BASE_BYTES, CHUNK_BYTES, PASS_BYTES)
    )
    buffers = torch.empty(5, many, head.total_rows)
    with torch.inference_mode():
        for begin in range(0, len(sample), many):
            states = torch.from_numpy(sample.hidden[begin : begin + many])
            targets = torch.from_numpy(sample.next_ids[begin : begin + many])
            base = head.raw(states, out=buffers[0, : len(states)])
            for first in range(0, len(states), size):
                part = slice(first, first + size)
                measured = _Chunk(base[part], targets[part, None], buffers, step)
                for name, coordinates in along.items():
                    e, before = coordinates.of(states[part]), 0
                    running = buffers[1, : len(e)].copy_(base[part])
                    for index, count in enumerate(removed):
                        columns = coordinates.columns[before:count]
                        running.addmm_(e[:, before:count], columns, alpha=-1)
                        before = count
                        totals[name][index] += measured.sums(running)
    return {name: total / len(sample) for name, total in totals.items()}


class _Chunk:
    def __init__(self, base: Tensor, targets: Tensor, buffers: Tensor, step: int) -> None:
        self.targets, self._spare, self._step = targets, buffers[3:, :step], step
        self._p = buffers[2, : len(base)]
        parts = [self._base(base[at : at + step], self._p[at : at + step]) for at in range(0, len(base), step)]
        self._first, self._entropy = (torch.cat(values) for values in zip(*parts, strict=True))

    def _base(self, z: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        e, spare = self._spare[:, : len(z)]
        log_z, _, total = _normalise(z, e)
        torch.div(e, total, out=p)
        return z.argmax(1, keepdim=True), log_z - _dot(p, z, spare)

    def sums(self, raw: Tensor) -> Tensor:
        slices = (slice(at, at + self._step) for at in range(0, len(raw), self._step))
        return torch.stack([self._sums(raw[rows], rows) for rows in slices]).sum(0)

    def _sums(self, z: Tensor, rows: slice) -> Tensor:
        p, (e, spare) = self._p[rows], self._spare[:, : len(z)]
        log_z, highest, total = _normalise(z, e)
        stays = (z.gather(1, self._first[rows]) >= highest).sum().double()
        kl = log_z - _dot(p, z, spare) - self._entropy[rows]
        nll = log_z - z.gather(1, self.targets[rows])[:, 0].double()
        entropy = log_z - _dot(e, z, spare) / total[:, 0].double()
        both = torch.addcmul(p, e, total.reciprocal(), out=e)
        torch.clamp_min(both, torch.finfo(torch.float32).tiny, out=spare)
        np.log(spare.numpy(), out=spare.numpy())
        js = math.log(2) - _dot(both, spare, both) / 2 - (entropy + self._entropy[rows]) / 2
        return torch.stack([kl.sum(), js.sum(), stays, nll.sum(), entropy.sum()])


def _normalise(z: Tensor, e: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    highest = z.amax(1, keepdim=True)
    total = torch.sub(z, highest, out=e).mul_(LOG2_E).exp2_().sum(1, keepdim=True)
    return (highest.double() + total.double().log())[:, 0], highest, total


def _dot(p: Tensor, values: Tensor, out: Tensor) -> Tensor:
    sums = torch.mul(p, values, out=out).sum(1)
    if not bool(sums.isfinite().all()):
        sums = torch.where(p > 0, p * values, 0.0).sum(1)
    return sums.double()
