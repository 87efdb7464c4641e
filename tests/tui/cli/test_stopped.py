"""A command that is stopped prints what was done, says so, saves nothing by halves and leaves with 130."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.suite import save_run
from tpe_core.dynamics.run import TrajectoryRun
from tpe_core.generation import paired_generation, pruned_text
from tpe_core.pruning import budget
from tpe_core.pruning import study as pruning_study
from tpe_core.steering import study
from tpe_tui.cli import transfer
from tpe_tui.cli.main import main

SMALL = ["--positions", "1024", "--no-cache", "--threads", "1", "--json"]


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let a call of a function be the moment at which the user stops: the `at`th, counted from 1."""

    def patch(owner: object, name: str, at: int, number: int = signal.SIGINT) -> None:
        calls, wrapped = [0], getattr(owner, name)

        def counted(*words: Any, **more: Any) -> Any:
            calls[0] += 1
            if calls[0] == at:
                os.kill(os.getpid(), number)
            return wrapped(*words, **more)

        monkeypatch.setattr(owner, name, counted)

    return patch


@pytest.fixture
def stopped(capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], tuple[dict[str, Any], str]]:
    """Run a command that is stopped: what it printed as JSON, and what it said."""

    def run(words: list[str]) -> tuple[dict[str, Any], str]:
        capsys.readouterr()
        assert main(words) == 130
        printed = capsys.readouterr()
        assert "tpe: stopped: " in printed.err
        document = json.loads(printed.out) if printed.out else {}
        assert document.get("stopped", not document)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        return document, printed.err

    return run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_prune_prints_the_points_that_were_done(
    stopped, stop_at, given: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    model, texts = given
    monkeypatch.setattr(pruning_study, "COLUMNS_BYTES", 1)  # one curve at a time
    stop_at(pruning_study, "path_of", 2, number)
    asked = ["--order", "slope,magnitude", "--fractions", "0.1,0.5", *texts]
    document, said = stopped(["prune", model, *asked, *SMALL])
    assert [(curve["order"], len(curve["points"])) for curve in document["curves"]] == [("slope", 2)]
    assert "the 2 points that were done are printed" in said


def test_a_prune_that_is_stopped_before_its_first_point_says_so_and_writes_nothing(
    stopped, stop_at, given: tuple[str, list[str]], tmp_path: Path
) -> None:
    model, texts = given
    stop_at(pruning_study, "path_of", 1)
    file = tmp_path / "mask.json"
    asked = ["--order", "slope", "--fractions", "0.5", "--save", str(file), *texts]
    document, said = stopped(["prune", model, *asked, *SMALL])
    assert not document
    assert f"{file} is not written" in said
    assert not file.exists()


def test_a_stopped_budget_search_prints_the_masks_that_were_found(
    stopped, stop_at, given: tuple[str, list[str]]
) -> None:
    model, texts = given
    stop_at(budget, "path_of", 2)
    asked = ["--order", "slope,magnitude", "--budget", "0.2", *texts]
    document, said = stopped(["prune", model, *asked, *SMALL])
    assert [entry["order"] for entry in document["largest"]] == ["slope"]
    assert "the 1 masks that were found are printed" in said


def test_stopped_texts_of_a_curve_are_printed_with_the_curve(
    stopped, stop_at, tmp_path: Path, given: tuple[str, list[str]]
) -> None:
    model, texts = given
    stop_at(pruned_text, "quality_of", 2)
    asked = ["--order", "slope", "--fractions", "0.25,0.5", "--generate", "32", *texts]
    document, said = stopped(["prune", model, *asked, *SMALL])
    assert len(document["curves"][0]["points"]) == 2
    assert [entry["removed"] for entry in document["generation"]] == [document["curves"][0]["points"][0]["removed"]]
    assert "the texts of 1 points are printed" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_steer_prints_the_edits_that_were_measured(
    stopped, stop_at, given: tuple[str, list[str]], number: int
) -> None:
    model, texts = given
    asked = ["--token", "#5", "--token", "#9", "--ratio", "0.5,3", "--dose", *texts]
    stop_at(study.ObservedTexts, "measure", 2, number)
    document, said = stopped(["steer", model, *asked, *SMALL])
    tried = [(result["token_id"], result["asked"], result["paid"]) for result in document["results"]]
    assert tried == [(5, 0.5, None), (5, 3.0, None)]
    assert {point["token_id"] for point in document["dose"]} == {5}
    assert document["summary"][0]["tokens"] == 1
    assert "2 of 4 edits are printed" in said


def test_a_steer_that_is_stopped_while_it_asks_who_pays_has_every_edit_and_no_payer(
    stopped, stop_at, given: tuple[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, texts = given
    file = tmp_path / "edit.json"
    asked = ["steer", model, "--token", "#5", "--save", str(file), *texts, *SMALL]
    stop_at(study, "most_affected", 1)
    document, said = stopped(asked)
    assert [result["paid"] for result in document["results"]] == [None]
    assert "1 of 1 edits are printed" in said
    assert f"{file} is not written" in said
    assert not file.exists()
    stop_at(study, "most_affected", 1)
    assert main(asked[:-1]) == 130
    out = capsys.readouterr().out
    assert "least-squares" in out
    assert "paid" not in out


def test_a_steer_that_is_stopped_while_it_reads_says_that_nothing_was_measured(
    stopped, stop_at, given: tuple[str, list[str]]
) -> None:
    model, texts = given
    stop_at(study, "observe", 2)
    document, said = stopped(["steer", model, "--token", "#5", *texts, *SMALL])
    assert not document
    assert "no edit was measured" in said


def test_a_stopped_pair_of_texts_is_printed_as_far_as_it_is(
    stopped, stop_at, given: tuple[str, list[str]], tmp_path: Path
) -> None:
    model, _ = given
    stop_at(paired_generation._Writer, "step", 4)
    words = ["generate", model, "--prompt", "abc", "--no-stop", "--length", "9"]
    document, said = stopped([*words, "--save", str(tmp_path / "pair"), "--json"])
    assert len(document["base"]["tokens"]) == len(document["edited"]["tokens"]) == 3
    assert "the 3 tokens that were drawn are printed" in said
    assert not (tmp_path / "pair.json").exists()


def test_stopped_dynamics_print_the_checkpoints_that_were_measured(
    stopped, stop_at, given: tuple[str, list[str]], tmp_path: Path
) -> None:
    stop_at(TrajectoryRun, "_compare", 3)
    document, said = stopped(["dynamics", str(save_run(tmp_path, (0, 10, 20, 30))), *given[1][:2], *SMALL])
    assert len(document["checkpoints"]) == 3  # the last one is measured first
    assert "the 3 checkpoints that were measured are printed" in said


def test_a_stopped_transfer_prints_the_revisions_that_were_done(
    stopped, stop_at, given: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, texts = given
    mask = str(tmp_path / "mask.json")
    small = [*SMALL, *texts]
    assert main(["prune", model, "--order", "slope", "--fractions", "0.5", "--save", mask, *small]) == 0
    landed = transfer._landed

    def of_the_folder(chosen, options, *more):  # type: ignore[no-untyped-def]  # a folder has no revisions
        return landed(chosen, transfer.replace(options, revision=None), *more)

    monkeypatch.setattr(transfer, "_landed", of_the_folder)
    stop_at(transfer, "_landed", 2)
    document, said = stopped(["transfer", mask, model, "--revision", "a", "--revision", "b", "--seeds", "1", *small])
    assert len(document["targets"]) == 1
    assert "1 of 2 revisions are printed" in said
