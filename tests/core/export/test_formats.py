"""The planner: what every format says of every kind of edit on four architectures, before anything is written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.core.export.conftest import interruptions, steered
from tests.helpers.checkpoints import random_edit
from tests.helpers.convertible import save_convertible
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import TpeError
from tpe_core.export.formats import FORMATS, export, planned
from tpe_core.export.plan import Request
from tpe_core.models.loading import load_model
from tpe_core.models.model import LanguageModel
from tpe_core.options import RunOptions
from tpe_core.progress import run

EDITS: dict[str, Callable[[int], ResolvedEdit]] = {
    "prune to zero": lambda d: ResolvedEdit(intervention=Intervention((1, 4)), hidden_size=d, constant=np.zeros(2)),
    "prune to the mean": lambda d: ResolvedEdit(
        intervention=Intervention((1, 4), "mean"), hidden_size=d, constant=np.ones(2)
    ),
    "prune by least squares": lambda d: ResolvedEdit(
        intervention=Intervention((1, 4), "least-squares"),
        hidden_size=d,
        constant=np.ones(2),
        fold=np.ones((2, d - 2)) / d,
    ),
    "steer rows": lambda d: steered(d, (9, 20)),
    "steer by bias": lambda d: steered(d, (9, 20), ("bias",)),
    "prune and steer": random_edit,
}
E, C, N = "exactly", "at a cost", "not"
TABLE = {  # by architecture, then edit: what hf, peft and logit-bias hold of it
    "gpt2-tied": {
        "prune to zero": (E, N, N),
        "prune to the mean": (E, N, N),
        "prune by least squares": (E, N, N),
        "steer rows": (E, E, C),
        "steer by bias": (E, E, E),  # along the direction that the layer norm leaves empty
        "prune and steer": (E, N, N),
    },
    "llama-tied": {
        "prune to zero": (E, N, N),
        "prune to the mean": (C, N, N),
        "prune by least squares": (C, N, N),
        "steer rows": (E, E, C),
        "steer by bias": (C, E, E),
        "prune and steer": (E, N, N),
    },
    "gptj-untied": {
        "prune to zero": (E, N, N),
        "prune to the mean": (E, N, N),
        "prune by least squares": (E, N, N),
        "steer rows": (E, E, C),
        "steer by bias": (E, E, E),
        "prune and steer": (E, N, N),
    },
    "gemma2-tied": {
        "prune to zero": (E, N, N),
        "prune to the mean": (C, N, N),
        "prune by least squares": (C, N, N),
        "steer rows": (E, E, C),
        "steer by bias": (C, E, C),
        "prune and steer": (E, N, N),
    },
}
COLUMNS = ("hf", "peft", "logit-bias")


@pytest.mark.parametrize("name", TABLE)
def test_the_planner_says_what_each_format_holds(tiny: Callable[[str], LanguageModel], name: str) -> None:
    model = tiny(name)
    found = {
        edit: tuple(planned(model, make(model.head.hidden_size), to).holding for to in COLUMNS)
        for edit, make in EDITS.items()
    }
    assert found == TABLE[name]


FOLDERS = {  # by architecture, then edit: what a GGUF file that is made of a Hugging Face folder holds of it
    "llama": (E, C, C, E, C, E),
    "qwen2": (E, C, C, E, C, E),
    "gpt2": (E, E, E, E, E, E),  # along the direction that the layer norm leaves empty
    "gpt_neox": (E, E, E, E, E, E),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_the_planner_says_what_a_gguf_file_of_a_folder_holds(name: str, tmp_path: Path) -> None:
    model = load_model(RunOptions(model=str(save_convertible(tmp_path, name))))
    width = model.head.hidden_size
    assert tuple(planned(model, make(width), "gguf").holding for make in EDITS.values()) == FOLDERS[name]
    pruned = planned(model, EDITS["prune to zero"](width), "peft")
    assert pruned.instead == ("hf", "gguf")
    assert pruned.sentence.endswith("--to hf or --to gguf can.")


@pytest.mark.parametrize("edit", EDITS)
def test_what_cannot_be_held_is_one_sentence_that_names_the_formats_that_can(
    tiny: Callable[[str], LanguageModel], edit: str, tmp_path: Path
) -> None:
    model = tiny("llama-tied")
    made = EDITS[edit](model.head.hidden_size)
    holding = {to: planned(model, made, to).holding for to in FORMATS}
    for to in FORMATS:
        verdict = planned(model, made, to)
        assert verdict.sentence.endswith(".")
        assert verdict.sentence.count(". ") == 0
        if verdict.holding != "not":
            assert verdict.instead == ()
            continue
        assert verdict.instead == tuple(other for other in FORMATS if holding[other] != "not")
        with pytest.raises(TpeError) as refused:
            run(export(Request(model=model, edit=made, out=tmp_path / "out"), to))
        assert str(refused.value) == verdict.sentence
        assert all(f"--to {other}" in verdict.sentence for other in verdict.instead)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_refused_with_those_that_there_are(tiny: Callable[[str], LanguageModel]) -> None:
    model = tiny("llama-tied")
    with pytest.raises(TpeError, match="unknown format 'onnx': choose one of hf, peft, logit-bias, gguf"):
        planned(model, steered(model.head.hidden_size, (9,)), "onnx")


@pytest.mark.parametrize("to", ["hf", "peft", "logit-bias"])
def test_an_export_that_is_interrupted_at_any_step_leaves_nothing(
    tiny: Callable[[str], LanguageModel], to: str, tmp_path: Path
) -> None:
    model = tiny("gpt2-tied")
    edit = steered(model.head.hidden_size, (9, 20), ("bias",) if to == "logit-bias" else ("least-squares",))
    out = tmp_path / "place" / "out"
    out.parent.mkdir()
    assert interruptions(Request(model=model, edit=edit, out=out), to) > 1
    assert out.exists()


def test_the_table_of_formats_is_light_to_import() -> None:
    code = "import sys, tpe_core.export.formats; print(sorted({'torch', 'numpy', 'peft', 'gguf'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
