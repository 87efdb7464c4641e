"""Trajectories of hub revisions, over real HTTP: what is asked, what comes over the line, and what is trusted."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.hub import FakeHub, commit_of, fake_hub
from tests.helpers.suite import TEXT, save_run
from tests.helpers.tiny_models import tiny_tokenizer
from tpe_core.dynamics.plan import DynamicsOptions, dynamics, plan_dynamics
from tpe_core.dynamics.trajectory import Trajectory
from tpe_core.errors import ModelError
from tpe_core.options import RunOptions
from tpe_core.progress import run

REPO = "someone/tiny"
STEPS = (0, 1, 2, 4, 8)
WEIGHTS = "model.safetensors"


@pytest.fixture
def served(tmp_path: Path) -> Path:
    return save_run(tmp_path / "served", STEPS, "neox", name="step{}")


@pytest.fixture
def hub(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    main = tmp_path / "main"
    shutil.copytree(served / "step8", main)
    tiny_tokenizer().save_pretrained(main)
    with fake_hub(main, tmp_path / "hub-cache", monkeypatch) as hub:
        hub.revisions = {"main": main, **{f"step{step}": served / f"step{step}" for step in STEPS}}
        yield hub


def asked(served: Path, text: str = "text.txt", offline: bool = False, **others: Any) -> DynamicsOptions:
    return DynamicsOptions(RunOptions(model=REPO, text=(str(served / text),), offline=offline), **others)


def measure(served: Path, **others: Any) -> Trajectory:
    return run(dynamics(asked(served, **others)))


def folder_says(served: Path) -> Trajectory:
    return run(dynamics(DynamicsOptions(RunOptions(model=str(served), text=(str(served / "text.txt"),), cache=False))))


def parts(hub: FakeHub) -> list[tuple[str, int, int]]:
    """(path, first byte, bytes) of every part of a weight file that was asked for; a whole file is a failure."""
    found = []
    for method, path, part in hub.requests:
        if method == "GET" and "/resolve/" in path and path.endswith((".safetensors", ".bin")):
            assert part, f"the whole of {path}"
            first, last = (int(value) for value in part.removeprefix("bytes=").split("-"))
            found.append((path.split("/resolve/")[1], first, last + 1 - first))
    return found


def header(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[:8], "little")


def test_only_the_heads_bytes_are_fetched(hub: FakeHub, served: Path) -> None:
    found = measure(served)
    head = load_file(served / "step8" / WEIGHTS)["embed_out.weight"]
    sizes: dict[str, int] = {}
    for path, _, size in parts(hub):
        sizes[path] = sizes.get(path, 0) + size
        assert size in (8, header(served / "step8" / WEIGHTS), head.nbytes)
    for step in STEPS:
        own = sizes.pop(f"{commit_of(f'step{step}')}/{WEIGHTS}")
        assert own == 8 + header(served / f"step{step}" / WEIGHTS) + head.nbytes
    assert not sizes
    small = [hub.folder / name for name, _ in hub.contents() if name != WEIGHTS]
    assert {path.name for path in small} == {"config.json", "tokenizer.json", "tokenizer_config.json"}
    assert hub.sent == sum(size for *_, size in parts(hub)) + sum(path.stat().st_size for path in small)
    assert hub.sent < 0.5 * sum((served / f"step{step}" / WEIGHTS).stat().st_size for step in STEPS)
    local = folder_says(served)
    for here, there in zip(found.points, local.points, strict=True):
        assert (here.step, here.r2, here.top_dims) == (there.step, there.r2, there.top_dims)
        assert here.convergence == {"head": pytest.approx(there.convergence["head"], abs=1e-12)}
    assert found.halfway() == {"encoding": local.halfway()["encoding"], "parameters": None}


def test_nothing_is_fetched_twice(hub: FakeHub, served: Path) -> None:
    first = measure(served)
    hub.requests.clear()
    assert measure(served) == first
    assert parts(hub) == []
    (served / "other.txt").write_text(TEXT[: len(TEXT) // 2])
    plan = run(plan_dynamics(asked(served, "other.txt")))
    assert (plan.budget.download, plan.budget.finished) == (0, 0)
    other = run(plan.run())
    assert other.points[-1].r2 != first.points[-1].r2
    assert all(size < 10_000 for *_, size in parts(hub))  # the heads are kept


def test_the_budget_is_what_comes(hub: FakeHub, served: Path) -> None:
    plan = run(plan_dynamics(asked(served)))
    head = load_file(served / "step8" / WEIGHTS)["embed_out.weight"]
    assert plan.budget.download == len(STEPS) * head.nbytes
    assert str(plan.budget).startswith("5 checkpoints; about ")
    hub.requests.clear()
    run(plan.run())
    assert sum(size for *_, size in parts(hub) if size >= head.nbytes) == plan.budget.download
    whole = run(plan_dynamics(asked(served, weights=True)))
    assert whole.budget.download == sum((served / f"step{step}" / WEIGHTS).stat().st_size for step in STEPS)


def test_a_download_without_room_is_refused(hub: FakeHub, served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tpe_core.dynamics.plan._free", lambda: 1000)
    with pytest.raises(ModelError, match=r"about \d+ kB to download and keep, 1.0 kB of disk free: make room"):
        measure(served)
    assert all(size < 10_000 for *_, size in parts(hub))


def test_equal_revisions_are_known_before_any_download(hub: FakeHub, served: Path) -> None:
    shutil.copy(served / "step8" / WEIGHTS, served / "step1" / WEIGHTS)
    hub.revisions["step2"] = served / "step4"
    found = measure(served)
    assert {point.name: point.duplicate_of for point in found.points if point.duplicate_of} == {
        "step1": "step8", "step4": "step2",  # of the latter, either could be right
    }  # fmt: skip
    fetched = {path for path, _, size in parts(hub) if size > 10_000}
    assert len(fetched) == 3  # of five
    assert any("2 of 5 checkpoints hold the weights of another" in one for one in found.warnings)


def test_which_revisions_are_taken(hub: FakeHub, served: Path) -> None:
    del hub.revisions["step4"]
    found = measure(served)
    assert [point.step for point in found.points] == [0, 1, 2, 8]  # and not main
    assert found.skipped == ()  # too few for a pattern
    named = measure(served, revisions=("step1", "step9", "main"))
    assert [point.step for point in named.points] == [1]
    assert {entry.name: entry.reason for entry in named.skipped} == {
        "main": "its name tells no step", "step9": "missing: there is nothing of this name",
    }  # fmt: skip
    hub.revisions |= {f"step{2**k}": served / "step8" for k in range(3, 12) if k != 5}
    few = measure(served, revisions=("step*",), points=4)
    assert [point.step for point in few.points] == [0, 1, 64, 2048]
    assert {entry.step for entry in few.skipped} == {4, 32}
    with pytest.raises(ModelError, match=r"no checkpoint among the revisions of someone/tiny \(there are main, step0"):
        measure(served, revisions=("seed*",))


def test_at_most_24_revisions_by_default(hub: FakeHub, served: Path) -> None:
    hub.revisions |= {f"step{step}": served / "step8" for step in range(10, 70)}
    found = measure(served)
    assert len(found.points) <= 24
    assert (found.points[0].step, found.points[-1].step) == (0, 69)


def split(folder: Path) -> None:
    """Save a checkpoint's head in one file and the rest in another."""
    path = folder / WEIGHTS
    tensors = load_file(path)
    other = {name: tensor for name, tensor in tensors.items() if name != "embed_out.weight"}
    save_file({"embed_out.weight": tensors["embed_out.weight"]}, folder / "model-00001-of-00002.safetensors")
    save_file(other, folder / "model-00002-of-00002.safetensors")
    files = {name: f"model-0000{1 + (name in other)}-of-00002.safetensors" for name in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    path.unlink()


@pytest.mark.parametrize("copied", [(2, 8, {2}), (4, 8, {4}), (4, 1, {1, 4}), (4, 4, set())])
@pytest.mark.parametrize("weights", [False, True])
def test_a_branch_whose_other_file_is_another_steps_is_named_before_it_is_fetched(
    hub: FakeHub, served: Path, copied: tuple[int, int, set[int]], weights: bool
) -> None:
    step, source, suspected = copied
    for each in STEPS:
        split(served / f"step{each}")
    name = "model-00002-of-00002.safetensors"
    if source != step:
        shutil.copy(served / f"step{source}" / name, served / f"step{step}" / name)
    found = measure(served, weights=weights)
    assert {point.step for point in found.points if point.suspected} >= suspected
    told = [one for one in found.warnings if f"{name} of step" in one]
    assert len(told) == (1 if suspected else 0)
    assert all(f"of step{min(suspected)} is that of" in one for one in told)
    assert not suspected & set(found.halfway().values())
    if not weights:
        assert not any("00002-of" in path for path, *_ in parts(hub))
        assert {point.step for point in found.points if point.suspected} == suspected


def test_shards(hub: FakeHub, served: Path) -> None:
    whole = folder_says(served)
    split(served / "step2")
    hub.requests.clear()
    found = measure(served)
    assert [point.r2 for point in found.points] == [point.r2 for point in whole.points]
    assert any("00001-of" in name for name, *_ in parts(hub))
    assert not any("00002-of" in name for name, *_ in parts(hub))


def test_pickles_are_fetched_whole_and_that_is_said(hub: FakeHub, served: Path) -> None:
    whole = folder_says(served)
    path = served / "step2" / WEIGHTS
    pickle = path.with_name("pytorch_model.bin")
    torch.save(load_file(path), pickle)
    path.unlink()
    plan = run(plan_dynamics(asked(served)))
    head = load_file(served / "step8" / WEIGHTS)["embed_out.weight"]
    assert plan.budget.download == pickle.stat().st_size + (len(STEPS) - 1) * head.nbytes
    assert "1 have pickled weights (.bin), which can only be fetched whole" in str(plan.budget)
    hub.requests.clear()
    found = run(plan.run())
    assert ("pytorch_model.bin", "") in hub.contents()
    assert [point.r2 for point in found.points] == [point.r2 for point in whole.points]


def test_whole_weights_compare_all_parameters(hub: FakeHub, served: Path) -> None:
    found, local = measure(served, weights=True), folder_says(served)
    assert [point.convergence for point in found.points] == [point.convergence for point in local.points]
    assert [point.change for point in found.points] == [point.change for point in local.points]
    fetched = [name for name, part in hub.contents() if name == WEIGHTS and not part]
    assert len(fetched) == len(STEPS)
    hub.requests.clear()
    offline = measure(served, offline=True, weights=True)
    assert hub.requests == []
    assert offline.points == found.points


def test_a_broken_connection_goes_on(hub: FakeHub, served: Path) -> None:
    hub.break_after = 1 << 14
    found = measure(served)
    assert [point.r2 for point in found.points] == [point.r2 for point in folder_says(served).points]
    head = load_file(served / "step8" / WEIGHTS)["embed_out.weight"]
    asked_for = [size for *_, size in parts(hub)]
    assert asked_for.count(head.nbytes - (1 << 14)) == 1  # only the rest was asked for again
    assert asked_for.count(head.nbytes) == len(STEPS)


def test_a_hub_that_sends_no_parts(hub: FakeHub, served: Path) -> None:
    hub.ranges = False
    with pytest.raises(ModelError, match=r"the hub does not send parts of model.safetensors .*: pass --weights"):
        measure(served)
    assert len(measure(served, weights=True).points) == len(STEPS)


def test_a_broken_revision_is_named(hub: FakeHub, served: Path) -> None:
    path = served / "step1" / WEIGHTS
    path.write_bytes(path.read_bytes()[:50])
    (served / "step2/config.json").unlink()
    found = measure(served)
    assert [point.step for point in found.points] == [0, 4, 8]
    assert {entry.name for entry in found.skipped} == {"step1", "step2"}


def test_what_the_hub_does_not_have(hub: FakeHub, served: Path) -> None:
    for name, match in (
        ("someone/else", "the hub has no model someone/else"),
        ("a b", "neither a folder nor a hub id"),
    ):
        with pytest.raises(ModelError, match=match):
            run(dynamics(DynamicsOptions(RunOptions(model=name))))
    with pytest.raises(ModelError, match="no revision of someone/other is in the local cache and --offline was given"):
        run(dynamics(DynamicsOptions(RunOptions(model="someone/other", offline=True))))


def test_a_download_is_stopped_at_once(hub: FakeHub, served: Path) -> None:
    plan = run(plan_dynamics(asked(served)))
    hub.rate = 4e4  # a head takes half a second
    steps = plan.run()
    for event in steps:
        if event.label == "training dynamics" and ": download" in event.note:
            break
    began = time.monotonic()
    steps.close()
    assert time.monotonic() - began < 1.5
    time.sleep(1.0)
    sent = hub.sent
    time.sleep(0.7)
    assert hub.sent == sent
