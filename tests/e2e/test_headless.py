"""The command line without a terminal: what stands on stdout, what on stderr, and the exit code."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import WIDTH, Run, execute
from tests.e2e.terminal import PATIENCE

Tpe = Callable[..., Run]

ANALYZE = {
    "schema",
    "model",
    "revision",
    "vocab_rows",
    "rows_excluded",
    "hidden_size",
    "head",
    "loss",
    "positions",
    "static_bias",
    "outlier_dimensions",
    "geometry",
    "components_weighted",
    "undertrained",
    "text",
    "stability",
}
ANALYZE |= {"encoding", "components", "sparsity", "dimensions"}
ENCODING = {"r2", "r2_adjusted", "r2_heldout_vocab", "r2_permuted"}
ENCODING |= {"cosine_to_mean_hidden", "jensen_correlation", "intercept", "condition_number", "rank", "undetermined"}
CHECK = {"schema", "class", "head", "vocab_rows", "padding_rows", "hidden_size", "tied", "bias", "post"}
CHECK |= {"dtype", "device", "max_abs_error", "supported", "reason", "task", "masked_rows", "memory"}
MEMORY = {
    "parameters", "body_bytes", "head_float32_bytes", "detection_bytes", "needed_bytes", "available_bytes",
}  # fmt: skip


def sentence(done: Run) -> str:
    """The one sentence of a failed run: exit code 1, nothing on stdout, no traceback."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("tpe: ")]
    assert len(said) == 1, done.stderr
    assert done.stderr.splitlines()[-1] == said[0]
    return said[0]


@pytest.mark.slow
def test_without_a_terminal_the_inspector_prints_the_analysis(tpe: Tpe, env: dict[str, str], tmp_path: Path) -> None:
    line = "{ tpe --positions 2048 demo </dev/null; echo CODE=$? >&2; } | cat"
    done = execute(["sh", "-c", line], env, tmp_path)
    assert "CODE=0" in done.stderr.splitlines()
    assert done.stdout.startswith(f"demo: 8,192 tokens x {WIDTH} dimensions")
    assert "2,048 positions" in done.stdout
    assert "-log alpha = A.W + B" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stdout == tpe("analyze", "demo", "--positions", "2048").stdout


def test_analyze_json_has_exactly_the_documented_names(analysis: dict[str, Any]) -> None:
    assert set(analysis) == ANALYZE
    assert analysis["schema"] == 1
    assert set(analysis["encoding"]) == ENCODING
    assert set(analysis["components"]) == {"explained_variance_ratio", "correlations"}
    assert set(analysis["sparsity"]) == {"r2_by_k", "gini", "participation_ratio"}
    names = {"rank", "dim", "slope", "slope_std", "stderr", "t", "p", "q", "r"}
    names |= {"text_stderr", "text_low", "text_high"}
    assert all(set(entry) == names for entry in analysis["dimensions"])
    assert [entry["rank"] for entry in analysis["dimensions"]] == [*range(1, analysis["hidden_size"] + 1)]
    assert sorted(entry["dim"] for entry in analysis["dimensions"]) == [*range(analysis["hidden_size"])]


def test_check_json_has_exactly_the_documented_names(tpe: Tpe) -> None:
    done = tpe("check", "demo", "--json")
    assert done.returncode == 0, done.stderr
    card = json.loads(done.stdout)
    assert set(card) == CHECK
    assert set(card["post"]) == {"kind", "scale", "cap"}
    assert set(card["memory"]) == MEMORY
    assert card["supported"] is True
    assert card["reason"] == ""


def test_a_text_that_cannot_be_read(tpe: Tpe, tmp_path: Path) -> None:
    (tmp_path / "some.txt").write_bytes("un café au lait ".encode("latin-1") * 4000)
    said = sentence(tpe("analyze", "--text", "some.txt"))
    assert "some.txt is not UTF-8" in said


def test_a_model_that_is_not_there(tpe: Tpe) -> None:
    assert sentence(tpe("analyze", "./nosuchfolder")).startswith("tpe: there is no folder ./nosuchfolder")


@pytest.mark.parametrize(
    "arguments", [("analyze", "--nonsense"), ("analyze", "--positions", "many"), ("demo", "--positions", "0")]
)
def test_wrong_usage(tpe: Tpe, arguments: tuple[str, ...]) -> None:
    done = tpe(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage: tpe" in done.stderr
    assert "Traceback" not in done.stderr


def test_interrupting_an_analysis(env: dict[str, str], tmp_path: Path) -> None:
    command = ["tpe", "analyze", "demo", "--no-cache", "--positions", "2000000"]
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=env, cwd=tmp_path, text=True, **pipes) as process:
        assert process.stderr is not None
        said = ""
        while "reading text" not in said:
            line = process.stderr.readline()
            assert line, f"it ended by itself: {said}"
            said += line
        process.send_signal(signal.SIGINT)
        out, rest = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in rest
    assert rest.splitlines()[-1:] == ["tpe: interrupted."]


@pytest.mark.slow
def test_a_reader_that_leaves_early(env: dict[str, str], tmp_path: Path) -> None:
    line = "{ tpe analyze demo --positions 2048 --json; echo CODE=$? >&2; } | true"
    done = execute(["sh", "-c", line], env, tmp_path)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert "CODE=1" in done.stderr.splitlines()
