"""Trains a grid and measures every run; killed at any moment, it goes on where it was when it is started again.

A folder holds one grid: its plan, the text that all runs share, a folder for each run, and the result. A run that was
measured is never trained again, one under way goes on from its last saved state. Weights are deleted once measured.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from tpe_core.demo import corpus
from tpe_core.demo.prepare import END_OF_TEXT, prepare, write
from tpe_core.demo.recipe import Recipe
from tpe_core.demo.train import LOG, Course, claim, claim_folder, fit_recipe
from tpe_core.dynamics.measure.frequency import COUNTS
from tpe_core.dynamics.probe_log import read_log
from tpe_core.encoding_comparison import analysed
from tpe_core.errors import TpeError
from tpe_core.json_text import json_text, nulled, parse_json
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, Steps, relayed
from tpe_core.sparsity.design import Plan, Point
from tpe_core.sparsity.results import GRID, GridRun, SparsityGrid, kept_of

__all__ = ["PLAN", "read_plan", "train_grid"]

PLAN = "plan.json"
ANALYSIS = "analysis.json"
TEXT = "text"  # the folder of what the runs share
DETECTING = "detecting.jsonl"  # what every run is analysed on


@dataclass(frozen=True, slots=True)
class _Run:
    """A run of a grid: its combination, its seed, its recipe and its folder."""

    point: Point
    seed: int
    recipe: Recipe
    folder: Path

    @property
    def is_measured(self) -> bool:
        return (self.folder / ANALYSIS).exists()


def read_plan(folder: Path) -> Plan | None:
    """The plan of the grid in a folder; None where there is none. Raises `TpeError` where it cannot be read."""
    path = folder / PLAN
    if not path.is_file():
        return None
    try:
        return Plan.from_dict(parse_json(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise TpeError(f"{path} is no plan of a grid: choose another folder, or remove this one.") from None


def train_grid(
    folder: Path,
    plan: Plan | None = None,
    *,
    text: Iterator[str] | None = None,
    threads: int = 1,
    keep_models: bool = False,
) -> Steps[SparsityGrid]:
    """Train and measure every run of a plan in `folder`, or those that are left of it: a job.

    Two runs of one seed on one thread have the same weights. Raises `TpeError` where the folder holds another plan,
    a level cannot be trained, or a run's loss is no finite number; what was measured before is kept.

    Args:
        folder: Where the grid lies; made where it is not there.
        plan: What to train; None: that of the folder, or the shipped grid's.
        text: Documents in place of the installed packages' docstrings.
        threads: torch threads; models of this size are fastest on one.
        keep_models: Whether each run's model stays in its folder, in ``model/``.

    Returns:
        A job; `run` drives it to the `SparsityGrid`. What is measured so far is in the folder as ``grid.json``.

    Example:
        >>> job = tpe.train_grid(Path("grid"))
        >>> grid = tpe.run(job)  # doctest: +SKIP
    """
    plan = plan or read_plan(folder) or Plan()
    plan.check()
    claim_folder(folder, PLAN, plan.to_dict())
    torch.set_num_threads(threads)
    runs = [
        _Run(point, seed, recipe, folder / "runs" / f"{point.number:02}-{seed}")
        for seed, point in itertools.product(range(plan.seeds), plan.points())
        for recipe in [plan.recipe(point, seed)]
    ]
    runs.sort(key=lambda run: (run.seed, run.recipe.steps))  # every combination once before any twice, short ones first
    documents = list(text) if text is not None else None
    total, before = sum(run.recipe.steps for run in runs), 0
    label = f"train {len(runs)} runs"
    for number, run in enumerate(runs, 1):
        if not run.is_measured:
            name = f"run {number} of {len(runs)}"
            yield Progress(label, before, total, note=name)
            texts = yield from _texts(folder / TEXT, plan, run.recipe, documents)

            def placed(event: Progress, before: int = before, name: str = name) -> Progress:
                at = event.done if event.label == "run" else 0
                note = f"{name}: {event.note}" if event.note else f"{name}: {event.label}"
                return Progress(label, before + at, total, note=note)

            yield from relayed(_one_run(run, texts, folder / TEXT / DETECTING, plan), placed)
            torch.set_num_threads(threads)
            _clear(run.folder, keep_models)
            _write(folder, plan, runs)
        before += run.recipe.steps
    return _write(folder, plan, runs)


def _write(folder: Path, plan: Plan, runs: Sequence[_Run]) -> SparsityGrid:
    """The grid of what is measured so far, which is also written to its file."""
    measured = sorted((run for run in runs if run.is_measured), key=lambda run: (run.point.number, run.seed))
    grid = SparsityGrid(plan=plan, runs=tuple(_measured(run) for run in measured))
    write(folder / GRID, (json_text(nulled(grid.to_file()), 1) + "\n").encode())
    return grid


Texts = tuple[Any, Any, Any]
"""A tokenizer, and the token ids for training and of the held-out text."""


def _texts(folder: Path, plan: Plan, recipe: Recipe, documents: list[str] | None) -> Steps[Texts]:
    """What the runs of one vocabulary size read, made once."""
    own = folder / f"vocabulary-{recipe.vocab_size}"
    own.mkdir(parents=True, exist_ok=True)
    texts = yield from prepare(own, recipe, None if documents is None else iter(documents), folder)
    shortest = min(len(texts[1]), len(texts[2]))
    if shortest <= recipe.context:
        raise TpeError(
            f"a part of the text has {shortest:,} tokens, and a step reads blocks of {recipe.context}: "
            "give more documents."
        )
    actual = texts[0].get_vocab_size()
    if actual < recipe.vocab_size:
        raise TpeError(
            f"the text is too short for {recipe.vocab_size:,} tokens (its tokenizer has {actual:,}): give more "
            "documents, or smaller vocabularies."
        )
    detecting = folder / DETECTING
    if not detecting.exists():
        yield Progress("read docstrings", 0)
        some = corpus.held_out_sample() if documents is None else iter(documents)
        write(detecting, "".join(json_text({"text": each}) + "\n" for each in some).encode())
    return texts


def _one_run(run: _Run, texts: Texts, detecting: Path, plan: Plan) -> Steps[None]:
    tokenizer, tokens, held_out = texts
    claim(run.folder, run.recipe)
    model = yield from fit_recipe(run.folder, run.recipe, tokens, held_out, Course(label="run", checkpoints=False))
    target = run.folder / "model"
    shutil.rmtree(target, ignore_errors=True)
    model.eval().save_pretrained(target)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, model_max_length=run.recipe.context
    ).save_pretrained(target)
    options = RunOptions(
        str(target), text=(str(detecting),), positions=plan.positions, cache=False, threads=torch.get_num_threads()
    )
    problems: list[str] = []
    document = yield from relayed(
        analysed(options, plan.budget, "slope", problems),
        lambda event: Progress("run", run.recipe.steps, run.recipe.steps, note=f"measure: {event.label}"),
    )
    points = read_log(run.folder / LOG)
    training = {
        "held_out_loss": points.points[-1].loss,
        "halfway_step": points.halfway()["encoding"],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens_seen": run.recipe.steps * run.recipe.batch_size * run.recipe.context,
    }
    whole = {**document, "model": run.folder.name, "recipe": run.recipe.to_dict(), "training": training}
    write(run.folder / ANALYSIS, json_text(nulled(whole), 1).encode())


def _clear(folder: Path, keep_models: bool) -> None:
    """Remove what only training needs."""
    for name in ("state.pt", COUNTS):
        (folder / name).unlink(missing_ok=True)
    if not keep_models:
        shutil.rmtree(folder / "model", ignore_errors=True)


def _measured(run: _Run) -> GridRun:
    path = run.folder / ANALYSIS
    try:
        document: Mapping[str, Any] = parse_json(path.read_bytes())
        return GridRun(point=run.point.number, seed=run.seed, levels=run.point.levels, document=kept_of(document))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise TpeError(f"{path} is no analysis of a run: remove it, and the run is trained again.") from None
