"""Slopes from parts of a text against refits by statsmodels, their agreement by brute force, and texts made by rule."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import scipy.stats
import statsmodels.api as sm
import torch

from tpe_core.corpus.corpus import STRETCHES
from tpe_core.detection.block_groups import BlockGroups
from tpe_core.encoding.design import Design
from tpe_core.encoding.stability import Stability, half_splits, jackknife_variance, text_stability

ROWS, WIDTH = 300, 12


def head(seed: int = 0, rows: int = ROWS, width: int = WIDTH) -> np.ndarray:
    """W [V, d] in float32."""
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def read(
    W: np.ndarray, slope: np.ndarray, sizes: list[int], *, seed: int = 0, topics: float = 0.3
) -> tuple[np.ndarray, np.ndarray]:
    """(p [n, V], the group of each position [n]) of a text whose every position adds a topic to a common surprisal."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    logits = -(W @ slope) + topics * rng.normal(size=(len(groups), W.shape[1])) @ W.T
    return np.exp(logits - scipy.special.logsumexp(logits, 1, keepdims=True)), groups


def grouped(p: np.ndarray, groups: np.ndarray) -> BlockGroups:
    with np.errstate(divide="ignore"):
        sums = np.log(np.stack([p[groups == k].sum(0) for k in range(STRETCHES)]))
    return BlockGroups(positions=np.bincount(groups, minlength=STRETCHES), log_sums=sums)


def fitted(W: np.ndarray, p: np.ndarray, offset: np.ndarray | float = 0.0) -> np.ndarray:
    """[d] slopes of -log of the mean of p, by statsmodels."""
    result: np.ndarray = sm.OLS(-np.log(p.mean(0)) + offset, sm.add_constant(W.astype(float))).fit().params[1:]
    return result


def stability(W: np.ndarray, p: np.ndarray, groups: np.ndarray, offset: np.ndarray | None = None) -> Stability:
    design = Design(torch.from_numpy(np.ascontiguousarray(W.T)))
    whole = fitted(W, p, 0.0 if offset is None else offset)
    found = text_stability(design, whole, grouped(p, groups), np.ones(len(W), dtype=bool), offset)
    assert found is not None
    return found


SIZES = [40, 25, 60, 40, 33, 48, 51, 29]


def test_slopes_without_a_group_are_refits_of_the_rest_of_the_text() -> None:
    W, offset = head(), np.random.default_rng(5).normal(size=ROWS)
    p, groups = read(W, np.linspace(-1, 1, WIDTH), SIZES)
    found = stability(W, p, groups, offset)
    assert found.without.shape == (STRETCHES, WIDTH)
    for group, slope in enumerate(found.without):
        np.testing.assert_allclose(slope, fitted(W, p[groups != group], offset), rtol=1e-8, atol=1e-10)
    assert found.positions == sum(SIZES)
    np.testing.assert_array_equal(found.group_positions, SIZES)


def test_standard_errors_are_the_jackknife_written_out() -> None:
    W = head()
    p, groups = read(W, np.linspace(-1, 1, WIDTH), SIZES)
    found = stability(W, p, groups)
    n, G = sum(SIZES), len(SIZES)
    whole, refits = fitted(W, p), [fitted(W, p[groups != group]) for group in range(G)]
    centre = G * whole - sum((1 - m / n) * refit for m, refit in zip(SIZES, refits, strict=True))
    pseudo = [n / m * whole - (n / m - 1) * refit for m, refit in zip(SIZES, refits, strict=True)]
    variance = sum((value - centre) ** 2 / (n / m - 1) for m, value in zip(SIZES, pseudo, strict=True)) / G
    np.testing.assert_allclose(found.stderr, np.sqrt(variance), rtol=1e-6)
    quantile = scipy.stats.t.ppf(0.975, G - 1)
    np.testing.assert_allclose(found.high - found.low, 2 * quantile * np.sqrt(variance), rtol=1e-6)
    np.testing.assert_allclose((found.high + found.low) / 2, whole, rtol=1e-8)


def test_jackknife_of_a_mean_is_the_variance_of_a_mean() -> None:
    values = np.random.default_rng(1).normal(size=(8, 5))  # one number a group: the textbook's standard error
    without = np.stack([np.delete(values, k, 0).mean(0) for k in range(8)])
    found = jackknife_variance(values.mean(0), without, np.full(8, 7))
    np.testing.assert_allclose(found, values.var(0, ddof=1) / 8, rtol=1e-12)


def test_agreement_of_halves_is_brute_force() -> None:
    W = head()
    p, groups = read(W, np.linspace(-1, 1, WIDTH), SIZES)
    found = stability(W, p, groups)
    cosines, correlations, overlaps, lengths = [], [], {0.1: [], 0.3: [], 0.5: []}, []
    for split in range(1, STRETCHES):  # of the Hadamard matrix: sign of group g in row s is the parity of g & s
        inside = np.array([(int(group) & split).bit_count() % 2 == 0 for group in groups])
        first, second = fitted(W, p[inside]), fitted(W, p[~inside])
        cosines.append(first @ second / np.sqrt((first @ first) * (second @ second)))
        correlations.append(scipy.stats.spearmanr(np.abs(first), np.abs(second)).statistic)
        lengths.append(2 / (1 / inside.sum() + 1 / (~inside).sum()))
        for share, values in overlaps.items():
            count = {0.1: 1, 0.3: 4, 0.5: 6}[share]
            bottoms = [{i for _, i in sorted(zip(abs(a), range(WIDTH), strict=True))[:count]} for a in (first, second)]
            values.append(len(bottoms[0] & bottoms[1]) / count)
    assert found.cosine == pytest.approx(np.mean(cosines), abs=1e-9)
    assert found.spearman == pytest.approx(np.mean(correlations), abs=1e-9)
    assert found.overlap == pytest.approx({share: np.mean(values) for share, values in overlaps.items()})
    noise = np.mean([length * (1 / cosine - 1) for length, cosine in zip(lengths, cosines, strict=True)])
    assert found.noise == pytest.approx(noise, rel=1e-7)
    assert found.to_dict()["positions_for_cosine"]["0.99"] == pytest.approx(noise * 99, rel=1e-7)
    assert found.cosine_at(found.positions_for(0.95)) == pytest.approx(0.95)


def test_splits_put_every_two_groups_together_as_often_and_halve_the_text() -> None:
    splits = half_splits(np.full(STRETCHES, 10))
    assert splits.shape == (STRETCHES - 1, STRETCHES)
    assert (splits.sum(1) == STRETCHES // 2).all()
    together = (splits[:, :, None] == splits[:, None, :]).sum(0)
    assert set(together[~np.eye(STRETCHES, dtype=bool)]) == {3}
    lopsided = half_splits(np.array([1000, *[10] * 7]))
    assert not len(lopsided)  # one part would have hardly any text


@pytest.mark.parametrize("sizes", [[30, 30, 30], [1000, *[10] * 7]])
def test_too_little_text_to_take_apart_says_nothing(sizes: list[int]) -> None:
    W = head()
    p, groups = read(W, np.linspace(-1, 1, WIDTH), sizes)
    design = Design(torch.from_numpy(np.ascontiguousarray(W.T)))
    assert text_stability(design, fitted(W, p), grouped(p, groups), np.ones(ROWS, dtype=bool)) is None


def test_halves_foretell_how_well_longer_texts_agree() -> None:
    W, slope = head(rows=200, width=20), np.random.default_rng(2).normal(size=20) * 0.05
    short = [stability(W, *read(W, slope, [40] * 8, seed=seed, topics=0.15)) for seed in range(12)]
    pairs = [
        [fitted(W, read(W, slope, [1280], seed=100 + 2 * k + i, topics=0.15)[0]) for i in (0, 1)] for k in range(12)
    ]
    cosines = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in pairs]
    halves = np.mean([found.cosine for found in short])
    foretold = np.mean([found.cosine_at(1280) for found in short])
    assert halves < 0.95 < foretold  # eight times as long: the difference is no rounding
    assert 1 - foretold == pytest.approx(1 - np.mean(cosines), rel=0.3)


def test_intervals_cover_the_slopes_of_an_endless_text() -> None:
    W, slope = head(rows=100, width=6), np.array([0.4, -0.3, 0.2, -0.1, 0.05, 0.0])
    endless = fitted(W, read(W, slope, [20_000], seed=999)[0])
    covered = []
    for seed in range(100):
        found = stability(W, *read(W, slope, [25] * 8, seed=seed))
        covered.append((found.low <= endless) & (endless <= found.high))
    assert 0.92 <= np.mean(covered) <= 0.98


def test_slopes_that_differ_by_less_than_the_text_tells_are_doubtful() -> None:
    W = head(rows=400, width=6)
    slope = np.array([0.01, 0.2, 0.202, 1.0, -1.2, 1.4])  # 1 and 2 are alike
    p, groups = read(W, slope, [60] * 8)
    found = stability(W, p, groups)
    order = np.argsort(np.abs(found.slope))
    assert set(order[1:3]) == {1, 2}
    np.testing.assert_array_equal(found.doubtful(order[:2]), order[1:2])  # the twin that goes, not the small one
    sentence = "1 of the 2 pruned dimensions cannot be told from those that were kept, by this text: "
    assert found.warning(order[:2].tolist()) == f"{sentence}{order[1]}."
    assert found.warning(order[:1]) == found.warning(order[1:3]) == ""
    assert found.doubtful(order[:1]).size == 0
    assert found.doubtful(order[:3]).size == 0
    assert found.doubtful(order[1:3]) is None  # no mask of the smallest slopes
    assert found.doubtful(order[:0]) is None
    assert found.doubtful(order) is None


def test_groups_far_apart_are_summed_in_the_log_domain() -> None:
    sums = np.zeros((STRETCHES, 3))
    sums[0, 1], sums[:, 2] = 2000.0, -np.inf
    groups = BlockGroups(positions=np.full(STRETCHES, 4), log_sums=sums)
    members = np.stack([np.arange(STRETCHES) > 0, np.arange(STRETCHES) == 1])
    found = groups.log_alpha(members, np.arange(3))
    np.testing.assert_allclose(found[:, :2], [[np.log(7 / 28)] * 2, [np.log(1 / 4)] * 2])
    assert np.isneginf(found[:, 2]).all()
