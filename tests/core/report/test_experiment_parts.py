"""The parts about experiments: what is in the figures is what the experiments' documents say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.experiment_folders import write_experiment
from tpe_core.continued_training.folder import read_experiment
from tpe_core.continued_training.results import UNCLEAR
from tpe_core.demo.curves import read_curves
from tpe_core.errors import TpeError
from tpe_core.plots.figures import draw, png
from tpe_core.progress import run
from tpe_core.report.experiment_parts import folders_with
from tpe_core.report.material import Material
from tpe_core.report.parts import PARTS
from tpe_core.report.recipes import RECIPES, Measured
from tpe_core.sparsity.results import GRID, shipped_grid
from tpe_core.tables import Table


def band(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "min": mean, "max": mean, "seeds": 2}


def curriculum_document() -> dict[str, object]:
    steps = [
        {"step": step, **{arm: {"loss": band(5 - step / 10), "r2_adjusted": band(step / 20)} for arm in arms}}
        for arms in (("ordinary", "unigram"),)
        for step in (0, 4, 10)
    ]
    figures = {"encoding_steps": band(-3.0), "loss_difference": band(-0.5)}
    return {
        "kind": "tpe.curriculum", "schema": 1, "experiment": "unigram", "control": "ordinary", "arm": "unigram",
        "seeds": 2, "figures": figures, "steps": steps,
    }  # fmt: skip


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """A folder of an experiment for each part."""
    write_experiment(tmp_path / "runs", done=9)
    for name in ("grid", "unigram"):
        (tmp_path / name).mkdir()
    (tmp_path / "grid" / GRID).write_text(json.dumps(shipped_grid().to_file()))
    (tmp_path / "unigram" / "experiment.json").write_text(json.dumps(curriculum_document()))
    return {"train-on": tmp_path / "runs", "sparsity": tmp_path / "grid", "curriculum": tmp_path / "unigram"}


@pytest.fixture
def given(material: Material, folders: dict[str, Path]) -> Material:
    return replace(material, experiments=tuple(map(str, folders.values())))


@pytest.mark.parametrize("name", ["train-on", "sparsity", "curriculum"])
def test_each_part_takes_its_own_folder_and_is_drawn(name: str, given: Material) -> None:
    measured = run(RECIPES[name].measure(given))
    for figure in PARTS[name].figures:
        assert png(draw(figure.drawing, measured.tables[figure.table]), 40).startswith(b"\x89PNG")
    sentence = RECIPES[name].sentence(measured)
    assert sentence.endswith(".")
    kept = Measured.from_record(json.loads(json.dumps(measured.to_record())))
    assert RECIPES[name].sentence(kept) == sentence


def _contrast(mask: str, mean: float, low: float | None, high: float | None, verdict: str) -> dict[str, Any]:
    return {"scenario": "same", "mask": mask, "mean": mean, "low": low, "high": high, "verdict": verdict}


def test_the_sentence_names_the_masks_that_are_clear_and_counts_the_others() -> None:
    contrasts = [
        _contrast("top", 0.3, 0.2, 0.4, "worse than random"),
        _contrast("low", -0.1, -0.3, 0.1, UNCLEAR),
        _contrast("small", -0.2, -0.3, -0.1, "better than random"),
        _contrast("once", 0.1, None, None, "one seed"),
    ]
    facts = {"runs": 8, "planned": 9, "stopped": 1, "contrasts": contrasts}
    assert RECIPES["train-on"].sentence(Measured(tables={}, facts=facts)) == (
        "8 of 9 runs are measured, 1 of them ended early. By KL at the end, against random masks of its size, the kept "
        "mask is worse than random in same, top (+0.3 nats, from 0.2 to 0.4); better than random in same, small "
        "(-0.2 nats, from -0.3 to -0.1); not told apart in 1 of 3 pairs of scenario and mask."
    )
    alone = RECIPES["train-on"].sentence(Measured(tables={}, facts={**facts, "contrasts": contrasts[3:]}))
    assert alone == "8 of 9 runs are measured, 1 of them ended early."


def test_the_tables_are_the_documents(given: Material, folders: dict[str, Path]) -> None:
    tables = {name: run(RECIPES[name].measure(given)).tables for name in folders}
    bands = read_experiment(folders["train-on"]).to_dict()["bands"]
    assert tables["train-on"]["continued_training"].csv() == Table.of(bands).csv()
    effects = shipped_grid().to_dict()["effects"]
    assert tables["sparsity"]["sparsity_effects"].csv() == Table.of(effects).csv()
    rows = tables["curriculum"]["curriculum"].records()
    steps = curriculum_document()["steps"]
    assert isinstance(steps, list)
    for row in rows:
        (entry,) = [each for each in steps if each["step"] == row["step"]]
        assert {name: row[name] for name in ("mean", "low", "high", "seeds")} == {
            name: entry[row["arm"]][row["figure"]][name] for name in ("mean", "low", "high", "seeds")
        }
    assert len(rows) == 2 * 2 * len(steps)


def test_each_folder_is_told_by_what_is_in_it(given: Material, folders: dict[str, Path]) -> None:
    assert folders_with(given, GRID) == [folders["sparsity"]]


def test_two_experiments_of_one_kind_are_told_apart(material: Material, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_experiment(tmp_path / name)
    two = replace(material, experiments=(str(tmp_path / "a"), str(tmp_path / "b")))
    table = run(RECIPES["train-on"].measure(two)).tables["continued_training"]
    assert dict.fromkeys(table.column("experiment")) == {"a": None, "b": None}
    assert png(draw("continued_gap", table), 40)


@pytest.mark.parametrize("name", ["train-on", "sparsity", "curriculum"])
def test_without_a_folder_the_part_says_which_command_makes_one(name: str, material: Material, tmp_path: Path) -> None:
    with pytest.raises(TpeError, match=r"add --experiments with its folder\.$"):
        run(RECIPES[name].measure(material))
    with pytest.raises(TpeError, match="holds no experiment"):
        run(RECIPES[name].measure(replace(material, experiments=(str(tmp_path),))))
    assert RECIPES[name].command(material).startswith("tpe ")


@pytest.mark.parametrize("content", ["", "[]", '{"kind": "tpe.curriculum"}', '{"kind": "other"}'])
def test_a_document_that_is_no_curve_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "experiment.json").write_text(content)
    with pytest.raises(TpeError, match="is no finished experiment on frequencies"):
        read_curves(tmp_path)


def test_results_draw_themselves(folders: dict[str, Path]) -> None:
    assert read_experiment(folders["train-on"]).plots() == ("continued_gap", "continued_kl")
    assert shipped_grid().plots() == ("sparsity_effects",)
    assert png(read_curves(folders["curriculum"]).plot(), 40)
