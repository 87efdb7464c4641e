"""What the kept dimensions of the hidden state say about the removed ones, over the detecting text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from tpe_core.detection.detection import Detection

__all__ = ["JITTER", "Reconstruction", "covariance", "reconstruct"]

Floats = NDArray[np.float64]

JITTER = 1e-9  # of the mean variance, added to the covariance: constant dimensions have none


def covariance(detection: Detection) -> Floats:
    """[d, d] covariance of h over the detecting text, with `JITTER` on its diagonal."""
    mean = detection.mean_hidden
    c = detection.second_moment - np.outer(mean, mean)
    result: Floats = c + JITTER * max(float(np.trace(c)) / len(c), 1e-30) * np.eye(len(c))
    return result


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """``h_S ≈ fold h_K + constant``, S the removed dimensions in ascending order, or all; K the kept ones."""

    removed: tuple[int, ...]
    kept: tuple[int, ...]
    fold: Floats  # [s, k] C_SK C_KK^-1, but for a refit
    constant: Floats  # [s]
    is_refit: bool = False  # whether S are all dimensions


def reconstruct(removed: Sequence[int], detection: Detection) -> Reconstruction:
    """The best linear guess of the removed dimensions: ``m_S + C_SK C_KK^-1 (h_K - m_K)``, C the covariance of h.

    With nothing kept that is their mean.
    """
    mean = detection.mean_hidden
    gone = np.array(sorted(removed), dtype=np.int64)
    kept = np.setdiff1d(np.arange(len(mean)), gone)
    c = covariance(detection)
    solved = (
        scipy.linalg.solve(c[np.ix_(kept, kept)], c[np.ix_(kept, gone)], assume_a="pos") if len(kept) else c[:0, gone]
    )
    fold: Floats = np.ascontiguousarray(solved.T)
    return Reconstruction(
        removed=tuple(gone.tolist()), kept=tuple(kept.tolist()), fold=fold, constant=mean[gone] - fold @ mean[kept]
    )
