"""A model with an adapter on it in the inspector: it is named in the status line, on the card and in every command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.adapters import KINDS, adapted, save_adapter
from tests.helpers.tiny_models import save_tiny, text
from tpe_core.edits.intervention import Intervention
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.session import open_session
from tpe_tui.command_line import command_lines, common_options, mask_name
from tpe_tui.head_card import card_lines
from tpe_tui.inspector.status import inspect_fields
from tpe_tui.sizes import model_title

PROMPT = "the value of"


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> RunOptions:
    root = tmp_path_factory.mktemp("adapted")
    base = save_tiny(root / "base", "gemma")
    lora = save_adapter(base, root / "my-lora", KINDS["lora-head"]())
    (root / "text.txt").write_text(text(3, 3000))
    return RunOptions(str(base), adapter=str(lora), text=(str(root / "text.txt"),), positions=512, cache=False)


def test_a_session_shows_the_adapted_models_next_tokens_and_its_name(options: RunOptions) -> None:
    session = run(open_session(options))
    theirs = adapted(Path(options.model), Path(str(options.adapter)))
    ids = session.analysis.model.tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        wanted = theirs(input_ids=ids).logits[0, -1].softmax(-1)
    answer = session.evaluate(PROMPT, Intervention())
    assert len(answer.ids) > 100
    assert np.allclose(answer.base, wanted.numpy()[answer.ids], rtol=0, atol=1e-6)
    status = inspect_fields(session.table, Intervention(), None, True, None)
    assert status[0].text.endswith("+my-lora")
    assert any(label == "adapter" and "LoRA" in said for label, said in card_lines(session.card))
    assert any("my-lora (LoRA) merged into its weights" in warning for warning in session.warnings)


def test_every_command_names_the_adapter(options: RunOptions) -> None:
    assert common_options(options)[:3] == [options.model, "--adapter", str(options.adapter)]
    assert command_lines(options, PROMPT, Intervention(), "mask.json").count(f"--adapter {options.adapter}") == 2
    assert mask_name(options) == "tpe-mask-base-my-lora.json"
    assert common_options(RunOptions("gpt2", revision="adapter:a/b")) == ["gpt2", "--revision", "adapter:a/b"]


@pytest.mark.parametrize(("model", "revision", "title"), [
    ("gpt2", None, "gpt2"),
    ("gpt2", "v1", "gpt2"),
    ("gpt2", "adapter:./runs/my-lora/", "gpt2+my-lora"),
    ("gpt2", "v1+adapter:someone/lora", "gpt2+lora"),
])  # fmt: skip
def test_a_models_title_has_its_adapter(model: str, revision: str | None, title: str) -> None:
    assert model_title(model, revision) == title
