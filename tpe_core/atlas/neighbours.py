"""The row nearest to every row, by cosine and by distance: exact, a block of products at a time.

W's mean row is taken off before the cosine: a shift of all rows changes no softmax, and would raise every raw cosine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.atlas.head_rows import HeadRows
from tpe_core.progress import Progress, Steps

__all__ = ["Neighbours", "nearest_rows"]

BLOCK = 512  # rows whose products with all others are in memory at a time
DOUBT = 1e-5  # of float32: candidates this near to the best are compared again in float64
SLICE = 16384  # pairs compared in float64 at a time

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """For every row in use the nearest other one. A row at the mean has no cosine (NaN) and no neighbour by it (-1)."""

    by_cosine: Ints  # [V]
    cosine: Floats  # [V] of the rows with their mean taken off
    by_distance: Ints  # [V]
    distance: Floats  # [V] Euclidean, of the rows themselves

    def pairs(self, by: Literal["cosine", "distance"], count: int) -> list[tuple[int, int]]:
        """The `count` nearest pairs (smaller id first), each once."""
        other = self.by_cosine if by == "cosine" else self.by_distance
        key = -self.cosine if by == "cosine" else self.distance
        result: dict[tuple[int, int], None] = {}
        for each in np.argsort(key, kind="stable").tolist():
            if len(result) == count:
                break
            if other[each] >= 0 and not np.isnan(key[each]):
                result[min(each, int(other[each])), max(each, int(other[each]))] = None
        return list(result)


def nearest_rows(head: HeadRows) -> Steps[Neighbours]:
    """Find every row's nearest other row among the rows in use: a job."""
    vocab = head.vocab_rows
    rows = head.columns[:, :vocab]
    away = (rows - rows.mean(1, dtype=torch.float64).float()[:, None]).T.contiguous()  # [V, k]
    squares = away.square().sum(1)
    lengths = squares.sqrt()
    unit = away / lengths.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
    none = lengths == 0
    cosine_id, distance_id = (np.full(vocab, -1, dtype=np.int64) for _ in range(2))
    cosine, distance = (np.full(vocab, np.nan) for _ in range(2))
    for first in range(0, vocab if vocab > 1 else 0, BLOCK):
        yield Progress("nearest rows", first, vocab)
        ids = torch.arange(first, min(first + BLOCK, vocab))
        at, where = torch.arange(len(ids)), ids.numpy()
        scores = unit[ids] @ unit.T
        scores[:, none] = -torch.inf
        scores[at, ids] = -torch.inf
        scores[none[ids]] = -torch.inf
        best = scores.amax(1, keepdim=True)
        pairs = torch.nonzero((scores >= best - DOUBT) & torch.isfinite(scores))
        cosine_id[where], cosine[where] = _best(away, ids, pairs, _cosines)
        torch.mm(away[ids], away.T, out=scores)
        scores.mul_(2).sub_(squares)  # |own|^2 is the same for every candidate
        scores[at, ids] = -torch.inf
        best = scores.amax(1, keepdim=True)
        pairs = torch.nonzero(scores >= best - DOUBT * squares[ids, None])
        distance_id[where], distance[where] = _best(away, ids, pairs, _closeness)
        distance[where] = -distance[where]
    return Neighbours(by_cosine=cosine_id, cosine=cosine, by_distance=distance_id, distance=distance)


def _cosines(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum(1) / (first.norm(dim=1) * second.norm(dim=1))


def _closeness(first: Tensor, second: Tensor) -> Tensor:
    return -(first - second).norm(dim=1)


def _best(away: Tensor, ids: Tensor, pairs: Tensor, measure: Callable[[Tensor, Tensor], Tensor]) -> tuple[Ints, Floats]:
    """([b] nearest id, [b] its measure) of candidates `pairs` [n, 2] of (place in ids, id), in float64; ties by id."""
    parts = [
        measure(away[ids[some[:, 0]]].double(), away[some[:, 1]].double()) for some in pairs.split(SLICE) if len(some)
    ]
    values = torch.cat(parts).numpy() if parts else np.empty(0)
    own, other = pairs[:, 0].numpy(), pairs[:, 1].numpy()
    order = np.lexsort((other, -values, own))
    places, first = np.unique(own[order], return_index=True)
    nearest, value = np.full(len(ids), -1, dtype=np.int64), np.full(len(ids), np.nan)
    nearest[places], value[places] = other[order][first], values[order][first]
    return nearest, value
