"""Effects of factors against formulas written out, and factors that were planted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from tpe_core.sparsity.design import Plan
from tpe_core.sparsity.effects import fit_effects

PLAN = Plan()
FACTORS = PLAN.factors


def rows(planted: dict[str, float], noise: float, seed: int = 0) -> list[Any]:
    """Runs whose figure is 10, half of each planted effect by level, and noise; `other` is noise alone."""
    rng = np.random.default_rng(seed)
    result = []
    for point in PLAN.points():
        signs = {factor.name: 1 if point.levels[factor.name] == factor.high else -1 for factor in FACTORS}
        value = 10 + sum(size / 2 * signs[name] for name, size in planted.items())
        for _ in range(PLAN.seeds):
            figures = {"made": value + noise * rng.normal(), "other": rng.normal()}
            result.append((point.number, point.levels, figures))
    return result


def test_effects_are_those_of_least_squares_written_out() -> None:
    some = rows({"width": 2.0, "norm": -1.0}, 0.5)
    effects = {effect.factor: effect for effect in fit_effects(FACTORS, some, ["made"])}
    means = np.array([np.mean([row[2]["made"] for row in some if row[0] == p.number]) for p in PLAN.points()])
    X = np.array([[1.0] + [1.0 if p.levels[f.name] == f.high else -1.0 for f in FACTORS] for p in PLAN.points()])
    coefficients, *_ = np.linalg.lstsq(X, means, rcond=None)
    residual = means - X @ coefficients
    freedom = len(means) - X.shape[1]
    error = np.sqrt(residual @ residual / freedom / len(means))
    total = ((means - means.mean()) ** 2).sum()
    for at, factor in enumerate(FACTORS, 1):
        effect = effects[factor.name]
        assert effect.effect == pytest.approx(2 * coefficients[at])
        half = 2 * error * stats.t.ppf(0.975, freedom)
        assert (effect.interval_low, effect.interval_high) == pytest.approx(
            (effect.effect - half, effect.effect + half)
        )
        squares = len(means) * coefficients[at] ** 2  # the design is orthogonal
        assert effect.share == pytest.approx(squares / total)
        assert effect.partial_eta2 == pytest.approx(squares / (squares + residual @ residual))
        assert effect.p == pytest.approx(2 * stats.t.sf(abs(coefficients[at] / error), freedom))
    assert sum(e.share for e in effects.values()) + effects["width"].residual_share == pytest.approx(1)
    pairs = [[row[2]["made"] for row in some if row[0] == p.number] for p in PLAN.points()]
    assert effects["width"].seed_sd == pytest.approx(np.sqrt(np.mean([np.var(pair, ddof=1) for pair in pairs])))


def test_planted_factors_are_clear_and_no_others() -> None:
    effects = fit_effects(FACTORS, rows({"width": 2.0, "tied": -1.5}, 0.1), ["made", "other"])
    clear = {(effect.figure, effect.factor) for effect in effects if effect.is_clear}
    assert clear == {("made", "width"), ("made", "tied")}
    sizes = {effect.factor: effect for effect in effects if effect.figure == "made"}
    assert sizes["width"].interval_low < 2.0 < sizes["width"].interval_high
    assert sizes["tied"].interval_low < -1.5 < sizes["tied"].interval_high


def test_noise_alone_is_seldom_clear() -> None:
    clear = [
        effect.is_clear for seed in range(40) for effect in fit_effects(FACTORS, rows({}, 1.0, seed), ["made", "other"])
    ]
    assert np.mean(clear) < 0.02


def test_what_cannot_be_fitted_has_no_effects() -> None:
    some = rows({"width": 2.0}, 0.1)
    constant = [(point, levels, {"made": 1.0}) for point, levels, _ in some]
    missing = [(point, levels, {"made": None if not at else 1.0 * at}) for at, (point, levels, _) in enumerate(some)]
    few = [row for row in some if row[0] <= len(FACTORS) + 1]
    for rows_ in (constant, missing, few):
        assert fit_effects(FACTORS, rows_, ["made"]) == ()
