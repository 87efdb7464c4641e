"""The regression against statsmodels, the components against scikit-learn, and properties that hold for any data."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from statsmodels.stats.multitest import multipletests

from tpe_core.encoding.components import principal_components
from tpe_core.encoding.design import CHUNK_VALUES, Design
from tpe_core.encoding.encoding import Encoding, benjamini_hochberg, fit_encoding
from tpe_core.encoding.gram import Solver, Spectrum
from tpe_core.errors import NumericalError


def data(rows: int, width: int, seed: int = 0, noise: float = 0.5) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """(columns [d, V] float32, W [V, d] float64, -log alpha [V]) with correlated columns of unequal scale and mean."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(width, width)) / np.sqrt(width) + np.eye(width)
    W = (rng.normal(size=(rows, width)) @ mix * rng.uniform(0.05, 2, width) + rng.normal(size=width)).astype(np.float32)
    slopes = rng.standard_t(3, width)
    y = W.astype(float) @ slopes / np.sqrt(width) + 9 + noise * rng.normal(size=rows)
    return torch.from_numpy(np.ascontiguousarray(W.T)), W.astype(float), y


@pytest.mark.parametrize(("rows", "width"), [(60, 1), (300, 7), (2000, 64), (2 * CHUNK_VALUES // 257 + 900, 256)])
def test_ols_is_statsmodels(rows: int, width: int) -> None:
    columns, W, y = data(rows, width)
    ours = fit_encoding(Design(columns), y)
    theirs = sm.OLS(y, sm.add_constant(W)).fit()
    np.testing.assert_allclose(ours.slope, theirs.params[1:], rtol=1e-8)
    assert ours.intercept == pytest.approx(theirs.params[0], rel=1e-8)
    np.testing.assert_allclose(ours.stderr, theirs.bse[1:], rtol=1e-6)
    np.testing.assert_allclose(ours.t, theirs.tvalues[1:], rtol=1e-6)
    np.testing.assert_allclose(ours.p, theirs.pvalues[1:], rtol=1e-5, atol=1e-300)
    np.testing.assert_allclose(ours.confidence_interval(0.9), theirs.conf_int(0.1)[1:], rtol=1e-6)
    assert ours.r2 == pytest.approx(theirs.rsquared, abs=1e-10)
    assert ours.r2_adjusted == pytest.approx(theirs.rsquared_adj, abs=1e-10)
    assert ours.f_statistic == pytest.approx(theirs.fvalue, rel=1e-7)
    np.testing.assert_allclose(ours.predicted, theirs.fittedvalues, rtol=1e-8)
    assert ours.degrees_of_freedom == theirs.df_resid
    assert ours.condition_number == pytest.approx(np.linalg.cond(W - W.mean(0)), rel=1e-5)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_adjusted_p_are_statsmodels(p: list[float]) -> None:
    np.testing.assert_allclose(benjamini_hochberg(np.array(p)), multipletests(p, method="fdr_bh")[1], atol=1e-15)
    with_gap = benjamini_hochberg(np.array([*p, np.nan]))
    np.testing.assert_allclose(with_gap[:-1], multipletests(p, method="fdr_bh")[1], atol=1e-15)
    assert np.isnan(with_gap[-1])


def test_held_out_and_nested_r2_are_direct_fits() -> None:
    columns, W, y = data(900, 24)
    design = Design(columns, seed=3)
    ours = fit_encoding(design, y)
    half = design.half
    assert half.sum() == 450
    fit = sm.OLS(y[half], sm.add_constant(W[half])).fit()
    error = y[~half] - fit.predict(sm.add_constant(W[~half]))
    scatter = y[~half] - y[~half].mean()
    assert ours.r2_heldout_vocab == pytest.approx(1 - error @ error / (scatter @ scatter), abs=1e-10)
    for k in (1, 2, 8, 24):
        best = np.argsort(-np.abs(ours.slope * W.std(0)))[:k]
        assert ours.nested_r2[k - 1] == pytest.approx(sm.OLS(y, sm.add_constant(W[:, best])).fit().rsquared, abs=1e-10)
    assert set(ours.r2_by_k()) == {1, 2, 4, 8, 16, 24}
    k = ours.dimensions_for(0.9)
    assert ours.nested_r2[k - 1] >= 0.9 * ours.r2 > (ours.nested_r2[k - 2] if k > 1 else -1)


def test_permuted_r2_is_the_null() -> None:
    columns, _, y = data(4000, 40)
    ours = fit_encoding(Design(columns), y)
    assert ours.r2_permuted == pytest.approx(40 / 3999, rel=0.5)
    assert ours.r2 > 0.5


def test_offset_enters_with_coefficient_minus_one() -> None:
    columns, W, y = data(500, 6)
    b = np.random.default_rng(1).normal(size=500)
    ours = fit_encoding(Design(columns), y - b, offset=b)
    theirs = sm.OLS(y, sm.add_constant(W)).fit()
    np.testing.assert_allclose(ours.slope, theirs.params[1:], rtol=1e-8)
    np.testing.assert_allclose(ours.residual, theirs.resid, atol=1e-9)
    assert ours.r2_without_offset == pytest.approx(sm.OLS(y - b, sm.add_constant(W)).fit().rsquared, abs=1e-10)


def test_checks_against_the_mean_hidden_state() -> None:
    columns, W, y = data(500, 6)
    mean = np.random.default_rng(2).normal(size=6)
    ours = fit_encoding(Design(columns), y, mean_hidden=mean)
    assert ours.cosine_to_mean_hidden == pytest.approx(
        -ours.slope @ mean / np.linalg.norm(ours.slope) / np.linalg.norm(mean)
    )
    assert ours.jensen_correlation == pytest.approx(np.corrcoef(y, -(W @ mean))[0, 1], abs=1e-9)


@pytest.mark.parametrize("width", [2, 30, 256])
def test_components_are_scikit_learn(width: int) -> None:
    columns, W, y = data(1200, width)
    design = Design(columns)
    raw = fit_encoding(design, y)
    ours = principal_components(design, raw.r)
    theirs = PCA(svd_solver="full").fit(W)
    scores = theirs.transform(W)
    correlations = [np.corrcoef(scores[:, i], y)[0, 1] for i in range(width)]
    np.testing.assert_allclose(ours.explained_variance_ratio, theirs.explained_variance_ratio_, rtol=1e-6)
    np.testing.assert_allclose(np.abs(ours.correlations), np.abs(correlations), atol=1e-6)
    np.testing.assert_allclose(np.abs(ours.scores), np.abs(scores[:, :2]), atol=1e-4)
    np.testing.assert_allclose(raw.r, [np.corrcoef(W[:, i], y)[0, 1] for i in range(width)], atol=1e-10)


def test_rank_deficient_heads_get_the_minimum_norm_fit() -> None:
    columns, W, y = data(400, 8)
    columns[5] = columns[2]  # a copy
    columns[7] = 1.5  # a constant
    W[:, 5], W[:, 7] = W[:, 2], 1.5
    ours = fit_encoding(Design(columns), y)
    theirs = sm.OLS(y, sm.add_constant(W[:, [0, 1, 2, 3, 4, 6]])).fit()
    assert ours.rank == 6
    assert ours.r2 == pytest.approx(theirs.rsquared, abs=1e-9)
    assert ours.slope[7] == 0
    assert ours.slope[2] == pytest.approx(theirs.params[3] / 2, rel=1e-6)
    assert ours.nested_r2[-1] == pytest.approx(theirs.rsquared, abs=1e-8)
    assert sm.OLS(y, sm.add_constant(W)).fit().condition_number > 1e15
    assert ours.condition_number == np.inf
    assert np.isfinite(ours.q[:5]).all()


DEGENERATE = {
    "two equal columns": lambda w: w.__setitem__((slice(None), 5), w[:, 2]),
    "a sum of columns": lambda w: w.__setitem__((slice(None), 5), w[:, 2] - 3 * w[:, 0]),
    "a constant": lambda w: w.__setitem__((slice(None), 5), 0.3),
    "more than half of the columns null": lambda w: w.__setitem__((slice(None), slice(3, 8)), 0.0),
}


@pytest.mark.parametrize("what", DEGENERATE)
@pytest.mark.parametrize("rows", [400, 30_000])
def test_a_singular_head_is_told_with_its_rank_its_dimensions_and_no_made_up_statistics(what: str, rows: int) -> None:
    _, W, y = data(rows, 8)
    DEGENERATE[what](W)
    W = W.astype(np.float32).astype(float) if what != "a sum of columns" else W
    design = Design(torch.from_numpy(np.ascontiguousarray(W.T)))
    ours = fit_encoding(design, y)
    found = principal_components(design, ours.r)
    rank = np.linalg.matrix_rank(W - W.mean(0))
    assert ours.rank == design.resolved.sum() == rank < 8
    assert np.linalg.cond(W - W.mean(0)) > 1e14
    assert ours.condition_number == np.inf
    alone = [dim for dim in range(8) if np.linalg.matrix_rank(np.delete(W - W.mean(0), dim, 1)) == rank]
    assert ours.undetermined.tolist() == alone
    assert ours.warning is not None
    assert f"has rank {rank} in 8 dimensions" in ours.warning
    assert all(str(dim) in ours.warning for dim in alone)
    kept = np.setdiff1d(np.arange(8), alone)
    theirs = sm.OLS(
        y, sm.add_constant(W, has_constant="add")
    ).fit()  # by a pseudo-inverse, as statsmodels does where it is singular
    np.testing.assert_allclose(ours.slope[kept], theirs.params[1 + kept], rtol=1e-6)
    np.testing.assert_allclose(ours.stderr[kept], theirs.bse[1 + kept], rtol=1e-6)
    assert ours.degrees_of_freedom == theirs.df_resid
    constant = W.std(0) < 1e-12
    assert np.isnan(ours.t[constant]).all()
    assert (ours.r[constant] == 0).all()
    assert (found.correlations[rank:] == 0).all()
    assert np.abs(found.correlations[:rank]).min() > 0


@pytest.mark.parametrize("keep", [None, np.arange(300) % 7 != 3])
def test_a_row_that_is_not_finite_is_named(keep: np.ndarray | None) -> None:
    columns, _, y = data(300, 8)
    columns[2, 204] = float("inf")
    with pytest.raises(NumericalError, match=r"NaN or infinity in row 204:"):
        Design(columns, keep)


def test_a_head_of_full_rank_has_no_warning_and_a_flat_one_is_a_sentence() -> None:
    columns, _, y = data(300, 8)
    assert fit_encoding(Design(columns), y).warning is None
    with pytest.raises(NumericalError, match="rows are all the same"):
        fit_encoding(Design(torch.full((8, 300), 0.1)), y)


@pytest.mark.parametrize("shift", [0.0, 300.0])
def test_moments_about_a_distant_mean_with_rows_left_out(shift: float) -> None:
    columns, W, y = data(3000, 20)
    columns, W = columns.double() + shift, W + shift
    keep = np.random.default_rng(2).random(3000) < 0.7
    columns[:, ~torch.from_numpy(keep)] = float("nan")  # rows left out are never read
    ours = Design(columns, keep, seed=1)
    for rows, mean, gram in (
        (W[keep], ours.mean, ours.gram),
        (W[keep][ours.half], ours.half_mean, ours.half_gram),
    ):
        np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-13)
        np.testing.assert_allclose(gram, (rows - rows.mean(0)).T @ (rows - rows.mean(0)), rtol=1e-9, atol=1e-8)
    targets = np.stack([y[keep], y[keep] ** 2])
    centred = W[keep] - W[keep].mean(0)
    np.testing.assert_allclose(ours.cross(targets), centred.T @ targets.T, rtol=1e-8, atol=1e-6)
    np.testing.assert_allclose(ours.project(centred[:2]), centred[:2] @ centred.T, rtol=1e-8, atol=1e-8)


def test_half_precision_columns_are_read_as_they_are() -> None:
    columns, _, y = data(300, 7)
    half = columns.to(torch.bfloat16)
    np.testing.assert_array_equal(fit_encoding(Design(half), y).slope, fit_encoding(Design(half.float()), y).slope)


@pytest.mark.parametrize("width", [1, 2, 3, 60])
def test_spectrum_is_an_eigendecomposition(width: int) -> None:
    gram = Design(data(400, width)[0]).gram
    spectrum = Spectrum(gram)
    np.testing.assert_allclose(spectrum.values, np.linalg.eigvalsh(gram)[::-1], rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(spectrum.vectors.T @ spectrum.vectors, np.eye(width), atol=1e-12)
    np.testing.assert_allclose(gram @ spectrum.vectors, spectrum.vectors * spectrum.values, atol=1e-10 * gram.max())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(0, 6), st.integers(0, 3))
def test_nested_fits_pass_over_dependent_columns(seed: int, real: int, copies: int, constants: int) -> None:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(200, real)) * rng.uniform(0.1, 10, real)
    X = np.column_stack([X, X @ rng.normal(size=(real, copies)), np.ones((200, constants))])
    X = X[:, rng.permutation(X.shape[1])]
    X -= X.mean(0)
    y = rng.normal(size=200)
    solver, order = Solver(X.T @ X), rng.permutation(X.shape[1])
    explained = solver.nested(X.T @ y, order)
    assert solver.rank == real
    for k in range(1, len(order) + 1):
        fit = X[:, order[:k]] @ np.linalg.lstsq(X[:, order[:k]], y, rcond=1e-9)[0]
        assert explained[k - 1] == pytest.approx(fit @ fit, rel=1e-6, abs=1e-9)
    assert explained[-1] == pytest.approx(solver.solve((X.T @ y)[:, None])[:, 0] @ X.T @ y, rel=1e-6)


def test_sparsity_indices_at_their_ends() -> None:
    def indices(slope: np.ndarray) -> Encoding:
        columns, W, _ = data(3000, 10, seed=5)
        W = (W - W.mean(0)) / W.std(0)
        return fit_encoding(
            Design(torch.from_numpy(np.ascontiguousarray(W.T)).float()),
            W @ slope + 1e-3 * np.random.default_rng(0).normal(size=3000),
        )

    one = indices(np.eye(10)[3])
    assert one.participation_ratio == pytest.approx(1, abs=1e-3)
    assert one.gini == pytest.approx(0.9, abs=1e-2)
    even = indices(np.ones(10))
    assert even.participation_ratio == pytest.approx(10, abs=1e-2)
    assert even.gini == pytest.approx(0, abs=1e-2)


def test_too_few_rows_is_a_sentence() -> None:
    columns, _, _ = data(8, 8)
    with pytest.raises(NumericalError, match="8 usable vocabulary rows cannot determine 8 slopes"):
        Design(columns)


def test_flat_or_infinite_alpha_is_a_sentence() -> None:
    columns, _, y = data(50, 3)
    with pytest.raises(NumericalError, match="nothing to explain"):
        fit_encoding(Design(columns), np.full(50, 2.0))
    y[4] = np.inf
    with pytest.raises(NumericalError, match="not finite for 1 rows"):
        fit_encoding(Design(columns), y)
    keep = np.isfinite(y)
    assert fit_encoding(Design(columns, keep), y[keep]).rows == 49


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.floats(0.1, 10), st.floats(-5, 5))
def test_slopes_follow_the_units_of_the_columns(seed: int, width: int, scale: float, shift: float) -> None:
    columns, _, y = data(80, width, seed)
    first = fit_encoding(Design(columns), y)
    moved = fit_encoding(Design(columns.double() * scale + shift), y)
    np.testing.assert_allclose(moved.slope * scale, first.slope, rtol=1e-5, atol=1e-7)
    assert moved.r2 == pytest.approx(first.r2, abs=1e-8)
    np.testing.assert_allclose(np.abs(moved.t), np.abs(first.t), rtol=1e-4, atol=1e-6)
