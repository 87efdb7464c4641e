"""The log-linear law: -log alpha regressed on the output embedding's rows, and how far it holds.

``-log alpha_w ≈ A . W_w + B`` by ordinary least squares with intercept (Cho et al. 2025, section 2.1), solved
 from the centred Gram matrix, which `components` shares. A head bias b enters as an offset: ``-log alpha + b``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.special
from numpy.typing import NDArray

from tpe_core.encoding.design import Design
from tpe_core.encoding.gram import Solver, rank_tolerance
from tpe_core.errors import NumericalError

__all__ = ["Encoding", "benjamini_hochberg", "fit_encoding"]

PERMUTATIONS = 8  # draws of the permutation null

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """A fitted log-linear law. Slopes are nats per unit of weight; all arrays are over dimensions [d] or rows [V].

    Example:
        >>> encoding = analysis.encoding
        >>> encoding.predicted.shape == encoding.surprisal.shape
        True
        >>> bool(encoding.r2 <= 1)
        True
    """

    slope: Floats  # [d] A
    intercept: float  # B
    stderr: Floats  # [d] sqrt(s2 * diag((XᵀX)^-1)), s2 = SSE / (V - rank - 1)
    r: Floats  # [d] Pearson correlation of each raw column with -log alpha
    scale: Floats  # [d] population standard deviation of each column
    surprisal: Floats  # [V] -log alpha of the fitted rows, nats
    predicted: Floats  # [V] A . W_w + B - offset: the law's prediction of -log alpha
    r2: float  # 1 - SSE / SST, of -log alpha + offset
    r2_without_offset: float  # the same without the head bias as offset; equal where there is no bias
    r2_heldout_vocab: float  # fitted on a random half of the rows, scored on the other
    r2_permuted: float  # mean over `PERMUTATIONS` shuffles of -log alpha
    condition_number: float  # 2-norm, of the centred W with all its dimensions; infinite where it is singular
    rank: int  # numerical rank of the centred W
    undetermined: NDArray[np.int64]  # dimensions without a slope of their own: constant, or a combination of others
    cosine_to_mean_hidden: float  # cosine(A, -E[h]); NaN where E[h] is not given
    jensen_correlation: float  # corr(-log alpha, E[-log p]); NaN where E[h] is not given
    nested_order: NDArray[np.int64]  # [d] dimensions by |A| sd, largest first
    nested_r2: Floats  # [d] R2 of the first k of them

    @property
    def rows(self) -> int:
        """V, the rows fitted."""
        return len(self.surprisal)

    @property
    def warning(self) -> str | None:
        """What to know of a singular W before its slopes are read; None where every slope is determined."""
        if not len(self.undetermined):
            return None
        constant = self.undetermined[self.stderr[self.undetermined] == 0]
        dependent = np.setdiff1d(self.undetermined, constant)
        parts = []
        if len(constant):
            parts.append(f"{len(constant)} the same for every token ({_named(constant)}), their slope is 0")
        if len(dependent):
            parts.append(
                f"{len(dependent)} that others determine ({_named(dependent)}), their slopes are the smallest that "
                "fit as well"
            )
        width = len(self.slope)
        return f"the output embedding has rank {self.rank} in {width} dimensions: {' and '.join(parts)}."

    @property
    def degrees_of_freedom(self) -> int:
        """V - rank - 1, of the residuals."""
        return self.rows - self.rank - 1

    @property
    def r2_adjusted(self) -> float:
        """1 - (1 - R2) (V - 1) / (V - rank - 1)."""
        return 1 - (1 - self.r2) * (self.rows - 1) / self.degrees_of_freedom

    @property
    def slope_std(self) -> Floats:
        """[d] standardised slopes A_i sd(W_:i), nats: comparable across dimensions."""
        return self.slope * self.scale

    @property
    def residual(self) -> Floats:
        """[V] -log alpha minus its prediction, nats: positive where a token is rarer than its row says."""
        return self.surprisal - self.predicted

    @cached_property
    def t(self) -> Floats:
        """[d] slope / stderr; NaN where a column is constant."""
        with np.errstate(divide="ignore", invalid="ignore"):
            result: Floats = self.slope / self.stderr
        return result

    @cached_property
    def p(self) -> Floats:
        """[d] two-sided p of t with V - rank - 1 degrees of freedom."""
        result: Floats = 2 * scipy.special.stdtr(self.degrees_of_freedom, -np.abs(self.t))
        return result

    @cached_property
    def q(self) -> Floats:
        """[d] Benjamini-Hochberg adjusted p; NaN where p is."""
        return benjamini_hochberg(self.p)

    @property
    def f_statistic(self) -> float:
        """(R2 / rank) / ((1 - R2) / (V - rank - 1))."""
        return (self.r2 / self.rank) / ((1 - self.r2) / self.degrees_of_freedom) if self.r2 < 1 else float("inf")

    @property
    def f_p(self) -> float:
        """p of the F statistic."""
        return float(scipy.special.fdtrc(self.rank, self.degrees_of_freedom, self.f_statistic))

    def confidence_interval(self, level: float = 0.95) -> Floats:
        """[d, 2] confidence intervals of the slopes."""
        half = scipy.special.stdtrit(self.degrees_of_freedom, 0.5 + level / 2) * self.stderr
        return np.stack([self.slope - half, self.slope + half], 1)

    def r2_by_k(self) -> dict[int, float]:
        """R2 of the k best dimensions by |A| sd, for k = 1, 2, 4, ... and d."""
        sizes = [2**power for power in range(len(self.nested_r2).bit_length()) if 2**power < len(self.nested_r2)]
        return {k: float(self.nested_r2[k - 1]) for k in [*sizes, len(self.nested_r2)]}

    def dimensions_for(self, share: float = 0.9) -> int:
        """The smallest k whose nested R2 reaches `share` of the full R2."""
        return int(np.searchsorted(self.nested_r2, share * self.nested_r2[-1]) + 1)

    @property
    def gini(self) -> float:
        """Gini coefficient of |A| sd: 0 where all dimensions count alike, towards 1 where one does."""
        values = np.sort(np.abs(self.slope_std))
        n = len(values)
        return float((2 * np.arange(1, n + 1) - n - 1) @ values / (n * values.sum())) if values.any() else 0.0

    @property
    def participation_ratio(self) -> float:
        """(sum v)^2 / sum v^2 of v = (A sd)^2: the effective number of dimensions."""
        v = self.slope_std**2
        return float(v.sum() ** 2 / (v @ v)) if v.any() else 0.0


def benjamini_hochberg(p: Floats) -> Floats:
    """Adjusted p values: for the i-th smallest of m, the least p_(j) m / j over j >= i; NaN stays, uncounted.

    Equal to statsmodels' ``multipletests(p, method="fdr_bh")``, which the tests compare it with: importing that
    costs over a second of the inspector's start.
    """
    result = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    scaled = p[order] * len(known) / np.arange(1, len(known) + 1)
    result[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return result


def fit_encoding(
    design: Design,
    surprisal: Floats,
    *,
    offset: Floats | None = None,
    mean_hidden: Floats | None = None,
    seed: int = 0,
) -> Encoding:
    """Fit the law to -log alpha [V] (nats) on a `Design` of the same rows.

    `offset` [V] is the head bias of those rows: it enters with coefficient -1, so ``-log alpha + b`` is fitted.
    `mean_hidden` [d] is E[h], for the two checks against it. Raises `NumericalError` where -log alpha is not finite.

    Returns:
        Slopes, standard errors and goodness of fit.

    Example:
        >>> design = tpe.Design(model.head.columns[:, : model.head.vocab_rows], analysis.keep)
        >>> fitted = tpe.fit_encoding(design, analysis.surprisal[analysis.keep])
        >>> bool(np.allclose(fitted.slope, analysis.encoding.slope))
        True
    """
    if surprisal.shape != (design.rows,):
        raise NumericalError(f"-log alpha has {len(surprisal)} values for {design.rows} rows of W.")
    if not np.isfinite(surprisal).all():
        raise NumericalError(
            f"-log alpha is not finite for {int((~np.isfinite(surprisal)).sum())} rows: leave them out."
        )
    shift = np.zeros(design.rows) if offset is None else offset
    y = surprisal + shift
    rng = np.random.default_rng([seed, 1])
    half = design.half
    inside = np.where(half, y - y[half].mean(), 0.0)
    shuffles = [y[rng.permutation(design.rows)] for _ in range(PERMUTATIONS)]
    # The half's cross-product: rows outside it are 0 after centring on the half's mean, and so is its sum.
    products = design.cross(np.stack([inside, y, surprisal, *shuffles]))
    half_cross, cross = products[:, :1], products[:, 1:]
    total = _sum_of_squares(y)
    solver = Solver(design.gram, design.rows, ~design.varies)
    if not design.varies.any():
        raise NumericalError("the output embedding's rows are all the same: there is nothing to explain -log alpha by.")
    coefficients = solver.solve(cross)
    slope = coefficients[:, 0]
    half_slope = Solver(design.half_gram, int(half.sum()), ~design.varies).solve(half_cross)[:, 0]
    directions = np.stack([slope, half_slope] if mean_hidden is None else [slope, half_slope, mean_hidden])
    projections = design.project(directions)
    fitted = projections[0] + y.mean()
    error = _sum_of_squares_about(y - fitted)
    other = ~half
    half_fitted = projections[1] + (design.mean - design.half_mean) @ half_slope + y[half].mean()
    half_error = (y - half_fitted)[other]
    values = design.spectrum.values
    singular = solver.rank < design.width
    smallest = max(float(values[-1]), rank_tolerance(design.rows, design.width) * float(values[0]))
    degrees = design.rows - solver.rank - 1
    order = np.argsort(-np.abs(slope * design.scale), kind="stable")
    raw_total = _sum_of_squares(surprisal)
    norms = np.sqrt(np.diag(design.gram) * raw_total)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.where(design.varies, cross[:, 1] / norms, 0.0)
    cosine, jensen = float("nan"), float("nan")
    if mean_hidden is not None:
        cosine = float(-slope @ mean_hidden / (np.linalg.norm(slope) * np.linalg.norm(mean_hidden)))
        # E[-log p] = -(W E[h] + b) + E[log Z] is linear: its correlation needs no second pass.
        jensen = float(np.corrcoef(surprisal, -projections[2] - shift)[0, 1])
    return Encoding(
        slope=slope,
        intercept=float(y.mean() - design.mean @ slope),
        stderr=np.sqrt(error / degrees * solver.inverse_diagonal()),
        r=r,
        scale=design.scale,
        surprisal=surprisal,
        predicted=fitted - shift,
        r2=1 - error / total,
        r2_without_offset=float(cross[:, 1] @ coefficients[:, 1] / raw_total),
        r2_heldout_vocab=1 - float(half_error @ half_error) / _sum_of_squares(y[other]),
        r2_permuted=float(np.mean(np.sum(cross[:, 2:] * coefficients[:, 2:], 0)) / total),
        condition_number=float("inf") if singular else float(np.sqrt(values[0] / smallest)),
        rank=solver.rank,
        undetermined=np.flatnonzero(solver.undetermined),
        cosine_to_mean_hidden=cosine,
        jensen_correlation=jensen,
        nested_order=order,
        nested_r2=solver.nested(cross[:, 0], order) / total,
    )


def _named(dims: NDArray[np.int64], most: int = 8) -> str:
    """Dimensions for people: the first few."""
    return ", ".join(map(str, dims[:most].tolist())) + (", ..." if len(dims) > most else "")


def _sum_of_squares(values: Floats) -> float:
    """About the mean. Raises `NumericalError` where the values do not vary."""
    total = _sum_of_squares_about(values - values.mean())
    if total == 0:
        raise NumericalError("-log alpha is the same for every row: there is nothing to explain.")
    return total


def _sum_of_squares_about(values: Floats) -> float:
    return float(values @ values)
