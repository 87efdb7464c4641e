"""Models side by side: every figure against the analysis itself, files of analyses, and what cannot be compared."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.tiny_models import VOCAB, WIDTH, save_tiny, text
from tpe_core.analysis import Analysis, analyze
from tpe_core.encoding_comparison import (
    FIGURES,
    ComparedModel,
    EncodingComparison,
    Figure,
    Value,
    check_comparison_file,
    compare_encodings,
    write_comparison,
)
from tpe_core.errors import ExistsError, TpeError
from tpe_core.json_text import json_text
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.pruning.budget import NoMaskError

BY_KEY = {figure.key: figure for figure in FIGURES}


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> RunOptions:
    folder = tmp_path_factory.mktemp("compared")
    (folder / "text.txt").write_text(text(3, 6000))
    model = str(save_tiny(folder / "model"))
    return RunOptions(model=model, text=(str(folder / "text.txt"),), positions=2000, sample=200, cache=False)


@pytest.fixture(scope="module")
def analysis(options: RunOptions) -> Analysis:
    return run(analyze(options))


@pytest.fixture(scope="module")
def both(options: RunOptions, analysis: Analysis, tmp_path_factory: pytest.TempPathFactory) -> EncodingComparison:
    """The model opened now, beside the file of its analysis."""
    path = tmp_path_factory.mktemp("files") / "kept.json"
    path.write_text(json_text(analysis.to_dict()))
    return run(compare_encodings([options, path], 1e9))


def shown(figure: Figure, value: Value) -> str:
    return f"{figure.key}={value}"


def test_every_figure_is_the_analysiss_own(analysis: Analysis, both: EncodingComparison) -> None:
    fit, model = analysis.encoding, both.models[0]
    curve = fit.r2_by_k()
    expected = {
        "vocab_rows": VOCAB,
        "hidden_size": WIDTH,
        "tied": analysis.model.head.tied,
        "head_bias": analysis.model.head.bias is not None,
        "positions": analysis.detection.positions,
        "loss": analysis.detection.loss,
        "r2": fit.r2,
        "r2_heldout_vocab": fit.r2_heldout_vocab,
        "r2_8": curve[8],
        "dimensions_90": min(k for k, value in curve.items() if value >= 0.9 * fit.r2),
        "gini": fit.gini,
        "participation_share": fit.participation_ratio / WIDTH,
        "best_component": np.abs(analysis.components.correlations).max(),
        "cosine_to_mean_hidden": fit.cosine_to_mean_hidden,
        "common_drift": analysis.geometry.common_drift,
        "outliers": int(analysis.outliers.flags.sum()),
        "slopes_of_halves": None if analysis.stability is None else analysis.stability.cosine,
    }
    assert {key: model.value(BY_KEY[key]) for key in expected} == pytest.approx(expected)


def test_components_together_hold_what_a_regression_on_them_holds(analysis: Analysis, both: EncodingComparison) -> None:
    rows = analysis.model.head.columns[:, : analysis.model.head.vocab_rows].T.double().numpy()[analysis.keep]
    left, _, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    target = analysis.encoding.surprisal - analysis.encoding.surprisal.mean()
    explained = float(((left[:, :10].T @ target) ** 2).sum() / (target**2).sum())
    assert both.models[0].value(BY_KEY["components_r2"]) == pytest.approx(explained, rel=1e-4)


def test_a_kept_analysis_has_the_figures_of_the_model_that_is_opened(both: EncodingComparison) -> None:
    opened, kept = both.models
    for figure in FIGURES:
        if figure.key != "prunable_share":  # measured, not kept
            assert kept.value(figure) == pytest.approx(opened.value(figure)), figure.key
    assert both.same_text
    assert opened.value(BY_KEY["prunable_share"]) == pytest.approx((WIDTH - 1) / WIDTH)
    assert kept.value(BY_KEY["prunable_share"]) is None


def test_a_budget_that_no_mask_meets_is_a_share_of_zero(options: RunOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_arguments: object, **_more: object) -> object:
        raise NoMaskError("no mask stays under it.")

    monkeypatch.setattr("tpe_core.pruning.budget.largest_under", none)
    found = run(compare_encodings([options], 0.1))
    assert found.models[0].value(BY_KEY["prunable_share"]) == 0.0


def test_models_of_one_name_are_told_apart_and_other_texts_are_said(analysis: Analysis, tmp_path: Path) -> None:
    document = analysis.to_dict()
    path = tmp_path / "a.json"
    path.write_text(json_text(document | {"positions": 7}))
    (tmp_path / "b.json").write_text(json_text(document))
    found = run(compare_encodings([path, path, tmp_path / "b.json"]))
    assert len({model.name for model in found.models}) == 3
    assert not found.same_text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "holds no analysis"),
        (b"[]", "holds no analysis"),
        (b'{"model": "x"}', "holds no analysis"),
        (
            b'{"model": 1, "hidden_size": 0, "encoding": [], "sparsity": {}, "components": {}, '
            b'"outlier_dimensions": {}}',
            "holds no whole analysis",
        ),
        (b"\xff\xfe", "holds no analysis"),
    ],
)
def test_a_file_that_holds_no_analysis_is_left_out_and_named(
    content: bytes, said: str, analysis: Analysis, tmp_path: Path
) -> None:
    broken, kept = tmp_path / "broken.json", tmp_path / "kept.json"
    broken.write_bytes(content)
    kept.write_text(json_text(analysis.to_dict()))
    found = run(compare_encodings([broken, kept]))
    assert len(found.models) == 1
    assert said in found.problems[0]
    assert "broken.json" in found.problems[0]
    with pytest.raises(TpeError, match=said):
        run(compare_encodings([broken]))


def test_a_model_that_cannot_be_opened_is_left_out(options: RunOptions, analysis: Analysis, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(json_text(analysis.to_dict()))
    found = run(compare_encodings([RunOptions(model=str(tmp_path / "nowhere"), offline=True), kept]))
    assert [model.name for model in found.models] == [kept.name]
    assert "nowhere is left out" in found.problems[0]


def test_files_hold_the_same_figures(both: EncodingComparison, tmp_path: Path) -> None:
    for suffix in (".csv", ".json", ".md"):
        path = tmp_path / f"table{suffix}"
        write_comparison(both, path, shown, replace=False)
        with pytest.raises(ExistsError):
            write_comparison(both, path, shown, replace=False)
        write_comparison(both, path, shown, replace=True)
    document = json.loads((tmp_path / "table.json").read_text())
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    for model, entry, row in zip(both.models, document["models"], rows, strict=True):
        assert entry["name"] == row["name"] == model.name
        for figure in FIGURES:
            value = model.value(figure)
            assert entry[figure.key] == value
            assert row[figure.key] == (
                "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            )
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[0].count("|") == 4
    assert f"gini={both.models[0].value(BY_KEY['gini'])}" in "\n".join(lines)


def test_another_file_is_never_replaced_and_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    for name in ("other.csv", "other.json", "other.md"):
        (tmp_path / name).write_text("mine\n")
        with pytest.raises(TpeError):
            check_comparison_file(tmp_path / name, replace=True)
    with pytest.raises(TpeError, match="does not say what to write"):
        check_comparison_file(tmp_path / "table.txt", replace=False)


def test_a_pipe_in_a_name_stays_in_its_cell(analysis: Analysis) -> None:
    found = EncodingComparison(models=(ComparedModel(name="a|b", document=analysis.to_dict()),))
    assert found.markdown(shown).splitlines()[0] == "|  | a\\|b |"


def test_a_folder_is_named_with_the_one_around_it(both: EncodingComparison, options: RunOptions) -> None:
    assert both.models[0].name == "/".join(Path(options.model).parts[-2:])
    assert both.models[0].name.endswith("/model")


def test_a_comparison_shows_itself_and_overlays_its_models(both: EncodingComparison) -> None:
    names = [model.name for model in both.models]
    by_k = both.to_table("compared_r2_by_k").records()
    assert list(dict.fromkeys(row["model"] for row in by_k)) == names
    for model in both.models:
        own = {str(row["k"]): row["r2"] for row in by_k if row["model"] == model.name}
        assert own == dict(model.document["sparsity"]["r2_by_k"])
        shares = [row["share"] for row in both.to_table("compared_slopes").records() if row["model"] == model.name]
        assert len(shares) == model.document["hidden_size"]
        assert sum(map(float, shares)) == pytest.approx(1)
        assert shares == sorted(shares, reverse=True)
        parts = [row for row in both.to_table("compared_components").records() if row["model"] == model.name]
        assert parts[-1]["r2_cumulative"] == pytest.approx(model.document["encoding"]["r2"], abs=1e-6)
    assert both.to_table().column("name") == names
    assert both.plots() == ("compared_r2_by_k", "compared_slopes", "compared_components")
    for figure in both.plots():
        drawn = both.plot(figure)
        assert [text.get_text() for text in drawn.legends[0].get_texts()] == names
    html = both._repr_html_()
    assert "Gini" in html
    assert all(name in html for name in names)
