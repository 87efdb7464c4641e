"""The inspector's steering study: the texts are read once, after that every question is answered in closed form.

Pruned dimensions are replaced in the stored hidden states first, so that figures are those of steering the pruned head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from tpe_core.analysis import Analysis
from tpe_core.detection.hidden import HiddenSample
from tpe_core.detection.samples import Samples
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.edit_numbers import EditNumbers
from tpe_core.edits.intervention import METHODS, Intervention, Method
from tpe_core.errors import TpeError
from tpe_core.models.head import OutputHead
from tpe_core.progress import Steps
from tpe_core.steering.calibration import calibrate
from tpe_core.steering.effects import Observed, effects, log_normaliser, most_affected, observe, observe_again, unit
from tpe_core.steering.results import Calibrated, Dosed, DoseFigures, DoseRequest, MostAffected, TextsRead

__all__ = ["LiveSteering", "read_steering_texts", "unsteered"]

AFFECTED_TOKENS = 8  # tokens named


def unsteered(edit: Intervention) -> Intervention:
    """What lies below the steering of an edit: its pruned dimensions."""
    return replace(edit, steering=())


def read_steering_texts(
    analysis: Analysis, samples: Samples, basis: EditStatistics, edit: Intervention
) -> Steps[LiveSteering]:
    """Run the head, pruned as `edit` says, over three texts once: a job."""
    below, stored, observed = unsteered(edit), {}, {}
    numbers = EditNumbers(basis.resolve(below))
    for name, sample in samples.items():
        stored[name] = sample
        if below.pruned:
            states = numbers.replaced(torch.from_numpy(sample.hidden))
            stored[name] = HiddenSample(sample.size, states.numpy(), sample.next_ids, sample.priority)
        observed[name] = yield from observe(analysis.model.head, stored[name], ())
    texts = {"local": analysis.text, "heldout": samples.heldout_text, "ood": samples.ood_text}
    read = TextsRead(texts, {name: len(sample) for name, sample in stored.items()}, samples.warnings)
    return LiveSteering(head=analysis.model.head, basis=basis, below=below, read=read, stored=stored, observed=observed)


@dataclass(kw_only=True)
class LiveSteering:
    """Three texts under one mask, `below`, made by `read_steering_texts`; any tokens, ratios and methods."""

    head: OutputHead
    basis: EditStatistics
    below: Intervention
    read: TextsRead
    stored: Mapping[str, HiddenSample]  # with what is pruned replaced
    observed: Mapping[str, Observed]
    _units: dict[tuple[str, Method], Tensor] = field(default_factory=dict)

    def figures(self, request: DoseRequest) -> DoseFigures:
        """Achieved ratios and their cost by every method, and the dose-response curves of the token looked at.

        Raises `TpeError` for a token that does not exist or is never predicted, and for another mask than `below`.
        """
        ids, grid = request.token_ids, request.grid
        observed = self._observe(request)
        log_ratios = np.log(request.ratios)
        curve = np.repeat(log_ratios[None, :], len(grid), 0)
        curve[:, 0] = np.log(grid)
        columns = self.head.columns[:, list(ids)].double().cpu().numpy()
        rows = np.linalg.norm(columns, axis=0)
        methods, alpha = {}, {}
        for method in METHODS:
            effects_by_text = {}
            for name, seen in observed.items():
                steps = np.vstack([log_ratios, curve]) if name == "heldout" else log_ratios[None, :]
                effects_by_text[name] = effects(seen, ids, steps, self._unit(name, method))
            direction = self.basis.direction(method, self.below.pruned)
            sizes: tuple[float | None, ...] = (None,) * len(ids)
            if direction is not None:
                sizes = tuple((np.abs(log_ratios) * np.linalg.norm(direction) / rows).tolist())
            methods[method] = Dosed(
                curve=tuple(point.achieved[0] for point in effects_by_text["heldout"][1:]),
                achieved={name: points[0].achieved for name, points in effects_by_text.items()},
                kl={name: points[0].kl for name, points in effects_by_text.items()},
                js={name: points[0].js for name, points in effects_by_text.items()},
                relative_edit=sizes,
            )
            alpha = {name: points[0].alpha for name, points in effects_by_text.items()}
        attainable = tuple(observed["local"].attainable(token_id) for token_id in ids)
        return DoseFigures(request=request, asked=grid, alpha=alpha, attainable=attainable, methods=methods)

    def calibrated(self, request: DoseRequest) -> Calibrated:
        """What to ask so that every token achieves its ratio on the local text, by the method in force."""
        ids = request.token_ids
        seen = self._observe(request)["local"]
        alpha = [float(seen.log_p[row].exp().mean()) for row in seen.rows(ids)]
        asked = [before * ratio for before, ratio in zip(alpha, request.ratios, strict=True)]
        solution = calibrate(seen, ids, asked, self._unit("local", request.method))
        return Calibrated(
            request,
            tuple(math.exp(step) for step in solution.steps),
            tuple(after / before for after, before in zip(solution.alpha, alpha, strict=True)),
            solution.reached,
        )

    def most_affected(self, request: DoseRequest) -> Steps[MostAffected]:
        """The tokens that lose most to the edit by the method in force, on held-out text: a job, a V-wide pass."""
        seen = self._observe(request)["heldout"]
        steps = np.array([[math.log(ratio) for ratio in request.ratios]])
        log_s = log_normaliser(seen, request.token_ids, steps, self._unit("heldout", request.method))[0]
        edits = [(request.token_ids, log_s)]
        who = yield from most_affected(self.head, self.stored["heldout"], seen.log_z, edits, AFFECTED_TOKENS)
        return MostAffected(request, tuple((one.token_id, one.lost) for one in who[0]))

    def _observe(self, request: DoseRequest) -> dict[str, Observed]:
        if unsteered(request.edit) != self.below:
            raise TpeError("the texts were read with other dimensions pruned: open the steering study again.")
        return {name: observe_again(self.head, seen, request.token_ids) for name, seen in self.observed.items()}

    def _unit(self, name: str, method: Method) -> Tensor:
        unit_shift = self._units.get((name, method))
        if unit_shift is None:
            direction = self.basis.direction(method, self.below.pruned)
            unit_shift = self._units[name, method] = unit(self.observed[name], direction)
        return unit_shift
