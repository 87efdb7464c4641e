"""Experiments over seeds: a head that begins with the unigram law, frequencies that change; stopped, gone on with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from tests.helpers.tiny_models import text
from tpe_core.demo.curriculum import (
    EXPERIMENTS,
    begin_with_unigram,
    interval,
    passed,
    recorded_steps,
    train_curriculum,
)
from tpe_core.demo.network import new_model
from tpe_core.demo.recipe import MINIATURE
from tpe_core.dynamics.measure.frequency import Frequencies
from tpe_core.dynamics.measure.head_fit import fit_head
from tpe_core.errors import TpeError
from tpe_core.progress import run

TINY = replace(
    MINIATURE, vocab_size=300, hidden_size=16, n_layer=1, n_head=2, context=16, batch_size=8, steps=32, warmup_steps=2,
    other_lr=0.02,
)  # fmt: skip


def documents() -> Iterator[str]:
    return iter([text(seed, 120) for seed in range(30)])


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_begins_with_the_unigram_law(tied: bool) -> None:
    counts = np.random.default_rng(0).zipf(1.3, 300) % 5000
    frequencies = Frequencies.of(counts, "drawn")
    model: Any = new_model(replace(TINY, tied=tied)).eval()
    ids = torch.randint(0, 300, (8, 16), generator=torch.Generator().manual_seed(0))
    inputs = model.transformer.wte.weight.clone()
    with torch.no_grad():
        before = torch.log_softmax(model(ids).logits.double(), -1)
    begin_with_unigram(model, frequencies, seed=1)
    with torch.no_grad():
        after = torch.log_softmax(model(ids).logits.double(), -1)
    law = torch.from_numpy(frequencies.frequency)

    def divergence(log_p: torch.Tensor) -> float:
        return float((law * (law.log() - log_p)).sum(-1).mean())

    assert divergence(after) < 0.35 * divergence(before)
    assert fit_head(model.lm_head.weight, frequencies.surprisal).r2_adjusted > 0.8
    assert torch.equal(model.transformer.wte.weight, inputs) is not tied
    with pytest.raises(TpeError, match="norm before it has a bias"):
        begin_with_unigram(new_model(replace(TINY, architecture="llama")), frequencies, seed=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("experiments")
    return {name: run(train_curriculum(folder / name, name, TINY, 2, text=documents())) for name in EXPERIMENTS}


def test_the_encoding_follows_frequencies_that_change(trained: dict[str, dict[str, Any]]) -> None:
    document = trained["frequencies"]
    assert [entry["step"] for entry in document["steps"]] == recorded_steps("frequencies", TINY)
    by_step = {entry["step"]: entry["changed"] for entry in document["steps"]}
    change, end = by_step[document["change_step"]], by_step[TINY.steps]
    assert change["twins_r2"]["mean"] < 0.15
    assert change["twins_r2_first"]["mean"] > 0.4
    assert end["twins_r2"]["mean"] > 0.4
    figures = document["figures"]
    assert figures["loss_at_change"]["mean"] > 0
    for name in ("encoding_control", "encoding_arm", "loss_arm"):
        assert 0 < figures[name]["mean"] < TINY.steps
        assert figures[name]["seeds"] == 2
        assert figures[name]["low"] <= figures[name]["mean"] <= figures[name]["high"]


def test_a_head_with_the_law_is_there_at_step_0(trained: dict[str, dict[str, Any]]) -> None:
    document = trained["unigram"]
    first, figures = document["steps"][0], document["figures"]
    assert first["unigram"]["r2_adjusted"]["mean"] > 0.8
    assert first["ordinary"]["r2_adjusted"]["mean"] < 0.2
    assert first["unigram"]["loss"]["mean"] < first["ordinary"]["loss"]["mean"] - 0.5
    assert figures["encoding_arm"]["mean"] == 0 < figures["encoding_control"]["mean"]
    assert document["unigram_loss"] < np.log(300)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_stopped_experiment_goes_on_and_is_the_same(
    experiment: str, trained: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tpe_core.demo.train.SAVE_EVERY", 15)
    steps = train_curriculum(tmp_path / "runs", experiment, TINY, 1, text=documents())
    for event in steps:
        if event.done == TINY.steps + 20:
            steps.close()
    assert sorted(path.parent.name for path in tmp_path.rglob("state.pt")) == [f"{EXPERIMENTS[experiment][1]}-0"]
    seen: list[Any] = []
    run(train_curriculum(tmp_path / "runs", experiment, TINY, 2, text=documents()), seen.append)
    control, arm = (f"{name}, seed 0: loss" for name in EXPERIMENTS[experiment])
    assert not [event for event in seen if event.note.startswith(control)], "it was whole"
    assert min(event.done for event in seen if event.note.startswith(arm)) == TINY.steps + 20, "from step 15 on"
    again: list[Any] = []
    document = run(train_curriculum(tmp_path / "runs", experiment, TINY, 2), again.append)
    assert not [event for event in again if "loss" in event.note], "nothing is trained twice"
    assert document == trained[experiment], "two runs of one seed are identical"


def test_what_does_not_go_is_refused(tmp_path: Path) -> None:
    run(train_curriculum(tmp_path / "a", "unigram", replace(TINY, steps=4), 1, text=documents()))
    with pytest.raises(TpeError, match="another recipe"):
        next(train_curriculum(tmp_path / "a", "frequencies", replace(TINY, steps=4), 1))
    with pytest.raises(TpeError, match="unknown experiment 'twins': choose one of frequencies, unigram"):
        next(train_curriculum(tmp_path / "b", "twins", TINY))
    with pytest.raises(TpeError, match="at least 1 seed and 4 steps, not 0 and 32"):
        next(train_curriculum(tmp_path / "b", "unigram", TINY, 0))
    with pytest.raises(TpeError, match="shorter than a block of 16 tokens"):
        run(train_curriculum(tmp_path / "c", "unigram", TINY, text=iter(["a", "b"])))
    (tmp_path / "a" / "unigram-0" / "curve.json").write_text("{")
    with pytest.raises(TpeError, match="no curve of a run"):
        run(train_curriculum(tmp_path / "a", "unigram", replace(TINY, steps=4), 1))


def test_a_state_that_is_damaged_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tpe_core.demo.train.SAVE_EVERY", 5)
    steps = train_curriculum(tmp_path / "a", "unigram", TINY, 1, text=documents())
    for event in steps:
        if event.done == 10:
            steps.close()
    (state,) = tmp_path.rglob("state.pt")
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(TpeError, match="is no state of this run"):
        run(train_curriculum(tmp_path / "a", "unigram", TINY, 1))


def test_where_a_curve_passes_is_read_between_its_points() -> None:
    points = [{"step": 0, "a": 4.0}, {"step": 10, "a": 3.0}, {"step": 20, "a": 1.0}]
    assert passed(points, "a", 2.0, rising=False) == 15
    assert passed(points, "a", 4.5, rising=False) == 0
    assert passed(points, "a", 0.5, rising=False) is None
    assert passed(points, "a", 2.0, rising=True) == 0
    assert passed(points, "a", 5.0, rising=True) is None


def test_intervals_are_student_t() -> None:
    values = [1.0, 2.5, 3.0, 7.0]
    figure = interval([*values, None])
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (figure["low"], figure["high"]) == pytest.approx(expected)
    assert (figure["mean"], figure["min"], figure["max"], figure["seeds"]) == (np.mean(values), 1.0, 7.0, 4)
    assert interval([5.0])["low"] is None
    assert interval([None]) == {"mean": None, "low": None, "high": None, "min": None, "max": None, "seeds": 0}
