"""Principal components of the output embedding and what each knows of token probability (Cho et al. 2025, section 2.2).

Everything follows from the Gram matrix that the regression already made: a component's variance is its
eigenvalue, and its scores' correlation with -log alpha follows from those of the raw columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tpe_core.encoding.design import Design

__all__ = ["Components", "principal_components"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Components:
    """Principal components of W (rows are tokens, centred) by variance; signs make the largest weight positive.

    Example:
        >>> components = analysis.components
        >>> bool(components.explained_variance_ratio[0] >= components.explained_variance_ratio[1])
        True
    """

    explained_variance_ratio: Floats  # [d] sums to 1
    correlations: Floats  # [d] Pearson, of the scores with -log alpha; 0 where a component has no variance but rounding
    directions: Floats  # [d, d] unit vectors in columns
    scores: NDArray[np.float32]  # [V, 2] of the first two components, for the scatter


def principal_components(design: Design, r: Floats) -> Components:
    """PCA of a design's rows, and how its components correlate with -log alpha.

    `r` [d] are the Pearson correlations of the raw columns with -log alpha (`Encoding.r`): with v a component of
    variance lambda, its scores' is ``sum_i v_i sd_i r_i / sqrt(lambda)``.

    Returns:
        The components, largest variance first.

    Example:
        >>> design = tpe.Design(model.head.columns[:, : model.head.vocab_rows], analysis.keep)
        >>> components = tpe.principal_components(design, analysis.encoding.r)
        >>> len(components.correlations) == len(components.explained_variance_ratio)
        True
    """
    values, vectors = design.spectrum.values, design.spectrum.vectors
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(design.width)])
    vectors = vectors * signs
    with np.errstate(divide="ignore", invalid="ignore"):
        correlations = np.where(design.resolved, vectors.T @ (design.scale * r) / np.sqrt(values / design.rows), 0.0)
    scores = design.project(vectors[:, :2].T)
    return Components(values / values.sum(), correlations, vectors, scores.T.astype(np.float32))
