"""`tpe dynamics`: the bundled model's own record, folders with faults, logs, exit codes and wrong usage."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.suite import save_run, text_counts
from tpe_core.dynamics.measure.frequency import Frequencies
from tpe_core.dynamics.probe_log import LogWriter
from tpe_core.dynamics.recorded import RECORD, bundled_trajectory
from tpe_core.errors import ModelError
from tpe_tui.cli.main import main

STEPS = (0, 100, 200, 300, 400)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tpe(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["dynamics", *map(str, words)])
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"), STEPS)


def test_the_bundled_models_half_way_steps(tpe: Run) -> None:
    record = json.loads(RECORD.read_text())["checkpoints"]
    final = record[-1]["r2_adjusted"]
    encoding = min(entry["step"] for entry in record if entry["r2_adjusted"] >= final / 2)
    parameters = min(entry["step"] for entry in record if entry["convergence"]["all"] <= 0.5)
    assert encoding < parameters / 10  # the encoding comes first, by far
    code, out, error = tpe("demo")
    assert (code, error) == (0, "")
    assert f"R2 passes half of its last value at step {encoding:,}\n" in out
    head, _, table = out.partition("\n\n")
    titles = table.splitlines()[0].replace("R2 adj.", "R2_adj.").split()
    explained = re.findall(r"^  (\S+|R2 adj\.)  ", head, re.MULTILINE)
    assert ["step", *explained] == [title.replace("_", " ") for title in titles]  # what is shown, and nothing else
    assert f"all parameters are half-way to their last values at step {parameters:,}\n" in out
    assert len(re.findall(r"^ +[\d,]+ +0\.\d{3,4} ", out, re.MULTILINE)) == len(record)
    code, out, _ = tpe("demo", "--json", "--strict")
    document = json.loads(out)
    assert (code, document["halfway_step"]) == (0, {"encoding": encoding, "parameters": parameters})
    assert [entry["loss"] for entry in document["checkpoints"]] == [entry["held_out_loss"] for entry in record]


def test_another_record_gives_other_steps(tmp_path: Path) -> None:
    record = json.loads(RECORD.read_text())
    for entry in record["checkpoints"]:
        entry["step"] *= 2
    (tmp_path / "training.json").write_text(json.dumps(record))
    there, here = bundled_trajectory(tmp_path / "training.json").halfway(), bundled_trajectory().halfway()
    assert there == {name: 2 * (step or 0) for name, step in here.items()}
    (tmp_path / "training.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be read"):
        bundled_trajectory(tmp_path / "training.json")


def test_faults_are_named_and_strict_fails(tpe: Run, folder: Path) -> None:
    words = (folder, "--text", folder / "text.txt")
    code, out, error = tpe(*words, "--strict")
    assert code == 0
    assert f"tpe: {folder}: 5 checkpoints; nothing to download.\n" in error
    whole = out.splitlines()
    shutil.copy(folder / "checkpoint-100/model.safetensors", folder / "checkpoint-200/model.safetensors")
    shutil.rmtree(folder / "checkpoint-300")
    (folder / "checkpoint-0/model.safetensors").write_bytes(b"broken")
    code, out, error = tpe(*words)
    assert code == 0
    assert "tpe: checkpoint-0 is left out: model.safetensors is broken: it has 6 bytes.\n" in error
    assert "tpe: step 300 is left out: missing: the steps around it follow a pattern.\n" in error
    assert "hold the weights of another (checkpoint-200 those of checkpoint-100)" in error
    rows = [line for line in out.splitlines() if re.match(r" +\d+ ", line)]
    assert [row.split()[0] for row in rows] == ["100", "200", "400"]
    assert rows[1].endswith("the weights of checkpoint-100")
    assert rows[2].split()[:3] == next(line for line in whole if line.startswith("      400")).split()[:3]
    assert tpe(*words, "--strict")[0] == 1
    code, out, error = tpe(*words, "--strict", "--json")
    assert code == 1
    document = json.loads(out)
    assert [entry["step"] for entry in document["checkpoints"]] == [100, 200, 400]
    assert {entry["name"] for entry in document["skipped"]} == {"step 300", "checkpoint-0"}
    assert len(document["warnings"]) == 1


def test_several_sources_and_their_options(tpe: Run, folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "counts.npy", text_counts())
    code, out, _ = tpe(folder, "demo", "--counts", tmp_path / "counts.npy", "--points", 3, "--json")
    first, second = json.loads(out)["sources"]
    assert code == 0
    assert [entry["step"] for entry in first["checkpoints"]] == [0, 100, 400]
    assert second["source"] == "demo"
    code, out, _ = tpe(folder, "--counts", tmp_path / "counts.npy", "--revisions", "checkpoint-100,checkpoint-2*")
    assert [line.split()[0] for line in out.splitlines() if re.match(r" +\d+ ", line)] == ["100", "200"]
    assert "KL" not in out  # nothing was measured that would stand there


def write_log(path: Path, ended: bool = True, rise: float = 0.1) -> None:
    counts = Frequencies.of(text_counts(), "some text")
    start: dict[str, Any] = {
        "frequencies": str(counts), "fingerprint": counts.fingerprint, "tokens": counts.tokens,
        "unseen": counts.unseen, "total": 4,
    }  # fmt: skip
    writer = LogWriter(path, start, 0)
    for step in (0, 1, 2, 4):
        writer.write(
            {"kind": "point", "name": f"step{step}", "step": step, "r2": 0.1, "r2_adjusted": 0.05 + rise * step}
        )
    if ended:
        writer.write({"kind": "end", "reason": "finished"})
    writer.close()


def test_a_log_is_a_source_and_can_be_followed(tpe: Run, tmp_path: Path) -> None:
    write_log(tmp_path / "run.jsonl")
    code, out, _ = tpe(tmp_path / "run.jsonl", "--strict")
    assert code == 0
    assert "R2 passes half of its last value at step 2\n" in out
    write_log(tmp_path / "falls.jsonl", rise=-0.1)
    assert tpe(tmp_path / "falls.jsonl")[1].endswith("\nthe last R2 is not above 0, so there is no half-way step\n")
    code, followed, _ = tpe("--follow", tmp_path / "run.jsonl")
    rows = [line.split() for line in followed.splitlines() if re.match(r" +\d+ ", line)]
    assert [row[:2] for row in rows] == [["0", "0.050"], ["1", "0.150"], ["2", "0.250"], ["4", "0.450"]]
    assert "R2 adj." in followed
    assert not any(title in followed for title in ("left", "top dims", "KL"))  # what no log has takes no room
    code, out, _ = tpe("--follow", tmp_path / "run.jsonl", "--json")
    assert [entry["step"] for entry in json.loads(out)["checkpoints"]] == [0, 1, 2, 4]
    write_log(tmp_path / "died.jsonl", ended=False)
    code, out, error = tpe("--follow", tmp_path / "died.jsonl", "--strict")
    assert code == 1
    assert "the run died after step 4" in error


def test_what_was_measured_already_is_not_measured_by_other_counts(tpe: Run, folder: Path, tmp_path: Path) -> None:
    write_log(tmp_path / "run.jsonl")
    code, _, error = tpe(folder, tmp_path / "run.jsonl", "--text", folder / "text.txt")
    assert code == 0
    assert f"{tmp_path / 'run.jsonl'} was measured already: --text is for the other sources." in error


def test_wrong_usage_and_bad_input_are_one_sentence(tpe: Run, folder: Path, tmp_path: Path) -> None:
    for words, code, match in (
        ((folder, "--counts", "a.npy", "--text", "b.txt"), 2, "--counts and --text exclude each other"),
        ((folder, "--follow"), 2, "whose name ends in .jsonl"),
        (("a.jsonl", "b.jsonl", "--follow"), 2, "--follow watches one log"),
        (("demo", "--screen", "--json"), 2, "--screen draws and --json prints"),
        (("demo", "a.jsonl", "--counts", "a.npy"), 2, "--counts is for measuring checkpoints, and demo was measured"),
        (("--follow", "a.jsonl", "--loss"), 2, "--loss is for measuring checkpoints"),
        ((folder, "--counts", tmp_path / "no.npy"), 1, "there is no file of counts at"),
        ((folder, "--text", tmp_path / "no.txt"), 1, "there is no text at"),
        ((tmp_path / "nowhere",), 1, "is no folder of checkpoints"),
        ((tmp_path / "no.jsonl",), 1, "there is no probe log at"),
        ((folder, "--device", "tpu9", "--text", folder / "text.txt"), 1, "tpu9"),
    ):
        got, out, error = tpe(*words)
        assert (got, out) == (code, "")
        assert match in " ".join(error.replace("│", " ").split())
        assert "Traceback" not in error
