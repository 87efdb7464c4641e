"""`tpe atlas`: its table, its document, its files, and what is refused before a model is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.helpers.tiny_models import save_tiny, text
from tpe_core.atlas.region import REGIONS
from tpe_core.atlas.sections import SECTIONS
from tpe_core.errors import FAILED, USAGE
from tpe_tui.cli.atlas import LIST_NAMES, REGION_NAMES
from tpe_tui.cli.main import main


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A tiny model on a text."""
    folder = tmp_path_factory.mktemp("atlas")
    (folder / "text.txt").write_text(text(3, 4000))
    return [str(save_tiny(folder / "model")), "--text", str(folder / "text.txt"), "--positions", "1000", "--no-cache"]


def test_the_names_are_those_of_the_tables() -> None:
    assert tuple(SECTIONS) == LIST_NAMES
    assert tuple(REGIONS) == REGION_NAMES


def test_the_table_is_the_document_within_80_cells(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["atlas", *words, "--top", "3"]) == 0
    out = capsys.readouterr().out
    assert max(map(cell_len, out.splitlines()[2:])) <= 80  # after the names of model and text
    assert main(["atlas", *words, "--top", "3", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    for name, one in document["lists"].items():
        assert f"\n{name}: {one['about']}" in out
        assert len(one["tokens"]) <= 3
        for entry in one["tokens"]:
            assert f"{entry['token_id']:>7} " in out
            if name not in {"cosine", "distance"}:
                assert f" {entry['bytes'][:10].strip()}" in out
    assert sum(document["reach"].values()) == document["vocab_rows"]


def test_one_list_and_a_file_of_every_token(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "atlas.csv"
    assert main(["atlas", *words, "--sort", "residual", "--top", "4", "--format", "csv", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    rows = captured.out.splitlines()
    assert len(rows) == 5
    assert all(row.startswith("residual,") for row in rows[1:])
    assert "wrote" in captured.err
    assert len(out.read_text().splitlines()) > 300
    assert main(["atlas", *words, "--out", str(out)]) == FAILED
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [(["--sort", "worst"], "--sort takes one of residual"), (["--hidden", "sphere"], "--hidden takes one of any")],
)
def test_what_there_is_not_is_refused(extra: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["atlas", "/nowhere", *extra]) == USAGE
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_a_missing_mask_is_refused_before_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["atlas", "/nowhere", "--mask", str(tmp_path / "none.json")]) == FAILED
    assert "none.json" in capsys.readouterr().err


def test_an_edit_shows_what_it_makes_unreachable(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = tmp_path / "mask.json"
    assert (
        main(["prune", *words, "--order", "slope", "--replace", "zero", "--fractions", "0.85", "--save", str(mask)])
        == 0
    )
    capsys.readouterr()
    assert main(["atlas", *words, "--mask", str(mask), "--sort", "unreachable", "--top", "2"]) == 0
    out = capsys.readouterr().out
    assert "made unreachable by the edit" in out
    assert "without it" in out
