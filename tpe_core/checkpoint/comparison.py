"""Next-token probabilities in the runtime that an export is for, against those that the engine predicts.

The file without the edit is asked the same, so that what the runtime or its quantisation changes is told apart from
what became of the edit. A prompt's difference is the sum of |p_runtime - p_predicted| over the tokens that the engine
predicts to be the most probable after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpe_core.edits.edit import ResolvedEdit
from tpe_core.hooks import apply
from tpe_core.manifest.schema import Manifest
from tpe_core.manifest.self_test import prompt_logits, prompts_of
from tpe_core.models.model import LanguageModel
from tpe_core.printable import token_texts

__all__ = ["TOP", "PromptComparison", "RuntimeComparison", "TokenPair", "compare", "predicted", "prompts_for"]

TOP = 20
"""Tokens compared after each prompt."""

SMALLEST = 1e-6
"""Of a difference, below which a ratio of two says nothing: rounding of float32."""

Floats = NDArray[np.float64]
Answers = Sequence[Floats]
"""[V] probabilities after each prompt; NaN for tokens that a runtime does not report."""


@dataclass(frozen=True, slots=True)
class TokenPair:
    """A token's probability after a prompt, as predicted and as the runtime gives it."""

    token_id: int
    token: str
    predicted: float
    found: float


@dataclass(frozen=True, slots=True)
class PromptComparison:
    """The most probable tokens after one prompt, the first most so."""

    prompt: str
    tokens: tuple[TokenPair, ...]

    @property
    def difference(self) -> float:
        """The sum of |found - predicted|."""
        return float(sum(abs(pair.found - pair.predicted) for pair in self.tokens))

    def to_dict(self) -> dict[str, Any]:
        """As in the JSON of `tpe bake`."""
        tokens = [
            {"token_id": pair.token_id, "token": pair.token, "predicted": pair.predicted, "found": pair.found}
            for pair in self.tokens
        ]
        return {"prompt": self.prompt, "difference": self.difference, "tokens": tokens}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeComparison:
    """What a runtime gives with and without the edit, against the prediction of each."""

    runtime: str  # name and version
    edited: tuple[PromptComparison, ...]
    unedited: tuple[PromptComparison, ...]

    @property
    def edited_difference(self) -> float:
        """The mean over the prompts of `PromptComparison.difference` with the edit."""
        return float(np.mean([prompt.difference for prompt in self.edited]))

    @property
    def unedited_difference(self) -> float:
        """The same of the file without the edit: what the runtime itself does otherwise than the engine."""
        return float(np.mean([prompt.difference for prompt in self.unedited]))

    @property
    def ratio(self) -> float | None:
        """The edited difference in units of the unedited one; None where both are rounding."""
        if max(self.edited_difference, self.unedited_difference) < SMALLEST or self.unedited_difference == 0:
            return None
        return self.edited_difference / self.unedited_difference

    @property
    def sentence(self) -> str:
        """What was compared and how it came out, without its full stop."""
        ratio = "" if self.ratio is None else f", ratio {self.ratio:.2f}"
        return (
            f"in {self.runtime} the {len(self.edited[0].tokens)} most probable tokens after each of "
            f"{len(self.edited)} prompts differ by {self.edited_difference:.2g} in sum from the prediction, without "
            f"the edit by {self.unedited_difference:.2g}{ratio}"
        )

    def to_dict(self) -> dict[str, Any]:
        """As in the JSON of `tpe bake`."""
        return {
            "runtime": self.runtime,
            "edited_difference": self.edited_difference,
            "unedited_difference": self.unedited_difference,
            "ratio": self.ratio,
            "edited": [prompt.to_dict() for prompt in self.edited],
            "unedited": [prompt.to_dict() for prompt in self.unedited],
        }


def prompts_for(model: LanguageModel, manifest: Manifest | None) -> tuple[str, ...]:
    """The prompts of a manifest's self-test; without one those that it would have."""
    if manifest is not None and manifest.self_test is not None:
        return tuple(test.prompt for test in manifest.self_test.prompts)
    return prompts_of(model)


def predicted(model: LanguageModel, edit: ResolvedEdit, prompts: Sequence[str]) -> tuple[list[Floats], list[Floats]]:
    """([V_all] probabilities after each prompt with the edit as hooks, the same without it)."""
    ask = prompt_logits(model)
    plain = [_softmax(ask(prompt)) for prompt in prompts]
    with apply(model, edit):
        return [_softmax(ask(prompt)) for prompt in prompts], plain


def compare(
    model: LanguageModel,
    runtime: str,
    prompts: Sequence[str],
    predictions: tuple[Answers, Answers],
    reported: tuple[Answers, Answers],
    *,
    by_runtime: bool = False,
) -> RuntimeComparison:
    """Pair the `TOP` tokens by prediction with what a runtime gave: (with the edit, without it) on both sides.

    With `by_runtime` the tokens are those that the runtime reports as the most probable, of one that reports few.
    """
    names = token_texts(model.tokenizer, model.head.vocab_rows)
    sides = [
        tuple(_paired(prompt, names, p, q, q if by_runtime else p) for prompt, p, q in zip(prompts, *side, strict=True))
        for side in zip(predictions, reported, strict=True)
    ]
    return RuntimeComparison(runtime=runtime, edited=sides[0], unedited=sides[1])


def _paired(prompt: str, names: Sequence[str], predictions: Floats, reported: Floats, by: Floats) -> PromptComparison:
    """The pairs of the tokens that `by` gives most; those of which it says nothing (NaN) are none."""
    first = np.argsort(-by[: len(names)], kind="stable")[: min(TOP, int(np.isfinite(by[: len(names)]).sum()))]
    pairs = (TokenPair(int(i), names[i], float(predictions[i]), float(np.nan_to_num(reported[i]))) for i in first)
    return PromptComparison(prompt, tuple(pairs))


def _softmax(logits: Floats) -> Floats:
    weights = np.exp(logits - logits.max())
    p: Floats = weights / weights.sum()
    return p


def answers(ask: Callable[[str], Floats], prompts: Sequence[str]) -> list[Floats]:
    """[V_all] probabilities after each prompt, by a function that gives logits."""
    return [_softmax(np.asarray(ask(prompt), np.float64)) for prompt in prompts]
