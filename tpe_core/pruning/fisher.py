"""Forecast of what pruning will cost: the second-order expansion of the KL divergence.

With a gate on every dimension of h, ``KL(P || P') ≈ ½ 1_Sᵀ M 1_S`` for the set S of gates that close, where
``M = E_x E_{y~p_x}[q qᵀ]``, ``q = h ⊙ u`` and ``u = W_y - E_p[W]``. One pass over stored hidden states makes M, and
from then on any mask has a forecast without a product as wide as the vocabulary. Under a soft cap every row W_w is
multiplied by the cap's derivative at its logit, which makes u the derivative of log p_y by h there too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from scipy.linalg import blas
from torch import Tensor

from tpe_core.detection.hidden import HiddenSample
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.errors import NumericalError, TpeError
from tpe_core.models.head import CHUNK_ROWS, OutputHead
from tpe_core.pauses import pause
from tpe_core.progress import Progress, Steps
from tpe_core.store import Store

__all__ = [
    "DRAWS",
    "Fisher",
    "Forecast",
    "Metric",
    "fisher_information",
    "forecast",
    "forecast_least_squares",
    "greedy_order",
    "obs_order",
    "widened",
]

Floats = NDArray[np.float64]
Order = NDArray[np.int64]

VERSION = 2
NAMES = ("zero", "mean", "metric", "log_z")
DRAWS = 8  # tokens y drawn per position, one from every eighth of p_x: far less noise than the positions' own
CHUNK_BYTES = 48 * 2**20  # of float32 logits at a time
OBS_STEPS = 16  # removals between two signs of progress


@dataclass(frozen=True, kw_only=True)
class Fisher:
    """Second moments of what closing a gate does to the logits, over `positions` of a text. Nats, or nats/unit²."""

    zero: Floats  # [d, d] M, for a closed gate that puts 0 in a dimension's place
    mean: Floats  # [d, d] the same with h - E[h] for h: a closed gate puts E[h_i]
    metric: Floats  # [d, d] F = E[u uᵀ]: what an error in h costs
    log_z: Floats  # [positions] log of the softmax's normaliser at each, nats
    positions: int

    def gates(self, replacement: str) -> Floats:
        """M for a replacement: by zero, or by anything centred on the mean."""
        return self.zero if REPLACEMENTS[replacement].gates == "zero" else self.mean


def widened(head: OutputHead) -> Iterator[tuple[slice, Tensor]]:
    """(rows, W transposed [d, c] in float32) over all rows, a part at a time, with a pause before each."""
    for first in range(0, head.total_rows, CHUNK_ROWS):
        pause()
        rows = slice(first, min(first + CHUNK_ROWS, head.total_rows))
        yield rows, head.columns[:, rows].float()


class Metric:
    """``F = E_x E_{y~q_x}[u uᵀ]``, ``u = W_y - E_q[W]``, exactly, over distributions q that come a part at a time."""

    def __init__(self, head: OutputHead) -> None:
        self._head, self._count = head, 0
        device, width = head.columns.device, head.hidden_size
        self._means = torch.zeros(width, width, dtype=torch.float64, device=device)
        self._weights = torch.zeros(head.total_rows, dtype=torch.float64, device=device)

    def add(self, final: Tensor) -> tuple[Tensor, Tensor]:
        """Take final logits [n, V_all]; (q [n, V_all], E_q[W] [n, d], each row of W times the derivative of a cap)."""
        post = self._head.post
        q = final.softmax(1)
        weighted = post.chain(q, final)
        expected = torch.zeros(len(final), self._head.hidden_size, device=final.device)
        for rows, columns in widened(self._head):
            expected += weighted[:, rows] @ columns.T
        pause()
        self._means += _gram(expected)
        self._weights += post.chain(weighted, final).sum(0).double()
        self._count += len(final)
        return q, expected

    def value(self) -> Floats:
        """[d, d] F over everything added."""
        total = -self._means
        for rows, columns in widened(self._head):
            total += ((columns * self._weights[rows].float()) @ columns.T).double()
        return _symmetric(total, self._count)


def fisher_information(
    head: OutputHead,
    sample: HiddenSample,
    mean_hidden: Floats,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    store: Store | None = None,
) -> Steps[Fisher]:
    """M and F of a head over stored hidden states: a job, cached in `store`.

    y is drawn `draws` times per position, once from each of as many equal parts of p_x (so that the mean over draws
    stays the mean under p_x), the same for the same `seed` however the sample is cut; F is exact. Products are
    float32, sums float64. Raises `TpeError` where the sample is empty.
    """
    if not len(sample):
        raise TpeError("there are no stored hidden states to forecast from: give more text or a larger sample.")
    key = _key(head, sample, mean_hidden, draws, seed)
    entry = store.load(key) if store is not None else None
    if entry is not None and entry[0].keys() >= set(NAMES) and all(np.isfinite(entry[0][one]).all() for one in NAMES):
        return _restored(entry[0], len(sample))
    device, width = head.columns.device, head.hidden_size
    size = max(8, min(len(sample), 256, CHUNK_BYTES // (4 * head.total_rows)))
    uniform = (np.random.default_rng([seed, 1]).random((len(sample), draws)) + np.arange(draws)) / draws
    centre = torch.from_numpy(mean_hidden).to(device).float()
    zero, mean = (torch.zeros(width, width, dtype=torch.float64, device=device) for _ in range(2))
    metric, log_z = Metric(head), np.empty(len(sample))
    for first in range(0, len(sample), size):
        yield Progress("Fisher information", first, len(sample))
        part = slice(first, first + size)
        with torch.inference_mode():
            hidden = torch.from_numpy(sample.hidden[part]).to(device)
            pause()
            u, of_part = _gradients(head, metric, hidden, torch.from_numpy(uniform[part]).to(device))
            log_z[part] = of_part.cpu().numpy()
            h = hidden.repeat_interleave(draws, 0)
            pause()
            zero += _gram(u * h)
            pause()
            mean += _gram(u * (h - centre))
    drawn = len(sample) * draws
    moments = {
        "zero": _symmetric(zero, drawn),
        "mean": _symmetric(mean, drawn),
        "metric": metric.value(),
        "log_z": log_z,
    }
    # In single precision, so that a result found in the cache is the same one, half as large.
    with np.errstate(over="ignore"):
        arrays = {name: value.astype(np.float32) for name, value in moments.items()}
    if not all(np.isfinite(value).all() for value in arrays.values()):
        raise NumericalError("the Fisher information overflows float32: the hidden states or weights are too large.")
    if store is not None:
        store.save(key, arrays, {}, kind="Fisher information")
    return _restored(arrays, len(sample))


def _restored(arrays: Mapping[str, NDArray[np.float32]], positions: int) -> Fisher:
    zero, mean, metric, log_z = (arrays[name].astype(np.float64) for name in NAMES)
    return Fisher(zero=zero, mean=mean, metric=metric, log_z=log_z, positions=positions)


def _gram(values: Tensor) -> Tensor:
    return (values.T @ values).double()


def _symmetric(total: Tensor, count: int) -> Floats:
    """The mean of `count` symmetric matrices from their sum."""
    result: Floats = ((total + total.T) / (2 * count)).cpu().numpy()
    return result


def _gradients(head: OutputHead, metric: Metric, hidden: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """([n draws, d] u of drawn tokens, [n] log Z); the distributions are added to `metric`."""
    final = head.logits(hidden)
    pause()
    p, expected = metric.add(final)
    pause()
    log_z = final.amax(1).double() - p.amax(1).double().log()  # of the largest entry, which never underflows
    wide = p.double()
    pause()
    below = wide.cumsum_(1)
    pause()
    drawn = torch.searchsorted(below, uniform * below[:, -1:], right=True).clamp_max_(head.total_rows - 1)
    pause()
    u = head.post.chain(head.columns[:, drawn.flatten()].T.float(), final.gather(1, drawn).reshape(-1, 1))
    return u - expected.repeat_interleave(uniform.shape[1], 0), log_z


def _key(head: OutputHead, sample: HiddenSample, mean: Floats, draws: int, seed: int) -> str:
    digest = hashlib.sha256(f"fisher {VERSION} {head.sha256} {draws} {seed} {sample.hidden.shape}".encode())
    digest.update(np.ascontiguousarray(sample.hidden).tobytes())
    digest.update(mean.astype(np.float32).tobytes())
    return digest.hexdigest()


def forecast(matrix: Floats, dims: Iterable[int]) -> float:
    """``½ 1ᵀ M 1`` over `dims`: the KL divergence, in nats, that closing these gates should cost."""
    chosen = list(dims)
    return 0.5 * float(matrix[np.ix_(chosen, chosen)].sum())


class Forecast:
    """`forecast` of a mask that changes a dimension at a time: O(d) a change, O(d) for what any change would give."""

    def __init__(self, matrix: Floats) -> None:
        self._matrix, self._diagonal = matrix, np.diag(matrix).copy()
        self._closed = np.zeros(len(matrix), dtype=bool)
        self._sums: Floats = np.zeros(len(matrix))  # M 1_S
        self._total = 0.0  # 1ᵀ M 1

    @property
    def kl(self) -> float:
        """Forecast of the present mask, nats."""
        return 0.5 * self._total

    def toggle(self, dims: Iterable[int]) -> None:
        """Close the open gates of `dims` and open the closed ones."""
        for dim in dims:
            sign = -1.0 if self._closed[dim] else 1.0
            self._total += 2 * sign * self._sums[dim] + self._diagonal[dim]
            self._sums += sign * self._matrix[dim]
            self._closed[dim] = not self._closed[dim]

    def set(self, dims: Iterable[int]) -> None:
        """Close exactly the gates of `dims`."""
        wanted = np.zeros_like(self._closed)
        wanted[list(dims)] = True
        self.toggle(np.flatnonzero(wanted != self._closed).tolist())

    def toggled(self) -> Floats:
        """[d] nats after toggling each dimension alone."""
        signs = np.where(self._closed, -1.0, 1.0)
        result: Floats = 0.5 * (self._total + 2 * signs * self._sums + self._diagonal)
        return result


def forecast_least_squares(metric: Floats, covariance: Floats, dims: Iterable[int]) -> float:
    """``½ tr(F Σ)``, Σ the covariance of what the kept dimensions leave unexplained of `dims`. Nats.

    `covariance` [d, d] of h must be positive definite (`pruning.coordinates.covariance`). The residual is taken to
    be independent of u.
    """
    gone = np.array(sorted(set(dims)), dtype=np.int64)
    kept = np.setdiff1d(np.arange(len(covariance)), gone)
    if not len(gone):
        return 0.0
    residual = covariance[np.ix_(gone, gone)]
    if len(kept):
        factor = scipy.linalg.cho_factor(covariance[np.ix_(kept, kept)], lower=True)
        across = covariance[np.ix_(kept, gone)]
        residual = residual - across.T @ scipy.linalg.cho_solve(factor, across)
    return 0.5 * float(np.sum(metric[np.ix_(gone, gone)] * residual))


def greedy_order(matrix: Floats) -> Order:
    """[d] the removal order whose every step increases ``1ᵀ M 1`` least: O(d²)."""
    sums, left = np.diag(matrix) / 2, np.arange(len(matrix))
    order = np.empty(len(matrix), dtype=np.int64)
    for step in range(len(matrix)):
        at = int(np.argmin(sums[left]))
        order[step] = left[at]
        left = np.delete(left, at)
        sums = sums + matrix[order[step]]
    return order


def obs_order(metric: Floats, covariance: Floats, count: int | None = None) -> Steps[tuple[Order, Floats]]:
    """([d] removal order, [d] cost of every removal in nats) by least squares that fold as they go: a job.

    Only the first `count` removals where it is given.

    With the kept dimensions K, ``Λ = C_KK^-1``, h rebuilt as ``P h_K`` and ``G = Pᵀ F P``, leaving out i adds
    ``½ G_ii / Λ_ii`` to ``½ tr(F Σ)``: the cheapest goes. Folding it into the others is
    ``P_:j -= P_:i Λ_ij / Λ_ii``, a rank-two change of G and a rank-one change of Λ, so all d removals are O(d³).
    This is optimal brain surgery on h instead of weights. `covariance` [d, d] must be positive definite.
    """
    width = len(metric)
    total = width if count is None else min(count, width)
    inverse, g = np.asfortranarray(np.linalg.inv(covariance)), np.array(metric, order="F")  # lower triangles count
    order, costs = np.empty(total, dtype=np.int64), np.empty(total)
    gone = np.zeros(width, dtype=bool)
    for step in range(total):
        if step % OBS_STEPS == 0:
            yield Progress("fisher-obs order", step, total)
        with np.errstate(divide="ignore", invalid="ignore"):
            each = np.where(gone, np.inf, 0.5 * np.maximum(np.diag(g), 0.0) / np.diag(inverse))
        at = int(np.argmin(each))
        order[step], costs[step] = at, each[at]
        gone[at] = True
        lam, pivot = _row(inverse, at), float(inverse[at, at])
        share = _row(g, at) / pivot - lam * (float(g[at, at]) / (2 * pivot * pivot))
        inverse = blas.dsyr(-1.0 / pivot, lam, lower=1, a=inverse, overwrite_a=1)
        g = blas.dsyr2(-1.0, share, lam, lower=1, a=g, overwrite_a=1)
    yield Progress("fisher-obs order", total, total)
    return order, costs


def _row(lower: Floats, at: int) -> Floats:
    """[d] one row of a symmetric matrix whose lower triangle is given."""
    return np.concatenate([lower[at, :at], lower[at:, at]])
