"""The hidden states that a question of reachability is about, and coordinates in which it is well-conditioned.

``any`` is all of R^k: what no vector whatever makes the top token. With no bias it is free of scale, so a norm without
bias before the head (RMSNorm) takes nothing from it; the ellipsoid of one with a bias, or the hyperplane of a centred
one, lies inside, so a token that is unreachable here is unreachable there. ``observed`` is the box of the values that
each dimension takes at the sampled positions of the text: smaller than R^k, larger than the states themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.atlas.head_rows import HeadRows
from tpe_core.errors import TpeError
from tpe_core.pauses import pause

__all__ = ["REGIONS", "Arena", "Region", "arena"]

Floats = NDArray[np.float64]
Region = Literal["any", "observed"]

REGIONS: Mapping[Region, str] = MappingProxyType(
    {
        "any": "some hidden state, any vector of R^d",
        "observed": "some hidden state within the values of the text",
    }
)
"""What each region holds, for people."""

RANK_TOLERANCE = 1e-10  # of the largest eigenvalue of the rows' covariance: below it the rows do not vary

CHUNK = 8192  # rows at a time

SCOUTS = 4096  # rows whose covariance is enough to say where to look first; it proves nothing


@dataclass(frozen=True, kw_only=True)
class Arena:
    """A region's states are ``h = centre + basis u``; z_j = rows_j . u + t offset_j up to a term that all tokens share.

    Where it is `bounded`, u lies in [-1, 1]^m and t is 1. Else u is free, and so is t >= 0: h = basis u / t.
    """

    head: HeadRows
    bounded: bool
    basis: Floats  # [k, m]
    centre: Floats  # [k]
    mean: Floats  # [k] of the head's rows, which is taken off them
    rows: Tensor  # [m, V_all] float32: basisᵀ (columns - mean)
    offset: Floats | None  # [V_all] logits at the centre, relative to the mean row's; None where they are all 0
    precision: Tensor | None  # [m, m] inverse covariance of the rows; None where it is the identity

    def exact(self, ids: NDArray[np.int64]) -> Floats:
        """[n, m] some rows in float64."""
        columns = self.head.columns[:, torch.from_numpy(ids)].double().numpy()
        result: Floats = (columns.T - self.mean) @ self.basis
        return result

    def state(self, u: Floats, t: float = 1.0) -> Floats:
        """[k] the hidden state at (u, t); raises ZeroDivisionError where an unbounded one has t = 0."""
        return self.centre + self.basis @ (u / t if t != 1.0 else u)


def _moments(columns: Tensor) -> tuple[Floats, Floats]:
    """([k] mean, [k, k] covariance) of the rows, float64."""
    count = columns.shape[1]
    mean = columns.sum(1, dtype=torch.float64) / max(count, 1)
    gram = torch.zeros(len(columns), len(columns), dtype=torch.float64)
    for part in columns.split(CHUNK, dim=1):
        pause()
        away = part.double() - mean[:, None]
        gram += away @ away.T
    return mean.numpy(), gram.numpy() / max(count, 1)


def arena(head: HeadRows, region: Region, observed: NDArray[np.float32]) -> Arena:
    """The coordinates of a region; `observed` [n, k] are hidden states, of which ``observed`` is the box.

    Raises `TpeError` where ``observed`` is meant and there are none.
    """
    stride = 1 if region == "any" else -(-head.columns.shape[1] // SCOUTS)
    mean, covariance = _moments(head.columns[:, ::stride])
    values, vectors = np.linalg.eigh(covariance) if len(mean) else (np.empty(0), np.empty((0, 0)))
    real = values > RANK_TOLERANCE * max(values.max(initial=0.0), np.finfo(float).tiny)
    if region == "any":
        basis, centre = vectors[:, real] / np.sqrt(values[real]), np.zeros(len(mean))
        precision = None
    else:
        if not len(observed):
            raise TpeError("no hidden states of the text are stored: raise the sample's size, or choose --hidden any.")
        low, high = observed.min(0).astype(np.float64), observed.max(0).astype(np.float64)
        centre, half = (low + high) / 2, (high - low) / 2
        basis = np.diag(half)
        scaled = np.linalg.pinv(half[:, None] * covariance * half, rcond=RANK_TOLERANCE, hermitian=True)
        precision = torch.from_numpy(scaled).float()
    offset = head.offset
    if region == "observed":
        at_centre = torch.from_numpy(centre - 0.0)
        base = torch.cat([part.double().T @ at_centre for part in head.columns.split(CHUNK, dim=1)]).numpy()
        offset = base - mean @ centre + (0.0 if offset is None else offset)
    rows, onto, middle = (
        torch.empty(basis.shape[1], head.columns.shape[1]),
        torch.from_numpy(basis.T).float(),
        torch.from_numpy(mean).float()[:, None],
    )
    for first in range(0, rows.shape[1], CHUNK):
        pause()
        rows[:, first : first + CHUNK] = onto @ (head.columns[:, first : first + CHUNK] - middle)
    return Arena(
        head=head, bounded=region == "observed", basis=basis, centre=centre, mean=mean, rows=rows,
        offset=offset, precision=precision,
    )  # fmt: skip
