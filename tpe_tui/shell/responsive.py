"""What keeps the interface quick while a job computes in the same process, on the same cores."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

__all__ = ["SWITCH_SECONDS", "stay_responsive"]

SWITCH_SECONDS = 0.0005
"""How long a thread keeps Python's lock from another that asks for it.

The interface asks for it after every wait, dozens of times for a key; with Python's own 5 ms each of them could
cost that while a job computes (`benchmarks storm`).
"""


def stay_responsive(environ: MutableMapping[str, str] = os.environ) -> None:
    """Let the interface have Python's lock and a core as soon as it asks; before torch is imported.

    OpenMP's threads spin for a while after each product, so as to be there for the next one. With as many of them as
    cores the interface finds no core meanwhile: asleep they cost a sweep nothing that could be measured on two cores,
    and a toggle typed in a storm of keys is seen three to five times as early. Who has set ``OMP_WAIT_POLICY`` or
    ``GOMP_SPINCOUNT`` keeps it.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    if "GOMP_SPINCOUNT" not in environ:
        environ.setdefault("OMP_WAIT_POLICY", "passive")
