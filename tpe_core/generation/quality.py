"""What an edit does to generated text: n-gram figures and MAUVE of base against edited samples, beside a ceiling.

MAUVE falls short of 1 for two samples of one model too, so base is scored against base with another seed: that score
is the ceiling. The edited sample shares its noise with the one the ceiling scores, so an empty edit reaches it exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from tpe_core.detection.hidden import blocks_per_forward
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import NotFiniteError, TpeError
from tpe_core.generation.generation import DEFAULT, Decoding, Generation, Logits, batches, continuations, logits_under
from tpe_core.generation.mauve import Mauve, mauve
from tpe_core.generation.text_quality import TextQuality, text_quality
from tpe_core.models.model import LanguageModel
from tpe_core.progress import Progress, Steps

__all__ = ["FEATURES", "Baseline", "Feature", "GenerationQuality", "baseline", "features", "quality", "quality_of"]

Floats = NDArray[np.float64]

Feature = Literal["mean", "last"]
"""A sample's place among others: the mean of h over its tokens, or h after its last one (as published)."""

FEATURES: tuple[Feature, ...] = get_args(Feature)


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Two samples of the unedited model and their MAUVE: what edited samples are compared with."""

    base: Generation
    other: Generation  # another seed
    feature: Feature
    other_features: Floats  # [n, d]
    ceiling: Mauve  # of other and base


@dataclass(frozen=True, kw_only=True)
class GenerationQuality:
    """Base against edited samples of the same prompts with the same noise; `mauve` beside the most it can be."""

    base: TextQuality
    edited: TextQuality
    mauve: Mauve  # of the base sample of another seed and the edited one
    ceiling: Mauve  # of the same base sample and the base one
    identical: float  # share of samples that the edit leaves as they are
    agreement: float  # share of a base sample's tokens said before the first that differs, averaged
    feature: Feature
    samples: tuple[Generation, Generation]  # base, edited
    other_seed: int

    def to_dict(self) -> dict[str, Any]:
        """The figures and how the samples were drawn; the samples themselves stay out."""
        drawn = self.samples[0].decoding
        return {
            "base": self.base.to_dict(),
            "edited": self.edited.to_dict(),
            "mauve": self.mauve.to_dict(),
            "ceiling": self.ceiling.to_dict(),
            "identical": self.identical,
            "agreement": self.agreement,
            "feature": self.feature,
            "length": drawn.length,
            "seed": drawn.seed,
            "other_seed": self.other_seed,
            "temperature": drawn.temperature,
            "top_p": drawn.top_p,
            "stop": drawn.stop,
        }


def features(model: LanguageModel, generation: Generation, feature: Feature = "mean") -> Steps[Floats]:
    """[n, d] each sample's h (float64) as the unedited model reads it after its prompt: a job.

    Raises `TpeError` for an unknown feature.
    """
    if feature not in FEATURES:
        raise TpeError(f"unknown feature {feature!r}: choose one of {', '.join(FEATURES)}.")
    whole = [prompt + generated for prompt, generated in zip(generation.prompts, generation.tokens, strict=True)]
    features_of_rows, done = np.empty((len(whole), model.head.hidden_size)), 0
    for rows in batches(list(map(len, whole)), blocks_per_forward(model, max(map(len, whole)))):
        yield Progress("read samples", done, len(whole))
        try:
            hidden = model.hidden(torch.tensor([whole[row] for row in rows])).float().cpu().double()
        except NotFiniteError as error:
            place = f" at token {error.position + 1} of generated sample {rows[error.row] + 1}"
            raise error.placed(place) from None
        for row, h in zip(rows, hidden, strict=True):
            generated = h[len(generation.prompts[row]) :]
            features_of_rows[row] = (generated.mean(0) if feature == "mean" else generated[-1]).numpy()
        done += len(rows)
    return features_of_rows


def baseline(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding = DEFAULT,
    *,
    feature: Feature = "mean",
    other_seed: int | None = None,
    batch: int | None = None,
) -> Steps[Baseline]:
    """Two samples of the unedited model, made once for any number of edits: a job.

    The second has the seed `other_seed`, or the one after the first's. Raises `TpeError` where both seeds are the same
    or at temperature 0, where every seed gives the same text; else as `generation.continuations`.
    """
    other = replace(decoding, seed=decoding.seed + 1 if other_seed is None else other_seed)
    if decoding.temperature == 0:
        raise TpeError("at temperature 0 every seed gives the same text, so nothing is sampled: ask for one above 0.")
    if other.seed == decoding.seed:
        raise TpeError(f"the ceiling needs a second seed, and both are {other.seed}: choose another one.")
    head = logits_under(model, Intervention())
    first = yield from continuations(model, head, prompts, decoding, batch=batch)
    second = yield from continuations(model, head, prompts, other, batch=batch)
    of_first = yield from features(model, first, feature)
    of_second = yield from features(model, second, feature)
    return Baseline(
        base=first, other=second, feature=feature, other_features=of_second, ceiling=mauve(of_second, of_first)
    )


def quality_of(
    model: LanguageModel, logits: Logits, against: Baseline, *, batch: int | None = None
) -> Steps[GenerationQuality]:
    """The text of any head `logits` against the model's own, on the baseline's prompts and noise: a job."""
    base = against.base
    edited = yield from continuations(model, logits, base.prompts, base.decoding, batch=batch)
    edited_features = yield from features(model, edited, against.feature)
    pairs = list(zip(base.tokens, edited.tokens, strict=True))
    return GenerationQuality(
        base=text_quality(base.tokens, base.ended),
        edited=text_quality(edited.tokens, edited.ended),
        mauve=mauve(against.other_features, edited_features),
        ceiling=against.ceiling,
        identical=sum(ours == theirs for ours, theirs in pairs) / len(pairs),
        agreement=sum(_shared(ours, theirs) / len(ours) for ours, theirs in pairs) / len(pairs),
        feature=against.feature,
        samples=(base, edited),
        other_seed=against.other.decoding.seed,
    )


def quality(
    model: LanguageModel,
    intervention: Intervention,
    basis: EditStatistics | None,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding = DEFAULT,
    *,
    feature: Feature = "mean",
    other_seed: int | None = None,
    batch: int | None = None,
) -> Steps[GenerationQuality]:
    """What an intervention does to text sampled after prompts (token ids): a job. For several, share a `baseline`.

    MAUVE tells nothing below `LEAST_SAMPLES`, and no difference smaller than `Mauve.chance`. Raises as `baseline` and
    `generation.logits_under`.
    """
    edited = logits_under(model, intervention, basis)
    against = yield from baseline(model, prompts, decoding, feature=feature, other_seed=other_seed, batch=batch)
    return (yield from quality_of(model, edited, against, batch=batch))


def _shared(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """How many tokens two samples have in common from their start."""
    pairs = zip(ours, theirs, strict=False)
    return next((at for at, (mine, other) in enumerate(pairs) if mine != other), min(len(ours), len(theirs)))
