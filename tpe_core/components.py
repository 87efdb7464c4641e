"""Principal components of the output embedding and what each knows of token probability (Cho et al. 2025, section 2.2).

Everything follows from the Gram matrix that the regression already made: a component's variance is its
eigenvalue, and its scores' correlation with -log alpha is ``v_i . c / sqrt(lambda_i * yy)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tpe_core.encoding import Design

__all__ = ["Components", "principal_components"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Components:
    """Principal components of W (rows are tokens, centred) by variance; signs make the largest weight positive."""

    explained_variance_ratio: Floats  # [d] sums to 1
    correlations: Floats  # [d] Pearson, of the scores with -log alpha; 0 where a component has no variance
    directions: Floats  # [d, d] unit vectors in columns
    scores: NDArray[np.float32]  # [V, 2] of the first two components, for the scatter


def principal_components(design: Design, surprisal: Floats) -> Components:
    """PCA of a design's rows and the correlation of every component with -log alpha [V]."""
    values, vectors = design.eigen
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(design.width)])
    vectors = vectors * signs
    centred = surprisal - surprisal.mean()
    cross = design.cross(surprisal[:, None])[:, 0]
    norms = np.sqrt(values * float(centred @ centred))
    real = values > 1e-14 * values[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        correlations = np.where(real, vectors.T @ cross / norms, 0.0)
    scores = design.project(vectors[:, :2]) - design.mean @ vectors[:, :2]
    return Components(values / values.sum(), correlations, vectors, scores.astype(np.float32))
