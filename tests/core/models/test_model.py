"""A loaded model: its head against its own logits, its hidden states, its prompts, its fingerprint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.tiny_models import CONTEXT, VOCAB, WIDTH, save_tiny
from tpe_core.errors import HeadError, TpeError
from tpe_core.models.capture import capture
from tpe_core.models.head_sites import HeadSite
from tpe_core.models.loading import load_model
from tpe_core.models.model import LanguageModel
from tpe_core.models.probe import _read
from tpe_core.options import RunOptions


@pytest.mark.parametrize(
    ("kind", "bias", "padding", "tied"),
    [
        ("gpt2", False, 0, True),
        ("gptj", True, 0, False),
        ("neox", False, 12, False),
        ("llama", False, 0, False),
        ("gemma", False, 0, True),
    ],
)
def test_head_reproduces_the_models_logits(
    tiny: Callable[[str], LanguageModel], kind: str, bias: bool, padding: int, tied: bool
) -> None:
    model = tiny(kind)
    report = model.report.to_dict()
    assert report["supported"]
    assert (report["bias"], report["padding_rows"], report["tied"]) == (bias, padding, tied)
    assert (report["vocab_rows"], report["hidden_size"]) == (VOCAB, WIDTH)
    assert set(report) == {
        "schema", "class", "task", "head", "vocab_rows", "padding_rows", "masked_rows", "hidden_size", "tied", "bias",
        "post", "dtype", "device", "max_abs_error", "supported", "reason",
    }  # fmt: skip
    ids = torch.randint(0, VOCAB, (3, 20), generator=torch.Generator().manual_seed(0))
    wanted = model.logits(ids)
    ours = model.head.logits(model.hidden(ids))
    assert float((ours - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max())
    assert report["max_abs_error"] <= 1e-4 * float(wanted.abs().max())


def test_reading_through_the_module_is_reading_the_weight(tiny: Callable[[str], LanguageModel]) -> None:
    class Wrapped(nn.Module):  # as an adapter or a quantised layer would be
        def __init__(self, inner: nn.Linear) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x) * 1.0

    for kind in ("gptj", "llama"):
        inner = tiny(kind).hf.get_output_embeddings()
        direct = _read(HeadSite(inner), WIDTH, torch.device("cpu"), torch.float32)
        through = _read(HeadSite(Wrapped(inner)), WIDTH, torch.device("cpu"), torch.float32)
        assert float((direct[0] - through[0]).abs().max()) < 1e-5
        assert (direct[1] is None) == (through[1] is None)
        if direct[1] is not None and through[1] is not None:
            assert float((direct[1] - through[1]).abs().max()) < 1e-6


def test_capture_leaves_the_model_unharmed(tiny: Callable[[str], LanguageModel]) -> None:
    model = tiny("gpt2")
    ids = torch.arange(10)[None]
    before = model.logits(ids)
    model.hidden(ids)
    assert not model.hf.get_output_embeddings()._forward_pre_hooks
    assert torch.equal(model.logits(ids), before)


def test_a_head_that_is_never_called_is_refused(tiny: Callable[[str], LanguageModel]) -> None:
    with pytest.raises(HeadError, match="never calls its output head Linear"):
        capture(tiny("gpt2").hf, HeadSite(nn.Linear(2, 2)), {"input_ids": torch.arange(4)[None]})


def test_half_precision_heads_are_float32_products(tmp_path: Path) -> None:
    model = load_model(RunOptions(model=str(save_tiny(tmp_path, "llama")), dtype="bfloat16"))
    assert model.report.supported
    assert model.report.dtype == "bfloat16"
    assert model.head.columns.dtype == torch.float32
    assert model.head.logits(model.hidden(torch.arange(5)[None])).dtype == torch.float32


def test_fingerprint_follows_any_weight(tmp_path: Path) -> None:
    def nudge(name: str) -> Callable[[Any], None]:
        def edit(model: Any) -> None:
            dict(model.named_parameters())[name].flatten()[0] += 1e-3

        return edit

    prints = [load_model(RunOptions(model=str(save_tiny(tmp_path / "a")))).fingerprint]
    prints.append(load_model(RunOptions(model=str(save_tiny(tmp_path / "b")))).fingerprint)
    assert prints[0] == prints[1]
    for i, name in enumerate(("transformer.wte.weight", "transformer.h.0.ln_1.bias")):
        prints.append(load_model(RunOptions(model=str(save_tiny(tmp_path / f"c{i}", edit=nudge(name))))).fingerprint)
    assert len(set(prints)) == 3


def test_fingerprint_follows_the_config(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "a")
    first = load_model(RunOptions(model=str(folder))).fingerprint
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_head": 4}))
    assert load_model(RunOptions(model=str(folder))).fingerprint != first
    moved = shutil.copytree(save_tiny(tmp_path / "b"), tmp_path / "c")
    assert load_model(RunOptions(model=str(moved))).fingerprint == first


def test_prompts_keep_their_end(tiny: Callable[[str], LanguageModel]) -> None:
    model = tiny("gpt2")
    inputs, at, used, dropped = model.sampling.prompt("the list of keys", CONTEXT)
    assert (at, dropped) == (used - 1, 0)
    assert used == inputs["input_ids"].shape[1]
    assert model.tokenizer.decode(inputs["input_ids"][0]) == "the list of keys"
    inputs, at, used, dropped = model.sampling.prompt("list " * 200, CONTEXT)
    assert inputs["input_ids"].shape == (1, CONTEXT)
    assert used == CONTEXT
    assert dropped > 0
    assert model.sampling.prompt("", CONTEXT)[0]["input_ids"].tolist() == [[0]]
    hidden, used, dropped = model.last_hidden("the list of keys")
    assert torch.equal(hidden, model.hidden(model.sampling.prompt("the list of keys", CONTEXT)[0])[0, -1])


def test_an_unusable_prompt_is_a_sentence(
    tiny: Callable[[str], LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("gpt2")
    monkeypatch.setattr(model.tokenizer, "bos_token", None)
    monkeypatch.setattr(model.tokenizer, "eos_token", None)
    with pytest.raises(TpeError, match="the prompt is empty"):
        model.last_hidden("")


def test_head_hash_is_of_the_content(tiny: Callable[[str], LanguageModel]) -> None:
    head = tiny("gptj").head
    assert len(head.sha256) == 64
    assert head.sha256 == tiny("gptj").head.sha256 != tiny("llama").head.sha256
    assert np.array_equal(head.weight.numpy(), head.columns.T.numpy())
