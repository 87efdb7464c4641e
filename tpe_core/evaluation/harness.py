"""lm-evaluation-harness, asked for the questions of its tasks and for the scores of answers to them.

It never runs the model itself here: it says what it wants to know, the engine answers a few questions at a time
(so that a run shows where it is, stops, and resumes), and it scores those answers as it would score its own.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import io
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpe_core.corpus.id_tokenizer import IdTokenizer
from tpe_core.corpus.token_ids import open_ended
from tpe_core.errors import TpeError, reason_of
from tpe_core.models.model import LanguageModel
from tpe_core.options import several

__all__ = ["Answers", "Harness", "Question", "Scored", "find_tasks"]

KINDS = ("loglikelihood", "loglikelihood_rolling", "generate_until")  # what the harness asks of a model
SEED = 1234  # of whatever a task draws: few-shot examples, sampled text
BOOTSTRAPS = 1000  # for standard errors of metrics that have no formula

Question = tuple[str, str, int]
"""(kind, arguments as text, how often it was asked before): sampled text is asked for several times."""

Answers = Mapping[Question, Any]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One metric of one task: the harness's value and standard error, and each item's own where it is kept."""

    task: str
    metric: str
    filter: str
    value: float
    error: float | None
    items: int
    each: tuple[Any, ...]  # by item in order; numbers, or (log-likelihood, weight) pairs; empty for a group of tasks
    higher_is_better: bool | None


class _Unanswered(Exception):  # noqa: N818 - a signal, not an error
    """Carries the harness's questions out of its evaluation."""


@dataclass(frozen=True)
class Tasks:
    """Tasks by name, found in a folder or among the harness's own."""

    names: tuple[str, ...]
    manager: Any  # lm_eval.tasks.TaskManager
    version: str


def find_tasks(names: str | Sequence[str], folder: Path | None = None, *, offline: bool = False) -> Tasks:
    """The tasks that `names` (patterns such as ``mmlu_*`` too) stand for, those of `folder` before the harness's own.

    Nothing is downloaded. A task's folder can hold code (``!function``), which runs: read it first. Raises `TpeError`
    where lm-evaluation-harness is not installed, or a name is unknown.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise TpeError("tasks need lm-evaluation-harness, which is not installed: `pip install 'tpe-tui[eval]'`.")
    names = several(names)
    if not names:
        raise TpeError("no task is named: give --tasks one or several names, such as --tasks lambada_openai,arc_easy.")
    if folder is not None and not folder.is_dir():
        raise TpeError(f"there is no folder {folder}: name one that holds tasks as .yaml files.")
    if offline:
        os.environ["HF_DATASETS_OFFLINE"] = "1"  # read when data sets are first imported
    with _quiet():
        import datasets
        import lm_eval
        from lm_eval.tasks import TaskManager

        if offline:
            datasets.config.HF_HUB_OFFLINE = True  # where they were imported before
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        matching: Sequence[str] = ()
        try:
            if folder is not None:  # alone, it is read in a moment: the harness's own are thousands of files
                manager = TaskManager(include_path=str(folder), include_defaults=False)
                matching = _matching(manager, names)
            if not matching:
                manager = TaskManager(include_path=None if folder is None else str(folder))
                matching = _matching(manager, names)
        except Exception as error:
            raise TpeError(f"the tasks in {folder} cannot be read ({reason_of(error).rstrip('.')}).") from error
    if matching:
        return Tasks(tuple(matching), manager, str(lm_eval.__version__))
    missing = next(name for name in names if not manager.match_tasks([name]))
    near = difflib.get_close_matches(missing, manager.all_tasks, 3)
    advice = f"did you mean {' or '.join(near)}?" if near else "see `lm-eval ls tasks` for the names."
    raise TpeError(f"there is no task {missing!r}: {advice}")


def _matching(manager: Any, names: Sequence[str]) -> Sequence[str]:
    """The tasks behind all names; none where one of them is unknown."""
    return manager.match_tasks(list(names)) if all(manager.match_tasks([name]) for name in names) else ()


class Harness:
    """Some tasks put to one model. Raises `TpeError` where the harness cannot ask such a model."""

    def __init__(self, model: LanguageModel, tasks: Tasks, *, limit: int | None, shots: int | None, batch: int) -> None:
        if model.task == "masked":
            raise TpeError(f"{model.name} is a masked model: lm-evaluation-harness scores causal and seq2seq ones.")
        if isinstance(model.tokenizer, IdTokenizer):
            raise TpeError(f"{model.name} has no tokenizer: lm-evaluation-harness asks in text, which it cannot read.")
        with _quiet():
            from lm_eval.models.huggingface import HFLM

            self._lm = HFLM(
                pretrained=model.hf,
                tokenizer=open_ended(model.tokenizer) if model.task == "causal" else model.tokenizer,
                backend=model.task,
                batch_size=batch,
                softmax_dtype="float32",
            )
        for name in ("_model_call", "_model_generate"):
            setattr(self._lm, name, _checked(model, getattr(self._lm, name)))
        self._run: dict[str, Callable[..., list[Any]]] = {kind: getattr(self._lm, kind) for kind in KINDS}
        with _quiet(), _told(f"the tasks {', '.join(tasks.names)} cannot be loaded"):
            self._loaded = tasks.manager.load(list(tasks.names))
        for task in self._loaded["tasks"].values():
            own = task.get_config("num_fewshot")
            if own is None or (shots is not None and own != 0):  # a task that says 0 means it
                task.set_config(key="num_fewshot", value=shots or 0)
        self._tasks, self._limit = tasks, limit
        self._instances: dict[Question, Any] = {}

    def ask(self, answers: Answers) -> tuple[list[Question], list[Scored]]:
        """What the harness asks next, given `answers` to what it asked before; or, once it has all, its scores.

        The questions are of one kind. Raises `TpeError` where a task does not run, or asks something new every time.
        """
        questions: list[Question] = []
        for kind in KINDS:
            setattr(self._lm, kind, self._replay(kind, answers, questions))
        with _quiet(), _told(f"the tasks {', '.join(self._tasks.names)} cannot be run"):
            import lm_eval

            self._seed()
            try:
                result = lm_eval.evaluate(self._lm, self._loaded, limit=self._limit, bootstrap_iters=BOOTSTRAPS)
            except _Unanswered:
                if any(
                    kind in {question[0] for question in answers} for kind in {question[0] for question in questions}
                ):
                    raise TpeError("a task asks other questions when it is run again: it cannot be compared.") from None
                return questions, []
        return [], _scores(result)

    def answer(self, questions: Sequence[Question]) -> list[Any]:
        """The model's answers as it is now, hooks included: questions of one kind, as JSON values."""
        import torch

        torch.manual_seed(SEED)
        with _quiet(), _told("the model cannot be asked"):
            kind = questions[0][0]
            answered = self._run[kind]([self._instances[question] for question in questions], disable_tqdm=True)
        return [_plain(answer) for answer in answered]

    def _seed(self) -> None:
        """Seed the harness, so that every pass draws the same few-shot examples."""
        import random

        import numpy as np

        random.seed(SEED)
        np.random.seed(SEED)
        for task in self._loaded["tasks"].values():
            task.set_fewshot_seed(seed=SEED)

    def _replay(self, kind: str, answers: Answers, unanswered: list[Question]) -> Callable[..., list[Any]]:
        def known(instances: Sequence[Any], **_: Any) -> list[Any]:
            seen: dict[str, int] = {}
            questions = []
            for instance in instances:
                text = repr(instance.args)
                question = (kind, text, seen.get(text, 0))
                seen[text] = question[2] + 1
                questions.append(question)
                self._instances[question] = instance
            unanswered.extend(question for question in questions if question not in answers)
            if unanswered:
                raise _Unanswered
            return [tuple(answer) if isinstance(answer := answers[each], list) else answer for each in questions]

        return known


def _checked(model: LanguageModel, forward: Callable[..., Any]) -> Callable[..., Any]:
    """A forward of the harness that refuses token ids which the model has no row for; they are its first argument."""

    def checked(*arguments: Any, **options: Any) -> Any:
        model.check_inputs({"input_ids": arguments[0] if arguments else next(iter(options.values()))})
        return forward(*arguments, **options)

    return checked


def _scores(result: Mapping[str, Any]) -> list[Scored]:
    """Every metric of every task and group of tasks in the harness's results."""
    samples, sizes = result.get("samples", {}), result.get("n-samples", {})
    scores = []
    for task, figures in result["results"].items():
        items = sizes.get(task, {}).get("effective") or figures.get("sample_len") or 0
        for name, value in figures.items():
            metric, comma, kept = name.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = figures.get(f"{metric}_stderr,{kept}")
            rows = sorted((row for row in samples.get(task, ()) if row["filter"] == kept), key=_document)
            each = tuple(_plain(row[metric]) for row in rows if metric in row)
            better = result.get("higher_is_better", {}).get(task, {}).get(metric)
            number = float(error) if isinstance(error, int | float) else None
            scores.append(
                Scored(
                    task=task,
                    metric=metric,
                    filter=kept,
                    value=float(value),
                    error=number,
                    items=int(items),
                    each=each,
                    higher_is_better=better,
                )
            )
    return scores


def _document(row: Mapping[str, Any]) -> int:
    return int(row["doc_id"])


def _plain(value: Any) -> Any:
    """A harness's value as JSON has it: NumPy's numbers as Python's, tuples as lists."""
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return value.item() if hasattr(value, "item") else value


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of the harness's own progress and advice: it prints to both streams."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Whatever the harness, its tasks' code and the data-set library raise, as one sentence."""
    try:
        yield
    except (TpeError, _Unanswered):
        raise
    except Exception as error:
        raise TpeError(
            f"{what} by lm-evaluation-harness ({type(error).__name__}: {reason_of(error).rstrip('.')})."
        ) from error
