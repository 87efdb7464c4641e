"""Baked checkpoints: hooks, weights edited by hand and an unpatched `from_pretrained` against each other."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import tpe_core.checkpoint.bake
from tests.helpers.checkpoints import (
    HOLE,
    ROWS,
    loaded,
    logits_of,
    random_edit,
    with_edited_weights,
)
from tests.helpers.tiny_models import random_corpus
from tpe_core.checkpoint.bake import Baked, bake
from tpe_core.checkpoint.plan import choose
from tpe_core.checkpoint.weights import edited_copy
from tpe_core.detection.detection import Detection, detect
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.errors import HeadError, TpeError
from tpe_core.hooks import apply
from tpe_core.models.head import Task
from tpe_core.models.loading import load_model
from tpe_core.models.model import LanguageModel
from tpe_core.options import RunOptions
from tpe_core.progress import run

TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
SCALED, CAPPED = {"logits_scaling": 7.0}, {"final_logit_softcapping": 7.5}
MODELS: dict[
    str, tuple[Task, str, dict[str, Any], bool]
] = {  # task, type, config, whether its final norm has an offset
    "gpt2-tied": ("causal", "gpt2", TIED, True),
    "gpt2-untied": ("causal", "gpt2", UNTIED, True),
    "neox-tied": ("causal", "gpt_neox", TIED, True),
    "neox-untied": ("causal", "gpt_neox", UNTIED, True),
    "gptj-tied": ("causal", "gptj", TIED, True),
    "gptj-untied": ("causal", "gptj", UNTIED, True),
    "llama-tied": ("causal", "llama", TIED, False),
    "llama-untied": ("causal", "llama", UNTIED, False),
    "gemma2-tied": ("causal", "gemma2", TIED | CAPPED, False),
    "gemma2-untied": ("causal", "gemma2", UNTIED | CAPPED, False),
    "granite-tied": ("causal", "granite", TIED | SCALED, False),
    "granite-untied": ("causal", "granite", UNTIED | SCALED, False),
    "t5-tied": ("seq2seq", "t5", {}, False),
    "t5-untied": ("seq2seq", "t5", UNTIED | {"scale_decoder_outputs": False}, False),
    "opt-tied": ("causal", "opt", TIED, True),
    "opt-untied": ("causal", "opt", UNTIED, True),
}
LOADERS = {
    "causal": transformers.AutoModelForCausalLM,
    "masked": transformers.AutoModelForMaskedLM,
    "seq2seq": transformers.AutoModelForSeq2SeqLM,
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LanguageModel]:
    """A model by its name in `MODELS`, made once."""
    made: dict[str, LanguageModel] = {}

    def make(name: str) -> LanguageModel:
        if name not in made:
            task, model_type, fixed, _ = MODELS[name]
            made[name] = loaded(tmp_path_factory.mktemp(name), task, model_type, **fixed)
        return made[name]

    return make


def detected(model: LanguageModel) -> Detection:
    return run(detect(model, random_corpus(8, 32, vocab=ROWS)))


def plain(baked: Baked, task: Task = "causal") -> Any:
    """What transformers alone makes of a checkpoint."""
    return LOADERS[task].from_pretrained(baked.path).eval()


def assert_same(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert float((found - wanted).abs().max()) <= 1e-5 * max(1.0, float(wanted.abs().max()))


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", MODELS)
def test_hooks_weights_edited_by_hand_and_the_checkpoint_agree(
    tiny: Callable[[str], LanguageModel], name: str, tmp_path: Path
) -> None:
    model, (task, _, _, offset) = tiny(name), MODELS[name]
    embedding, own = model.hf.get_input_embeddings().weight.detach().clone(), logits_of(model.hf, model)
    for replacement in ("zero", "mean", "least-squares", "refit") if offset else ("zero",):
        edit = random_edit(model.head.hidden_size, replacement)
        with apply(model, edit):
            hooked = logits_of(model.hf, model)
        assert float((hooked - own).abs().max()) > 0.01
        assert_same(logits_of(with_edited_weights(model, edit), model), hooked)
        baked = run(bake(model, edit, tmp_path / replacement))
        reloaded = plain(baked, task)
        assert_same(logits_of(reloaded, model), hooked)
        assert torch.equal(reloaded.get_input_embeddings().weight, embedding)
        assert baked.untied == (name.endswith("-tied") or name == "t5-untied")  # T5's config says tied whatever it is
        expected = {"zero": "none", "mean": "norm"}.get(replacement, "freed-column")
        has_bias = name[:4] == "gptj" and expected == "freed-column"
        assert baked.plan.carrier == ("head-bias" if has_bias else expected)
        assert baked.loss is None
        assert baked.verified.model_error <= 1e-5 * max(1.0, float(hooked.abs().max()))
    assert torch.equal(model.hf.get_input_embeddings().weight, embedding)
    assert torch.equal(logits_of(model.hf, model), own)


@pytest.mark.parametrize("prunes", [False, True])
def test_constants_whose_closest_form_costs_more_than_nothing_are_left_out(
    tiny: Callable[[str], LanguageModel], tmp_path: Path, prunes: bool
) -> None:
    model = tiny("llama-untied")
    detection, rare = detected(model), Intervention((4,) if prunes else (), "zero").steer(40, 1e-6, "bias")
    edit = ResolvedEdit(
        intervention=rare,
        hidden_size=model.head.hidden_size,
        constant=np.zeros(len(rare.pruned)),
        biases={40: math.log(1e-6)},
    )
    with pytest.raises(
        TpeError, match=r"leaving them out is (\S+) nats .* the direction closest to a constant \S+: pass"
    ):
        run(bake(model, edit, tmp_path / "out", detection=detection))
    baked = run(bake(model, edit, tmp_path / "out", detection=detection, allow_lossy=True))
    assert baked.plan.carrier == "left-out"
    assert "the constants left out" in baked.form
    assert baked.loss is not None
    assert baked.loss.kl == baked.loss.kl_dropped < 0.5 * baked.loss.kl_guess
    rest = ResolvedEdit(
        intervention=replace(rare, steering=()), hidden_size=model.head.hidden_size, constant=np.zeros(len(rare.pruned))
    )
    with apply(model, rest):
        wanted = logits_of(model.hf, model)
    assert_same(logits_of(plain(baked, "causal"), model), wanted)


def test_a_checkpoint_is_compared_in_transformers_with_and_without_the_edit(
    tiny: Callable[[str], LanguageModel], tmp_path: Path
) -> None:
    model = tiny("llama-tied")
    exact = run(bake(model, random_edit(model.head.hidden_size), tmp_path / "exact"))
    lossy = random_edit(model.head.hidden_size, "mean")
    closest = run(bake(model, lossy, tmp_path / "lossy", detection=detected(model), allow_lossy=True))
    for baked in (exact, closest):
        assert baked.comparison.runtime.startswith("transformers ")
        assert baked.comparison.unedited_difference < 1e-6
        assert baked.record()["comparison"] == baked.comparison.to_dict()
    assert exact.comparison.edited_difference < 1e-5
    assert closest.comparison.edited_difference > 1e-4
    edited = plain(closest)
    for prompt in closest.comparison.edited:
        inputs, at, *_ = model.sampling.prompt(prompt.prompt, model.context)
        p = edited(**inputs).logits[0, at].detach().double().softmax(-1)
        for pair in prompt.tokens:
            assert pair.found == pytest.approx(float(p[pair.token_id]), abs=1e-6)


@pytest.mark.parametrize("name", ["llama-tied", "gemma2-untied", "granite-tied", "t5-tied"])
def test_constants_that_an_architecture_cannot_hold_take_the_closest_form_on_request(
    tiny: Callable[[str], LanguageModel], name: str, tmp_path: Path
) -> None:
    model, task = tiny(name), MODELS[name][0]
    detection, edit, out = detected(model), random_edit(model.head.hidden_size, "mean"), tmp_path / "out"
    with pytest.raises(TpeError, match="give bake the detection"):
        run(bake(model, edit, out))
    with pytest.raises(TpeError, match=r"nats \(KL\) from the edited distribution.*--allow-lossy.*tpe_core\.apply"):
        run(bake(model, edit, out, detection=detection))
    assert not out.exists()
    baked = run(bake(model, edit, out, detection=detection, allow_lossy=True))
    assert baked.plan.carrier == "best-guess"
    assert baked.loss is not None

    h = torch.from_numpy(detection.sample.hidden)
    u = np.linalg.lstsq(h.double().numpy(), np.ones(len(h)), rcond=None)[0]
    everything = len(detection.sample.hidden) == detection.positions
    assert everything  # so that the least squares above are over the same positions
    guess = h.double().numpy() @ u
    assert baked.loss.unexplained == pytest.approx(np.mean((1 - guess) ** 2), rel=1e-3)

    W = model.head.columns.double().numpy().T.copy()
    for token_id, row in edit.rows.items():
        W[token_id] += row
    k, gone = W[:, list(edit.removed)] @ edit.constant, list(edit.removed)
    W[:, gone] = 0
    z, cap = h.double().numpy() @ W.T, model.head.post.cap
    sides = [z + k, z + np.outer(guess, k), z]
    wanted, stored, dropped = (
        torch.from_numpy(side if cap is None else cap * np.tanh(side / cap)).log_softmax(-1) for side in sides
    )
    for other, found in ((stored, baked.loss.kl), (dropped, baked.loss.kl_dropped)):
        kl = float((wanted.exp() * (wanted - other)).sum(-1).mean())
        assert found == pytest.approx(kl, rel=1e-3, abs=1e-6)
    assert baked.loss.kl < baked.loss.kl_dropped

    with torch.inference_mode():
        hidden = model.hidden(model.example_inputs()).double().numpy()
    z = hidden @ W.T + (hidden @ u)[..., None] * k
    found = plain(baked, task)(**model.example_inputs()).logits.detach()
    assert_same(found, torch.from_numpy(z if cap is None else cap * np.tanh(z / cap)).float())
    card = (out / "README.md").read_text()
    assert f"{baked.loss.kl:.3g} nats" in card
    assert "gives the edited distribution" not in card


def test_an_edit_of_nothing_says_so(tiny: Callable[[str], LanguageModel], tmp_path: Path) -> None:
    model = tiny("gpt2-tied")
    baked = run(
        bake(
            model,
            ResolvedEdit(intervention=Intervention(), hidden_size=model.head.hidden_size, constant=np.zeros(0)),
            tmp_path / "out",
        )
    )
    assert baked.form == "nothing is edited"
    assert torch.equal(logits_of(plain(baked), model), logits_of(model.hf, model))


def test_a_tied_head_stays_tied_where_it_is_not_touched(tiny: Callable[[str], LanguageModel], tmp_path: Path) -> None:
    model = tiny("gpt2-tied")
    edit = replace(random_edit(32, "mean"), intervention=Intervention((1, 2, 3, 4, 5), "mean"), rows={})
    baked = run(bake(model, edit, tmp_path / "out"))
    reloaded = plain(baked)
    assert (baked.plan.carrier, baked.untied) == ("norm", False)
    assert reloaded.get_input_embeddings().weight is reloaded.get_output_embeddings().weight
    with apply(model, edit):
        assert_same(logits_of(reloaded, model), logits_of(model.hf, model))


@pytest.mark.parametrize(
    ("name", "pruned", "carrier"),
    [
        ("gpt2-tied", 0, "empty-direction"),
        ("gpt2-untied", 3, "freed-column"),
        ("gptj-untied", 0, "head-bias"),
        ("llama-untied", 0, "best-guess"),
    ],
)
def test_steering_by_bias_is_held_where_the_architecture_has_a_constant(
    tiny: Callable[[str], LanguageModel], name: str, pruned: int, carrier: str, tmp_path: Path
) -> None:
    model = tiny(name)
    edit = random_edit(model.head.hidden_size, "mean" if pruned else "zero", pruned, bias=True)
    baked = run(bake(model, edit, tmp_path / "out", detection=detected(model), allow_lossy=True))
    assert baked.plan.carrier == carrier
    if carrier != "best-guess":
        assert_same(logits_of(plain(baked), model), logits_of(with_edited_weights(model, edit), model))


@pytest.mark.parametrize(("size", "carrier"), [(0.0, "best-guess"), (1e-5, "best-guess"), (1.0, "empty-direction")])
def test_a_direction_that_would_be_the_small_rest_of_large_terms_is_not_used(
    size: float, carrier: str, tmp_path: Path
) -> None:
    model = loaded(tmp_path / "model", "causal", "gpt2")
    with torch.no_grad():
        model.hf.transformer.ln_f.bias.zero_()[3] = size
    assert choose(model, random_edit(32, dims=0, bias=True)).carrier == carrier


@pytest.mark.parametrize(
    ("task", "model_type", "carriers"),
    [
        ("seq2seq", "bart", ("norm", "token-offset")),
        ("masked", "bert", ("norm", "head-bias")),
        ("seq2seq", "switch_transformers", ()),  # whose flag also scales what the head is given
        ("causal", "nemotron", ("norm", "freed-column")),  # whose norm scales by 1 + weight
    ],
)
def test_architectures_with_ways_of_their_own(
    task: Task, model_type: str, carriers: tuple[str, ...], tmp_path: Path
) -> None:
    fixed: dict[str, Any] = UNTIED
    model = loaded(tmp_path / "model", task, model_type, **(fixed if model_type == "nemotron" else {}))
    found = []
    for replacement in ("mean", "least-squares") if carriers else ("zero",):
        edit = random_edit(model.head.hidden_size, replacement)
        baked = run(bake(model, edit, tmp_path / replacement))
        with apply(model, edit):
            assert_same(logits_of(plain(baked, task), model), logits_of(model.hf, model))
        found.append(baked.plan.carrier)
    assert tuple(found) == (carriers or ("none",))


@pytest.mark.parametrize(("dtype", "name"), [("bfloat16", "llama"), ("float16", "gpt2"), ("float64", "gpt_neox")])
def test_every_dtype_is_kept(dtype: str, name: str, tmp_path: Path) -> None:
    model = loaded(tmp_path / "model", "causal", name, dtype=dtype)
    before = {key: value.clone() for key, value in model.hf.state_dict().items()}
    edit = random_edit(model.head.hidden_size, "zero" if name == "llama" else "least-squares")
    baked = run(bake(model, edit, tmp_path / "out"))
    assert baked.dtype == dtype
    reloaded = plain(baked)
    assert str(reloaded.dtype) == f"torch.{dtype}"
    assert all(torch.equal(value, before[key]) for key, value in model.hf.state_dict().items())
    with apply(model, edit):
        wanted = logits_of(model.hf, model)
    eps = torch.finfo(reloaded.dtype).eps
    assert float((logits_of(reloaded, model) - wanted).abs().max()) <= max(1e-5, 4 * eps) * float(wanted.abs().max())


def test_the_copy_shares_what_it_does_not_change(tiny: Callable[[str], LanguageModel]) -> None:
    model = tiny("gpt2-tied")
    edit = random_edit(32, "least-squares")
    copied = edited_copy(model, edit, choose(model, edit))
    own, theirs = dict(model.hf.named_parameters()), dict(copied.hf.named_parameters())
    changed = {name for name, parameter in theirs.items() if own.get(name) is not parameter}
    assert changed == {"lm_head.weight", "transformer.ln_f.weight", "transformer.ln_f.bias"}
    assert model.hf.config.tie_word_embeddings
    assert not copied.hf.config.tie_word_embeddings


class Adapter(nn.Module):
    """An adapter around a head."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.weight = base.weight
        self.out_features, self.in_features = base.out_features, base.in_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) * 1.5


def refused(model: LanguageModel, out: Path, edit: ResolvedEdit | None = None) -> str:
    with pytest.raises(TpeError) as error:
        run(bake(model, edit or random_edit(model.head.hidden_size), out))
    assert not out.exists()
    assert leftovers(out.parent) == []
    return str(error.value)


def test_heads_that_cannot_be_baked_are_refused_and_hooks_offered(tmp_path: Path) -> None:
    from accelerate import dispatch_model

    out = tmp_path / "out"
    model = loaded(tmp_path / "model", "causal", "llama")
    model.hf.hf_quantizer = object()
    assert re.search(r"is quantised.*tpe_core\.apply", refused(model, out))
    model.hf.hf_quantizer = None
    with apply(model, random_edit(model.head.hidden_size)):
        assert "something is hooked" in refused(model, out)
    body = {name: "cpu" for name, _ in model.hf.named_children()}
    spread = replace(
        model, hf=dispatch_model(model.hf, {**body, "lm_head": "disk"}, offload_dir=str(tmp_path / "disk"))
    )
    assert re.search(r"offloaded.*--device cpu.*tpe_core\.apply", refused(spread, out))
    packed = load_model(RunOptions(model=str(tmp_path / "model")))
    packed.hf.lm_head = Adapter(packed.hf.lm_head)
    assert re.search(r"not one plain matrix.*tpe_core\.apply", refused(replace(packed), out))
    split = loaded(tmp_path / "split", "masked", "mobilebert")
    assert "not one plain matrix" in refused(split, out)


def test_edits_that_do_not_fit_are_refused(tiny: Callable[[str], LanguageModel], tmp_path: Path) -> None:
    model, out = tiny("gpt2-untied"), tmp_path / "out"
    assert "for 20 dimensions, but the head" in refused(model, out, random_edit(20))
    for token_id, reason in ((ROWS + 3, "does not exist"), (HOLE, "is not in the tokenizer")):
        steered = Intervention(steering=(Steering(token_id, 2.0, "bias"),))
        edit = ResolvedEdit(intervention=steered, hidden_size=32, constant=np.zeros(0), biases={token_id: math.log(2)})
        assert f"token id {token_id} {reason}" in refused(model, out, edit)


def test_a_checkpoint_that_came_out_wrong_is_not_published(
    tiny: Callable[[str], LanguageModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file, save_file

    written = tpe_core.checkpoint.bake._save

    def damaged(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[..., None]:
        def save(model: LanguageModel, edited: Any, folder: Path) -> None:
            written(model, edited, folder)
            tensors = load_file(folder / "model.safetensors")
            change(tensors)
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

        return save

    model, out = tiny("gpt2-tied"), tmp_path / "out"
    changes: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
        "its tensor lm_head.weight is not what": lambda tensors: tensors["lm_head.weight"][3, 4].add_(1e-3),
        "its tensor transformer.h.0.ln_1.bias is not what": lambda some: some["transformer.h.0.ln_1.bias"][0].add_(1),
        "the checkpoint of the new folder lacks": lambda tensors: tensors.pop("transformer.ln_f.weight"),
    }
    for reason, change in changes.items():
        monkeypatch.setattr(tpe_core.checkpoint.bake, "_save", damaged(change))
        assert reason in refused(model, out)


def test_an_edit_that_went_wrong_in_memory_is_not_published(
    tiny: Callable[[str], LanguageModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(model: LanguageModel, edit: ResolvedEdit, plan: Any) -> Any:
        almost = replace(edit, rows={token_id: row * 1.001 for token_id, row in edit.rows.items()})
        return replace(edited_copy(model, almost, plan), edit=edit)

    monkeypatch.setattr(tpe_core.checkpoint.bake, "edited_copy", other)
    assert "logits of the head differ by" in refused(tiny("llama-untied"), tmp_path / "out")


def test_generation_settings_are_kept_even_those_that_transformers_would_not_write(tmp_path: Path) -> None:
    model = loaded(tmp_path / "model", "causal", "llama")
    model.hf.generation_config.temperature = 0.3  # without sampling: published models have it
    with pytest.raises(ValueError, match="temperature"):
        model.hf.generation_config.save_pretrained(tmp_path)
    baked = run(bake(model, random_edit(model.head.hidden_size), tmp_path / "out"))
    assert json.loads((baked.path / "generation_config.json").read_text())["temperature"] == 0.3
    assert model.hf.generation_config.temperature == 0.3


def test_closing_the_job_leaves_nothing(tiny: Callable[[str], LanguageModel], tmp_path: Path) -> None:
    model = tiny("llama-untied")
    steps = bake(model, random_edit(model.head.hidden_size), tmp_path / "out")
    seen = []
    for progress in steps:
        seen.append(progress.label)
        if progress.label == "compare the checkpoint":
            assert len(leftovers(tmp_path)) == 1
            steps.close()
    assert "write the checkpoint" in seen
    assert list(tmp_path.iterdir()) == []


def test_the_head_error_is_a_head_error(tiny: Callable[[str], LanguageModel], tmp_path: Path) -> None:
    model = tiny("llama-untied")
    unsupported = replace(model, measured_head=None, report=replace(model.report, reason="it is opaque."))
    with pytest.raises(HeadError, match="it is opaque"):
        run(bake(unsupported, random_edit(32), tmp_path / "out"))
