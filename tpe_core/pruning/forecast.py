"""Forecasts of a mask's cost while it is being edited: one pass over the detecting text's sample, then no product.

Nothing here is measured on the edited head; `tpe_core.pruning.sweep` does that.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from tpe_core.analysis import Analysis
from tpe_core.clamping import at_least
from tpe_core.detection.hidden import HiddenSample
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.edit_numbers import EditNumbers
from tpe_core.edits.intervention import Intervention
from tpe_core.edits.reconstruction import covariance
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.models.head import OutputHead
from tpe_core.progress import Steps
from tpe_core.pruning.fisher import Fisher, Forecast, fisher_information, forecast_least_squares
from tpe_core.snapshots import PruningForecast
from tpe_core.store import Store

__all__ = ["LiveForecast", "SteeringCost", "read_forecast"]

POSITIONS = 1024  # of the sample, for steered tokens: a uniform sample of them all


def read_forecast(analysis: Analysis, store: Store | None = None) -> Steps[LiveForecast]:
    """The forecasts of an analysed model: a job, cached in `store`. Raises `TpeError` where no sample was kept."""
    detection = analysis.detection
    fisher = yield from fisher_information(analysis.model.head, detection.sample, detection.mean_hidden, store=store)
    steering = SteeringCost(analysis.model.head, detection.sample, fisher.log_z)
    return LiveForecast(fisher, covariance(detection), steering)


class LiveForecast:
    """The cost of any edit, from the Fisher information: O(d) for every dimension that changed since the last one.

    Under ``least-squares`` what is left unexplained is solved for again at every change: O(k³), k the kept dimensions.
    A refit is given the same figure: nothing is forecast of what fitting gains. Steered tokens add what they cost.
    """

    def __init__(self, fisher: Fisher, covariance: NDArray[np.float64], steering: SteeringCost) -> None:
        self._fisher, self._covariance, self._steering = fisher, covariance, steering
        self._gates = {name: Forecast(fisher.gates(name)) for name in ("zero", "mean")}

    def of(self, edit: Intervention, basis: EditStatistics) -> PruningForecast:
        """The forecast of an edit whose numbers `basis` gives."""
        more = self._steering.of(edit, basis) if edit.steering else 0.0
        replacement = REPLACEMENTS[edit.replacement]
        if replacement.rebuilds:
            kl = forecast_least_squares(self._fisher.metric, self._covariance, edit.pruned)
            return PruningForecast(
                pruned=edit.pruned, replacement=edit.replacement, steering=edit.steering, kl=kl + more, toggled=None
            )
        gates = self._gates[replacement.gates]
        gates.set(edit.pruned)
        kl, toggled = at_least(0.0, gates.kl) + more, np.maximum(0.0, gates.toggled()) + more
        return PruningForecast(
            pruned=edit.pruned, replacement=edit.replacement, steering=edit.steering, kl=kl, toggled=toggled
        )


class SteeringCost:
    """What steered tokens add to the KL of a mask, over stored hidden states: no product as wide as the vocabulary.

    With P' the pruned head's distribution and P'' the edited one, log P'(y) / P''(y) = log S - D_y, so
    ``KL(P || P'') = KL(P || P') + E[log S - sum_w p(w) D_w]`` exactly, D_w the move of a steered token's logit on the
    replaced h and ``S = 1 + sum_w p'(w) (e^D_w - 1)``. Here p stands in for p', which would take the whole product:
    exact where nothing is pruned.
    """

    def __init__(self, head: OutputHead, sample: HiddenSample, log_z: NDArray[np.float64]) -> None:
        """The first `POSITIONS` of `sample` are used, with their log normalisers `log_z`."""
        self._head = head
        self._hidden = torch.from_numpy(sample.hidden[:POSITIONS])
        self._log_z = torch.from_numpy(log_z[:POSITIONS])

    def of(self, edit: Intervention, basis: EditStatistics) -> float:
        """Nats, of the steered tokens of an edit."""
        edit.check_fits(self._head.hidden_size, self._head.vocab_rows)
        numbers, ids = basis.resolve(edit), [entry.token_id for entry in edit.steering]
        after = EditNumbers(numbers).replaced(self._hidden).double()
        rows = self._head.columns[:, ids].cpu().double()
        bias = 0.0 if self._head.bias is None else self._head.bias[ids].cpu().double()
        moves = [
            after @ torch.from_numpy(numbers.rows[token_id])
            if token_id in numbers.rows
            else torch.full_like(self._log_z, numbers.biases[token_id])
            for token_id in ids
        ]
        post, z = self._head.post, after @ rows + bias
        shift = post(z + torch.stack(moves, 1)) - post(z)
        shift = torch.where(torch.isneginf(z), 0.0, shift)  # a token that is never predicted stays so
        p = (post(self._hidden.double() @ rows + bias) - self._log_z[:, None]).exp()
        cost = torch.log1p((p * torch.expm1(shift)).sum(1)) - (p * shift).sum(1)
        return at_least(0.0, float(cost.mean()))
