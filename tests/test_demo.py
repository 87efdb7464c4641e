"""The bundled model and its recipe: small runs that stop, resume and record, and the shipped weights themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from safetensors.torch import load_file

from tests.conftest import text
from tpe_core.analysis import analyze
from tpe_core.demo import corpus
from tpe_core.demo.recipe import Recipe
from tpe_core.demo.train import train
from tpe_core.errors import TpeError
from tpe_core.loading import bundled_path, load_model
from tpe_core.options import DEMO, RunOptions
from tpe_core.progress import run

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
    assert set(last["convergence"]) == {"all", "attention", "embedding", "mlp", "norms", "positions"}
    model = load_model(RunOptions(model=str(tmp_path / "model")))
    assert model.report.supported
    assert (tmp_path / "model" / "README.md").read_text().count(f"{record['held_out_loss']:.3f}") == 1

    counts = np.bincount(np.load(tmp_path / "train.npy"), minlength=SMALL.vocab_size)
    W = load_file(tmp_path / "checkpoints" / "step12" / "model.safetensors")["transformer.wte.weight"].double().numpy()
    fit = sm.OLS(-np.log((counts + 1) / (counts.sum() + len(counts))), sm.add_constant(W)).fit()
    assert last["r2_adjusted"] == pytest.approx(fit.rsquared_adj, abs=1e-9)


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
    assert len(corpus.docstrings(corpus.SourceFile("x/a.py", file))) == 1
    (tmp_path / "b.py").write_text("def f(:")
    assert corpus.docstrings(corpus.SourceFile("x/b.py", tmp_path / "b.py")) == []
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
