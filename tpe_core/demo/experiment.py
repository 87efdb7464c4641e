"""The controlled experiment: does the embedding encode how often a token occurs, or what goes with being frequent?

Every token gets a twin. Each occurrence in the text is written as the token or as its twin by chance, with a share
drawn for the pair. So twins have the same meaning and the same contexts and differ in frequency alone, by a ratio that
was assigned. The control is the same text with equal shares. Nothing else differs between the two runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from tpe_core.demo.prepare import prepare, write
from tpe_core.demo.recipe import Recipe
from tpe_core.demo.record import EMBEDDING
from tpe_core.demo.train import Course, claim, fit_recipe
from tpe_core.dynamics.measure.frequency import COUNTS, Frequencies, read_counts
from tpe_core.dynamics.measure.head_fit import fit_head
from tpe_core.encoding.design import Design
from tpe_core.encoding.encoding import fit_encoding
from tpe_core.json_text import json_text
from tpe_core.progress import Progress, Steps

__all__ = ["ARMS", "compare", "shares", "train_twins", "twin_fit", "with_twins"]

ARMS = ("shuffled", "equal")  # the runs: twins with drawn shares, and the control
SPAN = 4.0  # nats: the log ratio of a pair's shares is uniform between -SPAN and SPAN (a factor of 55 either way)

Floats = NDArray[np.float64]


def shares(arm: str, tokens: int, seed: int) -> Floats:
    """[tokens] the share of every token's occurrences that keeps its own id; the rest goes to its twin."""
    if arm == "equal":
        return np.full(tokens, 0.5)
    ratio = np.random.default_rng([seed, 3]).uniform(-SPAN, SPAN, tokens)
    result: Floats = 1 / (1 + np.exp(-ratio))
    return result


def with_twins(ids: NDArray[Any], share: Floats, seed: int) -> NDArray[np.uint16]:
    """Token ids with each occurrence of w kept with probability share[w], else written as w + len(share)."""
    kept = np.random.default_rng([seed, 4]).random(len(ids)) < share[ids]
    return np.where(kept, ids, ids + np.uint16(len(share))).astype(np.uint16)


def twin_fit(weight: torch.Tensor, law: Frequencies, assigned: Floats, seed: int = 0) -> tuple[float, float]:
    """(R2, slope) of the log ratios between twins [V/2] as a law fitted on *other* pairs predicts them.

    The law is that of `law`'s frequencies on the rows W [V, d] of one half of the pairs, and is asked for the
    difference between twins in the other half, and the other way round. R2 is the squared correlation of predicted
    and assigned differences (0 where either is constant), the slope nats predicted per nat assigned.
    """
    pairs = len(assigned)
    half = np.zeros(pairs, dtype=bool)
    half[np.random.default_rng([seed, 5]).permutation(pairs)[: pairs // 2]] = True
    difference = (weight[:pairs].double() - weight[pairs:].double()).numpy()
    predicted = np.empty(pairs)
    for inside in (half, ~half):
        rows = np.concatenate([inside, inside])
        fitted = fit_encoding(Design(weight.T, keep=rows), law.surprisal[rows])
        predicted[~inside] = difference[~inside] @ -fitted.slope
    spread = assigned.std() * predicted.std()
    if not spread > 0:
        return 0.0, 0.0
    centred = assigned - assigned.mean()
    covariance = float(centred @ predicted) / pairs
    return (covariance / float(spread)) ** 2, covariance / float(assigned.var())


def compare(folder: Path, recipe: Recipe) -> Steps[dict[str, Any]]:
    """Both runs against both texts' frequencies, step by step: the experiment's document, from its folders' files."""
    counts = {arm: read_counts(folder / arm / COUNTS) for arm in ARMS}
    pairs = len(counts["equal"].counts) // 2
    surprisal = counts["shuffled"].surprisal
    assigned = surprisal[pairs:] - surprisal[:pairs]  # log of how much more often the token occurs than its twin
    steps: list[dict[str, Any]] = []
    for number, step in enumerate(recipe.checkpoint_steps()):
        yield Progress("compare", number, len(recipe.checkpoint_steps()))
        entry: dict[str, Any] = {"step": step}
        for arm in ARMS:
            weight = load_file(folder / arm / "checkpoints" / f"step{step}" / "model.safetensors")[EMBEDDING]
            r2, slope = twin_fit(weight, counts[arm], assigned)
            entry[arm] = {
                **{f"r2_{against}": fit_head(weight, counts[against].surprisal).r2_adjusted for against in ARMS},
                "twins_r2": r2,
                "twins_slope": slope,
            }
        steps.append(entry)
    return {
        "schema": 1,
        "recipe": recipe.to_dict(),
        "pairs": pairs,
        "log_ratio_sd": float(assigned.std()),
        "halfway_step": {
            "encoding": _halfway([(entry["step"], entry["shuffled"]["r2_shuffled"]) for entry in steps]),
            "twins": _halfway([(entry["step"], entry["shuffled"]["twins_r2"]) for entry in steps]),
        },
        "steps": steps,
    }


def _halfway(curve: list[tuple[int, float]]) -> int | None:
    """The first step at which a figure passes half its last value; None where that is not positive."""
    half = curve[-1][1] / 2
    return next((step for step, value in curve if value >= half > 0), None)


def train_twins(
    folder: Path, recipe: Recipe, text: Iterator[str] | None = None, threads: int | None = None
) -> Steps[dict[str, Any]]:
    """Train both runs under `folder` and compare them; the document is also left there as ``experiment.json``.

    The tokenizer has `recipe.vocab_size` tokens, the models twice as many. Each run's folder (named in `ARMS`) has
    its checkpoints, counts and probe log. Resumes where it was stopped. Raises `TpeError` like `train`.
    """
    if threads:
        torch.set_num_threads(threads)
    claim(folder, recipe)
    _, tokens, held_out = yield from prepare(folder, recipe, text)
    doubled = dataclasses.replace(recipe, vocab_size=2 * recipe.vocab_size)
    for arm in ARMS:
        share = shares(arm, recipe.vocab_size, recipe.seed)
        some, other = (with_twins(ids, share, recipe.seed + part) for part, ids in enumerate((tokens, held_out)))
        (folder / arm).mkdir(exist_ok=True)
        yield from fit_recipe(folder / arm, doubled, some, other, Course(label=f"train {arm}"))
    document = yield from compare(folder, recipe)
    write(folder / "experiment.json", json_text(document, 1).encode())
    return document
