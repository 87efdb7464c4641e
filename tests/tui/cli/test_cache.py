"""`tpe cache` and `tpe cache prune`: what they print and remove, and what they refuse."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from tpe_core.errors import USAGE
from tpe_core.store import Store
from tpe_tui.cli.cache import read_age, read_size
from tpe_tui.cli.main import main

A, B = "aa" * 8, "bb" * 8


@pytest.fixture
def paths() -> dict[str, Path]:
    """Two entries, one last used 40 days ago."""
    store = Store()
    store.save(A, {"values": np.zeros(1000)}, {}, kind="detection", of="gpt2")
    store.save(B, {"values": np.zeros(10)}, {}, kind="hidden states", of=f"/models/{'x' * 60}/last.gguf")
    then = time.time() - 40 * 86_400
    os.utime(store.path(A), (then, then))
    return {key: store.path(key) for key in (A, B)}


def test_the_list_names_kind_model_size_and_last_use(
    paths: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["kind", "size", "used", "key", "of"]
    assert lines[1].split()[:2] == ["hidden", "states"]
    assert lines[1].endswith("/last.gguf"), "of a long path the end"
    assert lines[2].split() == ["detection", "8.2", "kB", "40", "d", "ago", "aaaaaaaa", "gpt2"]
    assert any(line.startswith("in all") and line.endswith("2 entries") for line in lines)


def test_an_empty_cache_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache"]) == 0
    assert capsys.readouterr().out.startswith("Nothing is stored in ")


def test_the_list_as_json(paths: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["size"] == sum(path.stat().st_size for path in paths.values())
    assert [(entry["key"], entry["kind"], entry["state"]) for entry in document["entries"]] == [
        (B, "hidden states", "whole"),
        (A, "detection", "whole"),
    ]


def test_pruning_by_age_says_what_it_removed_and_how_much_that_freed(
    paths: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", "prune", "--older-than", "30d", "--dry-run"]) == 0
    assert "1 entry would be removed, 8.2 kB; 1 entry left" in capsys.readouterr().out
    assert paths[A].exists()
    assert main(["cache", "prune", "--older-than", "30d"]) == 0
    out = capsys.readouterr().out
    assert "1 entry removed, 8.2 kB; 1 entry left" in out
    assert "gpt2" in out
    assert not paths[A].exists()
    assert paths[B].exists()


def test_pruning_by_size_and_all(paths: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "prune", "--max-size", "1k", "--json"]) == 0
    assert [entry["key"] for entry in json.loads(capsys.readouterr().out)["removed"]] == [A]
    assert main(["cache", "prune", "--all"]) == 0
    assert not paths[B].exists()


def test_a_size_that_unfinished_results_exceed_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Store().save(A, {"values": np.zeros(1000)}, {}, kind="partial detection", of="gpt2")
    assert main(["cache", "prune", "--max-size", "0"]) == 0
    assert "still more than 0 B" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["list", "--all"],
        ["--dry-run"],
        ["purge"],
        ["prune", "--all", "--max-size", "1G"],
        ["prune", "--older-than", "30"],
        ["prune", "--older-than", "-1d"],
        ["prune", "--max-size", "much"],
    ],
)
def test_a_wrong_command_line_removes_nothing(paths: dict[str, Path], words: list[str]) -> None:
    assert main(["cache", *words]) == USAGE
    assert all(path.exists() for path in paths.values())


@pytest.mark.parametrize(("text", "seconds"), [("30d", 2_592_000), ("12h", 43_200), ("2W", 1_209_600), ("1.5m", 90)])
def test_ages(text: str, seconds: float) -> None:
    assert read_age(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("2G", 2e9), ("500 MB", 5e8), ("1.5k", 1500), ("1024", 1024), ("0", 0), ("3t", 3e12)]
)
def test_sizes(text: str, size: float) -> None:
    assert read_size(text) == size
