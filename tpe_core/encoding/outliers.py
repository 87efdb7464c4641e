"""Outlier ("rogue") dimensions of the head's input, and whether they are those that the law leans on.

A few dimensions of h are far larger than the rest and favour frequent tokens (Timkey & van Schijndel 2021,
Puccetti et al. 2022, Macocco et al. 2025).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special
from numpy.typing import NDArray

from tpe_core.clamping import at_most
from tpe_core.detection.detection import Detection
from tpe_core.encoding.encoding import Encoding

__all__ = ["DEVIATIONS", "OutlierDimensions", "hypergeometric_tail", "outlier_dimensions"]

DEVIATIONS = 6.0  # robust standard deviations of the log above the median: its tails are heavier than a normal's
NORMAL = 1.4826  # median absolute deviation to standard deviation, for a normal distribution
LEAST_SPREAD = 1e-3  # of the log: dimensions that differ by less are alike

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class OutlierDimensions:
    """Dimensions whose rms or variance lies above exp(median + `DEVIATIONS` * 1.4826 MAD) of the log over dimensions.

    The overlap compares them with as many dimensions of the largest |A_i| sd(W_:i).
    """

    rms: Floats  # [d] sqrt(E[h_i^2])
    variance: Floats  # [d] of h_i
    rms_threshold: float
    variance_threshold: float
    flags: NDArray[np.bool_]  # [d] above either
    overlap: int
    overlap_expected: float  # k^2 / d for k outliers, if the two sets had nothing to do with each other
    overlap_p: float  # chance of so large an overlap or a larger one then (hypergeometric); NaN without outliers

    @property
    def dims(self) -> NDArray[np.int64]:
        """The outliers, largest rms first."""
        outliers = np.flatnonzero(self.flags)
        result: NDArray[np.int64] = outliers[np.argsort(-self.rms[outliers], kind="stable")]
        return result

    def to_dict(self) -> dict[str, Any]:
        """The object ``outlier_dimensions`` of `tpe analyze`."""
        return {
            "deviations": DEVIATIONS,
            "rms_threshold": self.rms_threshold,
            "variance_threshold": self.variance_threshold,
            "dims": [
                {"dim": int(dim), "rms": float(self.rms[dim]), "variance": float(self.variance[dim])}
                for dim in self.dims
            ],
            "overlap": self.overlap,
            "overlap_expected": self.overlap_expected,
            "overlap_p": self.overlap_p,
        }


def outlier_dimensions(detection: Detection, encoding: Encoding) -> OutlierDimensions:
    """The outliers of a detection's h beside the law's slopes."""
    rms: Floats = np.sqrt(np.diag(detection.second_moment))
    variance = detection.variance_hidden
    limits = _limit(rms), _limit(variance)
    flags = (rms > limits[0]) | (variance > limits[1])
    count, width = int(flags.sum()), len(rms)
    leading = np.argsort(-np.abs(encoding.slope_std), kind="stable")[:count]
    overlap = int(flags[leading].sum())
    tail = hypergeometric_tail(overlap, width, count) if count else float("nan")
    return OutlierDimensions(
        rms=rms,
        variance=variance,
        rms_threshold=limits[0],
        variance_threshold=limits[1],
        flags=flags,
        overlap=overlap,
        overlap_expected=count**2 / width,
        overlap_p=tail,
    )


def _limit(values: Floats) -> float:
    """exp(median + `DEVIATIONS` * robust spread) of log values; dimensions that are 0 do not count."""
    logs = np.log(values[values > 0])
    if not len(logs):
        return float("inf")
    middle = float(np.median(logs))
    spread = max(NORMAL * float(np.median(np.abs(logs - middle))), LEAST_SPREAD)
    return float(np.exp(middle + DEVIATIONS * spread))


def hypergeometric_tail(overlap: int, total: int, drawn: int) -> float:
    """P(X >= overlap) for two independent draws of `drawn` out of `total`, X being what they share."""
    shared = np.arange(max(overlap, 2 * drawn - total), drawn + 1)

    def log_choose(n: Any, k: Any) -> Any:
        return scipy.special.gammaln(n + 1) - scipy.special.gammaln(k + 1) - scipy.special.gammaln(n - k + 1)

    logs = log_choose(drawn, shared) + log_choose(total - drawn, drawn - shared) - log_choose(total, drawn)
    return at_most(1.0, float(np.exp(scipy.special.logsumexp(logs))))
