"""Adapters as peft loads them, against the hooked model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import tpe_core.export.peft_adapter
from tests.core.export.conftest import steered
from tests.helpers.checkpoints import loaded, logits_of
from tests.helpers.tiny_models import save_tiny, text
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.intervention import Intervention, Method
from tpe_core.errors import TpeError
from tpe_core.export.formats import export, planned
from tpe_core.export.peft_adapter import CONFIG, WEIGHTS
from tpe_core.export.plan import Exported, Request
from tpe_core.hooks import apply
from tpe_core.models.loading import load_model
from tpe_core.models.model import LanguageModel
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.session import open_session

LOADED_BY_PEFT = """
import sys
import torch
import transformers
from peft import PeftModel

for base, adapter, out in zip(*[iter(sys.argv[1:])] * 3):
    hf = transformers.AutoModelForCausalLM.from_pretrained(base).eval()
    embedding = hf.get_input_embeddings().weight.detach().clone()
    inputs = torch.load(out + ".inputs")
    model = PeftModel.from_pretrained(hf, adapter).eval()
    with torch.inference_mode():
        logits = model(**inputs).logits.float()
    assert torch.equal(hf.get_input_embeddings().weight, embedding)
    torch.save(logits, out)
assert not [name for name in sys.modules if name.startswith("tpe")]
"""


def adapter_of(model: LanguageModel, edit: ResolvedEdit, out: Path) -> Exported:
    written = run(export(Request(model=model, edit=edit, out=out), "peft"))
    assert isinstance(written, Exported)
    return written


def hooked(model: LanguageModel, edit: ResolvedEdit) -> torch.Tensor:
    with apply(model, edit):
        return model.logits(model.example_inputs()).float()


METHODS: tuple[Method, ...] = ("least-squares", "min-norm", "top-k")


@pytest.mark.parametrize("name", ["gpt2-tied", "neox-untied", "llama-tied", "gemma2-tied", "granite-tied", "t5-tied"])
@pytest.mark.parametrize(("tokens", "rank"), [(1, 1), (100, 1), (30, 3)])
def test_peft_gives_the_hooked_models_logits_and_the_rank_is_that_of_the_methods(
    tiny: Callable[[str], LanguageModel], name: str, tokens: int, rank: int, tmp_path: Path
) -> None:
    import peft
    import transformers

    model = tiny(name)
    edit = steered(model.head.hidden_size, range(8, 8 + tokens), METHODS[:rank])
    own = logits_of(model.hf, model)
    written = adapter_of(model, edit, tmp_path / "out")
    assert written.facts["rank"] == rank
    config = json.loads((tmp_path / "out" / CONFIG).read_text())
    assert config["r"] == config["lora_alpha"] == rank
    kind = transformers.AutoModelForSeq2SeqLM if model.task == "seq2seq" else transformers.AutoModelForCausalLM
    hf = kind.from_pretrained(model.name)
    embedding = hf.get_input_embeddings().weight.detach().clone()
    around = peft.PeftModel.from_pretrained(hf, str(tmp_path / "out")).eval()
    with apply(model, edit):
        wanted = logits_of(model.hf, model)
    assert float((wanted - own).abs().max()) > 0.01
    found = logits_of(around.get_base_model(), model)
    assert float((found - wanted).abs().max()) <= 1e-5 * max(1.0, float(wanted.abs().max()))
    assert torch.equal(hf.get_input_embeddings().weight, embedding)
    assert torch.equal(logits_of(model.hf, model), own)
    assert all(parameter.requires_grad for parameter in model.hf.parameters())


def test_a_process_with_transformers_and_peft_alone_gives_the_hooked_models_logits(
    tiny: Callable[[str], LanguageModel], tmp_path: Path
) -> None:
    words: list[str] = []
    for name in ("llama-tied", "llama-untied"):
        model, out = tiny(name), tmp_path / name
        adapter_of(model, steered(model.head.hidden_size, range(8, 108)), out)
        torch.save(dict(model.example_inputs()), f"{out}.logits.inputs")
        words += [model.name, str(out), f"{out}.logits"]
    done = subprocess.run(
        [sys.executable, "-c", LOADED_BY_PEFT, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for name in ("llama-tied", "llama-untied"):
        model = tiny(name)
        wanted = hooked(model, steered(model.head.hidden_size, range(8, 108)))
        found = torch.load(f"{tmp_path / name}.logits")
        assert float((found - wanted).abs().max()) <= 1e-5 * max(1.0, float(wanted.abs().max()))


def test_five_hundred_tokens_of_the_bundled_model_are_one_rank(tmp_path: Path) -> None:
    model = load_model(RunOptions())
    edit = steered(model.head.hidden_size, range(1000, 1500))
    written = adapter_of(model, edit, tmp_path / "out")  # compared with the hooked model before it is there
    assert written.facts["rank"] == 1
    assert written.size < 4 * (model.head.total_rows + model.head.hidden_size) + 100_000
    assert "loaded with peft" in written.checked


@pytest.mark.parametrize("name", ["llama-tied", "gptj-untied", "gemma2-tied", "granite-tied"])
def test_constants_are_held_by_the_bias_of_the_second_matrix(
    tiny: Callable[[str], LanguageModel], name: str, tmp_path: Path
) -> None:
    model = tiny(name)
    edit = steered(model.head.hidden_size, (9, 20, 31, 40), ("bias", "least-squares"))
    written = adapter_of(model, edit, tmp_path / "out")
    assert json.loads((tmp_path / "out" / CONFIG).read_text())["lora_bias"]
    assert "lora_bias" in written.verdict.how
    alone = steered(model.head.hidden_size, (9,), ("bias",))
    assert adapter_of(model, alone, tmp_path / "alone").facts["rank"] == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_in_half_precision_gets_its_adapter_in_float32(dtype: str, tmp_path: Path) -> None:
    model = loaded(tmp_path / "model", "causal", "llama", dtype=dtype, tie_word_embeddings=True)
    adapter_of(model, steered(model.head.hidden_size, (9, 20)), tmp_path / "out")
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / WEIGHTS).values()} == {np.dtype(np.float32)}


def test_the_comparison_tells_the_edit_from_the_runtime(tiny: Callable[[str], LanguageModel], tmp_path: Path) -> None:
    model = tiny("llama-tied")
    edit = steered(model.head.hidden_size, (12, 21))
    comparison = adapter_of(model, edit, tmp_path / "out").comparison
    assert comparison is not None
    assert comparison.runtime.startswith("peft ")
    assert comparison.edited_difference < 1e-5
    assert comparison.unedited_difference == 0
    for side in (comparison.edited, comparison.unedited):
        assert len(side) == 3
        assert all(len(prompt.tokens) == 20 for prompt in side)
    inputs, at, *_ = model.sampling.prompt(comparison.edited[0].prompt, model.context)
    with apply(model, edit):
        wanted = model.logits(inputs)[0, at].double().softmax(-1)
    pair = comparison.edited[0].tokens[0]
    assert pair.token_id == int(wanted[: model.head.vocab_rows].argmax())
    assert pair.found == pytest.approx(float(wanted[pair.token_id]), abs=1e-6)


def test_pruning_and_a_second_adapter_are_refused_with_the_format_that_can(
    tiny: Callable[[str], LanguageModel], tmp_path: Path
) -> None:
    model = tiny("gpt2-tied")
    edit = steered(model.head.hidden_size, (12,), pruned=(1, 4))
    with pytest.raises(TpeError, match=r"peft cannot hold this edit: pruning 2 dimensions .*; --to hf.* can\.$"):
        run(export(Request(model=model, edit=edit, out=tmp_path / "out"), "peft"))
    assert not (tmp_path / "out").exists()
    from tpe_core.models.adapters import Adapter

    adapter = Adapter(name="mine", folder=tmp_path, kind="LoRA", base="", base_revision=None, sha256="")
    plain = steered(model.head.hidden_size, (12,))
    verdict = planned(replace(model, adapter=adapter), plain, "peft")
    assert (verdict.holding, verdict.instead[0]) == ("not", "hf")
    assert "the adapter mine is on" in verdict.sentence


def test_an_adapter_that_came_out_wrong_is_not_published(
    tiny: Callable[[str], LanguageModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("llama-untied")
    edit = steered(model.head.hidden_size, (12, 21))
    write = tpe_core.export.peft_adapter._write_weights

    def damaged(model: LanguageModel, folder: Path, *rest: object) -> None:
        write(model, folder, *rest)  # type: ignore[arg-type]
        tensors = {name: np.array(tensor) for name, tensor in load_file(folder / WEIGHTS).items()}
        next(value for name, value in tensors.items() if "lora_B" in name)[12] += 0.1
        save_file(tensors, folder / WEIGHTS)

    monkeypatch.setattr(tpe_core.export.peft_adapter, "_write_weights", damaged)
    with pytest.raises(TpeError, match="is not the edited model, so none was written: logits differ by"):
        adapter_of(model, edit, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_folder_has_a_card_with_what_was_measured_and_the_manifest(tmp_path: Path) -> None:
    folder, words = save_tiny(tmp_path / "model", "llama"), tmp_path / "text.txt"
    words.write_text(text(1))
    options = RunOptions(model=str(folder), text=(str(words),), positions=1500, sample=256, cache=False)
    session = run(open_session(options))
    file = session.export(tmp_path / "edit.json", Intervention().steer(270, 2.0).steer(280, 0.5, "top-k"), "the")
    model = session.analysis.model
    request = Request(model=model, edit=session.resolved(session.load(file)), out=tmp_path / "out", manifest=file)
    written = run(export(request, "peft"))
    assert isinstance(written, Exported)
    assert "self-test holds" in written.checked
    names = {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    names |= {"intervention.json", "intervention.safetensors", "tpe_checkpoint.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    card = (tmp_path / "out" / "README.md").read_text()
    assert "(#270) steered to 2 times its mean probability, by least-squares" in card
    assert "a LoRA of rank 2 on lm_head" in card
    assert "arXiv 2406.01468" in card
    assert '"kind": "tpe.intervention"' in card
    assert json.loads((tmp_path / "out" / CONFIG).read_text())["base_model_name_or_path"] == str(folder)
    again = run(open_session(replace(options, model=str(tmp_path / "out"))))  # opened with its base, by itself
    edited = session.evaluate("the", session.load(file))
    np.testing.assert_allclose(again.evaluate("the", Intervention()).base[0], edited.now[0], atol=1e-6)
