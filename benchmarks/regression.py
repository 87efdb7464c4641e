"""The fit against statsmodels' OLS with its default pseudo-inverse: the same numbers, and how long they take."""

from __future__ import annotations

import time

import numpy as np
import torch

from benchmarks.models import VOCAB, WIDTH
from benchmarks.report import Row, at_least
from benchmarks.timing import median
from tpe_core.encoding import Design, fit_encoding

__all__ = ["run"]

QUICK = (12_000, 256)
SLOPES, ERRORS = 1e-8, 1e-6  # relative, at most


def run(quick: bool) -> list[Row]:
    """Three fits of the engine around one of statsmodels'."""
    import statsmodels.api as sm

    rows, width = QUICK if quick else (VOCAB, WIDTH)
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(rows, width)).astype(np.float32) * rng.uniform(0.05, 0.3, width).astype(np.float32)
    surprisal = 10 + weight @ rng.normal(size=width) + rng.normal(size=rows)
    columns = torch.from_numpy(np.ascontiguousarray(weight.T))
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        encoding = fit_encoding(Design(columns), surprisal)
        taken.append(time.perf_counter() - started)
    started = time.perf_counter()
    reference = sm.OLS(surprisal, sm.add_constant(weight.astype(np.float64))).fit()
    known, errors = np.asarray(reference.params)[1:], np.asarray(reference.bse)[1:]
    baseline = time.perf_counter() - started
    slope = float(np.max(np.abs(encoding.slope - known) / np.abs(known)))
    error = float(np.max(np.abs(encoding.stderr - errors) / errors))
    name = f"regression: V = {rows:,}, d = {width}"
    checks = (("slopes", slope, SLOPES), ("standard errors", error, ERRORS))
    return [
        at_least(f"{name} / statsmodels OLS", median(taken), baseline, 50),
        *(
            Row(
                f"regression: largest relative difference of {what}",
                f"{found:.1e}",
                budget=f"<= {most:g}",
                met=found <= most,
            )
            for what, found, most in checks
        ),
    ]
