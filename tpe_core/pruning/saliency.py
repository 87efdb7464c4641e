"""What each dimension is worth, and the order of removal that follows (`tpe_core.pruning.orders` has the orders).

What a saliency needs beyond the analysis is gathered once by `gather_evidence`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tpe_core.analysis import Analysis
from tpe_core.edits.reconstruction import covariance
from tpe_core.errors import NumericalError
from tpe_core.progress import Steps
from tpe_core.pruning.evidence import Evidence
from tpe_core.pruning.fisher import fisher_information, obs_order
from tpe_core.pruning.fitting import fitting_sample
from tpe_core.pruning.orders import ORDERS
from tpe_core.pruning.refit import refit_order
from tpe_core.store import Store

__all__ = ["gather_evidence", "order_of", "saliency_of"]

Floats = NDArray[np.float64]
Dims = NDArray[np.int64]


def gather_evidence(
    names: Iterable[str], analysis: Analysis, *, seed: int = 0, store: Store | None = None
) -> Steps[Evidence]:
    """What the orders `names` need: a job. Raises `TpeError` for a name that is not in `ORDERS`."""
    needs = {need for name in sorted(set(names)) for need in ORDERS.choose(name).needs}
    if not needs:
        return Evidence(analysis=analysis, seed=seed)
    detection, head = analysis.detection, analysis.model.head
    fisher = yield from fisher_information(head, detection.sample, detection.mean_hidden, seed=seed, store=store)
    surgery, refitted = None, None
    if "surgery" in needs:
        surgery, _ = yield from obs_order(fisher.metric, covariance(detection))
    if "refitted" in needs:
        sample = yield from fitting_sample(analysis, seed=seed, store=store)
        refitted = yield from refit_order(head, detection, sample, fisher.metric, seed=seed, store=store)
    return Evidence(analysis=analysis, fisher=fisher, surgery=surgery, refitted=refitted, seed=seed)


def saliency_of(name: str, evidence: Evidence) -> Floats:
    """[d] what each dimension (component) is worth. Raises `TpeError` where the name or its evidence is unknown."""
    return ORDERS.choose(name).saliency(evidence)


def order_of(name: str, evidence: Evidence) -> Dims:
    """[d] the order of removal: ascending saliency, the first dimension (component) removed first."""
    saliency = saliency_of(name, evidence)
    if np.isnan(saliency).any():
        raise NumericalError(
            f"the order {name!r} is not defined for dimension {int(np.isnan(saliency).argmax())}: choose another order."
        )
    return np.argsort(saliency, kind="stable").astype(np.int64)
