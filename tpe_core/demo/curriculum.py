"""Two experiments on when frequencies are learned, each an arm against its control, over several seeds.

``frequencies``: the token frequencies of the text change half-way. Every token has a twin, as in
`tpe_core.demo.experiment`, and the ratio within each pair is drawn anew; the control reads the later text from the
start. ``unigram``: the head begins with the unigram law, the end of what Cho et al. (2025, section 5) see learned
first; the control begins as usual. Arm and control share initial weights (but for that law) and the places of batches.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tpe_core.demo.experiment import shares, twin_fit, with_twins
from tpe_core.demo.prepare import prepare, write
from tpe_core.demo.recipe import Recipe
from tpe_core.demo.train import (
    PROBE_BLOCKS,
    Course,
    claim,
    claim_folder,
    fit_recipe,
    held_out_loss,
)
from tpe_core.dynamics.measure.frequency import COUNTS, Frequencies
from tpe_core.dynamics.measure.head_fit import fit_head
from tpe_core.dynamics.probe import head_weight
from tpe_core.dynamics.trajectory import log_steps
from tpe_core.errors import TpeError
from tpe_core.json_text import json_text, parse_json
from tpe_core.progress import Progress, Steps, relayed

__all__ = ["EXPERIMENTS", "begin_with_unigram", "interval", "passed", "recorded_steps", "train_curriculum"]

EXPERIMENTS: dict[str, tuple[str, str]] = {"frequencies": ("kept", "changed"), "unigram": ("ordinary", "unigram")}
"""By experiment: its control and its arm."""

CURVE = "curve.json"
CONFIDENCE = 0.95

Point = dict[str, float]
Ids = NDArray[np.uint16]


def recorded_steps(experiment: str, recipe: Recipe) -> list[int]:
    """The steps that are measured: two per doubling from the start, and where frequencies change, from there again."""
    if experiment == "unigram":
        return log_steps(recipe.steps)
    half = recipe.steps // 2
    return sorted({*log_steps(half), *(half + step for step in log_steps(recipe.steps - half))})


def begin_with_unigram(model: nn.Module, frequencies: Frequencies, seed: int) -> None:
    """Make a GPT-2's first predictions the unigram law: logits log p_w - mean log p, and what chance adds to them.

    The rows of the head get a component c (log p_w - mean log p) u along one random direction u of length 1, and the
    final norm's bias becomes u / c, so that their product is the law, whatever is read. c makes that component as long
    as a row of the initial weights is on average. With tied embeddings the input rows get it as well. Raises
    `TpeError` where the model has no final norm with a bias.
    """
    norm = getattr(getattr(model, "transformer", None), "ln_f", None)
    bias = getattr(norm, "bias", None)
    if bias is None:
        raise TpeError("a head begins with the unigram law where the norm before it has a bias: take the gpt2 recipe.")
    weight = head_weight(model)
    law = torch.from_numpy(-frequencies.surprisal).to(weight.dtype)
    law -= law.mean()
    direction = torch.randn(weight.shape[1], generator=torch.Generator().manual_seed(seed))
    direction /= direction.norm()
    with torch.no_grad():
        scale = weight.norm(dim=1).mean() / law.norm() * math.sqrt(len(law))
        weight += scale * law[:, None] * direction
        bias += direction / scale


@dataclass(frozen=True, kw_only=True)
class _Text:
    """What a run reads, and what it is measured against."""

    tokens: Ids
    later: tuple[int, Ids] | None  # from this step on, batches are drawn from these
    held_out: Ids  # of the text that the losses are of
    law: Frequencies  # of the same text
    first: tuple[Ids, Frequencies] | None = None  # the earlier text's held-out ids and frequencies


def train_curriculum(
    folder: Path,
    experiment: str,
    recipe: Recipe,
    seeds: int = 3,
    *,
    text: Iterator[str] | None = None,
    threads: int = 1,
) -> Steps[dict[str, Any]]:
    """Train arm and control of an experiment with every seed, and compare them: a job that returns the document.

    Everything lands in `folder`: a folder for each run with its curve, and ``experiment.json``. What was trained is
    not trained again, a run that was stopped goes on from its last saved state, and more seeds go on where fewer
    ended. Raises `TpeError` where the folder is of another experiment or recipe.

    Args:
        folder: Where the runs lie; made where it is not there.
        experiment: One of `EXPERIMENTS`.
        recipe: What is trained; its seed is the first of the seeds.
        seeds: How often, each time from other initial weights and on other batches.
        text: Documents in place of the installed packages' docstrings.
        threads: torch threads; on one, two runs of one seed are identical.
    """
    if experiment not in EXPERIMENTS:
        raise TpeError(f"unknown experiment {experiment!r}: choose one of {', '.join(EXPERIMENTS)}.")
    if seeds < 1 or recipe.steps < 4:
        raise TpeError(f"an experiment takes at least 1 seed and 4 steps, not {seeds} and {recipe.steps}.")
    torch.set_num_threads(threads)
    claim_folder(folder, "recipe.json", {"experiment": experiment, **recipe.to_dict()})
    (folder / "text").mkdir(exist_ok=True)
    _, tokens, held_out = yield from prepare(folder / "text", recipe, text)
    if min(len(tokens), len(held_out)) <= recipe.context:
        raise TpeError(f"the text is shorter than a block of {recipe.context} tokens: give more of it.")
    runs = [(arm, recipe.seed + number) for number in range(seeds) for arm in EXPERIMENTS[experiment]]
    curves: dict[str, list[list[Point]]] = {arm: [] for arm in EXPERIMENTS[experiment]}
    label = f"train {len(runs)} runs"
    for number, (arm, seed) in enumerate(runs):
        own = dataclasses.replace(recipe, seed=seed)
        name = f"{arm}, seed {seed}"
        yield Progress(label, number * recipe.steps, len(runs) * recipe.steps, note=name)

        def placed(event: Progress, before: int = number * recipe.steps, name: str = name) -> Progress:
            return Progress(label, before + event.done, len(runs) * recipe.steps, note=f"{name}: {event.note}")

        steps = _one_run(folder / f"{arm}-{seed}", experiment, arm, own, (tokens, held_out))
        curves[arm].append((yield from relayed(steps, placed)))
    unigram = _cross_entropy(held_out, Frequencies.of(np.bincount(tokens, minlength=recipe.vocab_size), "the text"))
    document = _document(experiment, recipe, seeds, curves, unigram)
    write(folder / "experiment.json", (json_text(document, 1) + "\n").encode())
    return document


def _one_run(folder: Path, experiment: str, arm: str, recipe: Recipe, texts: tuple[Any, Any]) -> Steps[list[Point]]:
    """One run's curve: read where it is whole, else trained on."""
    curve = _read_curve(folder / CURVE)
    if curve and curve[-1]["step"] == recipe.steps:
        return curve
    read = _text(experiment, arm, recipe, texts)
    doubled = recipe if experiment == "unigram" else dataclasses.replace(recipe, vocab_size=2 * recipe.vocab_size)
    claim(folder, doubled)
    points = {int(point["step"]): point for point in curve}

    def observe(step: int, model: nn.Module, loss: float) -> None:
        points[step] = {"step": step, "loss": loss, **_measured(model, recipe, read)}
        kept = [points[at] for at in sorted(points) if at <= step]
        write(folder / CURVE, (json_text(kept, 1) + "\n").encode())

    begin: Callable[[nn.Module], None] | None = None
    if arm == "unigram":

        def begin(model: nn.Module) -> None:
            begin_with_unigram(model, read.law, recipe.seed)

    course = Course(
        label=arm,
        begin=begin,
        later=read.later,
        steps=tuple(recorded_steps(experiment, recipe)),
        checkpoints=False,
        observe=observe,
    )
    yield from fit_recipe(folder, doubled, read.tokens, read.held_out, course)
    for name in ("state.pt", COUNTS):
        (folder / name).unlink(missing_ok=True)
    return [points[step] for step in sorted(points)]


def _read_curve(path: Path) -> list[Point]:
    try:
        points: list[Point] = parse_json(path.read_bytes())
        return sorted(points, key=lambda point: point["step"])
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError):
        raise TpeError(f"{path} is no curve of a run: remove its folder, and the run is trained again.") from None


def _text(experiment: str, arm: str, recipe: Recipe, texts: tuple[Any, Any]) -> _Text:
    if experiment == "unigram":
        law = Frequencies.of(np.bincount(texts[0], minlength=recipe.vocab_size), "the training text")
        return _Text(tokens=texts[0], later=None, held_out=texts[1], law=law)
    drawn = []
    for seed in (recipe.seed + 1000, recipe.seed):  # the earlier shares, and the later ones
        share = shares("shuffled", recipe.vocab_size, seed)
        train, held_out = (with_twins(ids, share, seed + part) for part, ids in enumerate(texts))
        counts = np.bincount(train, minlength=2 * recipe.vocab_size)
        drawn.append((train, held_out, Frequencies.of(counts, "the training text")))
    (before, before_held_out, before_law), (after, held_out, law) = drawn
    changes = arm == "changed"
    return _Text(
        tokens=before if changes else after,
        later=(recipe.steps // 2, after) if changes else None,
        held_out=held_out,
        law=law,
        first=(before_held_out, before_law),
    )


def _measured(model: nn.Module, recipe: Recipe, read: _Text) -> Point:
    """What is measured of a model beside its loss: how well its head encodes the frequencies of the text."""
    weight: Tensor = head_weight(model)
    point = {"r2_adjusted": fit_head(weight, read.law.surprisal).r2_adjusted}
    if read.first is None:
        return point
    held_out, first = read.first
    pairs = recipe.vocab_size
    for suffix, law in (("", read.law), ("_first", first)):
        assigned = law.surprisal[pairs:] - law.surprisal[:pairs]
        point[f"twins_r2{suffix}"], point[f"twins_slope{suffix}"] = twin_fit(weight, law, assigned)
    return {**point, "loss_first": held_out_loss(model, recipe, held_out, PROBE_BLOCKS)}


def _cross_entropy(ids: Any, law: Frequencies) -> float:
    """Nats a token that the unigram law of a text costs on `ids`."""
    return float(law.surprisal[np.asarray(ids, dtype=np.int64)].mean())


def passed(points: Sequence[Point], name: str, target: float, *, rising: bool) -> float | None:
    """The step at which a figure first comes to `target`, in a straight line between points; None where it never does.

    A curve that is `rising` comes there from below, any other from above; one that begins beyond it, at its first step.

    Example:
        >>> from tpe_core.demo.curriculum import passed
        >>> passed([{"step": 0, "loss": 4.0}, {"step": 10, "loss": 1.0}], "loss", 2.5, rising=False)
        5.0
    """
    sign = 1.0 if rising else -1.0
    reached = next((at for at, point in enumerate(points) if sign * (point[name] - target) >= 0), None)
    if reached is None:
        return None
    after = points[reached]
    if reached == 0:
        return float(after["step"])
    before = points[reached - 1]
    way = (target - before[name]) / (after[name] - before[name])
    return float(before["step"] + way * (after["step"] - before["step"]))


Figures = dict[str, float | None]


def _compared(experiment: str, recipe: Recipe, control: list[Point], arm: list[Point], unigram: float) -> Figures:
    """One seed's figures: half-way steps of arm and control, and how far apart they end."""
    end = control[-1]
    figures = {
        "loss_difference": arm[-1]["loss"] - end["loss"],
        "r2_difference": arm[-1]["r2_adjusted"] - end["r2_adjusted"],
    }
    own = _sooner(control, arm, unigram) if experiment == "unigram" else _followed(control, arm, recipe.steps // 2)
    for title in ("encoding", "loss_beyond_unigram"):  # arm minus control, seed by seed, where both came there
        if (by := own.get(f"{title}_arm")) is not None and (of := own.get(f"{title}_control")) is not None:
            own[f"{title}_steps"] = by - of
        elif f"{title}_arm" in own:
            own[f"{title}_steps"] = None
    return {**own, **figures}


def _sooner(control: list[Point], arm: list[Point], unigram: float) -> Figures:
    """Steps at which both come to half of what the control comes to: its R2, its loss, its loss below the unigram's."""
    end = control[-1]
    targets = {
        "encoding": ("r2_adjusted", end["r2_adjusted"] / 2, True),
        "loss": ("loss", (control[0]["loss"] + end["loss"]) / 2, False),
        "loss_beyond_unigram": ("loss", (unigram + end["loss"]) / 2, False),
    }
    return {
        f"{title}_{which}": passed(points, name, target, rising=rising)
        for title, (name, target, rising) in targets.items()
        for which, points in (("control", control), ("arm", arm))
    }


def _followed(control: list[Point], arm: list[Point], change: int) -> Figures:
    """Steps that the control takes from the start and the arm from the change on: to half of the control's twins' R2.

    The arm's loss is half-way when half of what it has above the control's on the same text at the change is gone.
    `forgetting_arm` is when half of the twins' R2 of the earlier frequencies is.
    """
    end, own = control[-1], {point["step"]: point for point in control}
    since = [
        {**point, "step": point["step"] - change, "excess": point["loss"] - own[point["step"]]["loss"]}
        for point in arm
        if point["step"] >= change
    ]
    first = since[0]
    half_loss = (control[0]["loss"] + end["loss"]) / 2
    return {
        "encoding_control": passed(control, "twins_r2", end["twins_r2"] / 2, rising=True),
        "encoding_arm": passed(since, "twins_r2", end["twins_r2"] / 2, rising=True),
        "forgetting_arm": passed(since, "twins_r2_first", first["twins_r2_first"] / 2, rising=False),
        "loss_control": passed(control, "loss", half_loss, rising=False),
        "loss_arm": passed(since, "excess", first["excess"] / 2, rising=False),
        "loss_at_change": first["excess"],
        "twins_r2_control": end["twins_r2"],
        "twins_r2_arm": arm[-1]["twins_r2"],
        "twins_r2_first_arm": arm[-1]["twins_r2_first"],
    }


def interval(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean of the values over seeds, its 95 % interval by Student's t, their range, and how many there are.

    What is None, a curve that never came there, is left out and not counted; the interval needs two values.
    """
    from scipy import stats

    present = np.array([value for value in values if value is not None], dtype=np.float64)
    if not len(present):
        return {"mean": None, "low": None, "high": None, "min": None, "max": None, "seeds": 0}
    mean, low, high = float(present.mean()), None, None
    if len(present) > 1:
        half = float(
            stats.t.ppf((1 + CONFIDENCE) / 2, len(present) - 1) * present.std(ddof=1) / math.sqrt(len(present))
        )
        low, high = mean - half, mean + half
    span = {"min": float(present.min()), "max": float(present.max()), "seeds": len(present)}
    return {"mean": mean, "low": low, "high": high, **span}


def _document(
    experiment: str, recipe: Recipe, seeds: int, curves: Mapping[str, list[list[Point]]], unigram: float
) -> dict[str, Any]:
    control, arm = EXPERIMENTS[experiment]
    by_seed = [_compared(experiment, recipe, *pair, unigram) for pair in zip(curves[control], curves[arm], strict=True)]
    names = [name for name in curves[control][0][0] if name != "step"]
    steps = [
        {
            "step": curves[control][0][at]["step"],
            **{
                one: {name: interval([curve[at][name] for curve in curves[one]]) for name in names}
                for one in (control, arm)
            },
        }
        for at in range(len(curves[control][0]))
    ]
    return {
        "kind": "tpe.curriculum",
        "schema": 1,
        "experiment": experiment,
        "control": control,
        "arm": arm,
        "recipe": recipe.to_dict(),
        "seeds": seeds,
        "change_step": recipe.steps // 2 if experiment == "frequencies" else None,
        "unigram_loss": unigram if experiment == "unigram" else None,
        "figures": {name: interval([each[name] for each in by_seed]) for name in by_seed[0]},
        "by_seed": by_seed,
        "steps": steps,
    }
