"""Heads measured or refused, and every way in which a model can fail to load, each with its own sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import torch
from huggingface_hub import errors as hub_errors
from torch import nn

from tests.conftest import CONTEXT, VOCAB, WIDTH, save_tiny
from tpe_core.errors import HeadError, ModelError, TpeError
from tpe_core.head import _read, capture_hidden
from tpe_core.model import LanguageModel, load_model
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
        "schema", "class", "head", "vocab_rows", "padding_rows", "hidden_size", "tied", "bias", "post", "dtype",
        "device",        "max_abs_error", "supported", "reason",
    }  # fmt: skip
    ids = torch.randint(0, VOCAB, (3, 20), generator=torch.Generator().manual_seed(0))
    wanted = model.logits(ids)
    ours = model.head.logits(model.hidden(ids))
    assert float((ours - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max())
    assert report["max_abs_error"] <= 1e-4 * float(wanted.abs().max())


@pytest.mark.parametrize(
    ("kind", "reason"), [("granite", "a factor of 0.25 on the logits explains it"), ("gemma2", "soft cap")]
)
def test_other_heads_are_refused_with_the_reason(tiny: Callable[[str], LanguageModel], kind: str, reason: str) -> None:
    model = tiny(kind)
    assert not model.report.supported
    assert reason in model.report.reason
    assert model.report.to_dict()["post"]["kind"] == "unknown"
    with pytest.raises(HeadError, match="cannot be inspected: the model's logits are not W h"):
        _ = model.head


def test_reading_through_the_module_is_reading_the_weight(tiny: Callable[[str], LanguageModel]) -> None:
    class Wrapped(nn.Module):  # as an adapter or a quantised layer would be
        def __init__(self, inner: nn.Linear) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x) * 1.0

    for kind in ("gptj", "llama"):
        inner = tiny(kind).hf.get_output_embeddings()
        direct = _read(inner, WIDTH, torch.device("cpu"), torch.float32)
        through = _read(Wrapped(inner), WIDTH, torch.device("cpu"), torch.float32)
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
        capture_hidden(tiny("gpt2").hf, nn.Linear(2, 2), {"input_ids": torch.arange(4)[None]})


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


def test_prompts_keep_their_end(tiny: Callable[[str], LanguageModel]) -> None:
    model = tiny("gpt2")
    ids, dropped = model.prompt_ids("the list of keys")
    assert dropped == 0
    assert model.tokenizer.decode(ids[0]) == "the list of keys"
    ids, dropped = model.prompt_ids("list " * 200)
    assert ids.shape == (1, CONTEXT)
    assert dropped > 0
    assert model.prompt_ids("")[0].tolist() == [[0]]


def says(match: str, **options: Any) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        load_model(RunOptions(**options))
    assert "\n" not in str(caught.value)


def test_local_folders_that_are_no_models(tmp_path: Path) -> None:
    says("there is no folder", model=str(tmp_path / "missing"))
    says("there is no folder ./missing", model="./missing")
    (tmp_path / "empty").mkdir()
    says("has no config.json", model=str(tmp_path / "empty"))
    folder = save_tiny(tmp_path / "model")
    (tmp_path / "file").write_text("x")
    says("is a file", model=str(tmp_path / "file"))
    cut = shutil.copytree(folder, tmp_path / "cut")
    (cut / "model.safetensors").unlink()
    says("but no weights", model=str(cut))
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"\x00" * 100)
    says("could not be loaded", model=str(broken))
    (broken / "config.json").write_text("{")
    says("could not be loaded", model=str(broken))


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


def test_fingerprint_follows_the_config(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "a")
    first = load_model(RunOptions(model=str(folder))).fingerprint
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_head": 4}))
    assert load_model(RunOptions(model=str(folder))).fingerprint != first
    moved = shutil.copytree(save_tiny(tmp_path / "b"), tmp_path / "c")
    assert load_model(RunOptions(model=str(moved))).fingerprint == first


def test_architectures_that_are_not_causal(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"architectures": ["BertForMaskedLM"], "model_type": "bert"})
    )
    says("was saved as BertForMaskedLM, not as a causal language model", model=str(folder))


def test_devices_and_dtypes_that_do_not_exist(tmp_path: Path) -> None:
    folder = str(save_tiny(tmp_path))
    says("the device 'abacus' cannot be used", model=folder, device="abacus")
    says("the device 'mps' cannot be used: it has no float64", model=folder, device="mps")
    says("unknown dtype 'float7'", model=folder, dtype="float7")


def _response(code: int) -> httpx2.Response:
    return httpx2.Response(code, request=httpx2.Request("GET", "https://hub.invalid"))


@pytest.mark.parametrize(
    ("raised", "match"),
    [
        (
            lambda: hub_errors.RepositoryNotFoundError("404", response=_response(404)),
            "the hub has no model .*check the spelling",
        ),
        (lambda: hub_errors.GatedRepoError("403", response=_response(403)), "is gated: accept its terms"),
        (
            lambda: hub_errors.LocalEntryNotFoundError("offline"),
            "is not in the local cache and the hub cannot be reached",
        ),
        (lambda: hub_errors.RevisionNotFoundError("404", response=_response(404)), "has no revision 'v9'"),
        (lambda: hub_errors.EntryNotFoundError("404"), "has no config.json on the hub"),
    ],
)
def test_hub_failures_are_different_sentences(
    monkeypatch: pytest.MonkeyPatch, raised: Callable[[], Exception], match: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise raised()

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    says(match, model="someone/model", revision="v9")


def test_offline_and_misspelt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    says("is not in the local cache and --offline was given", model="someone/model", offline=True)
    says("neither a folder nor a hub id", model="some one model??", offline=True)


def test_an_unusable_prompt_is_a_sentence(
    tiny: Callable[[str], LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("gpt2")
    monkeypatch.setattr(model.tokenizer, "bos_token", None)
    monkeypatch.setattr(model.tokenizer, "eos_token", None)
    with pytest.raises(TpeError, match="the prompt is empty"):
        model.prompt_ids("")


def test_head_hash_is_of_the_content(tiny: Callable[[str], LanguageModel]) -> None:
    head = tiny("gptj").head
    assert len(head.sha256) == 64
    assert head.sha256 == tiny("gptj").head.sha256 != tiny("llama").head.sha256
    assert np.array_equal(head.weight.numpy(), head.columns.T.numpy())
