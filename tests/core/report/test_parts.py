"""Every part of a report: its numbers are those of the command that stands beside it, and its sentence is theirs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tpe_core.errors import TpeError
from tpe_core.plots import figures  # noqa: F401  # registers the drawings
from tpe_core.plots.drawing import DRAWINGS
from tpe_core.progress import run
from tpe_core.report import report  # noqa: F401  # registers the recipes
from tpe_core.report.material import Material
from tpe_core.report.parts import PARTS, counterparts
from tpe_core.report.recipes import RECIPES, Measured
from tpe_core.tables import Table
from tpe_tui.cli.main import main

Measure = Callable[[str], Measured]
EXPERIMENTS = ("train-on", "sparsity", "curriculum")
QUICK = [name for name in PARTS if name not in ("generation", "pruning", "dynamics", *EXPERIMENTS)]


def printed(command: str, capsys: pytest.CaptureFixture[str]) -> Any:
    """The document that a command of the page prints."""
    program, *words = shlex.split(command)
    assert program == "tpe"
    assert main(words) == 0
    return json.loads(capsys.readouterr().out)


def rows(table: Table) -> list[dict[str, Any]]:
    return table.records()


def test_every_part_has_a_recipe_and_figures_that_can_be_drawn() -> None:
    assert set(PARTS) == set(RECIPES)
    names = [figure.name for part in PARTS.values() for figure in part.figures]
    assert len(set(names)) == len(names)
    for part in PARTS.values():
        assert part.figures
        assert all(figure.drawing in DRAWINGS for figure in part.figures)


@pytest.mark.parametrize("name", [name for name in PARTS if name not in ("generation", *EXPERIMENTS)])
def test_tables_have_what_the_figures_draw_and_sentences_end(name: str, measured: Measure, material: Material) -> None:
    recorded = replace(material, dynamics=("demo",))
    result = run(RECIPES[name].measure(recorded)) if name == "dynamics" else measured(name)
    for figure in PARTS[name].figures:
        assert set(DRAWINGS[figure.drawing].columns) <= set(result.tables[figure.table].names)
    sentence = RECIPES[name].sentence(result)
    assert sentence.endswith(".")
    assert "nan" not in sentence
    kept = Measured.from_record(json.loads(json.dumps(result.to_record())))
    assert RECIPES[name].sentence(kept) == sentence, "one that was kept says the same"


def test_the_encoding_is_that_of_analyze(
    measured: Measure, material: Material, capsys: pytest.CaptureFixture[str]
) -> None:
    document = printed(RECIPES["fit"].command(material), capsys)
    for name in ("r2", "r2_adjusted", "r2_heldout_vocab", "r2_permuted"):
        assert measured("fit").facts[name] == document["encoding"][name]
    components = measured("components").tables["components"]
    assert components.column("correlation") == document["components"]["correlations"]
    assert components.column("explained_variance") == document["components"]["explained_variance_ratio"]
    curve = {str(row["k"]): row["r2"] for row in rows(measured("r2-by-k").tables["r2_by_k"])}
    assert curve == document["sparsity"]["r2_by_k"]
    assert measured("slopes").facts["gini"] == document["sparsity"]["gini"]
    assert measured("mean-hidden").facts["cosine"] == document["encoding"]["cosine_to_mean_hidden"]
    for mine, theirs in zip(rows(measured("slopes").tables["slopes"]), document["dimensions"], strict=True):
        assert {name: mine[name] for name in ("dim", "rank", "slope", "slope_std", "r")} == {
            name: theirs[name] for name in ("dim", "rank", "slope", "slope_std", "r")
        }
        assert mine["std_error"] == theirs["stderr"]


def test_the_fit_is_that_of_the_analysis(measured: Measure, material: Material) -> None:
    analysis = material.analysis
    for row in rows(measured("fit").tables["fit"])[::20]:
        assert row["minus_log_alpha"] == analysis.surprisal[row["token_id"]]
        assert row["predicted"] == pytest.approx(analysis.predicted[row["token_id"]], nan_ok=True)
    worst = measured("residuals").summary
    assert worst is not None
    residual = np.abs(analysis.surprisal - analysis.predicted)
    assert abs(worst.column("residual")[0]) == np.nanmax(residual)  # type: ignore[arg-type]


def test_steering_is_that_of_steer(measured: Measure, material: Material, capsys: pytest.CaptureFixture[str]) -> None:
    document = printed(RECIPES["steering"].command(material), capsys)
    mine = {
        (method, row["token_id"], row["ratio_asked"], row["text"]): row
        for method in ("min-norm", "least-squares")
        for row in rows(measured("steering").tables[f"steering_{method.replace('-', '_')}"])
    }
    assert len(mine) == 3 * len(document["results"])
    for each in document["results"]:
        for text in ("local", "heldout", "ood"):
            row = mine[each["method"], each["token_id"], each["asked"], text]
            assert (row["ratio_achieved"], row["kl"], row["js"]) == (
                each["achieved"][text], each["kl"][text], each["js"][text],
            )  # fmt: skip


def test_few_shot_is_that_of_steer(measured: Measure, material: Material, capsys: pytest.CaptureFixture[str]) -> None:
    document = printed(RECIPES["few-shot"].command(material), capsys)
    for method in ("min-norm", "least-squares"):
        own = [each for each in document["few_shot"] if each["method"] == method]
        mine = rows(measured("few-shot").tables[f"few_shot_{method.replace('-', '_')}"])
        assert [row for row in mine if row["text"] == "heldout"] == [
            {
                "tokens": each["positions"], "text": "heldout", "ratio_asked": each["asked"],
                "ratio_achieved": each["achieved"], "kl": each["kl"], "spread": each["spread"], "method": method,
            }
            for each in own
        ]  # fmt: skip
        assert [row["kl"] for row in mine if row["text"] == "local"] == [each["local"]["kl"] for each in own]


def test_pruning_is_that_of_prune(measured: Measure, material: Material, capsys: pytest.CaptureFixture[str]) -> None:
    document = printed(RECIPES["pruning"].command(material), capsys)
    mine = {(row["order"], row["replacement"], row["pruned"], row["text"]): row
            for row in rows(measured("pruning").tables["pruning"])}  # fmt: skip
    points = [(curve, point) for curve in document["curves"] for point in curve["points"]]
    assert len(mine) == 2 * len(points)
    for curve, point in points:
        for text, figures_there in (("heldout", point), ("ood", point["ood"])):
            row = mine[curve["order"], curve["replace"], point["removed"], text]
            assert row["share"] == point["fraction"]
            assert (row["kl"], row["js"], row["top1_same"], row["perplexity"]) == tuple(
                figures_there[name] for name in ("kl", "js", "top1", "perplexity")
            )


@pytest.mark.slow
def test_generation_is_that_of_prune(measured: Measure, material: Material, capsys: pytest.CaptureFixture[str]) -> None:
    document = printed(RECIPES["generation"].command(material), capsys)
    mine = {(row["order"], row["pruned"]): row for row in rows(measured("generation").tables["generation"])}
    for each in document["generation"]:
        row = mine[each["order"], each["removed"]]
        assert (row["mauve"], row["distinct"], row["repetition"]) == (
            each["mauve"]["value"], each["edited"]["distinct"][1], each["edited"]["repetition"][3],
        )  # fmt: skip
        assert mine[each["order"], 0]["mauve"] == each["ceiling"]["value"]
    assert "32 prompts are too few" in RECIPES["generation"].sentence(measured("generation"))


def test_dynamics_are_those_of_dynamics(material: Material, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dynamics", "demo", "--json"]) == 0
    out = capsys.readouterr().out
    (tmp_path / "run.json").write_text(out)
    given = replace(material, dynamics=(str(tmp_path / "run.json"),))
    result = run(RECIPES["dynamics"].measure(given))
    document = json.loads(out)
    own = [row for row in rows(result.tables["dynamics"]) if not row["layer"]]
    for row, point in zip(own, document["checkpoints"], strict=True):
        assert (row["step"], row["r2_adjusted"], row["convergence"]) == (
            point["step"], point["r2_adjusted"], point["convergence"]["all"],
        )  # fmt: skip
    assert {row["layer"] for row in rows(result.tables["dynamics"])} == {
        "", *(set(document["checkpoints"][0]["convergence"]) - {"all"}),
    }  # fmt: skip
    assert result.facts["halves"] == [{"source": "demo", **document["halfway_step"]}]
    assert RECIPES["dynamics"].command(given) == "tpe dynamics demo --json"


def test_without_checkpoints_dynamics_say_how_to_get_them(material: Material) -> None:
    with pytest.raises(TpeError, match=r"--dynamics run\.json"):
        run(RECIPES["dynamics"].measure(material))


def test_the_documentation_has_the_table_of_counterparts() -> None:
    page = (Path(__file__).parents[3] / "docs" / "report.md").read_text(encoding="utf-8")
    for part in counterparts().records():
        line = f"| {part['figure of the paper']} | `{part['name']}` | {part['needs']} |"
        assert line in page
