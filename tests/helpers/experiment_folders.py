"""Folders as `tpe train-on` leaves them, with made-up figures: finished, under way, ended early."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from tpe_core.continued_training.folder import RUN, SETTINGS, run_folder
from tpe_core.continued_training.results import Key, MaskFigures, RunRecord, StepFigures
from tpe_core.json_text import json_text

__all__ = ["NOON", "POINTS", "planned", "record_of", "write_experiment", "write_run"]

NOON = 1_600_000_000  # when every file of a folder is said to be written
POINTS = (0, 10, 20, 30, 40)
HARM = {"kept": 0.10, "free": 0.05, "random": 0.16, "unedited": 0.0}


def planned(
    scenarios: Iterable[str] = ("same", "fast"), masks: Iterable[str] = ("low", "top"), seeds: int = 2
) -> list[Key]:
    """Every run in the order in which they are trained."""
    keys: list[Key] = []
    for scenario in scenarios:
        for seed in range(seeds):
            keys.append((scenario, "", "unedited", seed))
            keys += [(scenario, mask, variant, seed) for mask in masks for variant in ("kept", "free", "random")]
    return keys


def record_of(key: Key, points: Iterable[int] = POINTS, stopped: str = "") -> RunRecord:
    """A run with figures that follow from its name, up to some steps."""
    scenario, mask, variant, seed = key
    harm = HARM[variant] * (2 if mask == "top" else 1) * (1.5 if scenario == "fast" else 1) + 0.004 * seed
    return RunRecord(
        scenario=scenario, mask=mask, variant=variant, seed=seed, stopped=stopped,
        points=tuple(_figures(step, variant, mask, harm) for step in points),
    )  # fmt: skip


def _figures(step: int, variant: str, mask: str, harm: float) -> StepFigures:
    left = harm * (1 - step / 80)
    edited = variant != "unedited"
    judged = MaskFigures(cost_kl=0.2 + left, cost_loss=0.1 + left, own_kl=0.15, overlap=0.5, spread=0.1 + step / 400)
    return StepFigures(
        step=step,
        training_loss=3.0 - step / 200 if step else None,
        loss={"heldout": 3.1 - step / 400 + left, "ood": 3.6 - step / 900 + left},
        gap={"heldout": left, "ood": left * 1.2} if edited else {},
        kl={"heldout": left * 0.8, "ood": left} if edited else {},
        r2=0.8, r2_adjusted=0.78 - left / 10, r2_heldout_vocab=0.7, gini=0.5, participation_ratio=40.0,
        slope_cosine=1 - step / 1000,
        masks={mask: judged} if mask else dict.fromkeys(("low", "top"), judged),
    )  # fmt: skip


def write_run(folder: Path, record: RunRecord, at: int = NOON) -> None:
    """Save a run as far as it got, as one that trains does."""
    place = run_folder(folder, record.key)
    place.mkdir(parents=True, exist_ok=True)
    path = place / RUN
    path.write_text(json_text({"schema": 1, "run": record.to_dict(), "start_slope": []}, 1))
    os.utime(path, (at, at))


def write_experiment(folder: Path, done: int | None = None, keys: list[Key] | None = None) -> list[Key]:
    """A folder in which the first `done` runs are finished (None: all) and the next is half-way; its planned runs."""
    keys = planned() if keys is None else keys
    done = len(keys) if done is None else done
    folder.mkdir(parents=True, exist_ok=True)
    masks = list(dict.fromkeys(mask for _, mask, *_ in keys if mask))
    settings = {
        "model": "demo", "revision": None, "masks": dict.fromkeys(masks, "0" * 64),
        "removed": dict.fromkeys(masks, 25), "hidden_size": 256,
        "scenarios": list(dict.fromkeys(key[0] for key in keys)), "variants": ["kept", "free", "random"],
        "seeds": 1 + max(key[3] for key in keys), "steps": POINTS[-1], "every": 10, "batch": 4,
        "tokens_per_step": 1024, "evaluated": 2048, "learning_rate": 1e-4, "lora": None,
        "texts": {"own": "docstrings"}, "measured_on": {"heldout": "held-out docstrings", "ood": "source code"},
        "runs": [list(key) for key in keys],
    }  # fmt: skip
    (folder / SETTINGS).write_text(json_text(settings, 1))
    os.utime(folder / SETTINGS, (NOON, NOON))
    for at, key in enumerate(keys[: done + 1]):
        record = record_of(key)
        write_run(folder, record if at < done else replace(record, points=record.points[:3]))
    return keys
