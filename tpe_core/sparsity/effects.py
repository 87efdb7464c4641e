"""What each factor of a grid did to a figure: effects with intervals, and each factor's share of what varies.

Ordinary least squares by statsmodels on levels coded as -1 and 1. A factor has one degree of freedom, so its type-II
sum of squares is t^2 times the residual's mean square.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tpe_core.sparsity.design import Factor, Level

__all__ = ["Effect", "fit_effects"]

CONFIDENCE = 0.95
CLEAR = 0.05  # of the false discovery rate

Row = tuple[int, Mapping[str, Level], Mapping[str, Any]]
"""A run: the number of its combination, its levels, its figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one factor did to one figure: the mean at its high level minus that at its low one, in the figure's units.

    The interval holds the effect with 95 % confidence. `share` is the factor's type-II sum of squares divided by the
    total sum of squares of the combinations' means, `partial_eta2` the same divided by itself and the residual's.
    `q` is `p` after Benjamini and Hochberg's correction (1995) over all factors and figures of the fit. `seed_sd` is
    the standard deviation of the figure between seeds of one combination, None where each has one seed.
    """

    figure: str
    factor: str
    low: Level
    high: Level
    effect: float
    interval_low: float
    interval_high: float
    p: float
    q: float
    share: float
    partial_eta2: float
    residual_share: float
    mean: float
    seed_sd: float | None

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0 and the false discovery rate stays under 5 % (`q`)."""
        return self.interval_low * self.interval_high > 0 and self.q < CLEAR

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, names as documented."""
        return {**asdict(self), "clear": self.is_clear}


def fit_effects(factors: Sequence[Factor], rows: Sequence[Row], figures: Iterable[str]) -> tuple[Effect, ...]:
    """The effect of every factor on every figure that all runs have.

    The seeds of one combination are averaged first: seeds differ less than combinations do, and taking each as an
    observation of its own would make intervals too narrow. The residual is then what factors that act together leave
    over, and what is left of the seeds. Where a figure does not vary, or there are no more combinations than factors
    and an intercept, it has no effects.

    Args:
        factors: What was varied, each at two levels.
        rows: The runs.
        figures: Keys of the figures.

    Returns:
        The effects, figure by figure, factors in their order.
    """
    from statsmodels.stats.multitest import multipletests

    effects = [effect for figure in figures for effect in _of_figure(factors, rows, figure)]
    if not effects:
        return ()
    q = multipletests([effect["p"] for effect in effects], method="fdr_bh")[1]
    return tuple(Effect(**effect, q=float(value)) for effect, value in zip(effects, q, strict=True))


def _of_figure(factors: Sequence[Factor], rows: Sequence[Row], figure: str) -> list[dict[str, Any]]:
    from statsmodels.regression.linear_model import OLS

    by_point: dict[int, list[float]] = {}
    levels: dict[int, Mapping[str, Level]] = {}
    for point, chosen, values in rows:
        value = values.get(figure)
        if value is None or not math.isfinite(float(value)):
            return []
        by_point.setdefault(point, []).append(float(value))
        levels[point] = chosen
    means = np.array([np.mean(values) for values in by_point.values()])
    if len(means) <= len(factors) + 1 or not np.ptp(means) > 1e-12 * (1 + np.abs(means).max()):
        return []
    coded = [[1.0, *(1.0 if levels[point][f.name] == f.high else -1.0 for f in factors)] for point in by_point]
    fit = OLS(means, np.array(coded)).fit()
    interval, residual = fit.conf_int(1 - CONFIDENCE), float(fit.ssr)
    squares = fit.tvalues**2 * fit.mse_resid
    total = float(fit.centered_tss)
    within = [np.var(values, ddof=1) for values in by_point.values() if len(values) > 1]
    return [
        {
            "figure": figure,
            "factor": factor.name,
            "low": factor.low,
            "high": factor.high,
            "effect": 2 * float(fit.params[at]),
            "interval_low": 2 * float(interval[at][0]),
            "interval_high": 2 * float(interval[at][1]),
            "p": float(fit.pvalues[at]),
            "share": float(squares[at]) / total,
            "partial_eta2": float(squares[at]) / (float(squares[at]) + residual),
            "residual_share": residual / total,
            "mean": float(means.mean()),
            "seed_sd": math.sqrt(float(np.mean(within))) if within else None,
        }
        for at, factor in enumerate(factors, 1)
    ]
