"""Checkpoints that are adapters: their trajectory is that of the same models merged by peft and saved whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.adapters import KINDS, adapted, save_adapter
from tests.helpers.suite import TEXT, measure
from tests.helpers.tiny_models import save_tiny, tiny_tokenizer
from tpe_core.dynamics.suite import adapted as merging

STEPS = (10, 20, 30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trains a LoRA of body and head, as a Trainer leaves it."""
    root = tmp_path_factory.mktemp("run")
    base = save_tiny(root / "base", "llama")
    for step in STEPS:
        place = root / "run" / f"checkpoint-{step}"
        save_adapter(base, place, KINDS["lora-head"](), size=0.01 * step)
        (place / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    tiny_tokenizer().save_pretrained(root / "run")
    (root / "run" / "text.txt").write_text(TEXT)
    return root / "run"


def merged(folder: Path, to: Path) -> Path:
    """The same run with whole checkpoints, merged by peft."""
    for step in STEPS:
        name = f"checkpoint-{step}"
        adapted(folder.parent / "base", folder / name).merge_and_unload().save_pretrained(to / name)
    tiny_tokenizer().save_pretrained(to)
    (to / "text.txt").write_text(TEXT)
    return to


def test_a_run_of_adapters_is_the_run_of_the_merged_models(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = measure(folder), measure(merged(folder, tmp_path / "merged"))
    assert [point.step for point in ours.points] == [point.step for point in theirs.points] == list(STEPS)
    assert (ours.skipped, ours.warnings) == ((), ())
    for mine, other in zip(ours.points, theirs.points, strict=True):
        a, b = mine.to_dict(), other.to_dict()
        assert a.keys() == b.keys()
        for name in a.keys() - {"name", "top_dims"}:
            assert a[name] == pytest.approx(b[name], rel=1e-4, abs=1e-5), name
    assert ours.points[0].to_dict() != ours.points[-1].to_dict()

    def never(*_: Any) -> None:
        raise AssertionError("an adapter was merged again")

    monkeypatch.setattr(merging, "_write", never)  # what was merged is kept
    assert measure(folder).points == ours.points


def test_an_adapter_that_cannot_be_merged_is_left_out_with_the_reason(folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(folder, tmp_path / "run")
    (folder / "checkpoint-40").mkdir()
    (folder / "checkpoint-40" / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    found = measure(folder)
    assert [point.step for point in found.points] == list(STEPS)
    assert [(entry.name, "lacks its weights" in entry.reason) for entry in found.skipped] == [("checkpoint-40", True)]
