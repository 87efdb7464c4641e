"""The divergence frontier against integrals done by hand, and the published properties of the score."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import beta

from tpe_core.errors import NumericalError, TpeError
from tpe_core.generation.mauve import (
    LEAST_SAMPLES,
    bins_for,
    divergence_curve,
    frontier_area,
    histograms,
    mauve,
    quantise,
)
from tpe_core.generation.text_quality import TextQuality
from tpe_tui.cli.prune_tables import print_texts

Floats = NDArray[np.float64]


def shares(values: list[float]) -> Floats:
    array = np.array(values, float)
    return array / array.sum()


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Floats, Floats]:
    size = draw(st.integers(2, 8))
    count = st.integers(0, 20)
    side = st.lists(count, min_size=size, max_size=size).filter(any)
    return shares(draw(side)), shares(draw(side))


LEAST = 1 / math.comb(10, 5)  # of any two histograms at c = 5: of two that share no bin


def test_equal_histograms_have_the_whole_square() -> None:
    p = shares([1, 5, 0, 2])
    assert frontier_area(p, p) == 1
    x, y = divergence_curve(p, p)
    np.testing.assert_allclose([x, y], 1, atol=1e-14)


@pytest.mark.parametrize("c", [1, 2, 5])
def test_disjoint_histograms_have_the_least_area(c: int) -> None:
    # KL(q || r) = -log(1 - l), KL(p || r) = -log l, so the area is c B(c + 1, c) = 1 / binomial(2c, c)
    p, q = shares([2, 1, 0, 0]), shares([0, 0, 3, 1])
    assert frontier_area(p, q, c) == pytest.approx(1 / math.comb(2 * c, c), abs=2e-6)
    x, y = divergence_curve(p, q, c, points=5)
    share = np.sin(np.linspace(0, math.pi / 2, 5)) ** 2
    np.testing.assert_allclose(x, (1 - share) ** c, atol=1e-14)
    np.testing.assert_allclose(y, share**c, atol=1e-14)
    assert (x[0], y[0], x[-1], y[-1]) == (1, 0, 0, 1)


# p = (1, 0), q = (1/2, 1/2): r = ((1 + l)/2, (1 - l)/2), so exp(-KL(p || r)) = (1 + l)/2 and
# exp(-KL(q || r)) = sqrt(1 - l^2). The area is the integral of ((1 + l)/2)^c over d(1 - l^2)^(c/2), l from 1 to 0.
ONE_SURE, ONE_EVEN = np.array([1.0, 0.0]), np.array([0.5, 0.5])


def test_two_bins_integrated_by_hand() -> None:
    assert frontier_area(ONE_SURE, ONE_EVEN, 2) == pytest.approx(17 / 24, abs=1e-6)

    def antiderivative(u: int) -> Fraction:  # of (u - 1)(2 - u) u^5, u = 1 + l
        return -Fraction(u**8, 8) + Fraction(3 * u**7, 7) - Fraction(u**6, 3)

    by_four = (antiderivative(2) - antiderivative(1)) / 4
    assert frontier_area(ONE_SURE, ONE_EVEN, 4) == pytest.approx(float(by_four), abs=1e-6)


def test_two_bins_at_the_published_scale() -> None:
    wanted = 5 / 32 * sum(math.comb(5, k) * beta((k + 2) / 2, 5 / 2) / 2 for k in range(6))
    assert frontier_area(ONE_SURE, ONE_EVEN) == pytest.approx(wanted, abs=1e-6)


def test_two_full_bins_against_a_derivative_integrated_numerically() -> None:
    from scipy.integrate import quad

    p, q, c = np.array([0.7, 0.3]), np.array([0.2, 0.8]), 5.0

    def integrand(share: float) -> float:  # y |dx/dl|, dx/dl = c x sum q (p - q) / r
        r = share * p + (1 - share) * q
        x, y = (math.exp(-c * float((side * np.log(side / r)).sum())) for side in (q, p))
        return -y * c * x * float((q * (p - q) / r).sum())

    wanted = quad(integrand, 0, 1)[0] + math.exp(-c * float((q * np.log(q / p)).sum()))
    assert frontier_area(p, q) == pytest.approx(wanted, abs=1e-6)


@given(pairs())
def test_bounds_symmetry_and_bins_in_any_order(pair: tuple[Floats, Floats]) -> None:
    p, q = pair
    area = frontier_area(p, q)
    assert LEAST - 1e-5 <= area <= 1
    assert frontier_area(q, p) == pytest.approx(area, abs=1e-9)
    order = np.random.default_rng(0).permutation(len(p))
    assert frontier_area(p[order], q[order]) == pytest.approx(area, abs=1e-9)
    x, y = divergence_curve(p, q)
    assert (np.diff(x) <= 1e-12).all()
    assert (np.diff(y) >= -1e-12).all()


@given(pairs())
def test_mixing_in_the_other_set_never_brings_it_nearer(pair: tuple[Floats, Floats]) -> None:
    p, q = pair
    areas = [frontier_area(p, (1 - share) * p + share * q) for share in (0, 0.1, 0.3, 0.6, 1)]
    assert areas[0] == pytest.approx(1, abs=1e-12)
    assert (np.diff(areas) <= 1e-6).all()


@given(pairs())
def test_coarser_bins_never_tell_sets_better_apart(pair: tuple[Floats, Floats]) -> None:
    p, q = pair
    merged = [np.append(np.delete(side, [0, 1]), side[:2].sum()) for side in (p, q)]
    assert frontier_area(*merged) >= frontier_area(p, q) - 1e-6


def test_a_larger_scale_asks_for_more() -> None:
    p, q = shares([3, 1, 1]), shares([1, 1, 3])
    areas = [frontier_area(p, q, c) for c in (0.1, 1, 5, 20)]
    assert (np.diff(areas) < 0).all()


def test_histograms_by_hand() -> None:
    p, q = histograms(np.array([0, 0, 2]), np.array([1]), 3)
    assert p.tolist() == pytest.approx([2.5 / 4.5, 0.5 / 4.5, 1.5 / 4.5])
    assert q.tolist() == pytest.approx([0.5 / 2.5, 1.5 / 2.5, 0.5 / 2.5])
    p, q = histograms(np.array([0, 0, 2]), np.array([1]), 3, smoothing=0)
    assert p.tolist() == pytest.approx([2 / 3, 0, 1 / 3])
    assert q.tolist() == [0, 1, 0]


def blobs(seed: int, weights: list[float], samples: int = 400) -> Floats:
    """Features around four far corners of eight dimensions, one drawn by `weights` for each sample."""
    rng = np.random.default_rng(seed)
    centres = 5 * np.random.default_rng(99).standard_normal((4, 8))
    return centres[rng.choice(4, size=samples, p=shares(weights))] + 0.1 * rng.standard_normal((samples, 8))


def test_known_clusters_give_their_known_score() -> None:
    p, q = blobs(0, [4, 3, 2, 1]), blobs(1, [1, 2, 3, 4])
    labels_p, labels_q, dimensions = quantise(p, q, 4)
    assert 1 <= dimensions <= 3  # four centres span three
    assert len(set(labels_p.tolist())) == 4
    centres = 5 * np.random.default_rng(99).standard_normal((4, 8))
    nearest = [((side[:, None] - centres) ** 2).sum(-1).argmin(1) for side in (p, q)]
    wanted = frontier_area(*histograms(*nearest, 4))
    found = mauve(p, q, bins=4)
    assert found.value == pytest.approx(wanted, abs=1e-9)
    assert found.to_dict() == {
        "value": found.value, "bins": 4, "dimensions": dimensions, "samples": [400, 400], "chance": found.chance,
        "enough": True, "told_apart": True,
    }  # fmt: skip
    assert 0.1 < found.value < 0.9


def test_sets_from_equal_to_disjoint() -> None:
    p = blobs(0, [1, 1, 0, 0])
    assert mauve(p, p.copy()).value == 1
    assert mauve(p, blobs(1, [1, 1, 0, 0]), bins=4).value > 0.95
    scores = [mauve(p, blobs(2, [1, 1, share, share]), bins=4).value for share in (0, 0.3, 1, 5)]
    assert (np.diff(scores) < 0).all()
    assert mauve(p, blobs(3, [0, 0, 1, 1]), bins=4, smoothing=0).value == pytest.approx(LEAST, abs=2e-6)
    assert mauve(p, blobs(3, [0, 0, 1, 1])).value < 0.05


def test_seeds_order_and_length_of_features() -> None:
    p, q = blobs(0, [4, 3, 2, 1]), blobs(1, [1, 2, 3, 4], samples=300)
    assert mauve(p, q, seed=3) == mauve(p, q, seed=3)
    assert mauve(p, q).samples == (400, 300)
    assert mauve(p, q).bins == bins_for(300) == 30
    assert mauve(p, q, bins=4).value == pytest.approx(mauve(q, p, bins=4).value, abs=1e-9)
    rng = np.random.default_rng(5)
    assert mauve(rng.permutation(p), rng.permutation(q), bins=4).value == pytest.approx(mauve(p, q, bins=4).value)
    assert mauve(3 * p, 0.01 * q, bins=4).value == pytest.approx(mauve(p, q, bins=4).value)


@pytest.mark.parametrize("samples", [LEAST_SAMPLES, 400])
def test_a_score_says_from_where_on_it_is_chance(samples: int) -> None:
    pairs = [[blobs(2 * seed + side, [4, 3, 2, 1], samples) for side in (0, 1)] for seed in range(40)]
    found = [mauve(p, q, bins=4) for p, q in pairs]
    assert all(each.chance < 1 for each in found)
    assert sum(each.told_apart for each in found) <= 6  # of 40 pairs that are alike; 2 are expected
    assert mauve(blobs(0, [4, 3, 2, 1], samples), blobs(1, [1, 2, 3, 4], samples), bins=4).told_apart
    same = blobs(0, [1, 1, 1, 1], samples)
    assert not mauve(same, same.copy()).told_apart


@pytest.mark.parametrize("samples", [1, 32, LEAST_SAMPLES - 1])
def test_too_few_samples_never_tell_sets_apart_whatever_they_score(samples: int) -> None:
    found = mauve(blobs(0, [1, 1, 0, 0], samples), blobs(1, [0, 0, 1, 1], 400))
    assert not found.enough
    assert not found.told_apart
    assert found.to_dict()["enough"] is False


def test_few_different_rows() -> None:
    same = np.ones((6, 3))
    assert mauve(same, same[:4]).value == 1
    assert mauve(same, same).value == 1
    found = mauve(same, np.array([[1.0, 0, 0]] * 6), bins=5, smoothing=0)
    assert (found.bins, found.value) == (2, pytest.approx(LEAST, abs=2e-6))
    assert mauve(np.zeros((3, 2)), np.zeros((3, 2))).value == 1


def test_bins_grow_with_samples_to_the_published_number() -> None:
    assert [bins_for(n) for n in (1, 15, 256, 5000, 10**6)] == [2, 2, 26, 500, 500]


def test_bad_input_is_one_sentence() -> None:
    p = shares([1, 1])
    with pytest.raises(TpeError, match="q is no histogram"):
        frontier_area(p, shares([1, 1, 1]))
    with pytest.raises(TpeError, match="sum to 2"):
        frontier_area(p, 2 * p)
    with pytest.raises(TpeError, match="not 0"):
        frontier_area(p, p, 0)
    with pytest.raises(TpeError, match=r"shapes \(2, 3\) and \(2, 4\)"):
        mauve(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(TpeError, match="0 and 2 samples"):
        mauve(np.ones((0, 3)), np.ones((2, 3)))
    with pytest.raises(NumericalError, match="NaN"):
        mauve(np.array([[1, math.nan]]), np.ones((2, 2)))


@pytest.mark.parametrize("samples", [32, 200])
def test_the_table_shows_no_score_that_tells_nothing(samples: int, capsys: pytest.CaptureFixture[str]) -> None:
    side = blobs(0, [4, 3, 2, 1], samples)
    ceiling = mauve(side, blobs(1, [4, 3, 2, 1], samples))
    text, said = (
        TextQuality(samples=samples, tokens=9, distinct=(0.1,) * 4, repetition=(0.0,) * 4, mean_length=9.0, ended=0.0),
        SimpleNamespace(tokens=[()] * samples),
    )
    texts = [
        SimpleNamespace(
            order=name,
            replace="zero",
            removed=3,
            quality=SimpleNamespace(ceiling=ceiling, mauve=score, base=text, edited=text, samples=[said]),
        )
        for name, score in (("alike", ceiling), ("apart", mauve(side, blobs(2, [1, 2, 3, 4], samples))))
    ]
    print_texts(texts)
    rows = {words[0]: words for row in capsys.readouterr().out.splitlines() if (words := row.split())}
    if samples < LEAST_SAMPLES:
        assert {rows[name][3] for name in ("alike", "apart")} == {"-"}
        assert "too few for MAUVE" in " ".join(rows["text"])
    else:
        assert rows["alike"][3] == f"~{ceiling.value:.3f}"
        assert re.fullmatch(r"0\.\d{3}", rows["apart"][3])
