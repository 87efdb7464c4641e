"""The fit of one head: against statsmodels, scikit-learn and NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from sklearn.linear_model import LinearRegression
from threadpoolctl import threadpool_info, threadpool_limits

from tpe_core.dynamics.measure import head_fit
from tpe_core.dynamics.measure.head_fit import TOP_COMPONENTS, TOP_DIMS, fit_head, fit_steps, overlap
from tpe_core.dynamics.trajectory import Point
from tpe_core.encoding import design
from tpe_core.encoding.encoding import fit_encoding
from tpe_core.errors import NumericalError
from tpe_core.progress import Progress, run

RNG = np.random.default_rng(0)
W = RNG.normal(size=(400, 24)) * RNG.uniform(0.5, 3, 24)
Y = W @ RNG.normal(size=24) + 4 * RNG.normal(size=400) + 9


def test_the_figures_are_those_of_independent_programs() -> None:
    fit = fit_head(torch.from_numpy(W), Y)
    ols = sm.OLS(Y, sm.add_constant(W)).fit()
    assert fit.r2 == pytest.approx(ols.rsquared, abs=1e-12)
    assert fit.r2_adjusted == pytest.approx(ols.rsquared_adj, abs=1e-12)
    slope = ols.params[1:]
    assert list(fit.top_dims) == np.argsort(-np.abs(slope))[:TOP_DIMS].tolist()
    half = np.zeros(400, dtype=bool)
    half[np.random.default_rng(0).permutation(400)[:200]] = True
    score = LinearRegression().fit(W[half], Y[half]).score(W[~half], Y[~half])
    assert fit.r2_heldout_vocab == pytest.approx(score, abs=1e-10)
    centred = W - W.mean(0)
    scores = np.linalg.svd(centred, full_matrices=False)[0][:, :TOP_COMPONENTS]
    expected = [abs(np.corrcoef(scores[:, i], Y)[0, 1]) for i in range(TOP_COMPONENTS)]
    assert np.abs(fit.pc_correlations) == pytest.approx(expected, abs=1e-10)
    sizes = np.abs(slope) * W.std(0)
    assert fit.participation_ratio == pytest.approx((sizes**2).sum() ** 2 / (sizes**4).sum())
    assert fit.gini == pytest.approx(np.abs(sizes[:, None] - sizes).sum() / (2 * 24 * sizes.sum()))


def test_padding_rows_and_narrow_dtypes_and_gradients() -> None:
    plain = fit_head(torch.from_numpy(W), Y)
    padded = torch.nn.Parameter(torch.from_numpy(np.vstack([W, 100 * np.ones((7, 24))])))
    assert fit_head(padded, Y) == plain
    narrow = torch.from_numpy(W).to(torch.bfloat16)
    assert fit_head(narrow, Y).r2 == pytest.approx(fit_head(narrow.double(), Y).r2, abs=1e-12)
    assert Point(name="a", step=1, **plain.fields()).r2 == plain.r2


def test_a_head_that_starts_at_zero_explains_nothing() -> None:
    fit = fit_head(torch.zeros(400, 24), Y)
    assert (fit.r2, fit.r2_adjusted, fit.top_dims, fit.pc_correlations) == (0, 0, (), ())
    assert -0.1 < fit.r2_heldout_vocab <= 0
    constant = fit_head(torch.full((400, 24), 0.3), Y)
    assert constant.r2_adjusted == pytest.approx(0, abs=0.1)


def test_what_cannot_be_fitted_is_said() -> None:
    with pytest.raises(NumericalError, match="frequencies of 400 tokens do not fit"):
        fit_head(torch.zeros(399, 24), Y)
    with pytest.raises(NumericalError, match="NaN or infinity"):
        fit_head(torch.from_numpy(np.where(np.arange(24) == 3, np.nan, W)), Y)
    with pytest.raises(NumericalError, match="cannot determine 24 slopes"):
        fit_head(torch.from_numpy(W[:20]), Y[:20])


def test_a_small_fit_leaves_the_other_cores_to_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def threads() -> set[int]:
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    seen: list[set[int]] = []

    def watched(*arguments: Any, **options: Any) -> Any:
        seen.append(threads())
        return fit_encoding(*arguments, **options)

    monkeypatch.setattr(head_fit, "fit_encoding", watched)
    with threadpool_limits(2, user_api="blas"):
        assert threads() == {2}
        small = fit_head(torch.from_numpy(W), Y)
        assert threads() == {2}
        monkeypatch.setattr(head_fit, "SMALL", 0)
        large = fit_head(torch.from_numpy(W), Y)
    assert seen == [{1}, {2}]
    assert large.r2 == pytest.approx(small.r2, abs=1e-12)


def test_a_large_fit_is_a_job_that_can_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit_head(torch.from_numpy(W), Y)
    assert list(fit_steps(torch.from_numpy(W), Y)) == []
    monkeypatch.setattr(head_fit, "SMALL", 0)
    monkeypatch.setattr(design, "CHUNK_VALUES", 1)  # 256 rows at least
    events: list[Progress] = []
    assert run(fit_steps(torch.from_numpy(np.vstack([W, W])), np.append(Y, Y)), events.append).r2 == pytest.approx(
        whole.r2, abs=1e-12
    )
    assert [(event.label, event.done) for event in events] == [
        ("Gram matrix", 0), ("Gram matrix", 256), ("Gram matrix", 400), ("Gram matrix", 656),
        ("regression", 0), ("components", 0),
    ]  # fmt: skip
    steps = fit_steps(torch.from_numpy(W), Y)
    next(steps)
    steps.close()


def test_overlap() -> None:
    assert overlap((1, 2, 3, 4), (4, 9, 1, 0)) == 0.5
    assert overlap((), (1,)) is None
