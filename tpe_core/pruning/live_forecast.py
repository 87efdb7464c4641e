"""Forecasts of a mask's cost while it is being edited: one pass over the detecting text's sample, then no product.

Nothing here is measured on the edited head; `tpe_core.pruning.sweep` does that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tpe_core.analysis import Analysis
from tpe_core.clamping import at_least
from tpe_core.edits.intervention import REBUILT, Intervention
from tpe_core.edits.reconstruction import covariance
from tpe_core.inspector import PruningForecast
from tpe_core.progress import Steps
from tpe_core.pruning.fisher import Fisher, Forecast, fisher_information, forecast_least_squares
from tpe_core.store import Store

__all__ = ["LiveForecast", "read_forecast"]


def read_forecast(analysis: Analysis, store: Store | None = None) -> Steps[LiveForecast]:
    """The forecasts of an analysed model: a job, cached in `store`. Raises `TpeError` where no sample was kept."""
    detection = analysis.detection
    fisher = yield from fisher_information(analysis.model.head, detection.sample, detection.mean_hidden, store=store)
    return LiveForecast(fisher, covariance(detection))


class LiveForecast:
    """The cost of any mask, from the Fisher information: O(d) for every dimension that changed since the last one.

    Under ``least-squares`` what is left unexplained is solved for again at every change: O(k³), k the kept dimensions.
    A refit is given the same figure: nothing is forecast of what fitting gains.
    """

    def __init__(self, fisher: Fisher, covariance: NDArray[np.float64]) -> None:
        self._fisher, self._covariance = fisher, covariance
        self._gates = {name: Forecast(fisher.gates(name)) for name in ("zero", "mean")}

    def of(self, edit: Intervention) -> PruningForecast:
        """The forecast of an edit's mask; its steered tokens do not count."""
        if edit.replacement in REBUILT:
            kl = forecast_least_squares(self._fisher.metric, self._covariance, edit.pruned)
            return PruningForecast(edit.pruned, edit.replacement, kl, None)
        gates = self._gates[edit.replacement]
        gates.set(edit.pruned)
        return PruningForecast(edit.pruned, edit.replacement, at_least(0.0, gates.kl), np.maximum(0.0, gates.toggled()))
