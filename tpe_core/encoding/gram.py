"""What a Gram matrix gives: solutions, the diagonal of its inverse, nested fits, eigenvalues; singular or not."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg import lapack

from tpe_core.errors import NumericalError

__all__ = ["RANK_TOLERANCE", "Solver", "Spectrum", "rank_tolerance", "varies"]

RANK_TOLERANCE = 1e-12  # of a matrix of unit diagonal: pivots and shares of the largest eigenvalue below it count as 0
SHARED = 1e-9  # share of a dimension that lies in the null space before its coefficient counts as undetermined

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]


def rank_tolerance(rows: int, width: int) -> float:
    """The share of a Gram matrix's largest eigenvalue below which its rounding is all there is, for [rows, width] data.

    ``max(rows, width) * eps``, as of `numpy.linalg.matrix_rank`, and never below `RANK_TOLERANCE`: eigenvalues of a
    Gram matrix are squares, so a singular value is resolved to the square root of this, 1e-6 of the largest at best.
    """
    return max(RANK_TOLERANCE, max(rows, width) * float(np.finfo(np.float64).eps))


def varies(spread: Floats, size: Floats) -> Flags:
    """Whether standard deviations [d] are more than the rounding of values as large as `size` [d], and not 0."""
    result: Flags = spread > 16 * np.finfo(np.float64).eps * np.abs(size)
    return result


class Solver:
    """Solves with a Gram matrix [d, d] scaled to unit diagonal: Cholesky, or a pseudo-inverse where it is singular.

    What is `constant` [d] has no part in it; `rows` made the matrix. `undetermined` [d] marks the dimensions whose
    coefficient is one of many that fit as well: copies and combinations of others, and constants.
    """

    def __init__(self, gram: Floats, rows: int = 0, constant: Flags | None = None) -> None:
        diagonal = np.sqrt(np.maximum(np.diag(gram), 0.0))
        small = diagonal <= 1e-12 * max(float(diagonal.max(initial=0.0)), 1e-300)
        constant = small if constant is None else small | constant
        self._tolerance = rank_tolerance(rows, len(gram))
        self.weight: Floats = np.where(constant, 0.0, 1 / np.where(constant, 1.0, diagonal))  # [d]
        self.scaled: Floats = gram * np.outer(self.weight, self.weight)  # [d, d] of unit diagonal
        self.rank = len(gram)
        self._factor, sound = _cholesky(self.scaled, self._tolerance)
        self._pseudo: Floats | None = None
        self.undetermined: Flags = constant
        if sound < len(gram):
            values, vectors = scipy.linalg.eigh(self.scaled, check_finite=False)
            real = values > self._tolerance * max(float(values[-1]), 1e-300)
            self.rank = int(real.sum())
            self._pseudo = (vectors[:, real] / values[real]) @ vectors[:, real].T
            self.undetermined = constant | (np.sum(vectors[:, real] ** 2, 1) < 1 - SHARED)

    def _apply(self, wanted: Floats) -> Floats:
        if self._pseudo is not None:
            result: Floats = self._pseudo @ wanted
        else:
            result = scipy.linalg.cho_solve((self._factor, True), wanted, check_finite=False)
        return result

    def solve(self, cross: Floats) -> Floats:
        """[d, m] coefficients for cross-products [d, m]; one step of refinement takes the factor's rounding out."""
        wanted = cross * self.weight[:, None]
        solution = self._apply(wanted)
        solution += self._apply(wanted - self.scaled @ solution)
        return solution * self.weight[:, None]

    def inverse_diagonal(self) -> Floats:
        """[d] diagonal of the inverse Gram matrix."""
        inverse = lapack.dpotri(self._factor, lower=1)[0] if self._pseudo is None else self._pseudo
        result: Floats = np.diag(inverse) * self.weight**2
        return result

    def nested(self, cross: Floats, order: Indices) -> Floats:
        """[d] sum of squares explained by the first k regressors of `order`, for every k.

        With L the Cholesky factor of the ordered matrix and u = L^-1 c, the first k explain the sum of the first k
        squares of u. A regressor that depends on those before it (pivot 0) is passed over: it explains nothing.
        """
        rest, wanted = self.scaled[np.ix_(order, order)], (cross * self.weight)[order]
        parts = np.zeros(len(order))
        first = 0
        while first < len(order):
            factor, sound = _cholesky(rest, self._tolerance)
            top = factor[:sound, :sound]
            solved = scipy.linalg.solve_triangular(top, wanted[:sound], lower=True, check_finite=False)
            parts[first : first + sound] = solved**2
            first += sound + 1
            if first >= len(order):
                break
            beside = scipy.linalg.solve_triangular(top, rest[:sound, sound + 1 :], lower=True, check_finite=False)
            wanted = wanted[sound + 1 :] - beside.T @ solved
            rest = rest[sound + 1 :, sound + 1 :] - beside.T @ beside
        return np.cumsum(parts)


def _cholesky(matrix: Floats, tolerance: float) -> tuple[Floats, int]:
    """(lower factor, how many leading columns of it are sound): all of them, or those before the first pivot of 0."""
    factor, info = lapack.dpotrf(matrix.T, lower=1, clean=1)
    reached = len(matrix) if info == 0 else info - 1
    small = np.flatnonzero(np.diag(factor)[:reached] ** 2 < tolerance)
    return factor, int(small[0]) if len(small) else reached


class Spectrum:
    """Eigenvalues and eigenvectors of a symmetric positive matrix [d, d], largest first.

    Both start from one reduction to tridiagonal form, ``matrix = Q T Q'``; eigenvalues alone cost a third of both.
    """

    def __init__(self, matrix: Floats) -> None:
        self._matrix = matrix

    @cached_property
    def _reduced(self) -> tuple[Floats, Floats, Floats, Floats]:
        """(Q's reflectors below the diagonal [d, d], T's diagonal [d], beside it [d - 1], the reflectors' factors)."""
        if len(self._matrix) == 1:
            return self._matrix, self._matrix[0], np.empty(0), np.empty(0)
        work, _ = lapack.dsytrd_lwork(len(self._matrix), lower=1)
        reflectors, diagonal, beside, factors, _ = lapack.dsytrd(self._matrix.T, lower=1, lwork=int(work))
        return reflectors, diagonal, beside, factors

    @cached_property
    def values(self) -> Floats:
        """[d] eigenvalues, never below 0."""
        _, diagonal, beside, _ = self._reduced
        try:
            values = scipy.linalg.eigh_tridiagonal(diagonal, beside, eigvals_only=True, lapack_driver="sterf")
        except scipy.linalg.LinAlgError as failure:
            raise NumericalError(f"the output embedding's eigenvalues could not be computed: {failure}.") from failure
        result: Floats = np.maximum(values[::-1], 0.0)
        return result

    @cached_property
    def vectors(self) -> Floats:
        """[d, d] unit eigenvectors in columns."""
        reflectors, diagonal, beside, factors = self._reduced
        try:
            vectors = np.asarray(scipy.linalg.eigh_tridiagonal(diagonal, beside)[1], dtype=np.float64)
        except scipy.linalg.LinAlgError as failure:
            raise NumericalError(f"the output embedding's eigenvectors could not be computed: {failure}.") from failure
        if len(diagonal) > 1:  # Q leaves the first entry as it is; the rest goes through its reflectors
            q, lower = np.asfortranarray(reflectors[1:, :-1]), np.asfortranarray(vectors[1:])
            work = int(lapack.dormqr("L", "N", q, factors, lower, -1)[1][0])
            vectors[1:] = lapack.dormqr("L", "N", q, factors, lower, work, overwrite_c=1)[0]
        return np.ascontiguousarray(vectors[:, ::-1])
