"""What an edited model says after three fixed prompts, recorded with the edit and compared wherever it is applied.

It compares logits only; who applied the edit, and how, is the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tpe_core.corpus.id_tokenizer import IdTokenizer
from tpe_core.manifest.schema import Expected, Manifest, SelfTest, TestPrompt
from tpe_core.printable import fit, printable_token

if TYPE_CHECKING:
    from tpe_core.models.model import LanguageModel

__all__ = ["Mismatch", "check", "prompt_logits", "prompts_of", "record"]

SENTENCES = ("Returns the number of elements in the", "Once upon a time there was a")
"""Beside the sentence of the model's own example, in whose place they stand."""

TOP = 5  # tokens recorded after each prompt
STEERED = 20  # steered tokens recorded after each prompt, at most
TOLERANCES = {"float32": 1e-4, "float16": 4e-3, "bfloat16": 2e-2}
"""Of the largest recorded logit (1 where it is less): a few roundings in that dtype."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A token whose logit after a prompt is not the recorded one; `token_id` is -1 where the logits have no such row.

    `expected` of a token that was not recorded is what it should not exceed: the lowest of the recorded top.
    """

    prompt: str
    token_id: int
    token: str
    expected: float
    found: float

    def __str__(self) -> str:
        """One sentence without its full stop."""
        after = f"after {fit(printable_token(self.prompt), 40)!r}"
        if self.token_id < 0:
            return f"{after} there are {self.found:.0f} logits, not {self.expected:.0f}"
        return f"{after} {self.token} (#{self.token_id}) has the logit {self.found:.4f}, not {self.expected:.4f}"


def prompts_of(model: LanguageModel) -> tuple[str, ...]:
    """The three prompts of a model's self-tests, in the form that its kind of model is asked in."""
    from tpe_core.models.sampling import SENTENCE

    ids = model.tokenizer.examples if isinstance(model.tokenizer, IdTokenizer) else None
    own, *others = ids or (SENTENCE, *SENTENCES)
    example = model.sampling.example
    return tuple(example.replace(own, sentence) for sentence in (own, *others))


def prompt_logits(model: LanguageModel) -> Callable[[str], NDArray[np.float64]]:
    """[V_all] final logits after a prompt by a whole forward, hooks included: what `check` asks for."""

    def logits(prompt: str) -> NDArray[np.float64]:
        inputs, at, *_ = model.sampling.prompt(prompt, model.context)
        values: NDArray[np.float64] = model.logits(inputs)[0, at].double().cpu().numpy()
        return values

    return logits


def record(
    model: LanguageModel,
    logits_of_prompt: Callable[[str], NDArray[Any]],
    tokens: Sequence[str],
    steered: Sequence[int] = (),
) -> SelfTest | None:
    """The `TOP` tokens of each prompt by edited logits [V or V_all], and the `steered` ones; None if all are NaN.

    `tokens` are the printable texts of the rows in use. A token that is never predicted (-inf) is left out.
    """
    prompts = []
    for prompt in prompts_of(model):
        logits = np.asarray(logits_of_prompt(prompt), np.float64)[: len(tokens)]
        finite = int(np.isfinite(logits).sum())
        if np.isnan(logits).any() or not finite:
            continue
        first = np.argsort(-logits, kind="stable")[: min(TOP, finite)]
        others = [token_id for token_id in steered if token_id not in first and np.isfinite(logits[token_id])]
        top, moved = (
            tuple(Expected(token_id=int(i), token=tokens[i], logit=round(float(logits[i]), 6)) for i in ids)
            for ids in (first, others[:STEERED])
        )
        prompts.append(TestPrompt(prompt=prompt, top=top, steered=moved))
    if not prompts:
        return None
    return SelfTest(task=model.task, dtype=model.report.dtype, prompts=tuple(prompts))


def check(
    manifest: Manifest,
    logits_of_prompt: Callable[[str], NDArray[Any]],
    *,
    dtype: str = "float32",
    tolerance: float | None = None,
) -> list[Mismatch]:
    """What of a manifest's self-test an edited model does not reproduce, by its final logits [V or V_all] by prompt.

    Every recorded logit is compared, and no other token may come before the recorded first ones. `tolerance` is
    relative to the largest recorded logit (1 where it is less), None what the coarser of the recorded dtype and the
    `dtype` that the model runs in now allows. A manifest without a self-test has nothing to compare: no mismatch.
    """
    mismatches: list[Mismatch] = []
    test = manifest.self_test
    if test is None:
        return mismatches
    known = [TOLERANCES.get(each, TOLERANCES["float32"]) for each in (test.dtype, dtype)]
    relative = max(known) if tolerance is None else tolerance
    rows = manifest.made_on.vocab_rows
    for each in test.prompts:
        logits = np.asarray(logits_of_prompt(each.prompt), np.float64)
        if logits.ndim != 1 or len(logits) < rows:
            mismatches.append(
                Mismatch(
                    prompt=each.prompt,
                    token_id=-1,
                    token="",
                    expected=rows,
                    found=logits.shape[-1] if logits.ndim else 1,
                )
            )
            continue
        mismatches += _compare(each, logits[:rows], relative)
    return mismatches


def _compare(test: TestPrompt, logits: NDArray[np.float64], relative: float) -> list[Mismatch]:
    recorded = [*test.top, *test.steered]
    limit = relative * max(1.0, *(abs(entry.logit) for entry in recorded))
    mismatches = []
    for entry in recorded:
        value = float(logits[entry.token_id]) if entry.token_id < len(logits) else float("nan")
        if not abs(value - entry.logit) <= limit:
            mismatches.append(
                Mismatch(
                    prompt=test.prompt, token_id=entry.token_id, token=entry.token, expected=entry.logit, found=value
                )
            )
    others = logits.copy()
    others[[entry.token_id for entry in recorded if entry.token_id < len(logits)]] = -np.inf
    highest, lowest = int(np.argmax(np.nan_to_num(others, nan=np.inf))), test.top[-1].logit
    unexpected = "another token"
    if not others[highest] <= lowest + limit:
        mismatches.append(
            Mismatch(
                prompt=test.prompt,
                token_id=highest,
                token=unexpected,
                expected=lowest,
                found=float(others[highest]),
            )
        )
    return mismatches
