"""A grid of tiny runs: measured as `tpe compare` measures, never trained twice, the same again; what is refused.

Only the slow test measures: the others put a hash of the weights in the place of the analysis.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.helpers.tiny_models import text
from tpe_core.demo.recipe import Recipe
from tpe_core.encoding_comparison import analysed, compare_encodings
from tpe_core.errors import TpeError
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, Steps, run
from tpe_core.sparsity.design import FACTORS, Plan, Point, parse_levels
from tpe_core.sparsity.grid import read_plan, train_grid
from tpe_core.sparsity.results import SparsityGrid, read_grid

TINY = Plan(
    factors=parse_levels(["width=8,16", "depth=1,2", "vocabulary=270,300", "steps=4,8"], FACTORS),
    runs=8,
    seeds=1,
    positions=128,
    context=16,
    batch_size=2,
)


def documents() -> Iterator[str]:
    return iter([text(seed, 400) for seed in range(12)])


def weights_hash(options: RunOptions, budget: float | None, order: str, problems: list[str]) -> Steps[dict[str, Any]]:
    """What stands in for an analysis: the shape of one, and a loss that any other weights would change."""
    yield Progress("measure", 0)
    weights = load_file(Path(options.model) / "model.safetensors")
    data = b"".join(weights[name].numpy().tobytes() for name in sorted(weights))
    return {
        "model": options.model,
        "hidden_size": weights["model.norm.weight"].shape[0],
        "loss": int(hashlib.sha256(data).hexdigest()[:5], 16),
        "encoding": {"r2": 0.5},
        "sparsity": {"r2_by_k": {}, "gini": 0.5, "participation_ratio": 4.0},
        "components": {"correlations": []},
        "outlier_dimensions": {"dims": [], "overlap": 0},
    }


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tpe_core.sparsity.grid.analysed", weights_hash)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SparsityGrid]:
    folder = tmp_path_factory.mktemp("grid") / "whole"
    return folder, run(train_grid(folder, TINY, text=documents()))


def test_every_run_is_measured_and_the_file_holds_the_same(trained: tuple[Path, SparsityGrid]) -> None:
    folder, grid = trained
    assert [(run_.point, run_.seed) for run_ in grid.runs] == [(number, 0) for number in range(1, 9)]
    for run_, point in zip(grid.runs, TINY.points(), strict=True):
        assert run_.figures()["hidden_size"] == point.levels["width"]
        assert run_.document["training"]["tokens_seen"] == point.levels["steps"] * 32
    assert len({run_.figures()["loss"] for run_ in grid.runs}) == 8
    again = read_grid(folder / "grid.json")
    assert again.to_dict() == grid.to_dict()
    assert not list(folder.rglob("state.pt"))
    assert not list(folder.rglob("model.safetensors"))
    assert str(folder) not in (folder / "grid.json").read_text()


@pytest.mark.slow
def test_figures_are_those_of_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tpe_core.sparsity.grid.analysed", analysed)
    grid = run(train_grid(tmp_path / "grid", TINY, text=documents(), keep_models=True))
    options = RunOptions(
        str(tmp_path / "grid" / "runs" / "03-0" / "model"), text=(str(tmp_path / "grid" / "text" / "detecting.jsonl"),),
        positions=TINY.positions, cache=False,
    )  # fmt: skip
    (model,) = run(compare_encodings([options], TINY.budget)).models
    beside = grid.beside([model])
    run_row, model_row = beside.to_dict()["runs"][2], beside.to_dict()["runs"][-1]
    for name in ("gini", "participation_ratio", "r2_8", "outlier_overlap", "prunable_share", "tied", "vocab_rows"):
        assert run_row[name] == pytest.approx(model_row[name], rel=1e-4)
    assert beside.table().column("name")[-1] == model.name


def test_a_stopped_grid_goes_on_and_trains_nothing_twice(
    trained: tuple[Path, SparsityGrid], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tpe_core.demo.train.SAVE_EVERY", 2)
    monkeypatch.setattr("tpe_core.demo.train.REPORT_EVERY", 1)
    folder = tmp_path / "stopped"
    steps, before = train_grid(folder, TINY, text=documents()), 0
    for event in steps:
        if event.note.startswith("run 3 of 8: loss"):
            before += 1
            if before == 3:
                steps.close()
    order = sorted(trained[1].runs, key=lambda run_: run_.levels["steps"])  # short ones first
    names = [f"{run_.point:02}-0" for run_ in order]
    assert {path.parent.name for path in folder.rglob("analysis.json")} == set(names[:2])
    so_far = read_grid(folder / "grid.json")
    assert [run_.point for run_ in so_far.runs] == sorted(run_.point for run_ in order[:2])
    times = {name: (folder / "runs" / name / "analysis.json").stat().st_mtime_ns for name in names[:2]}
    seen: list[Any] = []
    grid = run(train_grid(folder, text=documents()), seen.append)  # the plan is the folder's
    trained_again = [event for event in seen if "loss" in event.note]
    assert not [event for event in trained_again if event.note.startswith(("run 1 ", "run 2 "))]
    own = [event for event in trained_again if event.note.startswith("run 3 ")]
    assert len(own) == order[2].levels["steps"] - 2, "it went on after step 2, the last that was saved"
    assert all((folder / "runs" / name / "analysis.json").stat().st_mtime_ns == at for name, at in times.items())
    assert grid.to_file() == trained[1].to_file(), "two runs of one seed are identical"
    assert not list(folder.rglob("model.safetensors"))
    assert run(train_grid(folder, TINY)).to_file() == grid.to_file(), "a whole grid needs no text"


def test_folders_and_texts_that_do_not_go_are_refused(trained: tuple[Path, SparsityGrid], tmp_path: Path) -> None:
    with pytest.raises(TpeError, match="another plan"):
        next(train_grid(trained[0], replace(TINY, seeds=2)))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(TpeError, match=r"not empty \(letter.txt\)"):
        next(train_grid(tmp_path / "full", TINY))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "plan.json").write_text("{")
    with pytest.raises(TpeError, match="no plan of a grid"):
        read_plan(tmp_path / "broken")
    with pytest.raises(TpeError, match="too short for"):
        run(train_grid(tmp_path / "short", TINY, text=iter(["word word word " * 9] * 20)))
    with pytest.raises(TpeError, match="reads blocks of 16"):
        run(train_grid(tmp_path / "tiny", TINY, text=iter(["a b"] * 2)))
    (analysis := trained[0] / "runs" / "08-0" / "analysis.json").rename(kept := analysis.with_suffix(".kept"))
    analysis.write_text("{}")
    with pytest.raises(TpeError, match="no analysis of a run"):
        run(train_grid(trained[0], TINY))
    kept.replace(analysis)


def test_a_loss_that_is_no_number_is_named_and_the_rest_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Plan.recipe

    def recipe(plan: Plan, point: Point, seed: int) -> Recipe:
        return replace(plain(plan, point, seed), other_lr=1e30 if point.number == 1 else 0.01)

    monkeypatch.setattr(Plan, "recipe", recipe)
    with pytest.raises(TpeError, match=r"training loss became \S+ its gradient's length \S+ at step \d of"):
        run(train_grid(tmp_path / "grid", TINY, text=documents()))
    short = {f"{point.number:02}-0" for point in TINY.points() if point.levels["steps"] == 4}  # they come first
    kept = [path for path in (tmp_path / "grid" / "runs").rglob("analysis.json") if path.parent.name != "01-0"]
    assert short <= {path.parent.name for path in kept}
    assert all(json.loads(path.read_text())["training"] for path in kept)
