"""Folders that hold a model or do not, what a checkpoint predicts, where its weights go, and what they will take."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    LlavaConfig,
    PretrainedConfig,
    T5Config,
    XLMConfig,
)

from tests.helpers.tasks import save_task_model
from tests.helpers.tiny_models import CONTEXT, VOCAB, WIDTH, save_tiny, tiny_config
from tpe_core.errors import ModelError
from tpe_core.models import loading
from tpe_core.models.footprint import _main_memory, estimate
from tpe_core.models.loading import load_model, load_steps
from tpe_core.models.model import LanguageModel
from tpe_core.models.placement import values
from tpe_core.models.tasks import auto_class, task_of
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, size_text


def says(match: str, **options: Any) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        load_model(RunOptions(**options))
    assert "\n" not in str(caught.value)


# folders


def test_local_folders_that_are_no_models(tmp_path: Path) -> None:
    says("there is no folder", model=str(tmp_path / "missing"))
    says("there is no folder ./missing", model="./missing")
    says("no model is named", model="")
    says("no model is named", model=" ")
    (tmp_path / "empty").mkdir()
    says("has no config.json", model=str(tmp_path / "empty"))
    folder = save_tiny(tmp_path / "model")
    (tmp_path / "file").write_text("x")
    says("is a file", model=str(tmp_path / "file"))
    cut = shutil.copytree(folder, tmp_path / "cut")
    (cut / "model.safetensors").unlink()
    says(r"not all weights \(model.safetensors is missing\)", model=str(cut))
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"\x00" * 100)
    says("model.safetensors of .* is not whole", model=str(broken))
    shutil.copy(folder / "model.safetensors", broken)
    (broken / "config.json").write_text("{")
    says("could not be loaded", model=str(broken))


def test_a_folder_without_one_of_its_shards_is_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    says("model-00002-of-00002.safetensors is missing", model=str(folder))
    (folder / "model.safetensors.index.json").write_text("[]")
    says("the weight index .* cannot be read", model=str(folder))


def test_a_checkpoint_without_its_head_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save_tiny(tmp_path, "llama")
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    says("lacks 1 weights of a causal language model .first: lm_head.weight", model=str(folder))


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ModelError):
        load_model(RunOptions(model=str(folder)))


def test_a_revision_needs_the_hub(tmp_path: Path) -> None:
    says("is a folder and has no revision 'v2'", model=str(save_tiny(tmp_path)), revision="v2")
    says("demo is a folder and has no revision", model="demo", revision="v2")


# what a checkpoint predicts


def config_of(kind: type[PretrainedConfig], *architectures: str, **fields: Any) -> PretrainedConfig:
    return kind(architectures=list(architectures) or None, **fields)


@pytest.mark.parametrize(
    ("config", "task"),
    [
        (config_of(GPT2Config, "GPT2LMHeadModel"), "causal"),
        (config_of(GPT2Config, "GPT2DoubleHeadsModel"), "causal"),
        (config_of(GPT2Config), "causal"),
        (config_of(LlamaConfig, "MistralForCausalLM"), "causal"),  # another name over the same config
        (config_of(LlavaConfig, "LlavaForConditionalGeneration"), "causal"),  # images are left out
        (config_of(BertConfig, "BertForMaskedLM"), "masked"),
        (config_of(BertConfig, "BertForPreTraining"), "masked"),
        (config_of(BertConfig, "BertLMHeadModel"), "causal"),
        (config_of(BertConfig), "masked"),
        (config_of(BertConfig, is_decoder=True), "causal"),
        (config_of(XLMConfig, "XLMWithLMHeadModel"), "masked"),
        (config_of(XLMConfig, "XLMWithLMHeadModel", causal=True), "causal"),
        (config_of(T5Config, "T5ForConditionalGeneration"), "seq2seq"),
        (config_of(T5Config, "T5WithLMHeadModel"), "seq2seq"),
        (AutoConfig.for_model("bart", architectures=["BartModel"]), "seq2seq"),
        (AutoConfig.for_model("bart", architectures=["BartForCausalLM"], is_encoder_decoder=False), "causal"),
        (AutoConfig.for_model("marian", architectures=["MarianMTModel"]), "seq2seq"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.model_type}-{(value.architectures or ['none'])[0]}",
)
def test_the_task_is_the_one_it_was_saved_for(config: PretrainedConfig, task: str) -> None:
    assert task_of(config, None) == task
    assert task_of(config, task) == task


def test_remote_code_says_its_task_by_its_auto_classes() -> None:
    config = PretrainedConfig(architectures=["OwnModelThing"], auto_map={"AutoModelForMaskedLM": "own.OwnMasked"})
    assert task_of(config, None) == "masked"
    assert auto_class(config, "masked").__name__ == "AutoModelForMaskedLM"


@pytest.mark.parametrize(
    ("config", "asked", "match"),
    [
        (
            config_of(BertConfig, "BertForSequenceClassification"),
            None,
            "was saved as BertForSequenceClassification, not",
        ),
        (AutoConfig.for_model("vit", architectures=["ViTForImageClassification"]), None, "not as a language model"),
        (AutoConfig.for_model("vit"), None, "a vit model, for which transformers has no language model"),
        (config_of(GPT2Config), "seq2seq", "is a gpt2 model, which transformers cannot load as seq2seq"),
        (config_of(GPT2Config), "denoising", "unknown task 'denoising': choose one of causal, masked, seq2seq"),
    ],
)
def test_what_is_no_language_model_is_refused(config: PretrainedConfig, asked: str | None, match: str) -> None:
    with pytest.raises(ModelError, match=match):
        task_of(config, asked)


@pytest.mark.parametrize(
    ("kind", "task"), [("bert", "masked"), ("roberta", "masked"), ("t5", "seq2seq"), ("bart", "seq2seq")]
)
def test_every_task_loads_its_class_and_its_head(tmp_path: Path, kind: str, task: str) -> None:
    model = load_model(RunOptions(model=str(save_task_model(tmp_path, kind))))
    assert model.task == task
    assert model.report.supported, model.report.reason
    assert model.hf.get_output_embeddings() is not None


def test_a_task_can_be_asked_for(tmp_path: Path) -> None:
    folder = str(save_task_model(tmp_path, "bert"))
    assert load_model(RunOptions(model=folder, task="causal")).task == "causal"
    says("is a bert model, which transformers cannot load as seq2seq", model=folder, task="seq2seq")


def test_positions_that_begin_after_the_padding_are_not_counted_twice(tmp_path: Path) -> None:
    model = load_model(RunOptions(model=str(save_task_model(tmp_path, "roberta"))))
    assert model.context < model.hf.config.max_position_embeddings
    ids = torch.full((1, model.context), 7)
    assert model.logits(ids).isfinite().all()
    with pytest.raises((IndexError, RuntimeError)):
        model.logits(torch.full((1, model.context + 1), 7))


# devices and precision


def test_devices_and_dtypes_that_do_not_exist(tmp_path: Path) -> None:
    folder = str(save_tiny(tmp_path))
    says("the device 'abacus' cannot be used", model=folder, device="abacus")
    says("the device 'mps' cannot be used: it has no float64", model=folder, device="mps")
    says("unknown dtype 'float7'", model=folder, dtype="float7")
    says("contradict each other", model=folder, device="cpu", device_map="auto")
    says("the device map 'somewhere' cannot be used: give one of auto", model=folder, device_map="somewhere")
    says("the device map '{}' cannot be used", model=folder, device_map="{}")
    says("unknown quantisation '3bit'", model=folder, quantize="3bit")


LAYERS_ON_DISK = {
    "model.embed_tokens": "cpu", "model.layers.0": "disk", "model.layers.1": "cpu", "model.norm": "cpu",
    "model.rotary_emb": "cpu", "lm_head": "disk",
}  # fmt: skip


@pytest.mark.parametrize("device_map", ["auto", {"model": "cpu", "lm_head": "disk"}, LAYERS_ON_DISK], ids=str)
def test_an_offloaded_model_is_the_same_model(tmp_path: Path, device_map: Any) -> None:
    folder = save_tiny(tmp_path / "model", "llama")
    plain = load_model(RunOptions(model=str(folder)))
    asked = device_map if isinstance(device_map, str) else json.dumps(device_map)
    model = load_model(RunOptions(model=str(folder), device_map=asked))
    away = {name for name, parameter in model.hf.named_parameters() if parameter.device.type == "meta"}
    assert ("lm_head.weight" in away) == (device_map != "auto")
    assert any("layers.0" in name for name in away) == (device_map == LAYERS_ON_DISK)
    assert model.report.supported
    assert model.device == torch.device("cpu")
    ids = torch.randint(0, VOCAB, (2, 20), generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.logits(ids), plain.logits(ids))
    assert torch.equal(model.head.columns, plain.head.columns)
    assert all(tensor.device.type == "cpu" for _, tensor in values(model.hf))
    assert model.fingerprint == plain.fingerprint


def test_the_offload_folders_of_dead_processes_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPE_CACHE_DIR", str(tmp_path / "cache"))
    dead = tmp_path / "cache" / "offload" / "4194999"
    dead.mkdir(parents=True)
    (dead / "weight").write_text("x")
    load_model(RunOptions(model=str(save_tiny(tmp_path / "model")), device_map="auto"))
    assert not dead.exists()


def test_quantising_without_its_library_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "bitsandbytes" else find(name, *a)
    )
    says(r"needs bitsandbytes.*pip install 'tpe-tui\[quantize\]'", model=str(save_tiny(tmp_path)), quantize="4bit")


@pytest.mark.parametrize("quantize", ["8bit", "4bit"])
def test_a_quantised_body_keeps_its_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantize: str) -> None:
    pytest.importorskip("bitsandbytes")
    wide = LlamaConfig(
        **{**tiny_config("llama").to_dict(), "hidden_size": 64, "intermediate_size": 128, "head_dim": 32}
    )
    monkeypatch.setattr("tests.helpers.tiny_models.tiny_config", lambda kind: wide)
    folder = str(save_tiny(tmp_path, "llama"))
    plain, packed = load_model(RunOptions(model=folder)), load_model(RunOptions(model=folder, quantize=quantize))
    assert packed.report.supported
    assert torch.equal(packed.head.columns, plain.head.columns)
    assert plain.memory is not None
    assert packed.memory is not None
    assert packed.memory.body_bytes == pytest.approx(packed.hf.get_memory_footprint(), rel=0.1)
    assert packed.memory.body_bytes < 0.6 * plain.memory.body_bytes


# memory


@pytest.mark.parametrize("kind", ["gpt2", "llama", "neox"])
def test_weights_are_counted_without_reading_them(tmp_path: Path, kind: str) -> None:
    folder = save_tiny(tmp_path, kind)
    model = load_model(RunOptions(model=str(folder)))
    counted = sum(parameter.numel() for parameter in model.hf.parameters())
    config = model.hf.config
    for saved in (folder, None):
        found = estimate(config, saved, torch.float32, "causal", 10**9)
        assert found.parameters == counted
        assert found.body_bytes == 4 * counted
    assert found.head_float32_bytes == 4 * config.vocab_size * WIDTH
    assert estimate(config, folder, torch.bfloat16, "causal", 0).body_bytes == 2 * counted
    assert estimate(config, folder, None, "causal", 0).body_bytes == 4 * counted  # as saved


def test_pickled_weights_are_counted_too(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path, "llama")
    model = load_model(RunOptions(model=str(folder)))
    (folder / "model.safetensors").unlink()
    torch.save({name: tensor.half() for name, tensor in model.hf.state_dict().items()}, folder / "pytorch_model.bin")
    counted = sum(parameter.numel() for parameter in model.hf.parameters())
    assert estimate(model.hf.config, folder, None, "causal", 0).body_bytes == 2 * counted
    again = load_model(RunOptions(model=str(folder)))
    assert again.memory is not None
    assert again.memory.parameters == counted


def test_a_model_that_cannot_fit_is_refused_with_both_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(save_tiny(tmp_path, "llama"))
    monkeypatch.setattr(loading, "available_bytes", lambda device: 20_000)
    says("take 62 kB and 20 kB of memory are free: try --dtype bfloat16, --device-map auto", model=folder)
    assert load_model(RunOptions(model=folder, device_map="auto")).report.supported


def test_loading_tells_what_it_needs(tmp_path: Path) -> None:
    events = list(load_steps(RunOptions(model=str(save_tiny(tmp_path)))))
    assert all(isinstance(event, Progress) for event in events)
    assert any(
        event.label == "load model" and "needs 67 MB, " in event.note and "free" in event.note for event in events
    )


def test_memory_is_what_the_system_says_is_free(tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    groups.mkdir()
    (proc / "meminfo").write_text("MemTotal: 2000 kB\nMemAvailable:    1000 kB\n")
    assert _main_memory(proc, groups) == 1_024_000
    (proc / "self" / "cgroup").write_text("0::/jobs/one\n")
    own = groups / "jobs" / "one"
    own.mkdir(parents=True)
    (own / "memory.max").write_text("max\n")
    (own / "memory.current").write_text("700000\n")
    (own / "memory.stat").write_text("anon 100\ninactive_file 500000\n")
    assert _main_memory(proc, groups) == 1_024_000
    (own / "memory.max").write_text("900000\n")
    assert _main_memory(proc, groups) == 700_000  # what is only kept for later reading is free
    old = groups / "memory"
    old.mkdir()
    (old / "memory.limit_in_bytes").write_text("300000\n")
    (old / "memory.usage_in_bytes").write_text("100000\n")
    (old / "memory.stat").write_text("total_inactive_file 0\n")
    assert _main_memory(proc, groups) == 200_000
    assert _main_memory(tmp_path / "nowhere", tmp_path / "nowhere") > 0


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (812, "812 B"),
        (1500, "1.5 kB"),
        (5.6e9, "5.6 GB"),
        (1.4e11, "140 GB"),
        (999.6e6, "1.0 GB"),
        (3e15, "3000 TB"),
    ],
)
def test_sizes_for_people(count: float, text: str) -> None:
    assert size_text(count) == text


def test_footprints_add_up(tiny: Callable[[str], LanguageModel]) -> None:
    memory = tiny("llama").memory
    assert memory is not None
    document = memory.to_dict()
    assert document["needed_bytes"] == sum(document[f"{part}_bytes"] for part in ("body", "head_float32", "detection"))
    assert set(document) == {field.name for field in dataclasses.fields(memory)} | {"needed_bytes"}
    assert tiny("llama").context == CONTEXT
