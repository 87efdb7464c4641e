"""Which tensor is the head: for every kind of architecture, and where a checkpoint calls it otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    MobileBertConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from tests.helpers.tiny_models import WIDTH, save_tiny, tiny_config
from tpe_core.dynamics.suite.head_name import head_name
from tpe_core.dynamics.suite.weight_files import LocalFiles, UnusableError, open_weights
from tpe_core.errors import ModelError
from tpe_core.progress import run

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def named(folder: Path, task: str | None = None) -> str:
    head = head_name(AutoConfig.from_pretrained(folder), task, "it")
    return run(head.find(run(open_weights(LocalFiles(folder)))))


def same(folder: Path, name: str, weight: torch.Tensor) -> bool:
    return torch.equal(run(run(open_weights(LocalFiles(folder))).tensor(name)), weight)


@pytest.mark.parametrize("kind", ["gpt2", "gptj", "neox", "llama", "gemma", "granite", "gemma2"])
def test_the_head_is_what_transformers_says(tmp_path: Path, kind: str) -> None:
    folder = save_tiny(tmp_path, kind)
    weight = AutoModelForCausalLM.from_pretrained(folder).get_output_embeddings().weight
    assert same(folder, named(folder), weight)


def test_masked_and_encoder_decoder_models(tmp_path: Path) -> None:
    bert = BertForMaskedLM(BertConfig(vocab_size=50, **SMALL))
    bert.save_pretrained(tmp_path / "bert")
    assert same(tmp_path / "bert", named(tmp_path / "bert"), bert.get_output_embeddings().weight)
    t5 = T5ForConditionalGeneration(T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))
    t5.save_pretrained(tmp_path / "t5")
    assert same(tmp_path / "t5", named(tmp_path / "t5"), t5.get_output_embeddings().weight)


def renamed(folder: Path, change: dict[str, str]) -> dict[str, torch.Tensor]:
    path = folder / "model.safetensors"
    tensors = {change.get(name, name): tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path)
    return tensors


def test_a_checkpoint_of_the_body_alone(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "gpt2")
    names = load_file(folder / "model.safetensors")
    renamed(folder, {name: name.removeprefix("transformer.") for name in names})
    assert named(folder) == "wte.weight"


def test_a_head_under_another_name_is_what_nothing_else_is(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "llama")
    tensors = load_file(folder / "model.safetensors")
    renamed(folder, {"lm_head.weight": "generator.kernel"})
    assert named(folder) == "generator.kernel"
    path = folder / "model.safetensors"
    save_file({**load_file(path), "other": torch.zeros_like(tensors["lm_head.weight"])}, path)
    with pytest.raises(UnusableError, match=r"as lm_head\.weight, and it could be generator\.kernel or other"):
        named(folder)
    save_file({name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}, path)
    with pytest.raises(UnusableError, match=r"not there as lm_head\.weight$"):
        named(folder)


def test_heads_that_are_no_single_matrix_are_refused() -> None:
    config = MobileBertConfig(num_hidden_layers=1, architectures=["MobileBertForMaskedLM"])
    with pytest.raises(ModelError, match="it has no single output matrix: its head is kept in pieces"):
        head_name(config, None, "it")


def test_architectures_are_told_apart() -> None:
    gpt2, wide = tiny_config("gpt2"), tiny_config("gpt2")
    wide.n_embd = 2 * WIDTH
    deep = tiny_config("gpt2")
    deep.n_layer = 3
    first, *others = (head_name(config, None, "it") for config in (gpt2, wide, deep, tiny_config("llama")))
    assert first == head_name(tiny_config("gpt2"), None, "it")
    assert all(first != other for other in others)
    assert str(first) == f"gpt2 with a head of 320 x {WIDTH}"
