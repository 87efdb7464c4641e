"""The parts about experiments: training on from an edit, what makes the encoding sparse, early frequency learning."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tpe_core.continued_training.folder import SETTINGS, read_experiment
from tpe_core.continued_training.results import UNCLEAR
from tpe_core.demo.curves import DOCUMENT, read_curves
from tpe_core.errors import TpeError
from tpe_core.outputs import shown_path
from tpe_core.progress import Progress, Steps
from tpe_core.report.material import Material
from tpe_core.report.recipes import RECIPES, Measured, Recipe
from tpe_core.sparsity.results import GRID, read_grid
from tpe_core.tables import Table

__all__ = ["folders_with"]

FILES = {SETTINGS: "tpe train-on", GRID: "tpe sparsity --out", DOCUMENT: "tpe demo train"}
"""What tells an experiment's folder, and the command that makes it."""


def folders_with(material: Material, file: str) -> list[Path]:
    """The folders of experiments that hold a file. Raises `TpeError` where none does, or one is no experiment."""
    folders = [Path(os.path.expanduser(name)) for name in material.experiments]
    for folder in folders:
        if not any((folder / name).is_file() for name in FILES):
            raise TpeError(f"{shown_path(folder)} holds no experiment ({', '.join(FILES.values())}): check the path.")
    own = [folder for folder in folders if (folder / file).is_file()]
    if not own:
        raise TpeError(f"no such experiment is given: run {FILES[file]}, and add --experiments with its folder.")
    return own


def _labelled(folders: list[Path]) -> list[tuple[str, Path]]:
    """(a name that tells each folder from the others, the folder)."""
    names = [folder.resolve().name for folder in folders]
    return [
        (name if names.count(name) == 1 else str(folder), folder) for name, folder in zip(names, folders, strict=True)
    ]


def _measure_continued(material: Material) -> Steps[Measured]:
    yield Progress("tables", 0)
    labelled = _labelled(folders_with(material, SETTINGS))
    results = [(name, read_experiment(folder)) for name, folder in labelled]
    several = len(results) > 1
    bands = [{"experiment": name, **band} for name, result in results for band in result.bands()]
    if not any(band["figure"] == "gap.heldout" for band in bands):
        raise TpeError("no edited run has been measured yet: let tpe train-on go on.")
    contrasts = [{"experiment": name, **each} for name, result in results for each in result.contrasts()]
    shown = ("experiment", "scenario", "mask", "variant", "step", "mean", "low", "high", "seeds")
    last = [
        {key: band[key] for key in shown}
        for band in bands
        if band["figure"] == "gap.heldout" and band["step"] == max(_steps(bands, band))
    ]  # fmt: skip
    if not several:
        for row in (*bands, *contrasts, *last):
            del row["experiment"]
    facts = {
        "runs": sum(len(result.runs) for _, result in results),
        "planned": sum(result.planned for _, result in results),
        "stopped": sum(len(result.stopped) for _, result in results),
        "contrasts": [each for each in contrasts if each["figure"] == "kl.heldout"],
    }
    return Measured(tables={"continued_training": Table.of(bands)}, facts=facts, summary=Table.of(last))


def _steps(bands: list[dict[str, Any]], like: dict[str, Any]) -> list[int]:
    names = ("experiment", "scenario", "mask", "variant", "figure")
    return [band["step"] for band in bands if all(band[name] == like[name] for name in names)]


def _say_continued(measured: Measured) -> str:
    facts = measured.facts
    ended = f", {facts['stopped']} of them ended early" if facts["stopped"] else ""
    count = f"{facts['runs']} of {facts['planned']} runs are measured{ended}."
    pairs = [each for each in facts["contrasts"] if each["low"] is not None]
    if not pairs:
        return count
    clear = [
        f"{each['verdict']} in {each['scenario']}, {each['mask']} "
        f"({each['mean']:+.3g} nats, from {each['low']:.3g} to {each['high']:.3g})"
        for each in pairs
        if each["verdict"] != UNCLEAR
    ]
    if rest := len(pairs) - len(clear):
        clear.append(f"{UNCLEAR} in {rest} of {len(pairs)} pairs of scenario and mask")
    return f"{count} By KL at the end, against random masks of its size, the kept mask is {'; '.join(clear)}."


def _measure_sparsity(material: Material) -> Steps[Measured]:
    yield Progress("tables", 0)
    folders = folders_with(material, GRID)
    if len(folders) > 1:
        raise TpeError(f"{len(folders)} grids are given, and effects are of one: give one folder of tpe sparsity.")
    grid = read_grid(folders[0] / GRID)
    effects = grid.effects_table()
    if not len(effects):
        raise TpeError("the grid has fewer combinations than its effects need: let tpe sparsity go on.")
    clear: list[dict[str, Any]] = [
        {"figure": each.figure, "factor": each.factor, "effect": each.effect, "low": each.interval_low,
         "high": each.interval_high, "share": each.share}
        for each in grid.effects if each.is_clear
    ]  # fmt: skip
    facts = {"runs": len(grid.runs), "clear": len(clear), "effects": len(effects),
             "first": max(clear, key=lambda each: float(each["share"]), default=None)}  # fmt: skip
    return Measured(tables={"sparsity_effects": effects}, facts=facts, summary=Table.of(clear) if clear else None)


def _say_sparsity(measured: Measured) -> str:
    facts = measured.facts
    text = f"Of {facts['effects']} effects in {facts['runs']} runs {facts['clear']} are clear"
    first = facts["first"]
    if first is None:
        return f"{text}."
    return f"{text}; the largest share is that of {first['factor']} in {first['figure']} ({first['share']:.0%})."


def _measure_curriculum(material: Material) -> Steps[Measured]:
    yield Progress("tables", 0)
    results = [read_curves(folder) for folder in folders_with(material, DOCUMENT)]
    kinds = [result.document["experiment"] for result in results]
    if len(set(kinds)) < len(kinds):
        raise TpeError("two experiments on frequencies of one kind are given: give one folder of each.")
    rows = [row for result in results for row in result.curves().records()]
    figures = [row for result in results for row in result.figures().records()]
    facts = {"figures": [row for row in figures if row["figure"] in ("encoding_steps", "loss_difference")]}
    return Measured(tables={"curriculum": Table.of(rows)}, facts=facts, summary=Table.of(figures))


def _say_curriculum(measured: Measured) -> str:
    sentences = []
    for row in measured.facts["figures"]:
        if row["mean"] is None:
            continue
        about = "nats of loss at the end" if row["figure"] == "loss_difference" else "steps to half of the encoding"
        edges = "" if row["low"] is None else f" (from {row['low']:.3g} to {row['high']:.3g})"
        sentences.append(f"{row['experiment']}: {row['mean']:+.3g} {about}, arm minus control{edges}.")
    return " ".join(sentences) or "Neither arm nor control came to half of the encoding."


def _command(file: str, words: Callable[[Path], list[str]]) -> Callable[[Material], str]:
    def command(material: Material) -> str:
        try:
            folder = folders_with(material, file)[0]
        except TpeError:
            return FILES[file]
        return shlex.join(words(folder))

    return command


RECIPES.register(
    Recipe(
        name="train-on",
        command=_command(SETTINGS, lambda folder: ["tpe", "train-on", "--screen", "--out", str(folder)]),
        measure=_measure_continued,
        sentence=_say_continued,
    )
)
RECIPES.register(
    Recipe(
        name="sparsity",
        command=_command(GRID, lambda folder: ["tpe", "sparsity", "--effects", "--out", str(folder)]),
        measure=_measure_sparsity,
        sentence=_say_sparsity,
    )
)
RECIPES.register(
    Recipe(
        name="curriculum",
        command=_command(DOCUMENT, lambda folder: ["tpe", "demo", "train", "--out", str(folder)]),
        measure=_measure_curriculum,
        sentence=_say_curriculum,
    )
)
