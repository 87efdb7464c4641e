"""The fit against statsmodels' OLS with its default pseudo-inverse: the same numbers, and how long they take.

One row sets everything that a fit reports beside a single fit of statsmodels; the next sets it beside the calls that
report the same: the fit, the fit on half the vocabulary with its score on the rest, and the permuted fits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import blas

from benchmarks.models import VOCAB, WIDTH
from benchmarks.report import Row, at_least, milliseconds
from benchmarks.timing import median
from tpe_core.encoding.design import Design
from tpe_core.encoding.encoding import PERMUTATIONS, Encoding, fit_encoding

__all__ = ["run"]

QUICK = (12_000, 256)
SLOPES, ERRORS, SHARES = 1e-8, 1e-6, 1e-9  # differences at most: relative, relative, of R2
ROWS = 4096  # of the product that shows what the machine can do

Floats = NDArray[np.float64]


def run(quick: bool) -> list[Row]:
    """One whole fit of the engine before every one of statsmodels'."""
    rows, width = QUICK if quick else (VOCAB, WIDTH)
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(rows, width)).astype(np.float32) * rng.uniform(0.05, 0.3, width).astype(np.float32)
    surprisal = 10 + weight @ rng.normal(size=width) + rng.normal(size=rows)
    columns = torch.from_numpy(np.ascontiguousarray(weight.T))
    ours, theirs, products, found = [], [], [], []
    half = Design(columns).half
    for y, train in _fits(surprisal, half):
        started = time.perf_counter()
        encoding = fit_encoding(Design(columns), surprisal)
        ours.append(time.perf_counter() - started)
        products.append(_product(rows, width))
        started = time.perf_counter()
        found.append(_statsmodels(weight, y, train))
        theirs.append(time.perf_counter() - started)
    name = f"regression: V = {rows:,}, d = {width}, all figures"
    single = median([taken for at, taken in enumerate(theirs) if at != 1])  # but for the half
    product = min(products)
    checks = zip(("slopes", "standard errors", "R2s"), _differences(encoding, found), strict=True)
    return [
        at_least(f"{name} / one statsmodels OLS", median(ours), single, 50),
        at_least(f"{name} / statsmodels OLS for the same figures", median(ours), sum(theirs), 50),
        Row(
            f"regression: all figures / the Gram product alone ({rows * width**2 / product / 1e9:.0f} GFLOP/s)",
            milliseconds(median(ours)),
            milliseconds(product),
            median(ours) / product,
        ),
        *(
            Row(f"regression: largest difference of {what}", f"{value:.1e}", budget=f"<= {most:g}", met=value <= most)
            for (what, value), most in zip(checks, (SLOPES, ERRORS, SHARES), strict=True)
        ),
    ]


def _fits(y: Floats, half: NDArray[np.bool_]) -> Iterator[tuple[Floats, NDArray[np.bool_] | None]]:
    """(targets, rows or all) of every regression behind one `Encoding`, with the engine's own shuffles."""
    yield y, None
    yield y, half
    rng = np.random.default_rng([0, 1])
    for _ in range(PERMUTATIONS):
        yield y[rng.permutation(len(y))], None


def _statsmodels(weight: NDArray[np.float32], y: Floats, train: NDArray[np.bool_] | None) -> tuple[Any, float]:
    """(fit, R2): of the rows left out where only some are fitted on."""
    import statsmodels.api as sm

    design = sm.add_constant(weight.astype(np.float64))
    if train is None:
        fit = sm.OLS(y, design).fit()
        return (np.asarray(fit.params)[1:], np.asarray(fit.bse)[1:]), float(fit.rsquared)
    error = y[~train] - sm.OLS(y[train], design[train]).fit().predict(design[~train])
    return None, float(1 - error @ error / (len(error) * y[~train].var()))


def _differences(encoding: Encoding, found: list[tuple[Any, float]]) -> tuple[float, float, float]:
    """Largest relative difference of slopes and of standard errors, and largest difference of an R2."""
    slope, error = found[0][0]
    shares = (
        encoding.r2 - found[0][1],
        encoding.r2_heldout_vocab - found[1][1],
        encoding.r2_permuted - float(np.mean([share for _, share in found[2:]])),
    )
    return (
        float(np.max(np.abs(encoding.slope - slope) / np.abs(slope))),
        float(np.max(np.abs(encoding.stderr - error) / error)),
        max(abs(share) for share in shares),
    )


def _product(rows: int, width: int) -> float:
    """Seconds of the float64 symmetric product that any fit from a Gram matrix needs: the floor of this machine."""
    part, total = np.ones((ROWS, width), order="F"), np.zeros((width, width), order="F")
    started = time.perf_counter()
    for _ in range(4):
        blas.dsyrk(1.0, part, beta=1.0, c=total, trans=1, overwrite_c=1)
    return (time.perf_counter() - started) * rows / (4 * ROWS)
