"""Whether torch's threads get in the way of other work on this machine.

Threads of one product wait for each other: where more of them run than there are cores, all wait for the slowest. Two
threads beside other work on two cores have been measured 13 times slower than one.
"""

from __future__ import annotations

import os
import sys

__all__ = ["busy_notice", "cores"]

CROWDED = 1.5  # load for each core from which threads are worth a word


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy_notice(
    device: str, *, load: float | None = None, n_cores: int | None = None, n_threads: int | None = None
) -> str:
    """Return a sentence where a model on a CPU `device` runs with several threads on a busy machine, else nothing.

    Args:
        device: where the model is, as torch names it; only ``cpu`` is told.
        load: runnable processes over the last minute; default: the system's load average, where it has one.
        n_cores: default: `cores`.
        n_threads: default: torch's, or one where torch is not imported.
    """
    if n_threads is None:
        torch = sys.modules.get("torch")
        n_threads = 1 if torch is None else torch.get_num_threads()
    if load is None:
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    n_cores = n_cores or cores()
    if not device.startswith("cpu") or n_threads < 2 or load < CROWDED * n_cores:
        return ""
    return (
        f"this machine is busy (load {load:.1f} on {n_cores} cores) and torch uses {n_threads} threads, which wait for "
        "each other: --threads 1 may be several times as fast."
    )
