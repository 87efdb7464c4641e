"""Neighbouring results against brute force: outliers, drift and null space, weighted components, glitch tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import scipy.stats
import torch

from tpe_core.detection.detection import Detection
from tpe_core.detection.hidden import HiddenSample
from tpe_core.encoding.components import Components, principal_components
from tpe_core.encoding.design import Design
from tpe_core.encoding.encoding import Encoding, fit_encoding
from tpe_core.encoding.geometry import NULL_TOLERANCE, geometry, row_products
from tpe_core.encoding.outliers import hypergeometric_tail, outlier_dimensions
from tpe_core.encoding.undertrained import LISTED, Undertrained, lowest, untrained_rows
from tpe_core.encoding.weighted import FIRST, weighted_components
from tpe_core.models.head import OutputHead, Post

VOCAB, WIDTH = 2500, 24  # more rows than a chunk has


def head_of(w: np.ndarray, vocab: int | None = None, dtype: torch.dtype = torch.float32) -> OutputHead:
    columns = torch.from_numpy(w.T.astype(np.float32).copy()).to(dtype)
    return OutputHead(
        columns=columns,
        bias=None,
        post=Post(),
        vocab_rows=len(w) if vocab is None else vocab,
        tied=False,
        module="Linear",
    )


def detection_of(h: np.ndarray, rows: int) -> Detection:
    sample = HiddenSample(0, np.empty((0, h.shape[1]), np.float32), np.empty(0, np.int64), np.empty(0, np.uint64))
    counts = np.zeros(rows, np.int64)
    return Detection(
        positions=len(h),
        p_sum=np.ones(rows),
        log_rescued=np.full(rows, -np.inf),
        counts=counts,
        h_sum=h.sum(0),
        hh_sum=h.T @ h,
        log_z_sum=0.0,
        nll_sum=0.0,
        sample=sample,
    )


@dataclass
class Case:
    """Random rows with a drift, some left out, and a law to fit."""

    w: np.ndarray  # [V, d] as the head holds it
    keep: np.ndarray
    surprisal: np.ndarray  # [kept]
    head: OutputHead
    design: Design
    encoding: Encoding
    components: Components


def case(seed: int = 0, drift: float = 1.0, dtype: torch.dtype = torch.float32) -> Case:
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(VOCAB, WIDTH)) * np.linspace(0.5, 2, WIDTH) + drift * rng.normal(size=WIDTH)
    head = head_of(w, dtype=dtype)
    w = head.weight.double().numpy()
    keep = rng.random(VOCAB) > 0.02
    surprisal = (9 + 0.8 * (w - w.mean(0)) @ rng.normal(size=WIDTH) + rng.gumbel(size=VOCAB))[keep]
    design = Design(head.columns, keep)
    encoding = fit_encoding(design, surprisal)
    return Case(w, keep, surprisal, head, design, encoding, principal_components(design, encoding.r))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_row_products_read_only_rows_in_use(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    head = head_of(rng.normal(size=(VOCAB, WIDTH)), vocab=VOCAB - 9, dtype=dtype)
    directions = rng.normal(size=(WIDTH, 3))
    products, lengths = row_products(head, directions)
    w = head.weight.double().numpy()
    assert len(w) == VOCAB - 9
    np.testing.assert_allclose(products, w @ directions, atol=1e-12)
    np.testing.assert_allclose(lengths, np.linalg.norm(w, axis=1), rtol=1e-14)


def test_outliers_are_the_planted_dimensions() -> None:
    some = case()
    rng = np.random.default_rng(1)
    h = rng.normal(size=(4000, WIDTH)) * rng.uniform(0.7, 1.4, WIDTH)
    h[:, 5] += 40  # large but still
    h[:, 11] *= 30  # large and moving
    h[:, 17] = 0  # never used: no outlier, and no part of the median
    found = outlier_dimensions(detection_of(h, VOCAB), some.encoding)
    assert found.dims.tolist() == [5, 11]
    np.testing.assert_allclose(found.rms, np.sqrt(np.mean(h**2, 0)), rtol=1e-12)
    np.testing.assert_allclose(found.variance, h.var(0), rtol=1e-9)
    assert found.rms[5] > found.rms_threshold > found.rms[0]
    assert found.variance[11] > found.variance_threshold > found.variance[5]
    leading = np.argsort(-np.abs(some.encoding.slope * some.w[some.keep].std(0)))[:2]
    assert found.overlap == len({5, 11} & set(leading.tolist()))
    assert found.overlap_expected == pytest.approx(4 / WIDTH)
    document = found.to_dict()
    assert [entry["dim"] for entry in document["dims"]] == [5, 11]
    assert document["overlap_p"] == pytest.approx(scipy.stats.hypergeom.sf(found.overlap - 1, WIDTH, 2, 2))


def test_an_even_hidden_state_has_no_outliers() -> None:
    h = np.random.default_rng(2).choice([-1.0, 1.0], size=(500, WIDTH))
    found = outlier_dimensions(detection_of(h, VOCAB), case().encoding)
    assert found.dims.tolist() == []
    assert found.overlap == 0
    assert np.isnan(found.overlap_p)


@pytest.mark.parametrize(("overlap", "total", "drawn"), [(0, 24, 3), (1, 24, 3), (3, 24, 3), (2, 4096, 9), (7, 10, 8)])
def test_overlap_by_chance(overlap: int, total: int, drawn: int) -> None:
    expected = scipy.stats.hypergeom.sf(overlap - 1, total, drawn, drawn)
    assert hypergeometric_tail(overlap, total, drawn) == pytest.approx(expected, rel=1e-9)


def test_drift_rank_and_null_space() -> None:
    rng = np.random.default_rng(4)
    basis = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0]
    sizes = np.ones(WIDTH)
    sizes[-5:] = [0.05, 0.03, 0.01, 0, 0]  # five directions in which W hardly acts, two of them not at all
    w = rng.normal(size=(VOCAB, WIDTH)) * sizes @ basis.T + 3 * basis[:, 0]
    head = head_of(w)
    w = head.weight.double().numpy()
    h = rng.normal(size=(900, WIDTH)) * rng.uniform(0.2, 2, WIDTH) + rng.normal(size=WIDTH)
    keep = np.ones(VOCAB, dtype=bool)
    design = Design(head.columns, keep)
    components = principal_components(design, fit_encoding(design, rng.normal(size=VOCAB)).r)
    found = geometry(row_products(head, design.mean[:, None])[1], design.mean, components, detection_of(h, VOCAB))
    expected = np.linalg.norm(w.mean(0)) / np.linalg.norm(w, axis=1).mean()
    assert found.common_drift == pytest.approx(expected, rel=1e-12)
    singular, right = np.linalg.svd(w - w.mean(0), full_matrices=False)[1:]
    assert found.rank == int((singular > 1e-6 * singular[0]).sum()) == WIDTH - 2
    null = right[singular < NULL_TOLERANCE * np.median(singular)]
    assert found.null_space == len(null) == 5
    centred = h - h.mean(0)
    assert found.null_space_hidden == pytest.approx(np.sum((centred @ null.T) ** 2) / np.sum(centred**2), rel=1e-6)


@pytest.mark.parametrize("gone", [3, WIDTH // 2, WIDTH // 2 + 1, WIDTH - 2])
def test_null_columns_are_the_null_space_however_many_there_are(gone: int) -> None:
    rng = np.random.default_rng(5)
    w = rng.normal(size=(VOCAB, WIDTH))
    w[:, :gone] = 0.0
    head, h, y = head_of(w), rng.normal(size=(900, WIDTH)), rng.normal(size=VOCAB)
    design = Design(head.columns, np.ones(VOCAB, dtype=bool))
    components = principal_components(design, fit_encoding(design, y).r)
    found = geometry(row_products(head, design.mean[:, None])[1], design.mean, components, detection_of(h, VOCAB))
    assert (found.rank, found.null_space) == (WIDTH - gone, gone)
    assert found.null_space_hidden == pytest.approx(h[:, :gone].var(0).sum() / h.var(0).sum(), rel=1e-5)
    weighted = weighted_components(head, np.ones(VOCAB, dtype=bool), np.abs(y) + 1, design.mean)
    assert (weighted.correlations[WIDTH - gone :] == 0).all()
    assert (weighted.correlations_weighted[WIDTH - gone :] == 0).all()
    assert np.abs(weighted.correlations[: WIDTH - gone]).min() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("drift", [0.0, 50.0])
def test_weighted_components_against_a_weighted_covariance(drift: float, dtype: torch.dtype) -> None:
    some = case(5, drift, dtype)
    alpha = np.exp(-some.surprisal)
    alpha /= alpha.sum()
    rows = some.w[some.keep]
    found = weighted_components(some.head, some.keep, some.surprisal, some.design.mean)
    values, vectors = np.linalg.eigh(np.cov(rows.T, aweights=alpha, bias=True))
    values, vectors = values[::-1], vectors[:, ::-1]
    np.testing.assert_allclose(found.explained_variance_ratio, values[:FIRST] / values.sum(), atol=1e-5)
    assert found.directions.shape == (WIDTH, FIRST)
    for i in range(FIRST):
        scores, target = rows @ vectors[:, i], some.surprisal
        sign = np.sign(vectors[np.abs(vectors[:, i]).argmax(), i])
        assert abs(found.directions[:, i] @ vectors[:, i]) == pytest.approx(1, abs=1e-4)
        assert found.correlations[i] == pytest.approx(sign * np.corrcoef(scores, target)[0, 1], abs=1e-3)
        joint = np.cov(np.stack([scores, target]), aweights=alpha)
        assert found.correlations_weighted[i] == pytest.approx(
            sign * joint[0, 1] / np.sqrt(joint[0, 0] * joint[1, 1]), abs=1e-3
        )


def test_weights_change_the_components_and_equal_weights_do_not() -> None:
    some = case(6)
    flat = weighted_components(some.head, some.keep, np.full(len(some.surprisal), 3.0), some.design.mean)
    np.testing.assert_allclose(
        flat.explained_variance_ratio, some.components.explained_variance_ratio[:FIRST], atol=1e-6
    )
    np.testing.assert_allclose(np.abs(np.sum(flat.directions[:, 0] * some.components.directions[:, 0])), 1, atol=1e-5)
    assert np.abs(flat.correlations).max() < 1e-9  # a constant correlates with nothing
    real = weighted_components(some.head, some.keep, some.surprisal, some.design.mean)
    assert np.abs(real.explained_variance_ratio - flat.explained_variance_ratio).max() > 0.01


def test_rows_near_the_padding_are_the_candidates() -> None:
    rng = np.random.default_rng(7)
    padding, planted = 30, [12, 800, 2100]
    w = rng.normal(size=(VOCAB + padding, WIDTH)) + 4 * rng.normal(size=WIDTH)
    unused = w.mean(0) + 3 * rng.normal(size=WIDTH)
    w[VOCAB:] = unused + 0.1 * rng.normal(size=(padding, WIDTH))
    for step, token_id in enumerate(planted, 1):
        w[token_id] = unused + 0.2 * step * rng.normal(size=WIDTH)
    head = head_of(w, vocab=VOCAB)
    w = head.columns.T.double().numpy()
    centre = w[:VOCAB].mean(0)
    surprisal = rng.uniform(3, 15, VOCAB)
    untrained = untrained_rows(head, surprisal, centre)
    assert (untrained.reference, untrained.rows) == ("padding rows", padding)
    distance = untrained.distances(*row_products(head, np.stack([untrained.direction, centre], 1)))
    towards, rows = w[VOCAB:].mean(0) - centre, w[:VOCAB] - centre
    expected = 1 - rows @ towards / np.linalg.norm(rows, axis=1) / np.linalg.norm(towards)
    np.testing.assert_allclose(distance, expected, atol=1e-9)
    assert untrained.distance(w[800]) == pytest.approx(expected[800], abs=1e-12)
    residual = rng.normal(size=VOCAB)
    residual[[40, 50]] = 9, -11
    residual[60] = np.nan
    found = Undertrained(
        untrained=untrained, distance=distance, residual=residual, surprisal=surprisal, counts=np.arange(VOCAB)
    )
    assert set(found.nearest[:3].tolist()) == set(planted)
    assert found.worst_fitted[:2].tolist() == [50, 40]
    assert 60 not in found.worst_fitted
    document = found.to_dict([f"token {i}" for i in range(VOCAB)])
    assert (document["reference"], document["reference_rows"]) == ("padding rows", padding)
    assert len(document["nearest"]) == len(document["worst_fitted"]) == LISTED
    assert document["worst_fitted"][0] == {
        "token_id": 50, "token": "token 50", "distance": float(distance[50]), "surprisal": float(surprisal[50]),
        "residual": -11.0, "count": 50,
    }  # fmt: skip


def test_which_rows_stand_for_no_training() -> None:
    rng = np.random.default_rng(8)
    w = rng.normal(size=(VOCAB, WIDTH))
    head, surprisal, centre = head_of(w), rng.uniform(3, 15, VOCAB), np.zeros(WIDTH)
    some = untrained_rows(head, surprisal, centre)
    assert (some.reference, some.rows) == ("lowest-alpha 1 %", 25)
    mean = head.weight.double().numpy()[np.argsort(-surprisal)[:25]].mean(0)
    np.testing.assert_allclose(some.direction, mean / np.linalg.norm(mean), atol=1e-12)
    surprisal[[4, 9]] = np.inf
    some = untrained_rows(head, surprisal, centre)
    assert (some.reference, some.rows) == ("never-predicted rows", 2)
    mean = head.weight.double().numpy()[[4, 9]].mean(0)
    np.testing.assert_allclose(some.direction, mean / np.linalg.norm(mean), atol=1e-12)


def test_a_reference_without_a_direction_gives_no_distances() -> None:
    head = head_of(np.zeros((VOCAB, WIDTH)), vocab=VOCAB - 4)
    some = untrained_rows(head, np.ones(VOCAB - 4), np.zeros(WIDTH))
    assert np.isnan(some.distance(np.ones(WIDTH)))
    assert np.isnan(some.distances(np.zeros((VOCAB - 4, 2)), np.zeros(VOCAB - 4))).all()


def test_lowest_is_stable_and_never_nan() -> None:
    assert lowest(np.array([2.0, np.nan, 1.0, 1.0]), 4).tolist() == [2, 3, 0]
    assert lowest(np.array([2.0, 0.0, 1.0]), 2).tolist() == [1, 2]
