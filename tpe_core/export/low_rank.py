"""The rows that steering adds to W as a product of two thin matrices: of rank one for each method at most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LowRank", "factorised"]

Floats = NDArray[np.float64]

NOTHING = 1e-9
"""Of the longest row: what remains of a row is rounding below this."""


@dataclass(frozen=True)
class LowRank:
    """``rows[ids[i]] = coefficients[i] @ directions``, for k rows of width d."""

    ids: tuple[int, ...]  # [k]
    coefficients: Floats  # [k, r]
    directions: Floats  # [r, d], orthonormal

    @property
    def rank(self) -> int:
        """r."""
        return len(self.directions)


def factorised(rows: Mapping[int, Floats]) -> LowRank:
    """Factorise rows [d] by token id: Gram-Schmidt that takes the longest remaining row until all that is left is
    rounding. k rows of rank r take O(k d r).
    """
    ids = tuple(rows)
    matrix = np.stack([rows[token_id] for token_id in ids]) if ids else np.zeros((0, 0))
    rest, directions = matrix.copy(), np.zeros((0, matrix.shape[1]))
    longest = float(np.linalg.norm(matrix, axis=1).max(initial=0.0))
    for _ in range(min(matrix.shape)):
        lengths = np.linalg.norm(rest, axis=1)
        if not lengths.max(initial=0.0) > NOTHING * longest:
            break
        direction = rest[int(lengths.argmax())] / lengths.max()
        direction = direction - (directions @ direction) @ directions  # again, or rounding adds up
        direction = direction / np.linalg.norm(direction)
        directions = np.vstack([directions, direction])
        rest = rest - np.outer(rest @ direction, direction)
    return LowRank(ids, matrix @ directions.T, directions)
