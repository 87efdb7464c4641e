"""Timing several things side by side: repetitions interleaved, so that a noisy machine is noisy for all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

__all__ = ["interleaved", "median", "p95"]


def interleaved(
    sides: Mapping[str, Callable[[], object]], repetitions: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of every repetition by side; the sides take turns, and the order turns round every time."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for repetition in range(-warm_up, repetitions):
        names = list(sides)[:: 1 if repetition % 2 else -1]
        for name in names:
            started = time.perf_counter()
            sides[name]()
            elapsed = time.perf_counter() - started
            if repetition >= 0:
                taken[name].append(elapsed)
    return taken


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def p95(values: Sequence[float]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(values, n=20, method="inclusive")[-1]
