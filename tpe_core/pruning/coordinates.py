"""Coordinates of the hidden state in which pruning is dropping: what a nested sweep runs along.

Every way to remove dimensions one after another, and to make up for them, is a change of basis
``z = c + G e(h)`` after which coordinates of e are simply left out, first to last:

- ``zero``: e is h itself, in the order of removal; ``mean``: h minus its mean over the detecting text;
- ``least-squares``: with the covariance of h factored as ``C = L Lᵀ`` (dimensions kept longest first), e = L^-1 (h - m)
  is white, and leaving out the last coordinates leaves exactly ``E[h | kept dimensions]``: every removed dimension
  rebuilt linearly from the kept ones. One factor serves the whole nested sweep;
- ``rotate``: the eigenbasis of ``Lᵀ Σ_W L``, smallest eigenvalue first: the near-optimal cut, not along dimensions;
- ``component``: principal components of W instead of dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.detection.detection import Detection
from tpe_core.edits.reconstruction import JITTER, covariance
from tpe_core.errors import TpeError
from tpe_core.models.head import OutputHead
from tpe_core.pruning.fisher import widened

__all__ = ["Coordinates", "along", "least_squares", "rotated"]

Floats = NDArray[np.float64]
Order = NDArray[np.int64]


@dataclass(frozen=True)
class Coordinates:
    """``z = z(centre) + columnsᵀ e`` with ``e = forward (h - centre)``; coordinate 0 is left out first."""

    forward: Floats  # [d, d]
    centre: Floats  # [d]
    columns: Tensor  # [d, V_all] float32 G transposed

    def of(self, hidden: Tensor) -> Tensor:
        """[N, d] float32 coordinates e of hidden states [N, d]."""
        forward = torch.from_numpy(self.forward).to(hidden.device)
        centre = torch.from_numpy(self.centre).to(hidden.device)
        return ((hidden.double() - centre) @ forward.T).float()


def _made(head: OutputHead, forward: Floats, backward: Floats, centre: Floats) -> Coordinates:
    """Coordinates with ``h = centre + backward e``; `backward` [d, d] is the inverse of `forward`."""
    device = head.columns.device
    turn = torch.from_numpy(backward.T.astype(np.float32)).to(device)
    columns = torch.empty(len(turn), head.total_rows, dtype=torch.float32, device=device)
    for rows, part in widened(head):
        torch.mm(turn, part, out=columns[:, rows])
    return Coordinates(np.ascontiguousarray(forward), centre, columns)


def _check(order: Order, width: int) -> None:
    if sorted(order.tolist()) != list(range(width)):
        raise TpeError(f"an order must name each of the {width} dimensions once: it names {len(set(order.tolist()))}.")


def along(head: OutputHead, order: Order, centre: Floats | None = None, basis: Floats | None = None) -> Coordinates:
    """Dimensions left out in `order` [d] and replaced by their value in `centre` [d] (None: by zero).

    With an orthonormal `basis` [d, d] (vectors in columns) the order is over these directions instead.
    """
    width = head.hidden_size
    _check(order, width)
    where = np.zeros(width) if centre is None else centre
    if basis is None:  # a choice of columns needs no product
        columns = head.columns[torch.from_numpy(order).to(head.columns.device)].float()
        return Coordinates(np.eye(width)[order], where, columns)
    return _made(head, basis[:, order].T, basis[:, order], where)


def _factor(matrix: Floats) -> Floats:
    try:
        factor: Floats = scipy.linalg.cholesky(matrix, lower=True, check_finite=False)
    except scipy.linalg.LinAlgError:  # fewer positions than dimensions: the jitter alone must carry the rest
        values, vectors = scipy.linalg.eigh(matrix, check_finite=False)
        floor = JITTER * max(float(values[-1]), 1e-30)
        factor = scipy.linalg.cholesky((vectors * np.maximum(values, floor)) @ vectors.T, lower=True)
    return factor


def least_squares(head: OutputHead, order: Order, detection: Detection) -> Coordinates:
    """Dimensions left out in `order` [d], each rebuilt from the kept ones by least squares on the detecting text."""
    _check(order, head.hidden_size)
    kept_first = order[::-1]
    factor = _factor(covariance(detection)[np.ix_(kept_first, kept_first)])
    inverse = scipy.linalg.solve_triangular(factor, np.eye(len(factor)), lower=True, check_finite=False)
    forward, backward = np.empty_like(factor), np.empty_like(factor)
    forward[:, kept_first], backward[kept_first] = inverse, factor
    return _made(head, forward[::-1], backward[:, ::-1], detection.mean_hidden)


def rotated(head: OutputHead, gram: Floats, detection: Detection) -> Coordinates:
    """The eigenbasis of ``Lᵀ Σ_W L``, smallest first: what no cut along dimensions with the same logits' error beats.

    `gram` [d, d] is the centred Gram matrix of W (any factor of it will do).
    """
    factor = _factor(covariance(detection))
    _, vectors = scipy.linalg.eigh(factor.T @ gram @ factor, check_finite=False)
    backward = factor @ vectors
    forward = vectors.T @ scipy.linalg.solve_triangular(factor, np.eye(len(factor)), lower=True, check_finite=False)
    return _made(head, forward, backward, detection.mean_hidden)
