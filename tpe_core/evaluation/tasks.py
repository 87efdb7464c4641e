"""What an edit does to a model's scores on tasks: base and edited on the same items, with standard errors.

The items, prompts and metrics are lm-evaluation-harness's (`harness`); the edit is applied by hooks. Because
both sides answer the same items, the difference has an error of its own, smaller than either side's.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpe_core.clamping import at_most
from tpe_core.corpus.corpus import tokenizer_fingerprint
from tpe_core.corpus.token_ids import special_ends
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.intervention import Intervention
from tpe_core.evaluation.harness import Answers, Harness, Question, Scored, Tasks
from tpe_core.hooks import apply
from tpe_core.models.model import LanguageModel
from tpe_core.progress import Progress, Steps
from tpe_core.store import Store

__all__ = ["TaskScore", "TaskScores", "WithError", "evaluate_tasks"]

VERSION = 1
AT_ONCE = 256  # questions between two chances to stop; what is answered is kept
SAMPLED = "do_sample': True"  # in a question whose answer is drawn: never taken from the cache

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WithError:
    """A figure and its standard error over items; the error is None where it cannot be told."""

    value: float
    error: float | None

    def to_dict(self) -> dict[str, float | None]:
        """For the JSON document; what is not finite is null."""
        finite = [None if x is None or not math.isfinite(x) else x for x in (self.value, self.error)]
        return {"value": finite[0], "stderr": finite[1]}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScore:
    """One metric of one task, or of a group of tasks, on both sides. `difference` is edited less base."""

    task: str
    metric: str
    filter: str  # how the harness cut an answer out of what was written; "none" where it did not
    items: int
    base: WithError
    edited: WithError
    difference: WithError
    higher_is_better: bool | None

    def to_dict(self) -> dict[str, Any]:
        """An entry of ``scores`` in the JSON document of `tpe eval`."""
        return {
            "task": self.task,
            "metric": self.metric,
            "filter": self.filter,
            "items": self.items,
            "base": self.base.to_dict(),
            "edited": self.edited.to_dict(),
            "difference": self.difference.to_dict(),
            "higher_is_better": self.higher_is_better,
        }


@dataclass(frozen=True, kw_only=True)
class TaskScores:
    """All metrics, and how they were measured."""

    model: str
    revision: str | None
    scores: tuple[TaskScore, ...]
    limit: int | None
    shots: int | None
    harness: str  # version of lm-evaluation-harness

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `tpe eval`."""
        return {
            "schema": 1,
            "model": self.model,
            "revision": self.revision,
            "harness": self.harness,
            "limit": self.limit,
            "fewshot": self.shots,
            "scores": [score.to_dict() for score in self.scores],
        }


def evaluate_tasks(
    model: LanguageModel,
    edit: ResolvedEdit | Intervention | Path,
    tasks: Tasks,
    *,
    force: bool = False,
    limit: int | None = None,
    shots: int | None = None,
    batch: int = 8,
    store: Store | None = None,
) -> Steps[TaskScores]:
    """Run `tasks` (see `harness.find_tasks`) on the model as it is and under `edit` (as for `hooks.apply`): a job.

    `limit` items of each task at most; `shots` examples before each item (None: as the task says); `batch` sequences
    at once. Answers are kept in `store`, so that a run that was stopped goes on and another edit finds the base's.
    Raises `TpeError` in one sentence where the edit does not fit or the harness cannot run a task.
    """
    yield Progress("prepare tasks", 0, note=", ".join(tasks.names))
    with apply(model, edit, force=force) as applied:  # refused now, rather than after the base has answered
        chosen = applied.edit
    harness = Harness(model, tasks, limit=limit, shots=shots, batch=batch)
    sides: dict[str, ResolvedEdit | Intervention] = {"base": Intervention(), "edited": chosen}
    keys = {side: _facts(model, each, batch, tasks.version) for side, each in sides.items()}
    answers: dict[str, dict[Question, Any]] = {side: {} for side in sides}
    while True:
        questions, base = harness.ask(answers["base"])
        if not questions:
            break
        total = len(sides) * len(questions)
        for number, (side, each) in enumerate(sides.items()):
            for first in range(0, len(questions), AT_ONCE):
                part = questions[first : first + AT_ONCE]
                yield Progress("answer tasks", number * len(questions) + first, total, note=side)
                known = _known(store, keys[side], part)
                if known is None:
                    with apply(model, each):
                        known = harness.answer(part)
                    _keep(store, keys[side], part, known, model.name)
                answers[side].update(zip(part, known, strict=True))
    yield Progress("score tasks", 0)
    scores = _compared(base, harness.ask(answers["edited"])[1])
    return TaskScores(
        model=model.name, revision=model.revision, scores=scores, limit=limit, shots=shots, harness=tasks.version
    )


def _compared(base: Sequence[Scored], edited: Sequence[Scored]) -> tuple[TaskScore, ...]:
    other = {(each.task, each.metric, each.filter): each for each in edited}
    scores = []
    for score in base:
        two = other[score.task, score.metric, score.filter]
        left, right = (_influence(each) for each in (score, two))
        error = _error(right - left) if left is not None and right is not None and len(left) == len(right) else None
        difference = WithError(two.value - score.value, error)
        was, now = _with_error(score, left), _with_error(two, right)
        scores.append(
            TaskScore(
                task=score.task,
                metric=score.metric,
                filter=score.filter,
                items=score.items,
                base=was,
                edited=now,
                difference=difference,
                higher_is_better=score.higher_is_better,
            )
        )
    return tuple(scores)


def _with_error(scored: Scored, pulls: Floats | None) -> WithError:
    return WithError(scored.value, scored.error if pulls is None else _error(pulls))


def _influence(scored: Scored) -> Floats | None:
    """[n] each item's pull on a metric: its value is ``value + mean(pull)`` to first order; None where unknown.

    For a mean, ``x_i - value``. For ``exp(-sum ll / sum w)`` (a perplexity per word or byte) and ``-sum ll / sum w``
    (bits per byte), the linearised ratio. Checked against the value that the harness gives: a metric that is
    neither (an F1, a BLEU) has no pulls.
    """
    if not scored.each:
        return None
    try:
        each = np.array(scored.each, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    if each.ndim == 1:
        value, pull = float(each.mean()), each - each.mean()
    elif each.ndim == 2 and each.shape[1] == 2 and each[:, 1].sum() > 0:
        lost, weight = -each[:, 0], each[:, 1]
        rate = float(lost.sum() / weight.sum())
        pull = (lost - rate * weight) / weight.mean()
        if scored.metric.startswith("bits_per"):
            value, pull = rate / math.log(2), pull / math.log(2)
        else:
            value, pull = math.exp(at_most(700.0, rate)), pull * math.exp(at_most(700.0, rate))
    else:
        return None
    return pull if math.isclose(value, scored.value, rel_tol=1e-6, abs_tol=1e-9) else None


def _error(pulls: Floats) -> float | None:
    """Standard error of a mean over items; None for fewer than two."""
    return float(np.std(pulls, ddof=1) / math.sqrt(len(pulls))) if len(pulls) > 1 else None


def _facts(model: LanguageModel, edit: ResolvedEdit | Intervention, batch: int, version: str) -> str:
    """What an answer depends on beside its question."""
    after = special_ends(model.tokenizer)[1] if model.task == "causal" else ()
    ends = f" without {after}" if after else ""  # a text's end stood before its continuation once
    digest = hashlib.sha256(
        f"tasks {VERSION} {version} {model.fingerprint} {tokenizer_fingerprint(model.tokenizer)} {batch}{ends}".encode()
    )
    if isinstance(edit, ResolvedEdit) and not edit.is_empty:
        digest.update(f"{edit.intervention} {sorted(edit.biases.items())}".encode())
        for array in (edit.constant, edit.fold, *(edit.rows[token_id] for token_id in sorted(edit.rows))):
            digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _key(facts: str, part: Sequence[Question]) -> str:
    return hashlib.sha256(f"{facts} {list(part)}".encode()).hexdigest()


def _known(store: Store | None, facts: str, part: Sequence[Question]) -> list[Any] | None:
    entry = store.load(_key(facts, part)) if store is not None else None
    answers = None if entry is None else entry[1].get("answers")
    return answers if isinstance(answers, list) and len(answers) == len(part) else None


def _keep(store: Store | None, facts: str, part: Sequence[Question], answers: Answers | list[Any], name: str) -> None:
    if store is not None and not any(SAMPLED in question[1] for question in part):
        store.save(_key(facts, part), {}, {"answers": answers}, kind="task answers", of=name)
