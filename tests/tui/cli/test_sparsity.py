"""`tpe sparsity`: the shipped grid, one that is trained, models beside it, and what is refused before anything runs."""

from __future__ import annotations

import csv
import errno
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.tiny_models import save_tiny, text
from tpe_core.demo import corpus
from tpe_core.errors import FAILED, USAGE
from tpe_core.sparsity.results import shipped_grid
from tpe_tui.cli.main import main

TINY = [
    "--levels", "width=8,16", "--levels", "depth=1,2", "--levels", "vocabulary=270,300", "--levels", "steps=2,4",
    "--runs", "8", "--seeds", "1", "--positions", "64", "--documents", "200",
]  # fmt: skip


@pytest.fixture
def docstrings(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("training", "held_out", "held_out_sample"):
        monkeypatch.setattr(corpus, part, lambda: (text(seed, 300) for seed in range(30)))


def test_the_shipped_grid_is_printed_and_said_to_be_that(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sparsity"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "shipped with tpe" in out
    assert "not on this" in out
    grid = shipped_grid()
    assert len([line for line in lines if line[:2].isdigit() and line[2:8].isspace()]) == grid.plan.runs
    for effect in grid.effects:
        assert not effect.is_clear or f"{effect.factor} " in out
    assert main(["sparsity", "--effects"]) == 0
    every = capsys.readouterr().out
    assert max(map(len, every.splitlines())) <= 80
    assert every.count(", q ") == len(grid.effects)


def test_json_and_formats_hold_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sparsity", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["shipped"]
    assert main(["sparsity", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["name"] for row in rows] == [row["name"] for row in document["runs"]]
    assert [float(row["gini"]) for row in rows] == [row["gini"] for row in document["runs"]]
    assert main(["sparsity", "--effects", "--format", "csv"]) == 0
    effects = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(row["effect"]) for row in effects] == [effect["effect"] for effect in document["effects"]]


def test_a_model_stands_beside_the_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_tiny(tmp_path / "tiny")
    (tmp_path / "text.txt").write_text(text(3, 4000))
    words = ["--text", str(tmp_path / "text.txt"), "--positions", "500", "--no-cache"]
    assert main(["sparsity", "--with", str(model), *words, "--json"]) == 0
    last = json.loads(capsys.readouterr().out)["runs"][-1]
    assert (last["hidden_size"], last["point"]) == (16, None)
    assert last["prunable_share"] is not None
    assert main(["sparsity", "--with", str(model), "--with", str(tmp_path / "none.json"), *words]) == FAILED
    captured = capsys.readouterr()
    assert "is left out" in captured.err
    assert max(map(len, captured.out.splitlines())) <= 80
    assert [line for line in captured.out.splitlines() if "320" in line and " yes" in line]


@pytest.mark.slow
@pytest.mark.usefixtures("docstrings")
def test_a_grid_is_trained_and_goes_on_where_the_disk_was_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "grid"

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr("tpe_core.sparsity.grid.write", full)
        assert main(["sparsity", "--out", str(out), *TINY]) == FAILED
    captured = capsys.readouterr()
    assert "No space left on device" in captured.err
    assert "Traceback" not in captured.err
    assert main(["sparsity", "--out", str(out), "--json"]) == 0, "the folder's plan"
    document = json.loads(capsys.readouterr().out)
    assert document["shipped"] is None
    assert (document["plan"]["runs"], len(document["runs"])) == (8, 8)
    assert main(["sparsity", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "no effects can be fitted" in " ".join(printed.split())
    assert main(["sparsity", "--out", str(out), "--seeds", "2"]) == FAILED
    assert "another plan" in capsys.readouterr().err


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--runs", "16"], USAGE, "--runs is for a grid that is trained"),
        (["--keep-models"], USAGE, "--keep-models is for a grid that is trained"),
        (["--budget", "-1", "--out", "x"], FAILED, "finite number above 0"),
        (["--runs", "10", "--out", "x"], FAILED, "8, 12, 16 or 32 runs, not 10"),
        (["--levels", "width=a", "--out", "x"], FAILED, "has no two levels"),
        (["--levels", "colour=1,2", "--out", "x"], FAILED, "sets no factor's levels"),
        (["--levels", "vocabulary=100,512", "--out", "x"], FAILED, "cannot be trained"),
        (["--with", "none.json"], FAILED, "none.json"),
    ],
)
def test_what_does_not_go_is_said_in_a_sentence(
    words: list[str], code: int, sentence: str, in_folder: Path, capsys: Any
) -> None:
    assert main(["sparsity", *words]) == code
    captured = capsys.readouterr()
    assert sentence in " ".join(captured.err.replace("│", " ").split())
    assert "Traceback" not in captured.err
    assert not (in_folder / "x").exists()
