"""Nearest rows against every pair in float64."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.head_rows import rows_of
from tpe_core.atlas import neighbours
from tpe_core.atlas.neighbours import nearest_rows
from tpe_core.progress import run


@pytest.mark.parametrize(("block", "shift"), [(512, 0.0), (7, 0.0), (7, 50.0)])
def test_the_nearest_rows_are_those_of_all_pairs(block: int, shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "BLOCK", block)
    weight = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32).astype(np.float64) + shift
    weight[11] = weight[4] + 1e-3
    weight = weight.astype(np.float32).astype(np.float64)
    near = run(nearest_rows(rows_of(weight, padding=3)))
    used = weight[:57]
    distance = np.linalg.norm(used[:, None] - used[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    away = used - used.mean(0)
    unit = away / np.linalg.norm(away, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    assert near.by_distance.tolist() == distance.argmin(1).tolist()
    assert near.by_cosine.tolist() == cosine.argmax(1).tolist()
    np.testing.assert_allclose(near.distance, distance.min(1), rtol=1e-4)
    np.testing.assert_allclose(near.cosine, cosine.max(1), atol=1e-5)
    pairs = near.pairs("distance", 5)
    assert pairs[0] == (4, 11)
    assert len(set(pairs)) == 5
    assert all(first < second for first, second in pairs)


def test_a_row_at_the_mean_has_no_cosine() -> None:
    near = run(nearest_rows(rows_of(np.array([[1.0, 0], [-1, 0], [0, 0]]))))
    assert near.by_cosine.tolist() == [1, 0, -1]
    assert np.isnan(near.cosine[2])
    assert near.by_distance.tolist() == [2, 2, 0]
