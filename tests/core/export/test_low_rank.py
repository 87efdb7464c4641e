"""Rows of steered tokens as a product of thin matrices, against numpy's singular values."""

from __future__ import annotations

import numpy as np
import pytest

from tpe_core.export.low_rank import factorised


@pytest.mark.parametrize(("tokens", "rank"), [(1, 1), (500, 1), (500, 3), (7, 7), (40, 16)])
def test_the_product_gives_the_rows_and_the_rank_is_numpys(tokens: int, rank: int) -> None:
    rng = np.random.default_rng(tokens + rank)
    matrix = (rng.normal(size=(tokens, rank)) * 10.0 ** rng.integers(-4, 3, (tokens, 1))) @ rng.normal(size=(rank, 16))
    ids = rng.permutation(1000)[:tokens].tolist()
    low = factorised(dict(zip(ids, matrix, strict=True)))
    assert low.rank == rank == np.linalg.matrix_rank(matrix)
    assert low.ids == tuple(ids)
    np.testing.assert_allclose(low.coefficients @ low.directions, matrix, atol=1e-9 * np.abs(matrix).max())
    np.testing.assert_allclose(low.directions @ low.directions.T, np.eye(rank), atol=1e-12)


def test_rows_of_zeros_and_no_rows_have_rank_zero() -> None:
    assert factorised({3: np.zeros(8)}).rank == 0
    assert factorised({}).rank == 0
