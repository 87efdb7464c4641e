"""`tpe compare`: the table, its files, what names a revision, and what is refused before anything is opened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.tiny_models import save_tiny, text
from tpe_core.errors import FAILED
from tpe_core.options import RunOptions
from tpe_tui.cli.compare import source_of
from tpe_tui.cli.main import main


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an analysis."""
    from tpe_core.analysis import analyze
    from tpe_core.json_text import json_text
    from tpe_core.progress import run

    folder = tmp_path_factory.mktemp("kept")
    (folder / "text.txt").write_text(text(3, 4000))
    options = RunOptions(
        model=str(save_tiny(folder / "model")), text=(str(folder / "text.txt"),), positions=1000, cache=False
    )
    path = folder / "kept.json"
    path.write_text(json_text(run(analyze(options)).to_dict()))
    return path


def test_the_table_has_a_column_for_each_model_within_80_cells(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *[str(kept)] * 5]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert len([line for line in lines if line.startswith("held-out R2")]) == 2, "five models are two blocks"
    document = json.loads(kept.read_text())
    assert f"{document['sparsity']['gini']:.4f}" in next(line for line in lines if line.startswith("Gini"))


def test_json_and_a_file_hold_the_same(kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "table.json"
    assert main(["compare", str(kept), "--json", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == json.loads(out.read_text())
    assert "wrote" in captured.err
    assert main(["compare", str(kept), "--out", str(out)]) == FAILED
    assert "--force" in capsys.readouterr().err


def test_what_is_left_out_is_said_and_ends_with_1(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.json").write_text("{")
    assert main(["compare", str(kept), str(tmp_path / "broken.json")]) == FAILED
    captured = capsys.readouterr()
    assert "is left out" in captured.err
    assert "held-out R2" in captured.out


@pytest.mark.parametrize("arguments", [["--budget", "0"], ["--budget", "nan"], ["--out", "table.txt"]])
def test_what_cannot_be_is_refused_before_a_model_is_opened(
    kept: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tpe_core.encoding_comparison.compare_encodings", lambda *_: pytest.fail("it was opened"))
    assert main(["compare", str(kept), *arguments]) == FAILED
    assert capsys.readouterr().err.startswith("tpe: ")


def test_an_at_sign_begins_a_revision_unless_a_file_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "a@b").mkdir()
    (tmp_path / "a.json").write_text("{}")
    options = RunOptions(positions=5)
    assert source_of("me/model@step1000", options) == RunOptions("me/model", revision="step1000", positions=5)
    assert source_of("me/model", options) == RunOptions("me/model", positions=5)
    assert source_of(str(tmp_path / "a@b"), options) == RunOptions(str(tmp_path / "a@b"), positions=5)
    assert source_of(str(tmp_path / "a.json"), options) == tmp_path / "a.json"
