"""Principal components of the output embedding as text meets it: every row weighted by its alpha (Yokoi et al. 2024).

Uniform components describe the vocabulary, in which rare tokens are nearly everything; weighted ones describe
what is predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from scipy.linalg import blas
from torch import Tensor

from tpe_core.encoding.geometry import row_products
from tpe_core.encoding.gram import varies
from tpe_core.models.head import OutputHead

__all__ = ["WeightedComponents", "weighted_components"]

NO_VARIANCE = 1e-10  # of the largest component's: below it there is none but rounding
FIRST = 10  # components computed
CHUNK_COLUMNS = 8192  # vocabulary rows at a time

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class WeightedComponents:
    """The first components of W's covariance under alpha; signs make the largest weight positive."""

    explained_variance_ratio: Floats  # [k] of the weighted variance
    correlations: Floats  # [k] Pearson of the scores with -log alpha, every fitted row alike
    correlations_weighted: Floats  # [k] the same, rows weighted by alpha
    directions: Floats  # [d, k] unit vectors in columns

    def to_dict(self) -> dict[str, Any]:
        """The object ``components_weighted`` of `tpe analyze`."""
        return {
            "explained_variance_ratio": self.explained_variance_ratio.tolist(),
            "correlations": self.correlations.tolist(),
            "correlations_weighted": self.correlations_weighted.tolist(),
        }


def weighted_components(
    head: OutputHead, keep: NDArray[np.bool_], surprisal: Floats, mean_row: Floats
) -> WeightedComponents:
    """Weighted PCA of the fitted rows `keep` [V], whose -log alpha is `surprisal` [rows kept].

    `mean_row` [d] is their plain mean, taken off before the float32 products so that a common drift costs no digits;
    the covariance is about the weighted mean. Sums over chunks are in float64, explained variance is good to 1e-5.
    """
    alpha = np.exp(-surprisal)
    alpha /= alpha.sum()
    weights = np.zeros(head.vocab_rows)
    weights[keep] = alpha
    covariance = _covariance(head, weights, mean_row)
    first, width = min(FIRST, head.hidden_size), head.hidden_size
    values, vectors = scipy.linalg.eigh(covariance, subset_by_index=(width - first, width - 1), check_finite=False)
    vectors = np.ascontiguousarray(vectors[:, ::-1])
    vectors *= np.sign(vectors[np.abs(vectors).argmax(0), np.arange(first)])
    scores = row_products(head, vectors)[0][keep]
    return WeightedComponents(
        explained_variance_ratio=np.maximum(values[::-1], 0.0) / np.trace(covariance),
        correlations=_correlations(scores, surprisal, np.full(len(surprisal), 1 / len(surprisal))),
        correlations_weighted=_correlations(scores, surprisal, alpha),
        directions=vectors,
    )


def _covariance(head: OutputHead, weights: Floats, mean_row: Floats) -> Floats:
    """[d, d] sum of a_w (W_w - m)(W_w - m)ᵀ about the weighted mean m, for weights a [V] that sum to 1."""
    device = head.columns.device
    roots = torch.from_numpy(np.sqrt(weights)).float().to(device)
    centre = torch.from_numpy(mean_row).float().to(device)[:, None]
    moments = np.zeros((head.hidden_size, head.hidden_size))
    shift = np.zeros(head.hidden_size)
    for first in range(0, head.vocab_rows, CHUNK_COLUMNS):
        where = slice(first, min(first + CHUNK_COLUMNS, head.vocab_rows))
        part = head.columns[:, where].float() - centre
        part *= roots[where]
        moments += _square(part)
        shift += (part @ roots[where]).cpu().numpy()
    upper = np.triu(moments - np.outer(shift, shift))
    return upper + np.triu(upper, 1).T


def _square(part: Tensor) -> NDArray[np.float32]:
    """[d, d] part @ partᵀ in float32, of which only the upper triangle counts: half the work on a CPU."""
    if part.device.type == "cpu":
        product: NDArray[np.float32] = blas.ssyrk(1.0, part.numpy().T, trans=1)
        return product
    wide: NDArray[np.float32] = (part @ part.T).cpu().numpy()
    return wide


def _correlations(scores: Floats, target: Floats, weights: Floats) -> Floats:
    """[k] weighted Pearson correlations of columns [V, k] with a target [V]; 0 where one varies by rounding alone.

    A direction is found by float32 products: one without variance keeps up to some 1e-7 of the others' scores.
    """
    x, y = scores - weights @ scores, target - weights @ target
    variances, other = weights @ x**2, float(weights @ y**2)
    real = variances > NO_VARIANCE * variances.max(initial=0.0)
    real &= bool(varies(np.sqrt([other]), np.abs(target).max(keepdims=True)))
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Floats = np.where(real, (weights * y) @ x / np.sqrt(variances * other), 0.0)
    return result
