"""Faulty runs: copies, gaps, broken and foreign checkpoints, steps out of order, input that does not go together."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.helpers.suite import (
    STEPS,
    asked,
    by_step,
    measure,
    save_run,
    text_counts,
    weights_of,
)  # fmt: skip
from tests.helpers.tiny_models import VOCAB, save_tiny
from tpe_core.dynamics.plan import DynamicsOptions, dynamics, plan_dynamics
from tpe_core.errors import CorpusError, TpeError
from tpe_core.options import RunOptions
from tpe_core.progress import run


def test_a_copy_a_gap_and_a_broken_file_are_named_and_the_rest_is_measured(folder: Path) -> None:
    whole = by_step(measure(folder))
    for name in ("model.safetensors", "config.json"):
        shutil.copy(folder / "checkpoint-100" / name, folder / "checkpoint-200" / name)
    shutil.rmtree(folder / "checkpoint-300")
    broken = folder / "checkpoint-400" / "model.safetensors"
    broken.write_bytes(broken.read_bytes()[:-100])
    found = measure(folder)
    assert [point.step for point in found.points] == [0, 100, 200, 500]
    assert {point.name: point.duplicate_of for point in found.points if point.duplicate_of} == {
        "checkpoint-200": "checkpoint-100"
    }
    assert [(entry.name, entry.step) for entry in found.skipped] == [("step 300", 300), ("checkpoint-400", 400)]
    assert "missing" in found.skipped[0].reason
    assert "model.safetensors is broken: it ends at byte" in found.skipped[1].reason
    [warning] = found.warnings
    assert "1 of 4 checkpoints hold the weights of another (checkpoint-200 those of checkpoint-100)" in warning
    points = by_step(found)
    for step in (0, 100, 500):
        assert points[step].r2 == whole[step].r2
        assert points[step].convergence == pytest.approx(whole[step].convergence)
    assert points[200].r2 == points[100].r2
    assert points[200].change == {}
    theta, before = weights_of(folder / "checkpoint-500"), weights_of(folder / "checkpoint-100")
    moved = np.sqrt(sum(((theta[name] - before[name]) ** 2).sum() for name in theta))
    assert points[500].change["all"] == pytest.approx(moved / np.sqrt(sum((w**2).sum() for w in before.values())))


def test_early_checkpoints_with_the_last_weights_are_its_duplicates(folder: Path) -> None:
    for step in (100, 300):
        shutil.copy(folder / "checkpoint-500/model.safetensors", folder / f"checkpoint-{step}/model.safetensors")
    found = measure(folder)
    assert {point.step: point.duplicate_of for point in found.points if point.duplicate_of} == {
        100: "checkpoint-500", 300: "checkpoint-500",
    }  # fmt: skip
    assert found.halfway()["encoding"] == 200


def test_of_two_equal_checkpoints_the_one_that_fits_between_its_neighbours_is_kept(folder: Path) -> None:
    shutil.copy(folder / "checkpoint-400/model.safetensors", folder / "checkpoint-100/model.safetensors")
    assert {point.step: point.duplicate_of for point in measure(folder).points if point.duplicate_of} == {
        100: "checkpoint-400"
    }


def test_steps_out_of_order_are_warned_about_by_what_is_measured(folder: Path) -> None:
    (folder / "checkpoint-100").rename(folder / "x")
    (folder / "checkpoint-400").rename(folder / "checkpoint-100")
    (folder / "x").rename(folder / "checkpoint-400")
    said = " ".join(measure(folder).warnings)
    assert "the head of checkpoint-100 is nearer to the last one's" in said
    assert "that of checkpoint-200" in said
    (folder / "checkpoint-200" / "trainer_state.json").write_text('{"global_step": 250}')
    assert "checkpoint-200 says in its trainer_state.json that it is of step 250." in measure(folder).warnings


PARTS = {"body": ("attention", "mlp"), "head": ("embedding",)}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("step", [200, 400])
def test_a_checkpoint_that_holds_a_file_of_the_last_step_is_named_and_counts_for_no_headline(
    folder: Path, part: str, step: int
) -> None:
    whole = measure(folder)
    path = folder / f"checkpoint-{step}" / "model.safetensors"
    own, end = load_file(path), load_file(folder / "checkpoint-500/model.safetensors")
    taken = {name for name in own if ("wte" in name) == (part == "head")}
    assert 0 < len(taken) < len(own)
    save_file({name: (end if name in taken else own)[name] for name in own}, path, metadata={"format": "pt"})
    found = measure(folder)
    assert {point.name for point in found.points if point.suspected} == {f"checkpoint-{step}"}
    [sentence] = [one for one in found.warnings if "the last one's" in one]
    assert f"of checkpoint-{step} " in sentence
    assert all(name in sentence for name in PARTS[part])
    assert step not in found.halfway().values()
    assert not any(point.suspected for point in whole.points)
    assert whole.warnings == ()


def test_a_headline_is_made_without_what_was_suspected(folder: Path) -> None:
    assert measure(folder).halfway()["encoding"] == 100
    (folder / "checkpoint-100").rename(folder / "x")
    (folder / "checkpoint-400").rename(folder / "checkpoint-100")
    (folder / "x").rename(folder / "checkpoint-400")
    found = measure(folder)
    suspected = {point.step for point in found.points if point.suspected}
    assert {100, 200} <= suspected
    assert not suspected & set(found.halfway().values())
    assert all(point.to_dict()["suspected"] == (point.step in suspected) for point in found.points)


@pytest.mark.parametrize("frozen", ["from the start", "from step 300 on"])
def test_a_part_that_is_not_trained_is_not_suspected(folder: Path, frozen: str) -> None:
    states = {step: load_file(folder / f"checkpoint-{step}/model.safetensors") for step in STEPS}
    for step in STEPS if frozen == "from the start" else STEPS[3:]:
        kept = states[0 if frozen == "from the start" else 300]
        state = {name: kept[name] if ".mlp." in name else tensor for name, tensor in states[step].items()}
        save_file(state, folder / f"checkpoint-{step}/model.safetensors", metadata={"format": "pt"})
    found = measure(folder)
    assert not any(point.suspected for point in found.points)


def test_a_frozen_head_is_told(folder: Path) -> None:
    state = load_file(folder / "checkpoint-100/model.safetensors")
    end = load_file(folder / "checkpoint-200/model.safetensors")
    state["transformer.wte.weight"] = end["transformer.wte.weight"]
    save_file(state, folder / "checkpoint-100/model.safetensors", metadata={"format": "pt"})
    found = measure(folder)
    assert all(point.duplicate_of is None for point in found.points)
    assert any("the output embedding is the same in checkpoint-100, checkpoint-200" in one for one in found.warnings)


def test_counts_of_the_wrong_length(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "counts.npy", text_counts()[:-1])
    with pytest.raises(CorpusError, match=r"counts\.npy has 319 counts but the model's head has 320 rows"):
        measure(folder, counts=tmp_path / "counts.npy")


def test_layouts_and_names(tmp_path: Path) -> None:
    steps = (1, 2, 4, 8)
    folder = save_run(tmp_path / "run", steps, name="checkpoints/step{}")  # one level down
    shutil.copytree(folder / "checkpoints/step8", folder / "model")
    assert [point.step for point in measure(folder).points] == [1, 2, 4, 8]
    assert [point.step for point in measure(folder, revisions=("step[24]", "step8")).points] == [2, 4, 8]
    inner = folder / "checkpoints"
    shutil.copytree(inner / "step8", inner / "final")
    shutil.copytree(inner / "step8", inner / "checkpoint-8")
    (inner / "logs").mkdir()
    (inner / "step16").mkdir()
    shutil.copytree(inner / "step8", inner / "step32")
    (inner / "step32/config.json").unlink()
    shutil.copy(folder / "text.txt", inner)
    found = measure(inner)
    assert [point.step for point in found.points] == [1, 2, 4, 8]
    assert {entry.name: entry.reason for entry in found.skipped} == {
        "final": "its name tells no step",
        "step8": "checkpoint-8 is of the same step",
        "step16": "it has no weights (model.safetensors or pytorch_model.bin)",
        "step32": "it has no config.json",
    }


def test_another_architecture_or_vocabulary_is_left_out(folder: Path) -> None:
    shutil.rmtree(folder / "checkpoint-200")
    save_tiny(folder / "checkpoint-200", "llama")

    shutil.rmtree(folder / "checkpoint-300")
    model = AutoModelForCausalLM.from_pretrained(folder / "checkpoint-400")
    model.resize_token_embeddings(VOCAB + 8)
    model.save_pretrained(folder / "checkpoint-300")
    found = measure(folder)
    assert [point.step for point in found.points] == [0, 100, 400, 500]
    assert {entry.name: entry.reason for entry in found.skipped} == {
        f"checkpoint-{step}": f"it is another model than most ({what}, not gpt2 with a head of 320 x 16)"
        for step, what in ((200, "llama with a head of 320 x 16"), (300, "gpt2 with a head of 328 x 16"))
    }


def test_a_head_of_another_shape_than_the_config_says(folder: Path) -> None:
    path = folder / "checkpoint-200/model.safetensors"
    state = load_file(path)
    state["transformer.wte.weight"] = state["transformer.wte.weight"][:-1].contiguous()
    save_file(state, path, metadata={"format": "pt"})
    state["transformer.wte.weight"] = torch.full((VOCAB, 16), torch.nan)
    save_file(state, folder / "checkpoint-500/model.safetensors", metadata={"format": "pt"})
    found = measure(folder)
    assert [point.step for point in found.points] == [0, 100, 300, 400]
    assert found.points[-1].convergence["all"] == 0  # the last that can be read is the end
    assert "is of shape (319, 16), and its config says (320, 16)" in found.skipped[0].reason
    assert "NaN or infinity" in found.skipped[1].reason


def test_nothing_to_measure_is_said_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    def says(place: Path, match: str, **others: Any) -> None:
        with pytest.raises(TpeError, match=match) as caught:
            run(dynamics(DynamicsOptions(RunOptions(model=str(place), **others))))
        assert "\n" not in str(caught.value)

    (tmp_path / "empty").mkdir()
    says(tmp_path / "empty", "there is no checkpoint in the folder .*: names must tell the step")
    says(tmp_path / "nowhere", "is no folder of checkpoints, hub model or probe log")
    says(folder / "text.txt", "is no folder of checkpoints")
    says(folder / "checkpoint-100", "there is one model and no checkpoint in the folder")
    (tmp_path / "named").mkdir()
    shutil.copytree(folder / "checkpoint-100", tmp_path / "named/last")
    says(tmp_path / "named", r"no usable checkpoint .* \(last: its name tells no step\): names must tell the step")
    odd = tmp_path / "odd" / "step5"
    odd.mkdir(parents=True)
    (odd / "config.json").write_text('{"model_type": "nonsense"}')
    (odd / "model.safetensors").write_bytes(b"")
    says(tmp_path / "odd", r"\(step5: its config cannot be used \(The checkpoint .* \w+ …\)\)\.$")
    says(folder, "there is no text at", text=(str(tmp_path / "no.txt"),))
    for step in STEPS:
        (folder / f"checkpoint-{step}/model.safetensors").write_bytes(b"")
    says(folder, r"no checkpoint of .* can be read \(.*it has 0 bytes.*\)", text=(str(folder / "text.txt"),))
    for step in STEPS:
        (folder / f"checkpoint-{step}/config.json").write_text("{")
    says(folder, "there is no usable checkpoint in the folder .*config.json is broken.*; and 1 more")


def test_a_tokenizer_of_another_model(folder: Path, tmp_path: Path) -> None:
    from tests.helpers.tokenizers import metaspace

    metaspace().save_pretrained(tmp_path / "other")
    known = len(metaspace().get_vocab())
    found = run(plan_dynamics(asked(folder, tokenizer=str(tmp_path / "other"))))
    assert len(found.measurement.frequencies.counts) == known
    small = save_run(tmp_path / "small", (0, 1))
    for step in (0, 1):
        model = AutoModelForCausalLM.from_pretrained(small / f"checkpoint-{step}")
        model.resize_token_embeddings(100)
        model.save_pretrained(small / f"checkpoint-{step}")
    with pytest.raises(CorpusError, match=r"token \d+, but the model's head has 100 rows"):
        measure(small)
