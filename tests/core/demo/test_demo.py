"""The bundled model and its recipe: small runs that stop, resume and record, and the shipped weights themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from safetensors.torch import load_file

from tests.helpers.tiny_models import text
from tpe_core.analysis import analyze
from tpe_core.demo import corpus
from tpe_core.demo.docstrings import docstrings
from tpe_core.demo.experiment import ARMS, shares, train_twins, twin_fit, with_twins
from tpe_core.demo.recipe import SMALL as RECIPES_SMALL
from tpe_core.demo.recipe import Recipe
from tpe_core.demo.train import LOG, train
from tpe_core.dynamics.measure.frequency import COUNTS, Frequencies
from tpe_core.dynamics.plan import DynamicsOptions, dynamics
from tpe_core.dynamics.probe_log import open_log, read_log
from tpe_core.dynamics.trajectory_file import figures
from tpe_core.errors import TpeError
from tpe_core.models.loading import bundled_path, load_model
from tpe_core.options import DEMO, RunOptions
from tpe_core.progress import run
from tpe_tui.cli.main import main

SMALL = Recipe(vocab_size=300, hidden_size=16, n_layer=1, n_head=2, context=16, batch_size=4, steps=12, warmup_steps=2)


def documents() -> Iterator[str]:
    return iter([text(seed, 120) for seed in range(40)])


def test_a_small_run_leaves_a_model_a_record_and_a_card(tmp_path: Path) -> None:
    record = run(train(tmp_path, SMALL, documents()))
    assert record == json.loads((tmp_path / "training.json").read_text())
    assert [entry["step"] for entry in record["checkpoints"]] == SMALL.checkpoint_steps()
    first, last = record["checkpoints"][0], record["checkpoints"][-1]
    assert first["held_out_loss"] > last["held_out_loss"]
    assert record["held_out_loss"] == pytest.approx(
        last["held_out_loss"], abs=0.02
    )  # float16 against float32, more blocks
    assert (first["convergence"]["all"], last["convergence"]["all"]) == (1.0, 0.0)
    assert set(last["convergence"]) == {"all", "attention", "embedding", "mlp", "norms", "positions", "layer 0"}
    model = load_model(RunOptions(model=str(tmp_path / "model")))
    assert model.report.supported
    assert (tmp_path / "model" / "README.md").read_text().count(f"{record['held_out_loss']:.3f}") == 1

    counts = np.bincount(np.load(tmp_path / "train.npy"), minlength=SMALL.vocab_size)
    W = load_file(tmp_path / "checkpoints" / "step12" / "model.safetensors")["transformer.wte.weight"].double().numpy()
    fit = sm.OLS(-np.log((counts + 1) / (counts.sum() + len(counts))), sm.add_constant(W)).fit()
    assert last["r2_adjusted"] == pytest.approx(fit.rsquared_adj, abs=1e-9)


def test_dynamics_of_the_folder_are_what_the_probe_saw_live(tmp_path: Path) -> None:
    record = run(train(tmp_path, SMALL, documents()))
    live = read_log(tmp_path / LOG)
    offline = run(dynamics(DynamicsOptions(RunOptions(model=str(tmp_path)))))  # the run's own counts lie there
    assert [point.step for point in live.points] == [point.step for point in offline.points] == SMALL.checkpoint_steps()
    counts = np.bincount(np.load(tmp_path / "train.npy"), minlength=SMALL.vocab_size)
    y = -np.log((counts + 1) / (counts.sum() + len(counts)))
    for one, other, entry in zip(live.points, offline.points, record["checkpoints"], strict=True):
        W = load_file(tmp_path / "checkpoints" / one.name / "model.safetensors")["transformer.wte.weight"]
        fit = sm.OLS(y, sm.add_constant(W.double().numpy())).fit()
        for name, expected in (("r2", fit.rsquared), ("r2_adjusted", fit.rsquared_adj)):
            assert getattr(one, name) == pytest.approx(expected, abs=1e-9)
            assert getattr(other, name) == pytest.approx(expected, abs=1e-9)
        for name in ("r2_heldout_vocab", "gini", "participation_ratio", "pc_correlations", "travel", "change"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-9)
        assert one.top_dims == other.top_dims
        assert one.top_overlap == other.top_overlap
        assert one.loss == entry["held_out_loss"]
        assert other.convergence == pytest.approx(entry["convergence"], abs=1e-9)
    assert live.warnings == ()
    assert live.tokens == offline.tokens == counts.sum()
    assert live.unseen == offline.unseen == (counts == 0).sum()
    assert record["halfway_step"] == offline.halfway()
    log = open_log(tmp_path / LOG)
    assert record["probe"]["share"] == log.share == log.probe_seconds / log.training_seconds


def test_a_stopped_run_goes_on_in_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tpe_core.demo.train.SAVE_EVERY", 4)
    monkeypatch.setattr("tpe_core.demo.train.REPORT_EVERY", 1)
    run(train(tmp_path / "whole", SMALL, documents()))
    steps = train(tmp_path / "stopped", SMALL, documents())
    for event in steps:
        if event.label == "train" and event.done == 7:
            steps.close()
    assert read_log(tmp_path / "stopped" / LOG).warnings == (
        "the run ended at step 6 of 12 before it was finished: it was stopped.",
    )
    run(train(tmp_path / "stopped", SMALL, documents()))
    whole, resumed = read_log(tmp_path / "whole" / LOG), read_log(tmp_path / "stopped" / LOG)
    for one, other in zip(resumed.points, whole.points, strict=True):
        assert (one.step, one.top_dims) == (other.step, other.top_dims)
        assert figures(one) == pytest.approx(figures(other), rel=1e-9, abs=1e-12)  # the sums' order may differ
    assert resumed.warnings == ()


def test_twins_tell_frequency_from_what_goes_with_it(tmp_path: Path) -> None:
    recipe = replace(SMALL, batch_size=16, steps=60, other_lr=0.02)
    document = run(train_twins(tmp_path, recipe, documents()))
    assert document == json.loads((tmp_path / "experiment.json").read_text())
    first, last = document["steps"][0], document["steps"][-1]
    assert first["shuffled"]["twins_r2"] < 0.1
    assert last["shuffled"]["twins_r2"] > 0.3
    assert last["equal"]["twins_r2"] < 0.1
    assert last["shuffled"]["twins_slope"] > 0.3 > abs(last["equal"]["twins_slope"])
    for arm, other in (ARMS, ARMS[::-1]):
        assert last[arm][f"r2_{arm}"] > last[arm][f"r2_{other}"]
        points = read_log(tmp_path / arm / LOG).points
        assert [point.r2_adjusted for point in points] == pytest.approx(
            [entry[arm][f"r2_{arm}"] for entry in document["steps"]], abs=1e-12
        )
    plain = np.bincount(np.load(tmp_path / "train.npy"), minlength=SMALL.vocab_size)
    for arm in ARMS:  # what both texts have in common: how often a token and its twin occur together
        counts = np.load(tmp_path / arm / COUNTS)
        assert np.array_equal(counts[: SMALL.vocab_size] + counts[SMALL.vocab_size :], plain)


def test_twins_are_drawn_with_their_shares() -> None:
    share = shares("shuffled", 500, seed=1)
    ids = np.repeat(np.arange(500, dtype=np.uint16), 400)
    twins = with_twins(ids, share, seed=1)
    assert np.array_equal(twins % 500, ids)
    kept = np.bincount(ids[twins < 500], minlength=500) / 400
    assert np.abs((kept - share) / np.sqrt(share * (1 - share) / 400)).max() < 5
    ratio = np.log(share / (1 - share))
    assert -4 <= ratio.min() < -3.9 < 3.9 < ratio.max() <= 4
    assert set(shares("equal", 9, seed=1)) == {0.5}
    assert not np.array_equal(share, shares("shuffled", 500, seed=2))


def test_the_fit_of_twins_is_blind_to_the_pairs_it_is_asked_for() -> None:
    rng = np.random.default_rng(0)
    pairs, width = 400, 8
    counts = Frequencies.of(rng.integers(1, 10_000, 2 * pairs), "counts")
    ratio = counts.surprisal[pairs:] - counts.surprisal[:pairs]
    direction = rng.normal(size=width)
    encoded = -np.outer(counts.surprisal, direction) / (direction @ direction) + 0.02 * rng.normal(size=(800, width))
    r2, slope = twin_fit(torch.from_numpy(encoded).float(), counts, ratio)
    assert r2 > 0.99
    assert slope == pytest.approx(1, abs=0.02)
    # Weights that know nothing: in-sample the law would still find a little in half of the pairs.
    noise = [twin_fit(torch.from_numpy(rng.normal(size=(800, width))).float(), counts, ratio)[1] for _ in range(20)]
    assert abs(np.mean(noise)) < 0.01
    same = torch.from_numpy(rng.normal(size=(pairs, width))).repeat(2, 1)  # twins that are told apart by nothing
    assert twin_fit(same, counts, ratio) == (0.0, 0.0)


def test_the_small_recipe_is_one_and_reads_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("training", "held_out"):
        monkeypatch.setattr(corpus, part, lambda: (f"{i} {text(i, 30)}" for i in range(10_000)))
    recipe = replace(RECIPES_SMALL, vocab_size=300, hidden_size=16, n_layer=1, context=16, batch_size=2, steps=2)
    run(train(tmp_path, recipe))
    assert len((tmp_path / "train.jsonl").read_text().splitlines()) == RECIPES_SMALL.documents
    assert len((tmp_path / "held_out.jsonl").read_text().splitlines()) == RECIPES_SMALL.documents // 10
    card = (tmp_path / "model" / "README.md").read_text()
    assert "`tpe demo train --small --steps 2 --out DIR` does it again" in card


@pytest.mark.parametrize("extra", [(), ("--json",)])
def test_the_commands_print_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, extra: Any) -> None:
    monkeypatch.setattr(corpus, "training", documents)
    monkeypatch.setattr(corpus, "held_out", documents)
    monkeypatch.setattr("tpe_core.demo.recipe.SMALL", SMALL)
    assert main(["demo", "train", "--small", "--out", str(tmp_path / "a"), *extra]) == 0
    plain = capsys.readouterr().out
    assert main(["demo", "train", "--small", "--shuffle-frequencies", "--out", str(tmp_path / "b"), *extra]) == 0
    twins = capsys.readouterr().out
    if extra:
        assert json.loads(plain) == json.loads((tmp_path / "a" / "training.json").read_text())
        assert json.loads(twins) == json.loads((tmp_path / "b" / "experiment.json").read_text())
    else:
        record = json.loads((tmp_path / "a" / "training.json").read_text())
        assert f"held-out loss {record['held_out_loss']:.4f} nats after 12 steps" in plain
        assert f"({record['probe']['share']:.2%})" in plain
        rows = [line for line in twins.splitlines() if line.split()[:1] in [[str(s)] for s in SMALL.checkpoint_steps()]]
        assert len(rows) == len(SMALL.checkpoint_steps())


@pytest.mark.parametrize(
    ("flag", "experiment"), [("--change-frequencies", "frequencies"), ("--unigram-head", "unigram")]
)
def test_the_command_prints_an_experiment_over_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, flag: str, experiment: str
) -> None:
    monkeypatch.setattr(corpus, "training", documents)
    monkeypatch.setattr(corpus, "held_out", documents)
    monkeypatch.setattr("tpe_core.demo.recipe.MINIATURE", SMALL)
    words = ["demo", "train", flag, "--seeds", "2", "--out", str(tmp_path / "a")]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    document = json.loads((tmp_path / "a" / "experiment.json").read_text())
    assert document["recipe"].get("tied", True) is (experiment == "frequencies")
    assert max(map(len, lines[:-1])) <= 80, "the last one names the folder"
    rows = [line for line in lines if "|" in line and line.split()[0].isdigit()]
    assert [int(line.split()[0]) for line in rows] == [entry["step"] for entry in document["steps"]]
    figures = {line[:52].strip(): line[52:61].strip() for line in lines if line[52:61].strip()}
    loss = document["figures"]["loss_difference"]["mean"]
    assert figures["arm minus control at the end: loss, nats"] == f"{loss:z.3f}"
    assert main([*words, "--json"]) == 0, "nothing is trained again"
    assert json.loads(capsys.readouterr().out) == document


def test_experiments_are_chosen_one_at_a_time(tmp_path: Path, capsys: Any) -> None:
    for words, sentence in (
        (["--change-frequencies", "--unigram-head"], "experiments of their own"),
        (["--seeds", "2"], "--seeds goes with --change-frequencies or --unigram-head"),
    ):
        assert main(["demo", "train", "--out", str(tmp_path / "a"), *words]) == 2
        assert sentence in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "a").exists()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def test_a_stopped_run_resumes_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tpe_core.demo.train.SAVE_EVERY", 4)
    monkeypatch.setattr("tpe_core.demo.train.REPORT_EVERY", 1)
    run(train(tmp_path / "whole", SMALL, documents()))
    steps = train(tmp_path / "stopped", SMALL, documents())
    for event in steps:
        if event.label == "train" and event.done == 6:
            steps.close()
    assert torch.load(tmp_path / "stopped" / "state.pt", weights_only=True)["step"] == 4
    seen: list[Any] = []
    run(train(tmp_path / "stopped", SMALL, documents()), seen.append)
    assert min(event.done for event in seen if event.label == "train") == 5
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_folder_of_another_recipe_is_refused(tmp_path: Path) -> None:
    next(train(tmp_path, SMALL, documents()))
    with pytest.raises(TpeError, match="another recipe"):
        next(train(tmp_path, Recipe(steps=3), documents()))
    for place in (tmp_path / "recipe.json", tmp_path / "recipe.json" / "run"):
        for start in (train, train_twins):
            with pytest.raises(TpeError, match="cannot hold a run"):
                next(start(place, SMALL, documents()))


def test_learning_rate_warms_holds_and_cools() -> None:
    recipe = Recipe(steps=100, warmup_steps=10, cooldown_share=0.5, final_lr=0.1)
    rates = [recipe.learning_rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:50] == [1.0] * 40
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert rates[-1] == pytest.approx(0.118)


def test_docstrings_split_by_file_and_never_import(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(f'"""{"A module that says what it is for. " * 4}"""\nraise SystemExit\ndef f():\n    """short"""\n')
    assert len(docstrings(file)) == 1
    (tmp_path / "b.py").write_text("def f(:")
    assert docstrings(tmp_path / "b.py") == []
    names = [corpus.SourceFile(f"x/{i}.py", file) for i in range(4000)]
    assert sum(name.is_held_out for name in names) == pytest.approx(4000 * corpus.HELD_OUT_SHARE, rel=0.3)
    assert len(corpus.fingerprint()) == 64


def test_the_shipped_model_is_what_its_record_says() -> None:
    folder = bundled_path()
    record = json.loads((folder / "training.json").read_text())
    assert (folder / "model.safetensors").stat().st_size <= 12_000_000
    assert record["recipe"] == Recipe().to_dict()
    assert sum(path.stat().st_size for path in folder.iterdir()) < 14_000_000
    card = (folder / "README.md").read_text()
    assert f"{record['held_out_loss']:.3f} nats" in card
    assert record["held_out_loss"] < 3.2
    assert record["halfway_step"]["encoding"] < record["halfway_step"]["parameters"]


@pytest.mark.slow
def test_the_shipped_model_encodes_token_probability() -> None:
    analysis = run(analyze(RunOptions(model=DEMO)))
    encoding = analysis.encoding
    assert analysis.detection.positions >= 25_000
    assert encoding.r2_adjusted >= 0.85
    assert abs(encoding.r2_heldout_vocab - encoding.r2_adjusted) <= 0.02
    assert encoding.r2_permuted < 0.05
    assert analysis.detection.loss < 3.5
