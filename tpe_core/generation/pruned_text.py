"""What pruned heads write: text sampled at the points of pruning curves, against the unpruned model's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tpe_core.analysis import Analysis
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.errors import TpeError
from tpe_core.generation.generation import Decoding, heldout_prompts, logits_under
from tpe_core.generation.quality import GenerationQuality, baseline, quality_of
from tpe_core.progress import Progress, Steps
from tpe_core.pruning.refit import refit_basis
from tpe_core.pruning.results import PruningResult
from tpe_core.store import Store

__all__ = ["PrunedText", "pruned_texts"]

PROMPT_TOKENS = 16
LENGTH = 48  # tokens written after each prompt, at most
FEWEST = 32  # prompts: below, MAUVE says nothing


@dataclass(frozen=True)
class PrunedText:
    """The text of one point of a curve."""

    order: str
    replace: str
    removed: int
    quality: GenerationQuality

    def to_dict(self) -> dict[str, Any]:
        """An entry of ``generation`` in the JSON document of `tpe prune`."""
        return {"order": self.order, "replace": self.replace, "removed": self.removed, **self.quality.to_dict()}


def pruned_texts(
    analysis: Analysis,
    result: PruningResult,
    prompts: int,
    *,
    fit_positions: int | None = None,
    seed: int = 0,
    store: Store | None = None,
) -> Steps[tuple[PrunedText, ...]]:
    """Sample text after `prompts` beginnings of held-out blocks at every point that a mask can name: a job.

    A random order's first draw is taken; components, rotation and distilled heads are no masks and are left out.
    Progress carries those so far in `partial`.

    Raises `TpeError` where there are too few prompts, or the model is not causal.
    """
    if prompts < FEWEST:
        raise TpeError(f"text after {prompts} prompts says little about a distribution: ask for at least {FEWEST}.")
    model = analysis.model
    basis = EditStatistics.of(analysis.encoding.slope, analysis.detection)
    beginnings = yield from heldout_prompts(model, analysis.source, prompts, PROMPT_TOKENS)
    against = yield from baseline(model, beginnings, Decoding(length=LENGTH, seed=seed))
    texts: list[PrunedText] = []
    points = sum(len(curve.removed) for curve in result.curves)
    for curve in result.curves:
        for removed in curve.removed:
            yield Progress("texts", len(texts), points, note=f"{curve.order}, {curve.replace}", partial=tuple(texts))
            try:
                edit = curve.mask(removed)
            except TpeError:
                break
            statistics = basis
            if REPLACEMENTS[edit.replacement].is_fitted and edit.pruned:
                statistics = yield from refit_basis(analysis, edit.pruned, basis, fit_positions, seed=seed, store=store)
            quality = yield from quality_of(model, logits_under(model, edit, statistics), against)
            texts.append(PrunedText(curve.order, curve.replace, removed, quality))
    return tuple(texts)
