"""Trajectories of folders of checkpoints: against statsmodels and plain arithmetic, and going on where one stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.helpers.suite import (
    STEPS,
    TEXT,
    asked,
    by_step,
    head_of,
    measure,
    save_run,
    surprisal,
    text_counts,
    weights_of,
)  # fmt: skip
from tests.helpers.tiny_models import VOCAB, tiny_tokenizer
from tpe_core.dynamics import run as trajectory_run
from tpe_core.dynamics.plan import DynamicsOptions, dynamics
from tpe_core.dynamics.trajectory import Trajectory
from tpe_core.errors import ModelError, TpeError
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, run


@pytest.mark.parametrize("kind", ["gpt2", "neox"])
def test_a_folder_of_checkpoints(tmp_path: Path, kind: str) -> None:
    folder = save_run(tmp_path / "run", STEPS, kind)
    found = measure(folder)
    assert [point.step for point in found.points] == list(STEPS)
    assert (found.skipped, found.warnings) == ((), ())
    counts = text_counts()
    assert (found.tokens, found.unseen) == (counts.sum(), (counts == 0).sum())
    first, last = (weights_of(folder / f"checkpoint-{step}") for step in (0, 500))

    def apart(a: dict[str, Any], b: dict[str, Any]) -> float:
        return float(np.sqrt(sum(((a[name] - b[name]) ** 2).sum() for name in a)))

    before, nothing = None, dict.fromkeys(first, 0)
    for point in found.points:
        place = folder / point.name
        w = head_of(place)[:VOCAB]
        ols = sm.OLS(surprisal(), sm.add_constant(w)).fit()
        assert point.r2 == pytest.approx(ols.rsquared, abs=1e-9)
        assert point.r2_adjusted == pytest.approx(ols.rsquared_adj, abs=1e-9)
        assert list(point.top_dims) == np.argsort(-np.abs(ols.params[1:]))[:10].tolist()
        theta = weights_of(place)
        assert point.convergence["all"] == pytest.approx(apart(theta, last) / apart(first, last), abs=1e-12)
        assert point.travel["all"] == pytest.approx(apart(theta, first) / apart(first, nothing), abs=1e-12)
        if before is not None:
            assert point.change["all"] == pytest.approx(apart(theta, before) / apart(before, nothing))
        before = theta
    assert found.points[0].change == {}
    assert found.points[-1].top_overlap == 1
    halfway = found.halfway()
    assert halfway == {"encoding": 100, "parameters": 200}  # sqrt(0.25) is the first share of at least a half
    assert halfway["encoding"] == next(
        point.step for point in found.points if point.r2_adjusted >= found.points[-1].r2_adjusted / 2
    )


def test_finished_steps_are_not_computed_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[int] = []

    def counting(weight: torch.Tensor, *others: Any) -> Any:
        fitted.append(len(fitted))
        return fit_head(weight, *others)

    fit_head = trajectory_run.fit_steps
    monkeypatch.setattr(trajectory_run, "fit_steps", counting)
    steps = dynamics(asked(folder))
    for event in steps:
        if isinstance(event.partial, Trajectory) and len(event.partial.points) == 3:
            steps.close()
    done = len(fitted)
    assert 3 <= done < len(STEPS)
    whole = measure(folder)
    assert len(fitted) == len(STEPS)
    assert measure(folder) == whole
    assert len(fitted) == len(STEPS)
    shutil.copy(folder / "checkpoint-500/model.safetensors", folder / "checkpoint-300/model.safetensors")
    measure(folder)
    assert len(fitted) == len(STEPS) + 1  # that one's alone
    monkeypatch.setenv("TPE_CACHE_DIR", str(folder / "other"))
    again = measure(folder)
    assert by_step(again)[200] == by_step(whole)[200]


@pytest.mark.slow
def test_killed_and_run_again(folder: Path, tmp_path: Path) -> None:
    """A process that is killed, not asked to stop, in the middle of its work."""
    code = (
        "import sys, time\n"
        "from tpe_core.dynamics import run as trajectory_run\n"
        "fit = trajectory_run.fit_steps\n"
        "def slow(*a):\n"
        "    time.sleep(float(sys.argv[2])); print('fit', flush=True); return fit(*a)\n"
        "trajectory_run.fit_steps = slow\n"
        "from tpe_tui.cli.main import main\n"
        "sys.exit(main(['dynamics', sys.argv[1], '--text', sys.argv[1] + '/text.txt', '--json']))\n"
    )

    def start(seconds: float) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", code, str(folder), str(seconds)]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)

    killed = start(0.3)
    assert killed.stdout is not None
    for _ in range(3):
        assert killed.stdout.readline() == "fit\n"
    time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    out, error = start(0).communicate(timeout=120)
    assert "2 of them measured before" in error or "3 of them measured before" in error
    lines = out.splitlines()
    fits = lines.count("fit")
    assert 3 <= fits <= 4  # six, without those that were finished when the first was killed
    document = json.loads("\n".join(line for line in lines if line != "fit"))
    assert [entry["step"] for entry in document["checkpoints"]] == list(STEPS)


def test_progress_shows_the_trajectory_so_far(folder: Path) -> None:
    events = list(dynamics(asked(folder)))
    sizes = [len(event.partial.points) for event in events if isinstance(event.partial, Trajectory)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 1  # the last checkpoint comes first
    assert sizes[-1] == len(STEPS)
    assert any("6 checkpoints; nothing to download" in event.note for event in events)


def test_counts_give_what_their_text_gives(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "counts.npy", text_counts())
    found, other = measure(folder, counts=tmp_path / "counts.npy"), measure(folder)
    assert [point.r2 for point in found.points] == [point.r2 for point in other.points]
    assert found.frequencies.endswith("tokens of counts.npy, add-one smoothing")
    for name in tmp_path.glob("run/tokenizer*"):
        name.unlink()
    assert measure(folder, counts=tmp_path / "counts.npy") == found  # no tokenizer is needed then


def test_padded_heads(tmp_path: Path) -> None:
    folder = save_run(tmp_path / "run", (1, 2, 3), "neox")  # 332 rows
    np.save(tmp_path / "counts.npy", np.append(text_counts(), np.zeros(12, dtype=int)))
    assert measure(folder, counts=tmp_path / "counts.npy").points[-1].r2 == measure(folder).points[-1].r2


def test_loss_and_distance_to_the_unigram(folder: Path) -> None:
    options = RunOptions(model=str(folder), text=(str(folder / "text.txt"),), positions=512)
    found = run(dynamics(DynamicsOptions(options, loss=True, revisions=("checkpoint-0", "checkpoint-500"))))
    counts, end = text_counts(), found.points[-1]
    ids = torch.tensor(tiny_tokenizer()(TEXT, verbose=False)["input_ids"])
    model = AutoModelForCausalLM.from_pretrained(folder / "checkpoint-500").eval()
    length = 64  # the model's context
    blocks = torch.stack([ids[i * length : (i + 1) * length] for i in range(512 // length)])
    targets = torch.stack([ids[i * length + 1 : (i + 1) * length + 1] for i in range(512 // length)])
    with torch.no_grad():
        p = model(blocks).logits.double().softmax(-1)
    assert end.loss == pytest.approx(-float(p.gather(-1, targets[..., None]).log().mean()), abs=1e-5)
    unigram = (counts + 1) / (counts.sum() + VOCAB)
    mean = p.flatten(0, 1).mean(0).numpy()
    assert end.kl_unigram == pytest.approx(float((unigram * np.log(unigram / mean)).sum()), abs=1e-5)
    assert found.points[0].loss != end.loss
    again = run(dynamics(DynamicsOptions(options, revisions=("checkpoint-500",))))
    assert again.points[0].loss is None


def test_pickles_give_the_same(folder: Path) -> None:
    whole = measure(folder)
    for step in STEPS:
        path = folder / f"checkpoint-{step}" / "model.safetensors"
        torch.save(load_file(path), path.with_name("pytorch_model.bin"))
        path.unlink()
    found = measure(folder)
    assert [point.r2 for point in found.points] == [point.r2 for point in whole.points]
    assert [point.convergence for point in found.points] == [point.convergence for point in whole.points]


def test_shards_and_masks_that_are_no_parameters(tmp_path: Path) -> None:
    plain = save_run(tmp_path / "plain", (0, 10, 20))
    sharded = save_run(tmp_path / "sharded", (0, 10, 20), max_shard_size="20kB")
    assert (sharded / "checkpoint-0/model.safetensors.index.json").is_file()
    assert [p.convergence for p in measure(sharded).points] == [p.convergence for p in measure(plain).points]
    for step in (0, 10, 20):
        path = plain / f"checkpoint-{step}/model.safetensors"
        mask = {"transformer.h.0.attn.masked_bias": torch.tensor(-1e9)}
        save_file({**load_file(path), **mask}, path, metadata={"format": "pt"})
    assert measure(plain).points[-1].change == measure(sharded).points[-1].change


def test_the_tokenizer_may_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    whole = measure(folder)
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(ModelError, match=r"no tokenizer is beside the checkpoints of .*: name the model's"):
        measure(folder)
    tiny_tokenizer().save_pretrained(tmp_path / "tokens")
    found = measure(folder, tokenizer=str(tmp_path / "tokens"))
    assert [point.r2 for point in found.points] == [point.r2 for point in whole.points]
    with pytest.raises(TpeError, match="no tokenizer can be loaded from"):
        measure(folder, tokenizer=str(tmp_path / "run"))


def test_patterns_and_points(folder: Path) -> None:
    def steps(**others: Any) -> Sequence[int]:
        return [point.step for point in measure(folder, **others).points]

    assert steps(revisions=("checkpoint-[23]00",)) == [200, 300]
    assert steps(points=3) == [0, 100, 500]
    found = measure(folder, revisions=("checkpoint-100", "checkpoint-700"))
    assert [point.step for point in found.points] == [100]
    assert [(entry.name, entry.step) for entry in found.skipped] == [("checkpoint-700", 700)]


def test_cancelling_is_closing(folder: Path) -> None:
    steps = dynamics(asked(folder))
    event: Progress = next(steps)
    steps.close()
    assert event.label
