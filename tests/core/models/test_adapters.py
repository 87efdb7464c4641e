"""PEFT adapters: what is opened is what peft's wrapper computes, and what cannot be opened is said in a sentence."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.helpers.adapters import KINDS, adapted, matrix_of, save_adapter
from tests.helpers.checkpoints import random_edit
from tests.helpers.hub import FakeHub, fake_hub
from tests.helpers.tiny_models import VOCAB, WIDTH, random_corpus, save_tiny, tiny_tokenizer
from tpe_core.checkpoint.bake import bake
from tpe_core.detection.detection import detect
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.errors import HeadError, ModelError
from tpe_core.hooks import apply
from tpe_core.models.loading import load_model
from tpe_core.models.model import LanguageModel
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_tui.cli.main import main

IDS = torch.tensor([[5, 3, 200, 7, 3, 41, 199, 12], [7, 7, 250, 3, 100, 8, 9, 10]])
TIED = ("lora", "dora", "lora-head", "lora-embedding", "lora-both-ends", "lora-both-ends-tied", "saved-head",
        "saved-ends", "new-tokens")  # fmt: skip
SOME = ("lora", "dora", "ia3", "lora-head", "saved-head", "saved-norm")
CASES = [("llama", method) for method in SOME] + [("gemma", method) for method in TIED]
OTHERS = [("llama", method) for method in KINDS if method not in SOME] + [("gemma", "ia3")]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A base model by kind: llama has a head of its own, gemma one that is tied to the input embedding."""
    root = tmp_path_factory.mktemp("bases")

    def base(kind: str) -> Path:
        return root / kind if (root / kind).exists() else save_tiny(root / kind, kind)

    return base


def hidden_of(model: Any, ids: Tensor) -> Tensor:
    """[B, L, d] the head's input, as a hook on an adapted model sees it."""
    seen: list[Tensor] = []
    head = model.get_base_model().get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.inference_mode():
        model(input_ids=ids)
    handle.remove()
    return seen[0]


def by_hand(model: Any, edit: ResolvedEdit, ids: Tensor) -> Tensor:
    """[B, L, V] the logits after an edit that prunes to zero and moves rows, written into W."""
    weight, bias = matrix_of(model)
    weight = weight.double()
    for token_id, row in edit.rows.items():
        weight[token_id] += torch.from_numpy(row)
    weight[:, list(edit.removed)] = 0
    return hidden_of(model, ids).double() @ weight.T + bias.double()


def apart(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.double() - theirs.double()).abs().max())


@pytest.mark.parametrize(("kind", "method"), CASES)
def test_alpha_edits_and_baked_checkpoints_are_those_of_the_adapted_model(
    bases: Callable[[str], Path], kind: str, method: str, tmp_path: Path
) -> None:
    folder = save_adapter(bases(kind), tmp_path / "adapter", KINDS[method]())
    theirs, model = adapted(bases(kind), folder), load_model(RunOptions(str(folder)))
    with torch.inference_mode():
        reference = theirs(input_ids=IDS).logits
    plain = AutoModelForCausalLM.from_pretrained(bases(kind))
    with torch.inference_mode():
        assert apart(reference, plain(input_ids=IDS).logits) > 0.01  # the adapter does something
    assert apart(model.logits(IDS), reference) < 1e-5
    assert apart(model.head.logits(model.hidden(IDS)), reference) < 1e-5

    corpus = random_corpus(3, 8)
    detection = run(detect(model, corpus, sample_size=8))
    with torch.inference_mode():
        probabilities = theirs(input_ids=torch.from_numpy(corpus.blocks)).logits.double().softmax(-1)
    assert np.allclose(detection.log_alpha, probabilities.mean((0, 1)).log().numpy(), rtol=0, atol=1e-5)

    edit = random_edit(WIDTH)
    wanted = by_hand(theirs, edit, IDS)
    with apply(model, edit), torch.inference_mode():
        assert apart(model.hf(input_ids=IDS).logits, wanted) < 1e-5
    baked = run(bake(model, edit, tmp_path / "baked"))
    again = AutoModelForCausalLM.from_pretrained(baked.path)
    with torch.inference_mode():
        assert apart(again(input_ids=IDS).logits, wanted) < 1e-5
    assert not (baked.path / "adapter_config.json").exists()
    assert f"has the adapter `{folder}`" in (baked.path / "README.md").read_text()


@pytest.mark.parametrize(("kind", "method"), OTHERS)
def test_every_other_kind_has_the_logits_of_the_adapted_model(
    bases: Callable[[str], Path], kind: str, method: str, tmp_path: Path
) -> None:
    folder = save_adapter(bases(kind), tmp_path / "adapter", KINDS[method]())
    model = load_model(RunOptions(str(folder)))
    with torch.inference_mode():
        reference = adapted(bases(kind), folder)(input_ids=IDS).logits
    assert apart(model.head.logits(model.hidden(IDS)), reference) < 1e-5
    assert apart(model.logits(IDS), reference) < 1e-5


@pytest.mark.parametrize("method", ["lora-head", "saved-head", "dora", "head-bias", "lora"])
def test_a_bfloat16_base_keeps_its_adapter_beside_its_weights(
    bases: Callable[[str], Path], method: str, tmp_path: Path
) -> None:
    """W is that of the float32 sum: far closer to it than a sum rounded to bfloat16."""
    folder = save_adapter(bases("gemma"), tmp_path / "adapter", KINDS[method]())
    model = load_model(RunOptions(str(folder), dtype="bfloat16"))
    assert model.report.supported
    narrow = AutoModelForCausalLM.from_pretrained(bases("gemma"), dtype=torch.bfloat16)
    theirs = peft.PeftModel.from_pretrained(narrow, str(folder)).eval()
    with torch.inference_mode():
        assert torch.equal(model.logits(IDS), theirs(input_ids=IDS).logits)
    weight, bias = matrix_of(theirs.float())
    assert apart(model.head.columns.T, weight) < 1e-6
    assert model.head.bias is None or apart(model.head.bias, bias) < 1e-6
    if method in ("lora-head", "dora"):
        assert apart(weight.bfloat16(), weight) > 1e-4  # what a merge in bfloat16 would lose
    with pytest.raises(HeadError, match="the weights are bfloat16, which would round it"):
        run(bake(model, random_edit(WIDTH), tmp_path / "baked"))


def test_a_bias_on_layers_without_one_is_part_of_w_and_b(bases: Callable[[str], Path], tmp_path: Path) -> None:
    folder = save_adapter(bases("llama"), tmp_path / "adapter", KINDS["head-bias"]())
    model, theirs = load_model(RunOptions(str(folder))), adapted(bases("llama"), folder)
    weight, bias = matrix_of(theirs)
    assert bool(bias.any())
    assert apart(model.head.columns.T, weight) < 1e-5
    assert model.head.bias is not None
    assert apart(model.head.bias, bias) < 1e-5
    with torch.inference_mode():
        assert apart(model.head.logits(model.hidden(IDS)), theirs(input_ids=IDS).logits) < 1e-5
    edit = random_edit(WIDTH)
    with apply(model, edit), torch.inference_mode():
        assert apart(model.hf(input_ids=IDS).logits, by_hand(theirs, edit, IDS)) < 1e-5


def test_the_input_embedding_stays_where_only_the_tied_head_is_adapted(
    bases: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = save_adapter(bases("gemma"), tmp_path / "adapter", KINDS["lora-head"]())
    model = load_model(RunOptions(str(folder)))
    plain = AutoModelForCausalLM.from_pretrained(bases("gemma"))
    assert torch.equal(model.hf.get_input_embeddings().weight, plain.get_input_embeddings().weight)
    assert not model.report.tied
    assert not model.hf.config.tie_word_embeddings


def test_an_adapter_with_tokens_of_its_own_widens_the_base_and_brings_its_tokenizer(
    bases: Callable[[str], Path], tmp_path: Path
) -> None:
    def widen(hf: Any) -> None:
        hf.resize_token_embeddings(VOCAB + 2, mean_resizing=False)

    folder = save_adapter(bases("llama"), tmp_path / "adapter", KINDS["saved-ends"](), widen)
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<|user|>", "<|model|>"])
    tokenizer.save_pretrained(folder)
    model = load_model(RunOptions(str(folder)))
    assert model.head.vocab_rows == VOCAB + 2
    base = AutoModelForCausalLM.from_pretrained(bases("llama"))
    widen(base)
    theirs = peft.PeftModel.from_pretrained(base, str(folder)).eval()
    ids = torch.tensor([[5, VOCAB, 3, VOCAB + 1]])
    with torch.inference_mode():
        assert apart(model.logits(ids), theirs(input_ids=ids).logits) < 1e-5


# how one is named


@pytest.fixture
def lora(bases: Callable[[str], Path], tmp_path: Path) -> Path:
    return save_adapter(bases("llama"), tmp_path / "lora", KINDS["lora"]())


def test_an_option_a_revision_and_the_folder_itself_open_the_same(bases: Callable[[str], Path], lora: Path) -> None:
    base = str(bases("llama"))
    alone = load_model(RunOptions(str(lora)))
    option = load_model(RunOptions(base, adapter=str(lora)))
    revision = load_model(RunOptions(base, revision=f"adapter:{lora}"))
    assert alone.fingerprint == option.fingerprint == revision.fingerprint
    assert (alone.name, alone.revision) == (str(lora), None)
    assert (option.name, option.revision) == (revision.name, revision.revision) == (base, f"adapter:{lora}")
    for model in (alone, option, revision):
        assert any(f"adapter {lora} (LoRA) merged into its weights" in note for note in model.warnings)
        assert model.card()["adapter"]["name"] == str(lora)


def test_no_detection_is_shared_with_the_base_or_another_adapter(bases: Callable[[str], Path], tmp_path: Path) -> None:
    """Also where an adapter changes a single number, which a spread of the weights does not see."""

    def barely(model: Path, change: float) -> Path:
        from safetensors.torch import load_file, save_file

        folder = save_adapter(bases("llama"), tmp_path / f"by{change}", peft.TrainableTokensConfig(token_indices=[3]))
        tensors = load_file(folder / "adapter_model.safetensors")
        rows = load_file(model / "model.safetensors")["model.embed_tokens.weight"][[3]].clone()
        rows[0, 1] += change
        save_file(dict.fromkeys(tensors, rows), folder / "adapter_model.safetensors")
        return folder

    base = bases("llama")
    names = [str(base), str(barely(base, 0.5)), str(barely(base, 0.25))]
    assert len({load_model(RunOptions(name)).fingerprint for name in names}) == 3


def test_a_base_beside_its_adapter_is_found_wherever_both_are_moved(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "run" / "base", "llama")
    folder = save_adapter(base, tmp_path / "run" / "adapter", KINDS["lora"]())
    set_config(folder, base_model_name_or_path="../base")
    (tmp_path / "run").rename(tmp_path / "moved")
    assert load_model(RunOptions(str(tmp_path / "moved" / "adapter"))).report.supported


def test_a_model_with_an_adapter_beside_it_is_opened_without_it_until_it_is_asked_for(
    bases: Callable[[str], Path], tmp_path: Path
) -> None:
    both = tmp_path / "both"
    shutil.copytree(bases("llama"), both)
    save_adapter(bases("llama"), tmp_path / "lora", KINDS["lora"]())
    for path in (tmp_path / "lora").iterdir():
        shutil.copy(path, both / path.name)
    plain = load_model(RunOptions(str(bases("llama")))).logits(IDS)
    assert torch.equal(load_model(RunOptions(str(both))).logits(IDS), plain)
    with torch.inference_mode():
        wanted = adapted(bases("llama"), tmp_path / "lora")(input_ids=IDS).logits
    assert apart(load_model(RunOptions(str(both), adapter=str(both))).logits(IDS), wanted) < 1e-5


def test_the_report_card_tells_the_adapter(
    bases: Callable[[str], Path], lora: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(bases("llama")), "--adapter", str(lora), "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["adapter"] | {"sha256": None} == {
        "name": str(lora), "kind": "LoRA", "base": str(bases("llama")), "layers": 4, "merged": True, "sha256": None,
    }  # fmt: skip
    assert main(["check", str(lora)]) == 0
    assert f"{lora}: LoRA, 4 layers, merged into the weights, trained on {bases('llama')}" in capsys.readouterr().out


# of the hub


@pytest.fixture
def hub(bases: Callable[[str], Path], lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub(lora, tmp_path / "hub-cache", monkeypatch) as served:
        yield served


def test_an_adapter_of_the_hub_is_fetched_and_put_on_its_base(
    hub: FakeHub, bases: Callable[[str], Path], lora: Path
) -> None:
    with torch.inference_mode():
        wanted = adapted(bases("llama"), lora)(input_ids=IDS).logits
    for offline in (False, True):  # the second time from the local cache
        for options in (
            RunOptions("someone/tiny", offline=offline),
            RunOptions(str(bases("llama")), adapter="someone/tiny", offline=offline),
        ):
            model = load_model(options)
            assert apart(model.logits(IDS), wanted) < 1e-5
        assert model.revision == "adapter:someone/tiny"


def test_an_adapter_of_the_hub_whose_base_is_out_of_reach_names_both(hub: FakeHub, lora: Path) -> None:
    set_config(lora, base_model_name_or_path="someone/base")
    for offline in (False, True):
        with pytest.raises(ModelError, match="someone/tiny is an adapter for someone/base, which cannot be had"):
            load_model(RunOptions("someone/tiny", offline=offline))


# what is refused


def set_config(folder: Path, **fields: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def lose_base(folder: Path) -> None:
    set_config(folder, base_model_name_or_path="/nowhere/base")


def lose_weights(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()


def cut_weights(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:500])


def change_tensors(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")


def lose_one(folder: Path) -> None:
    change_tensors(folder, lambda tensors: tensors.pop(min(tensors)))


def widen_one(folder: Path) -> None:
    change_tensors(folder, lambda tensors: tensors.update({min(tensors): torch.zeros(4, WIDTH + 1)}))


def unreadable(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{")


def lose_saved(folder: Path) -> None:
    base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    save_adapter(Path(base), folder, KINDS["saved-head"]())
    change_tensors(folder, lambda tensors: tensors.pop("base_model.model.lm_head.weight"))


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no base there": (lose_base, "is an adapter for /nowhere/base, which cannot be had (there is no folder"),
    "no base named": (lambda folder: set_config(folder, base_model_name_or_path=None), "names no base model"),
    "no weights": (lose_weights, "lacks its weights (adapter_model.safetensors)"),
    "cut weights": (cut_weights, "adapter_model.safetensors of"),
    "a weight missing": (lose_one, "lack 1 that its config asks for, like"),
    "a saved head missing": (lose_saved, "lack 1 that its config asks for, like base_model.model.lm_head.weight"),
    "a wrong shape": (widen_one, "size mismatch"),
    "no config": (unreadable, "names no peft_type"),
    "an unknown type": (lambda folder: set_config(folder, peft_type="SORCERY"), "is of type SORCERY, which the"),
    "other modules": (lambda folder: set_config(folder, target_modules=["wqkv"]), "does not go on LlamaForCausalLM"),
    "fewer modules": (lambda folder: set_config(folder, target_modules=["q_proj"]), "4 weights that the model has no"),
    "a classifier": (lambda folder: set_config(folder, task_type="SEQ_CLS"), "its task type is SEQ_CLS"),
    "another task": (lambda folder: set_config(folder, task_type="FEATURE_EXTRACTION"), "FEATURE_EXTRACTION"),
}  # fmt: skip


@pytest.mark.parametrize("state", BROKEN)
def test_a_broken_adapter_is_one_sentence(lora: Path, state: str) -> None:
    damage, clause = BROKEN[state]
    damage(lora)
    with pytest.raises(ModelError) as refused:
        load_model(RunOptions(str(lora)))
    assert clause in str(refused.value)
    assert str(lora) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 700


@pytest.mark.parametrize("config", [
    peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
    peft.PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
    peft.PromptEncoderConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
])  # fmt: skip
def test_tuned_prompts_are_refused_by_name(bases: Callable[[str], Path], config: Any, tmp_path: Path) -> None:
    folder = save_adapter(bases("llama"), tmp_path / "prompt", config)
    with pytest.raises(ModelError, match=f"of type {config.peft_type.value}: it puts learned tokens before every text"):
        load_model(RunOptions(str(folder)))


def test_another_models_adapter_is_told_with_the_model_that_it_was_trained_on(lora: Path, tmp_path: Path) -> None:
    other = save_tiny(tmp_path / "gpt2", "gpt2")
    base = json.loads((lora / "adapter_config.json").read_text())["base_model_name_or_path"]
    with pytest.raises(ModelError, match=f"does not go on GPT2LMHeadModel .*name {base}, which it was trained on"):
        load_model(RunOptions(str(other), adapter=str(lora)))


@pytest.mark.parametrize(("options", "clause"), [
    (RunOptions("{base}", adapter="{base}"), "holds no adapter: there is no adapter_config.json in it"),
    (RunOptions("{base}", adapter="./nowhere"), "there is no adapter folder ./nowhere"),
    (RunOptions("{base}", revision="adapter:"), "names no adapter"),
    (RunOptions("{base}", adapter="{lora}", revision="adapter:{lora}"), "give one"),
    (RunOptions("{lora}", adapter="{lora}"), "is an adapter itself"),
])  # fmt: skip
def test_adapters_named_wrongly_are_said_to_be(
    bases: Callable[[str], Path], lora: Path, options: RunOptions, clause: str
) -> None:
    def filled(text: str | None) -> str | None:
        return None if text is None else text.format(base=bases("llama"), lora=lora)

    asked = RunOptions(filled(options.model) or "", adapter=filled(options.adapter), revision=filled(options.revision))
    with pytest.raises(ModelError) as refused:
        load_model(asked)
    assert clause in str(refused.value)


def test_without_peft_the_command_that_installs_it_is_named(lora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match="package peft is not installed: run `pip install"):
        load_model(RunOptions(str(lora)))


def test_an_adapted_model_takes_edits_as_hooks_however_it_was_loaded(bases: Callable[[str], Path], lora: Path) -> None:
    theirs, edit = adapted(bases("llama"), lora), random_edit(WIDTH)
    wanted = by_hand(theirs, edit, IDS)
    with apply(theirs.get_base_model(), edit), torch.inference_mode():
        assert apart(theirs(input_ids=IDS).logits, wanted) < 1e-5
    model: LanguageModel = load_model(RunOptions(str(lora)))
    with apply(model, edit), torch.inference_mode():
        assert apart(model.hf(input_ids=IDS).logits, wanted) < 1e-5
