"""MAUVE: how close two sets of generated samples are, by the area under the divergence frontier of their histograms.

The formula of Pillutla et al. 2021, "MAUVE: Measuring the Gap Between Neural Text and Human Text using Divergence
Frontiers". A score means something only beside one of two sets known to be alike (`generation_quality`), and beside
what sets of that size score by chance (`Mauve.chance`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from tpe_core.clamping import at_most
from tpe_core.errors import NumericalError, TpeError

__all__ = [
    "LEAST_SAMPLES", "SCALE", "Mauve", "bins_for", "divergence_curve", "frontier_area", "histograms", "mauve",
    "quantise",
]  # fmt: skip

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SCALE = 5.0
"""c, how fast a divergence costs: the paper's."""

LEAST_SAMPLES = 128
"""Of either set: with fewer, bins are so few that most sets that differ score as equal ones do."""

SHUFFLES = 200  # of the samples over both sets, for the scores of sets that are alike
SHUFFLED_POINTS = 201  # on their curves
CHANCE = 0.05  # share of them that score less than `Mauve.chance`

SAMPLES_A_BIN = 10
MOST_BINS = 500  # the paper's, for 5,000 samples
EXPLAINED = 0.9  # share of the features' variance that the clustering sees
RESTARTS = 5  # of k-means
SMOOTHING = 0.5  # samples added to every bin
POINTS = 2001  # on the curve: areas to about 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Mauve:
    """The score, in (0, 1], and the quantisation it was read from."""

    value: float
    bins: int
    dimensions: int  # of the features, after PCA
    samples: tuple[int, int]
    chance: float  # 95 of 100 pairs of equally large sets that are alike score this or more

    @property
    def enough(self) -> bool:
        """Whether there are samples enough for the score to mean anything."""
        return min(self.samples) >= LEAST_SAMPLES

    @property
    def told_apart(self) -> bool:
        """Whether the sets differ by more than chance; never said of fewer than `LEAST_SAMPLES`."""
        return self.enough and self.value < self.chance

    def to_dict(self) -> dict[str, Any]:
        """Score, bins, dimensions and sample sizes by name, and what the score can tell."""
        return {
            "value": self.value,
            "bins": self.bins,
            "dimensions": self.dimensions,
            "samples": list(self.samples),
            "chance": self.chance,
            "enough": self.enough,
            "told_apart": self.told_apart,
        }


def divergence_curve(p: Floats, q: Floats, scale: float = SCALE, points: int = POINTS) -> tuple[Floats, Floats]:
    """([points] x, [points] y) of ``(exp(-c KL(q || r)), exp(-c KL(p || r)))``, r = lambda p + (1 - lambda) q.

    lambda runs over [0, 1] with both ends, closest together there: x falls from 1 (r = q) and y rises to 1 (r = p).
    p and q [k] are histograms that each sum to 1; an empty bin makes a divergence infinite and its coordinate 0.
    Raises `TpeError` where they are not histograms of the same bins, or `scale` is not above 0.
    """
    for name, histogram in (("p", p), ("q", q)):
        if histogram.shape != p.shape or histogram.ndim != 1 or (histogram < 0).any():
            raise TpeError(
                f"{name} is no histogram over the same bins as p: give one share of at least 0 for each bin."
            )
        if not math.isclose(histogram.sum(), 1, rel_tol=1e-9):
            raise TpeError(f"the shares of {name} sum to {histogram.sum():g}: divide them by their sum.")
    if not (math.isfinite(scale) and scale > 0):
        raise TpeError(
            f"the scale of a divergence curve must be a finite number above 0, not {scale}: the paper's is 5."
        )
    share = np.sin(np.linspace(0, np.pi / 2, points))[:, None] ** 2
    mixture = share * p + share[::-1] * q
    x, y = (np.exp(-scale * np.maximum(rel_entr(side, mixture).sum(1), 0)) for side in (q, p))
    return x, y


def frontier_area(p: Floats, q: Floats, scale: float = SCALE, points: int = POINTS) -> float:
    """The area under the divergence curve of histograms p and q [k], from (0, 1) along the curve to (1, 0).

    1 where p = q; ``1 / binomial(2c, c)`` (1/252 for c = 5) where they share no bin, the least there is.
    Raises `TpeError` as `divergence_curve` does.
    """
    x, y = divergence_curve(p, q, scale, points)
    under = -float(np.sum(np.diff(x) * (y[1:] + y[:-1]))) / 2
    return at_most(1.0, under + float(x[-1]))  # left of the curve's end (x, 1) the frontier is level


def histograms(labels_p: Ints, labels_q: Ints, bins: int, smoothing: float = SMOOTHING) -> tuple[Floats, Floats]:
    """([bins] p, [bins] q): shares of the labels in ``range(bins)``, `smoothing` samples added to every bin.

    One half is the Krichevsky-Trofimov estimate; it lessens the bias of bins that one side missed by chance (Liu et
    al. 2021, "Divergence Frontiers for Generative Models"). 0 counts only.
    """
    counts = (np.bincount(labels, minlength=bins) + smoothing for labels in (labels_p, labels_q))
    p, q = (count / count.sum() for count in counts)
    return p, q


def bins_for(samples: int) -> int:
    """How many bins histograms of so many samples have: one for every `SAMPLES_A_BIN`, at least 2."""
    return max(2, min(MOST_BINS, round(samples / SAMPLES_A_BIN)))


def quantise(features_p: Floats, features_q: Floats, bins: int, seed: int = 0) -> tuple[Ints, Ints, int]:
    """([n] labels, [m] labels, dimensions): the clusters of features [n, d] and [m, d], found in both together.

    Rows are scaled to length 1, reduced by a joint PCA to `EXPLAINED` of their variance, and clustered by k-means into
    `bins` clusters, or as many as there are different rows. Raises `TpeError` where the sets do not fit together,
    `NumericalError` where a feature is not finite.
    """
    if features_p.ndim != 2 or features_q.ndim != 2 or features_p.shape[1] != features_q.shape[1]:
        raise TpeError(
            f"features of shapes {features_p.shape} and {features_q.shape} cannot be compared: give [n, d] and [m, d]."
        )
    if not len(features_p) or not len(features_q) or bins < 1:
        raise TpeError(
            f"{len(features_p)} and {len(features_q)} samples cannot be put in {bins} bins: give at least one of each."
        )
    joint = np.concatenate([features_p, features_q]).astype(np.float64)
    if not np.isfinite(joint).all():
        raise NumericalError("the features hold NaN or infinity: samples cannot be compared by them.")
    joint /= np.maximum(np.linalg.norm(joint, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    different = len(np.unique(joint, axis=0))
    if min(bins, different) == 1:
        labels, dimensions = np.zeros(len(joint), np.int64), 0
    else:
        labels, dimensions = _clusters(joint, min(bins, different), seed)
    return labels[: len(features_p)], labels[len(features_p) :], dimensions


def _clusters(joint: Floats, bins: int, seed: int) -> tuple[Ints, int]:
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    reduced = PCA(EXPLAINED, svd_solver="full").fit_transform(joint)
    labels = KMeans(bins, n_init=RESTARTS, max_iter=500, random_state=seed).fit_predict(reduced)
    return labels.astype(np.int64), int(reduced.shape[1])


def mauve(
    features_p: Floats,
    features_q: Floats,
    *,
    bins: int | None = None,
    scale: float = SCALE,
    smoothing: float = SMOOTHING,
    seed: int = 0,
) -> Mauve:
    """MAUVE of two sets of samples by their features [n, d] and [m, d], in `bins` or `bins_for` the smaller set.

    Nearly symmetric (k-means may settle elsewhere), the same for the same seed, and 1 for equal sets. Raises `TpeError`
    and `NumericalError` as `quantise` and `divergence_curve` do.
    """
    wanted = bins_for(min(len(features_p), len(features_q))) if bins is None else bins
    labels_p, labels_q, dimensions = quantise(features_p, features_q, wanted, seed)
    used = 1 + int(max(labels_p.max(), labels_q.max()))
    value = frontier_area(*histograms(labels_p, labels_q, used, smoothing), scale)
    chance = _chance((labels_p, labels_q), used, scale=scale, smoothing=smoothing, seed=seed)
    return Mauve(
        value=value, bins=used, dimensions=dimensions, samples=(len(features_p), len(features_q)), chance=chance
    )


def _chance(labels: tuple[Ints, Ints], bins: int, *, scale: float, smoothing: float, seed: int) -> float:
    """The `CHANCE` quantile of the scores of the same samples shuffled over both sets: a permutation test's bound."""
    rng, both, count = np.random.default_rng([seed, 1]), np.concatenate(labels), len(labels[0])
    scores = []
    for _ in range(SHUFFLES):
        shuffled = rng.permutation(both)
        sides = histograms(shuffled[:count], shuffled[count:], bins, smoothing)
        scores.append(frontier_area(*sides, scale, SHUFFLED_POINTS))
    return float(np.quantile(scores, CHANCE, method="lower"))
