"""Experiments of seconds on a tiny model: what is told apart, what a kill costs, what is refused."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.tiny_models import save_tiny, text
from tests.helpers.training_on import HARMLESS, Planted, planted
from tpe_core.continued_training import runs, training
from tpe_core.continued_training.experiment import train_on
from tpe_core.continued_training.folder import RESULT, read_experiment
from tpe_core.continued_training.results import ContinuedTraining, RunRecord
from tpe_core.errors import CorpusError, ManifestError, TpeError
from tpe_core.models.loading import load_model
from tpe_core.options import RunOptions
from tpe_core.progress import attended, run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return planted(tmp_path_factory.mktemp("train-on"))


def timeless(result: ContinuedTraining) -> list[RunRecord]:
    return [replace(record, seconds=0.0) for record in result.runs]


@pytest.fixture
def stretches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """(run, first, last) of every stretch that was trained to its end."""
    trained: list[tuple[str, int, int]] = []

    def noted(module: Any, batches: Any, stretch: training.Stretch) -> float:
        loss = training.train_stretch(module, batches, stretch)
        trained.append((stretch.label, stretch.first, stretch.last))
        return loss

    monkeypatch.setattr(runs, "train_stretch", noted)
    return trained


@pytest.fixture(scope="module")
def told_apart(world: Planted) -> ContinuedTraining:
    return run(train_on(world.options("apart", "harmless", "mattering", seeds=2)))


def test_a_mask_of_dimensions_that_matter_is_told_from_a_harmless_one(told_apart: ContinuedTraining) -> None:
    bands = {
        (each["mask"], each["variant"]): each
        for each in told_apart.bands()
        if each["figure"] == "kl.heldout" and each["step"] == 4
    }
    assert bands["harmless", "kept"]["high"] < 1e-3
    assert bands["mattering", "kept"]["low"] > 100 * bands["harmless", "kept"]["high"]
    means = {each["mask"]: each["mean"] for each in told_apart.contrasts() if each["figure"] == "kl.heldout"}
    assert means["harmless"] < 0 < means["mattering"]
    costs = {each["mask"]: each for each in told_apart.bands() if each["figure"] == "cost_kl" and each["step"] == 4
             and each["variant"] == "unedited"}  # fmt: skip
    assert costs["harmless"]["high"] < 1e-3 < costs["mattering"]["low"]  # the old mask on the model trained without


def test_freed_dimensions_begin_at_nothing_and_grow(told_apart: ContinuedTraining) -> None:
    free = next(one for one in told_apart.runs if (one.mask, one.variant) == ("mattering", "free"))
    kept = next(one for one in told_apart.runs if (one.mask, one.variant) == ("mattering", "kept"))
    spreads = [point.masks["mattering"].column_spread for point in free.points]
    assert spreads[0] == 0
    assert 0 < spreads[1] < spreads[2]
    assert (kept.points[0].masks["mattering"].column_spread or 0) > 1
    assert free.points[0].masks["mattering"].overlap == 1


def test_all_runs_of_a_seed_read_alike_and_one_of_the_same_draw_is_not_repeated(
    world: Planted, stretches: list[tuple[str, int, int]]
) -> None:
    result = run(train_on(world.options("twins", "harmless", "mattering", variants=("random",))))
    assert [label for label, first, _ in stretches if first == 0] == [
        "same, unedited, seed 0", "same, harmless, random, seed 0",
    ]  # fmt: skip
    ours, theirs = result.runs[1:]
    assert (ours.mask, theirs.mask) == ("harmless", "mattering")
    assert [point.loss for point in ours.points] == [point.loss for point in theirs.points]
    assert timeless(read_experiment(world.root / "twins")) == timeless(result)


def test_an_edit_in_force_changes_what_the_model_does_before_any_step(told_apart: ContinuedTraining) -> None:
    first = {(one.mask, one.variant): one.points[0] for one in told_apart.runs if one.seed == 0}
    kept, free = first["mattering", "kept"], first["mattering", "free"]
    assert kept.loss["heldout"] == pytest.approx(free.loss["heldout"], abs=1e-5)  # the same edit, in two ways
    assert kept.kl["heldout"] == pytest.approx(free.kl["heldout"], rel=1e-4)
    assert kept.kl["heldout"] == pytest.approx(kept.masks["mattering"].cost_kl, rel=1e-6)


def test_two_runs_of_one_seed_are_identical_and_a_kill_trains_nothing_twice(
    world: Planted, stretches: list[tuple[str, int, int]]
) -> None:
    whole = run(train_on(world.options("whole")))
    once = list(stretches)
    assert len(once) == 2 * len(whole.runs)
    del stretches[:]
    steps_taken = 0

    class KilledError(Exception):
        pass

    def attend(progress: Any) -> None:
        nonlocal steps_taken
        steps_taken += progress is not None and progress.label == "train"
        if steps_taken == 7:  # in the middle of the second run's second stretch
            raise KilledError

    with pytest.raises(KilledError), attended(attend):
        run(train_on(world.options("killed")))
    partial = read_experiment(world.root / "killed")
    assert [len(record.points) for record in partial.runs] == [3, 2]
    assert len(stretches) == 3
    again = run(train_on(world.options("killed")))
    assert sorted(stretches) == sorted(once)  # each to its end once
    assert timeless(again) == timeless(whole)
    del stretches[:]
    assert timeless(run(train_on(world.options("killed")))) == timeless(whole)
    assert stretches == []
    assert json.loads((world.root / "killed" / RESULT).read_text())["runs"]
    assert not list((world.root / "killed").rglob("checkpoint-*"))
    assert not list((world.root / "killed").rglob("step*.safetensors"))


def test_seeds_read_in_another_order(told_apart: ContinuedTraining) -> None:
    first, second = (one for one in told_apart.runs if one.variant == "unedited")
    assert first.points[0].loss == second.points[0].loss
    assert first.points[-1].loss != second.points[-1].loss


def test_the_model_given_is_left_as_it_was(world: Planted) -> None:
    model = load_model(world.run)
    before = {name: value.clone() for name, value in model.hf.state_dict().items()}
    result = run(train_on(world.options("left", "steered", steps=2, lora=2, scenarios=("same", "other")), model))
    assert all(torch.equal(before[name], value) for name, value in model.hf.state_dict().items())
    assert not model.site.head._forward_hooks
    assert {record.scenario for record in result.runs} == {"same", "other"}
    steered = {record.variant: record.points[-1].steered for record in result.runs if record.mask}
    assert set(steered) == {"kept", "free", "random"}
    assert all(values["7"] > 1.5 for values in steered.values())


def test_a_loss_that_is_no_number_ends_its_run_alone(world: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    plain = torch.nn.functional.cross_entropy

    def spoilt(*arguments: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        loss = plain(*arguments)
        return loss * float("nan") if calls == 7 else loss  # the third step of the second run

    monkeypatch.setattr(training.F, "cross_entropy", spoilt)
    options = world.options("nan", variants=("kept", "free"))
    result = run(train_on(options))
    unedited, kept, free = result.runs
    assert (unedited.stopped, free.stopped) == ("", "")
    assert kept.stopped == "the loss became nan at step 3: the run was ended, and its state at step 2 is kept."
    assert [point.step for point in kept.points] == [0, 2]
    assert [point.step for point in free.points] == [0, 2, 4]
    assert [path.name for path in (world.root / "nan").rglob("checkpoint-*")] == ["checkpoint-2"]
    assert result.stopped == (kept,)
    monkeypatch.undo()
    assert timeless(run(train_on(options))) == timeless(result)  # what ended is not begun again


def test_a_full_disk_keeps_what_was_saved(world: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    written, plain = [], training.write_file

    def full(path: Path, parts: Any) -> None:
        written.append(path)
        if len(written) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(path, parts)

    monkeypatch.setattr(training, "write_file", full)
    with pytest.raises(TpeError, match=r"cannot be written .No space left on device.: what was saved before is kept"):
        run(train_on(world.options("full", variants=("kept",))))
    monkeypatch.undo()
    partial = read_experiment(world.root / "full")
    assert [record.points[-1].step for record in partial.runs] == [4, 2]
    assert timeless(run(train_on(world.options("full", variants=("kept",))))) == timeless(
        run(train_on(world.options("roomy", variants=("kept",))))
    )


def test_a_mask_of_another_model_is_refused(world: Planted, tmp_path: Path) -> None:
    save_tiny(tmp_path / "other", "llama")
    options = replace(world.options("refused"), run=replace(world.run, model=str(tmp_path / "other")))
    with pytest.raises(ManifestError, match="made for another head"):
        run(train_on(options))
    assert not (world.root / "refused").exists()


def test_a_text_too_short_for_a_step_is_refused(world: Planted, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text(text(3, 120))
    options = replace(world.options("short", batch=8), run=replace(world.run, text=(str(tmp_path / "short.txt"),)))
    with pytest.raises(CorpusError, match=r"too short for one step: it has \d blocks? of 64 tokens .* takes 8"):
        run(train_on(options))


def test_a_short_text_is_read_again_with_a_warning(world: Planted) -> None:
    result = run(train_on(world.options("long", steps=16, every=16, batch=16, variants=("kept",))))
    assert "it is read" in result.warnings[0]


def test_a_folder_is_of_one_experiment(world: Planted, tmp_path: Path) -> None:
    run(train_on(world.options("mine", steps=1, variants=("kept",))))
    with pytest.raises(TpeError, match=r"holds another experiment .its steps is 1, not 2"):
        run(train_on(world.options("mine", steps=2, variants=("kept",))))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(TpeError, match=r"is not empty .thesis.tex."):
        run(train_on(replace(world.options("x"), out=tmp_path / "full")))
    (tmp_path / "file").write_text("x")
    with pytest.raises(TpeError, match="cannot hold the runs"):
        run(train_on(replace(world.options("x"), out=tmp_path / "file" / "runs")))
    with pytest.raises(TpeError, match="holds no experiment"):
        read_experiment(tmp_path)


def test_options_that_name_nothing_are_refused(world: Planted) -> None:
    for changes, words in (
        ({"scenarios": ("else",)}, "unknown scenario"),
        ({"variants": ("else",)}, "unknown variant"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"learning_rate": 2.0}, "between 0 and 1"),
        ({"lora": 0}, "at least 1"),
        ({"masks": ()}, "no edit"),
        ({"scenarios": ("instructions",)}, "--instructions"),
        ({"masks": (Path("a/m.json"), Path("b/m.json"))}, "does not name one mask alone"),
    ):
        with pytest.raises(TpeError, match=words):
            world.options("x", **changes)


def test_chats_are_trained_on_in_the_models_template(tmp_path: Path) -> None:
    world = planted(tmp_path)
    model = load_model(world.run)
    model.tokenizer.chat_template = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"
    chats = [{"messages": [{"role": "user", "content": text(seed, 60)}]} for seed in range(80)]
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, chats)))
    options = world.options(
        "chats", scenarios=("instructions",), variants=("kept",), instructions=(str(tmp_path / "chats.jsonl"),)
    )
    result = run(train_on(options, model))
    last = result.runs[0].points
    assert last[-1].loss["instructions"] < last[0].loss["instructions"]
    assert set(last[-1].loss) == {"heldout", "ood", "instructions"}


def test_harmless_dimensions_are_what_the_helper_says(world: Planted) -> None:
    weight = load_model(RunOptions(world.run.model)).head.weight
    spread = weight.std(0)
    assert float(spread[list(HARMLESS)].max()) < 0.01 * float(spread.median())
