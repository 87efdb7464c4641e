"""What one model's mask costs on another of the same width: a later revision, a fine-tune, the base it was tuned from.

Only the mask travels, with the numbers it was saved with; beside it stand the mask that the other model would choose
itself, and random ones, of the same size. Steered tokens stay at home: a row's direction belongs to its own matrix.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tpe_core.analysis import Analysis
from tpe_core.corpus.domains import UNSEEN
from tpe_core.detection.samples import Samples
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.edit_numbers import EditNumbers
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.errors import TpeError
from tpe_core.manifest.schema import Manifest, MeasuredText
from tpe_core.metrics import METRICS
from tpe_core.models.head import OutputHead
from tpe_core.progress import Steps
from tpe_core.pruning.refit import refit_basis
from tpe_core.pruning.results import DRAWS, Cost, PruningCurve, PruningRequest, baseline_figures, figures_of
from tpe_core.pruning.study import prune
from tpe_core.pruning.sweep import measure
from tpe_core.store import Store

__all__ = ["Mask", "Transfer", "TransferResult", "mask_to_transfer", "transfer"]

ORDER = "slope"  # by which the other model's own mask is chosen

Costs = Mapping[str, Cost]
"""By domain: what the mask costs there."""


@dataclass(frozen=True)
class Mask:
    """The mask of a file, and the model it was made on."""

    model: str
    revision: str | None
    edit: ResolvedEdit  # without steered tokens
    left_out: int  # steered tokens of the file, which do not travel

    @property
    def removed(self) -> int:
        """Pruned dimensions."""
        return len(self.edit.removed)

    def check_fits(self, name: str, width: int) -> None:
        """Raise `TpeError` where a model has another width, or the mask leaves it no dimension."""
        if self.edit.hidden_size != width:
            raise TpeError(
                f"the mask is for {self.edit.hidden_size} dimensions ({self.model}), but {name} has {width}: "
                "it can only go to a model of the same width."
            )
        if self.removed >= width:
            raise TpeError(f"the mask removes all {width} dimensions: there is nothing to compare it with.")


@dataclass(frozen=True, kw_only=True)
class TransferResult:
    """A mask on one model. `costs` are those with the file's numbers; `refitted` those with numbers measured here.

    `refitted` is empty for ``zero``, which has no numbers. `shared` counts the mask's dimensions that are in this
    model's `own` mask, too.
    """

    model: str
    revision: str | None
    texts: Mapping[str, str]
    positions: Mapping[str, int]
    baseline: Costs  # of the unpruned head
    costs: Costs
    refitted: Costs
    own: Costs
    random: PruningCurve
    shared: int

    def to_dict(self) -> dict[str, Any]:
        """An entry of ``targets`` in the JSON document of `tpe transfer`."""
        draws = {domain: self.random.costs(domain, 0) for domain in self.random.figures}
        random = {domain: figures_of(costs) for domain, costs in draws.items()}
        return {
            "model": self.model,
            "revision": self.revision,
            "positions": dict(self.positions),
            "texts": dict(self.texts),
            "baseline": baseline_figures(self.baseline),
            "transferred": _figures(self.costs),
            "refitted": _figures(self.refitted) if self.refitted else None,
            "own": {"order": ORDER, "shared": self.shared, **_figures(self.own)},
            "random": {"draws": len(draws["heldout"]), **random.pop("heldout"), **random},
        }


@dataclass(frozen=True)
class Transfer:
    """A mask at home and where it was taken.

    `home` is a `TransferResult` where it was measured anew, on the same texts as the others; else what the file says,
    by domain, as `mask_to_transfer` gives it (nothing where nothing was measured).
    """

    mask: Mask
    home: TransferResult | Mapping[str, MeasuredText]
    targets: tuple[TransferResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `tpe transfer`."""
        edit, home = self.mask.edit, self.home
        return {
            "schema": 1,
            "mask": {
                "model": self.mask.model,
                "revision": self.mask.revision,
                "hidden_size": edit.hidden_size,
                "replace": edit.intervention.replacement,
                "removed": self.mask.removed,
                "dims": list(edit.removed),
            },
            "home": home.to_dict() if isinstance(home, TransferResult) else _from_file(self.mask, home),
            "targets": [target.to_dict() for target in self.targets],
        }


def _from_file(mask: Mask, measured: Mapping[str, MeasuredText]) -> dict[str, Any] | None:
    """A file's own figures under the names of a target's; None where it has none."""
    if not measured:
        return None
    after = {domain: {name: getattr(each, name) for name in METRICS} for domain, each in measured.items()}
    before = {
        domain: {"perplexity": each.base_perplexity, "entropy": each.base_entropy} for domain, each in measured.items()
    }
    return {
        "model": mask.model,
        "revision": mask.revision,
        "positions": {domain: each.positions for domain, each in measured.items()},
        "texts": {domain: each.text for domain, each in measured.items()},
        "baseline": {**before.pop("heldout", {}), **before},
        "transferred": {**after.pop("heldout", {}), **after},
    }


def _figures(costs: Costs) -> dict[str, Any]:
    """Held-out figures first, every other domain's under its name, as in the document of `tpe prune`."""
    figures = {domain: figures_of([cost]) for domain, cost in costs.items()}
    return {**figures.pop("heldout", {}), **figures}


def mask_to_transfer(manifest: Manifest, edit: ResolvedEdit) -> tuple[Mask, dict[str, MeasuredText]]:
    """A file's mask without its steered tokens, and what the file says it costs at home, by domain.

    An edit that steers was measured with what it steers, so then nothing is said. Raises `TpeError` where the file
    prunes nothing.
    """
    if not edit.removed:
        raise TpeError("this intervention prunes no dimension: there is no mask to transfer.")
    bare = dataclasses.replace(edit.intervention, steering=(), sets=())
    made, steered = manifest.made_on, len(edit.intervention.steering)
    mask = Mask(made.model, made.revision, dataclasses.replace(edit, intervention=bare, rows={}, biases={}), steered)
    known = () if steered or manifest.measured is None else manifest.measured.texts
    return mask, {each.domain: each for each in known if each.domain in UNSEEN and each.kl is not None}


def transfer(
    mask: Mask,
    analysis: Analysis,
    samples: Samples,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    store: Store | None = None,
) -> Steps[TransferResult]:
    """Put a mask on an analysed model and measure it, on held-out and out-of-domain text of `samples`: a job.

    Raises `TpeError` where the model has another width, or the mask leaves it no dimension.
    """
    head, edit = analysis.model.head, mask.edit
    width, count, replacement = head.hidden_size, mask.removed, edit.intervention.replacement
    mask.check_fits(analysis.model.name, width)
    edits = {"given": edit}
    if REPLACEMENTS[replacement].is_measured:
        basis = EditStatistics.of(analysis.encoding.slope, analysis.detection)
        if REPLACEMENTS[replacement].is_fitted:
            basis = yield from refit_basis(analysis, edit.removed, basis, seed=seed, store=store)
        edits["refitted"] = basis.resolve(dataclasses.replace(edit.intervention, origin=""))
    costs: dict[str, dict[str, Cost]] = {name: {} for name in edits}
    for domain in UNSEEN:
        for name, each in edits.items():
            costs[name][domain] = yield from measure(head, _under(head, each), getattr(samples, domain))
    request = PruningRequest(
        orders=(ORDER, "random"),
        replacements=(replacement,),
        reference=False,
        draws=draws,
        fractions=(count / width,),
    )
    beside = yield from prune(analysis, samples, request, seed=seed, store=store)
    own, random = beside.curves
    return TransferResult(
        model=analysis.model.name,
        revision=analysis.model.revision,
        texts=beside.texts,
        positions=beside.positions,
        baseline=beside.baseline,
        costs=costs["given"],
        refitted=costs.get("refitted", {}),
        own={domain: own.costs(domain, 0)[0] for domain in UNSEEN},
        random=random,
        shared=len(set(own.dims[:count]) & set(edit.removed)),
    )


def _under(head: OutputHead, edit: ResolvedEdit) -> Callable[[Tensor], Tensor]:
    numbers = EditNumbers(edit)
    return lambda hidden: numbers.logits(head, hidden)
