"""`tpe train-on`: its tables, its document, and what goes wrong, on a tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.tiny_models import save_tiny
from tests.helpers.training_on import Planted, planted
from tpe_tui.cli.main import main

pytestmark = pytest.mark.usefixtures("one_thread")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return planted(tmp_path_factory.mktemp("train-on"))


@pytest.fixture
def tpe(world: Planted, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(out: str, *words: object) -> tuple[int, str, str]:
        texts = ["--text", world.root / "text.txt", "--ood", world.root / "other.txt"]
        small = ["--seeds", 2, "--steps", 2, "--every", 1, "--batch", 1, "--evaluate", 128, "--no-cache"]
        capsys.readouterr()
        code = main(list(map(str, ["train-on", world.run.model, "--out", world.root / out, *texts, *small, *words])))
        return code, *capsys.readouterr()

    return call


def test_the_table_and_the_document_hold_the_same_figures(world: Planted, tpe: Run) -> None:
    words = ("--mask", world.mask("steered"), "--variant", "kept", "--variant", "random", "--scenario", "other")
    code, out, said = tpe("runs", *words)
    assert code == 0, said
    assert "other, steered, kept, seed 1: step 2" in said
    document = json.loads((world.root / "runs" / "train-on.json").read_text())
    bands = {(each["variant"], each["figure"]): each for each in document["bands"] if each["step"] == 2}
    kept = next(row for row in out.splitlines() if row.startswith("steered") and " kept " in row)
    assert f"{bands['kept', 'loss.heldout']['mean']:.4f}" in kept
    assert f"{bands['kept', 'gap.heldout']['mean']:.4f}" in kept
    assert f"7: {bands['kept', 'steered.7']['mean']:.3g}" in out
    assert document["against_random"][0]["verdict"] in out
    assert max(map(len, out.splitlines()[1:])) <= 110  # the first line has the model's path
    code, again, _ = tpe("runs", *words, "--json")  # everything is read, nothing is trained
    assert (code, json.loads(again)) == (0, document)
    code, table, _ = tpe("runs", *words, "--format", "csv")
    assert table.splitlines()[0] == "scenario,mask,variant,step,figure,mean,low,high,seeds"
    assert len(table.splitlines()) == 1 + len(document["bands"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--batch", 5000], "too short for one step"),
        (["--scenario", "instructions"], "name a file of them with --instructions"),
        (["--learning-rate", 7], "between 0 and 1"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(world: Planted, tpe: Run, words: list[object], sentence: str) -> None:
    code, out, said = tpe("wrong", "--mask", world.mask("harmless"), *words)
    assert (code, out) == (1, "")
    assert sentence in said
    assert "Traceback" not in said
    assert not (world.root / "wrong").exists()


def test_a_mask_of_another_model_is_refused(world: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_tiny(tmp_path / "other", "llama")
    mask, out = world.mask("harmless"), tmp_path / "runs"
    assert main(["train-on", str(tmp_path / "other"), "--mask", str(mask), "--out", str(out)]) == 1
    assert "the intervention was made for another head" in capsys.readouterr().err


def test_a_run_that_ended_early_is_named(world: Planted, tpe: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from tpe_core.continued_training import training

    plain = training.F.cross_entropy
    monkeypatch.setattr(training.F, "cross_entropy", lambda *given: plain(*given) * float("inf"))
    code, out, said = tpe("inf", "--mask", world.mask("harmless"), "--variant", "kept", "--seeds", 1)
    assert code == 0
    assert "same, unedited, seed 0: the loss became inf at step 1" in said
    assert "not trained, for the unedited run has no end to compare with" in said
    assert "harmless    unedited" in out  # its figures at step 0 are shown


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--json"], "leave out --mask, --json and --format"),
        (["--mask", "mask.json"], "leave out --mask, --json and --format"),
        ([], "--screen needs a terminal to draw on"),
    ],
)
def test_the_screen_is_asked_for_by_itself(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train-on", "--screen", "--out", str(tmp_path), *words]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_a_folder_without_an_experiment_is_said_without_a_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tpe_tui.cli.train_on.on_terminal", lambda: True)
    for folder in (tmp_path, tmp_path / "nothing"):
        assert main(["train-on", "--screen", "--out", str(folder)]) == 1
        assert f"{folder.name} holds no experiment of tpe train-on" in capsys.readouterr().err


def test_without_a_mask_nothing_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-on", "demo", "--out", str(tmp_path / "runs")]) == 1
    assert "there is no edit to train on with" in capsys.readouterr().err
