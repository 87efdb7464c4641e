"""The regressors of the log-linear law: W's rows in use as float64 moments, made in one pass over float32 columns.

A row of ones under every chunk makes one symmetric product give the Gram matrix and the sums at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import blas
from torch import Tensor

from tpe_core.encoding.gram import Spectrum, rank_tolerance, varies
from tpe_core.errors import NumericalError
from tpe_core.progress import Progress, Steps, run

__all__ = ["Design"]

CHUNK_VALUES = 2**22  # values of W turned to float64 at a time: 32 MiB
CENTRE_ROWS = 1024  # rows whose mean stands in for the mean until the sums are known

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


class Design:
    """W's rows in use, centred, as a float64 Gram matrix; W itself is only ever read chunk by chunk.

    `columns` is W transposed [d, V] in any floating dtype (a view is fine); `keep` [V] bool leaves rows out. `seed`
    draws the half of the rows on which the held-out-vocabulary fit is made.

    Example:
        >>> design = tpe.Design(model.head.columns[:, : model.head.vocab_rows], analysis.keep)
        >>> design.mean.shape == (model.head.hidden_size,)
        True
    """

    mean: Floats  # [d] of the rows
    gram: Floats  # [d, d] of the centred rows
    half_mean: Floats  # [d] of the rows in `half`
    half_gram: Floats  # [d, d] of those rows, centred on their own mean

    def __init__(self, columns: Tensor, keep: NDArray[np.bool_] | None = None, seed: int = 0) -> None:
        self._begin(columns, keep, seed)
        run(self._measure())

    @classmethod
    def made(cls, columns: Tensor, keep: NDArray[np.bool_] | None = None, seed: int = 0) -> Steps[Design]:
        """The same as a job, with a step for every chunk."""
        design = cls.__new__(cls)
        design._begin(columns, keep, seed)
        yield from design._measure()
        return design

    def _begin(self, columns: Tensor, keep: NDArray[np.bool_] | None, seed: int) -> None:
        self.columns = columns
        self._used: Indices | None = None if keep is None or bool(keep.all()) else np.flatnonzero(keep)
        self.width = int(columns.shape[0])
        self.rows = int(columns.shape[1]) if self._used is None else len(self._used)
        if self.rows < self.width + 2:
            raise NumericalError(
                f"{self.rows} usable vocabulary rows cannot determine {self.width} slopes and an intercept: "
                f"at least {self.width + 2} are needed."
            )
        self._device = columns.device if columns.device.type in ("cpu", "cuda") else torch.device("cpu")
        half = np.zeros(self.rows, dtype=bool)
        half[np.random.default_rng(seed).permutation(self.rows)[: self.rows // 2]] = True
        self.half = half  # [V] the rows of the held-out-vocabulary fit
        sample = self._positions(np.arange(0, self.rows, -(-self.rows // CENTRE_ROWS)))
        self._centre = self._gathered(sample).to(self._device).double().mean(1, keepdim=True)

    def _measure(self) -> Steps[None]:
        """Means and Gram matrices of all rows and of the half, corrected for the centre's distance from the mean."""
        inside = yield from self._moments(self._positions(np.flatnonzero(self.half)), 0)
        outside = yield from self._moments(self._positions(np.flatnonzero(~self.half)), int(self.half.sum()))
        both = inside + outside
        if not np.isfinite(both[:, -1]).all():  # the sums: of a symmetric matrix the upper triangle is there
            wrong = ~torch.isfinite(self.columns if self._used is None else self._gathered(self._used)).all(0)
            row = int(self._positions(np.flatnonzero(wrong.cpu().numpy())[:1])[0]) if bool(wrong.any()) else None
            place = "as values that overflow" if row is None else f"in row {row}"
            raise NumericalError(f"the output embedding holds NaN or infinity {place}: check the checkpoint.")
        centre = self._centre[:, 0].cpu().numpy()
        self.mean, self.gram = _about_the_mean(both, centre)
        self.half_mean, self.half_gram = _about_the_mean(inside, centre)

    def _moments(self, where: Indices, before: int) -> Steps[Floats]:
        """[d + 1, d + 1] products of the columns, and of the ones, over the rows at `where`; the upper triangle.

        `before` rows were done already.
        """
        size = self.width + 1
        if self._device.type == "cuda":
            total = torch.zeros(size, size, dtype=torch.float64, device=self._device)
            for rows, part in self._parts(where):
                yield Progress("Gram matrix", before + rows.start, self.rows)
                total.addmm_(part, part.T)
            moments: Floats = total.cpu().numpy()
            return moments
        gram: Floats = np.zeros((size, size), order="F")
        for rows, part in self._parts(where):
            yield Progress("Gram matrix", before + rows.start, self.rows)
            gram = blas.dsyrk(1.0, part.numpy().T, beta=1.0, c=gram, trans=1, overwrite_c=1)
        return gram

    def _positions(self, rows: Indices) -> Indices:
        """The columns of `columns` at which rows in use are."""
        return rows if self._used is None else self._used[rows]

    def _gathered(self, where: Indices) -> Tensor:
        return self.columns.index_select(1, torch.from_numpy(where).to(self.columns.device))

    def _parts(self, where: Indices | None = None) -> Iterator[tuple[slice, Tensor]]:
        """(rows, W transposed [d + 1, c] about the centre in float64, ones last), in one buffer: use it at once.

        Runs over the rows at `where`, or over all rows in use.
        """
        where = self._used if where is None else where
        count = self.rows if where is None else len(where)
        step = max(256, CHUNK_VALUES // (self.width + 1))
        buffer = torch.empty((self.width + 1) * min(step, count), dtype=torch.float64, device=self._device)
        for first in range(0, count, step):
            rows = slice(first, min(first + step, count))
            part = buffer[: (self.width + 1) * (rows.stop - first)].view(self.width + 1, -1)
            values = self.columns[:, rows] if where is None else self._gathered(where[rows])
            if part.is_cuda:
                part[:-1].copy_(values).sub_(self._centre)
            else:
                whole = part.numpy()[:-1]
                np.copyto(whole, values.float().cpu().numpy() if values.dtype != torch.float64 else values.numpy())
                whole -= self._centre.numpy()
            part[-1] = 1
            yield rows, part

    @cached_property
    def scale(self) -> Floats:
        """[d] population standard deviation of each column of W."""
        result: Floats = np.sqrt(np.maximum(np.diag(self.gram), 0.0) / self.rows)
        return result

    @cached_property
    def varies(self) -> NDArray[np.bool_]:
        """[d] whether a column of W is more than a constant and its rounding."""
        return varies(self.scale, self.mean)

    @cached_property
    def resolved(self) -> NDArray[np.bool_]:
        """[d] which eigenvalues of the spectrum are more than rounding (`rank_tolerance`)."""
        values = self.spectrum.values
        result: NDArray[np.bool_] = values > rank_tolerance(self.rows, self.width) * values[0]
        return result

    @cached_property
    def spectrum(self) -> Spectrum:
        """Eigenvalues and eigenvectors of the centred Gram matrix."""
        return Spectrum(self.gram)

    def cross(self, targets: Floats) -> Floats:
        """[d, m] cross-products of the centred W with m targets [m, V]."""
        centred = targets - targets.mean(1, keepdims=True)
        out = np.zeros((self.width + 1, len(targets)))
        for rows, part in self._parts():
            out += _product(part, centred[:, rows].T)
        return out[:-1]

    def project(self, directions: Floats) -> Floats:
        """[m, V] projections (W - mean) @ v of the centred rows on m directions [m, d]."""
        shift = directions @ (self._centre[:, 0].cpu().numpy() - self.mean)
        wanted = np.vstack([directions.T, shift])
        out = np.empty((len(directions), self.rows))
        for rows, part in self._parts():
            out[:, rows] = _product(part.T, wanted).T
        return out


def _product(left: Tensor, right: Floats) -> Floats:
    """[n, m] left @ right for left [n, k], contiguous or the transpose of what is.

    On a CPU by SciPy's BLAS, as the Gram matrix: a second pool of threads would get in the way of the first.
    """
    if left.is_cuda:
        product: Floats = (left @ torch.from_numpy(right).to(left.device)).cpu().numpy()
    elif left.is_contiguous():
        product = blas.dgemm(1.0, left.numpy().T, right, trans_a=1)
    else:
        product = blas.dgemm(1.0, left.numpy(), right)
    return product


def _about_the_mean(moments: Floats, centre: Floats) -> tuple[Floats, Floats]:
    """(mean [d], Gram matrix [d, d] about it) from the upper triangle of moments [d + 1, d + 1] about a centre."""
    count, sums = moments[-1, -1], moments[:-1, -1]
    gram = moments[:-1, :-1] - np.outer(sums, sums / count)
    return centre + sums / count, np.triu(gram) + np.triu(gram, 1).T
