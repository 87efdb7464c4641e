"""Hooks on a head against a model whose weights were really edited, and the model afterwards against itself before."""

from __future__ import annotations

import copy
import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import dispatch_model
from torch import Tensor, nn

import tpe_core
from tests.helpers.hooked import ROWS, some_edit
from tests.helpers.tiny_models import save_tiny, text
from tests.zoo.shrink import CONTEXT, VOCAB, inputs, tiny_model
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.errors import HeadError, ManifestError, TpeError
from tpe_core.models.capture import capture, forward
from tpe_core.models.head import Task
from tpe_core.models.head_sites import find_site
from tpe_core.models.probe import open_head
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.session import open_session

pytestmark = pytest.mark.usefixtures("one_thread")


def with_edited_weights(model: Any, edit: ResolvedEdit, scale: float) -> Any:
    """A copy of `model` whose head is another matrix and bias, untied; nothing of it is hooked."""
    edited = copy.deepcopy(model)
    head = edited.get_output_embeddings()
    weight, width = head.weight.detach().double().numpy().copy(), edit.hidden_size
    bias = np.zeros(len(weight)) if head.bias is None else head.bias.detach().double().numpy().copy()
    for token_id, row in edit.rows.items():
        weight[token_id] += row / scale
    for token_id, shift in edit.biases.items():
        bias[token_id] += shift / scale
    gone = list(edit.intervention.pruned)
    kept = [dim for dim in range(width) if dim not in gone]
    if edit.intervention.replacement == "refit":
        gone = list(range(width))
    of_gone = weight[:, gone]
    bias += of_gone @ edit.constant
    weight[:, gone] = 0
    if edit.fold is not None:
        weight[:, kept] += of_gone @ edit.fold
    fresh = nn.Linear(width, len(weight), dtype=head.weight.dtype)
    with torch.no_grad():
        fresh.weight.copy_(torch.from_numpy(weight))
        fresh.bias.copy_(torch.from_numpy(bias))
    edited.set_output_embeddings(fresh)
    assert edited.get_input_embeddings().weight is not edited.get_output_embeddings().weight
    return edited


def scale_of(model: Any) -> float:
    return 1 / model.config.logits_scaling if model.config.model_type == "granite" else 1.0


def state(model: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def is_clean(model: Any) -> bool:
    return not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


KINDS: list[tuple[str, dict[str, Any]]] = [
    ("gpt2", {}), ("gpt_neox", {}), ("gptj", {}), ("llama", {}), ("gemma2", {"final_logit_softcapping": 7.5}),
    ("granite", {"logits_scaling": 7.0}), ("t5", {}), ("opt", {}),
]  # fmt: skip


@pytest.mark.parametrize("replacement", ["zero", "mean", "least-squares", "refit"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(("kind", "fixed"), KINDS, ids=[kind for kind, _ in KINDS])
def test_hooks_are_edited_weights(kind: str, fixed: dict[str, Any], tied: bool, replacement: str) -> None:
    task: Task = "seq2seq" if kind == "t5" else "causal"
    model = tiny_model(task, kind, tie_word_embeddings=tied, **fixed)
    if kind == "t5" and not tied:  # whose class ties whatever its configuration says
        model.lm_head.weight = nn.Parameter(torch.randn_like(model.lm_head.weight))
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    edit = some_edit(open_head(model, ROWS, CONTEXT, task)[1].hidden_size, replacement)
    asked, before = inputs(model, ROWS, 12), state(model)
    base = forward(model, asked).logits
    want = forward(with_edited_weights(model, edit, scale_of(model)), asked).logits
    with tpe_core.apply(model, edit):
        got = forward(model, asked).logits
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert float((got - want).abs().max()) < 1e-5
    assert float((want - base).abs().max()) > 0.1
    assert torch.equal(forward(model, asked).logits, base)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert is_clean(model)


@pytest.mark.parametrize("kind", ["llama", "granite", "t5"])
def test_generate_with_its_cache_and_a_padded_batch(kind: str) -> None:
    task = "seq2seq" if kind == "t5" else "causal"
    model = tiny_model(task, kind, **({"logits_scaling": 3.0} if kind == "granite" else {}))
    edit = some_edit(32)
    ids = torch.randint(8, ROWS, (3, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    how = {
        "attention_mask": mask, "max_new_tokens": 12, "do_sample": False, "pad_token_id": 0,
        "output_logits": True, "return_dict_in_generate": True, "eos_token_id": None,
    }  # fmt: skip
    if kind == "t5":
        how["decoder_start_token_id"] = 0
    base = model.generate(ids, **how)
    want = with_edited_weights(model, edit, 1 / 3 if kind == "granite" else 1.0).generate(ids, **how)
    with tpe_core.apply(model, edit):
        got = model.generate(ids, **how)
        slow = model.generate(ids, **how, use_cache=False)
    assert torch.equal(got.sequences, want.sequences)
    assert torch.equal(got.sequences, slow.sequences)
    assert not torch.equal(got.sequences, base.sequences)
    for ours, theirs in zip(got.logits, want.logits, strict=True):
        assert float((ours - theirs).abs().max()) < 1e-5
    assert torch.equal(model.generate(ids, **how).sequences, base.sequences)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_the_model_keeps_its_dtype(dtype: torch.dtype) -> None:
    model = tiny_model("causal", "gptj").to(dtype)
    edit, asked = some_edit(32), inputs(model, ROWS, 12)
    hidden = capture(model, find_site(model), asked)[0].clone()
    reference = with_edited_weights(tiny_model("causal", "gptj").to(dtype).double(), edit, 1.0)
    want = reference.get_output_embeddings()(hidden.double()).detach()
    with tpe_core.apply(model, edit):
        got = forward(model, asked).logits
    assert got.dtype == dtype
    assert float((got.double() - want).abs().max()) < 4 * torch.finfo(dtype).eps * float(want.abs().max())


def test_an_exception_leaves_nothing_behind() -> None:
    model = tiny_model("causal", "gpt2")
    asked = inputs(model, ROWS, 8)
    base = forward(model, asked).logits

    def stopped() -> None:
        forward(model, asked)
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"), tpe_core.apply(model, some_edit(32)):
        stopped()
    assert is_clean(model)
    assert torch.equal(forward(model, asked).logits, base)
    with pytest.raises(IndexError), tpe_core.apply(model, some_edit(32)):
        forward(model, {"input_ids": torch.tensor([[VOCAB + 5]])})
    assert is_clean(model)


def split(edit: ResolvedEdit, dims: tuple[int, ...], tokens: tuple[int, ...]) -> ResolvedEdit:
    """The part of an edit without a fold that concerns some of its dimensions and tokens."""
    steering = tuple(entry for entry in edit.intervention.steering if entry.token_id in tokens)
    return ResolvedEdit(
        intervention=Intervention(dims, edit.intervention.replacement, steering),
        hidden_size=edit.hidden_size,
        constant=edit.constant[[edit.removed.index(dim) for dim in dims]],
        fold=None,
        rows={token: row for token, row in edit.rows.items() if token in tokens},
        biases={token: shift for token, shift in edit.biases.items() if token in tokens},
    )


@pytest.mark.parametrize("case", ["gpt2", "mobilebert"])
def test_nested_blocks_are_one_edit_of_both(case: str) -> None:
    # MobileBert's h is the output of another module than the one that multiplies
    model = tiny_model("masked", case, hidden_size=64) if case == "mobilebert" else tiny_model("causal", case)
    edit = some_edit(64 if case == "mobilebert" else 32, "mean")
    outer, inner = split(edit, (1, 5), (3,)), split(edit, (4,), (20, 9))
    asked = inputs(model, ROWS, 8)
    base = forward(model, asked).logits
    with tpe_core.apply(model, edit):
        want = forward(model, asked).logits
    with tpe_core.apply(model, outer):
        first = forward(model, asked).logits
        with tpe_core.apply(model, inner):
            both = forward(model, asked).logits
        again = forward(model, asked).logits
    assert float((both - want).abs().max()) < 1e-5
    assert torch.equal(first, again)
    assert float((first - want).abs().max()) > 0.1
    assert torch.equal(forward(model, asked).logits, base)
    assert is_clean(model)


def test_the_inner_block_wins_and_shifts_add_up() -> None:
    model = tiny_model("causal", "llama")
    asked = inputs(model, ROWS, 8)
    low, high = (
        ResolvedEdit(intervention=Intervention((2,), "mean"), hidden_size=32, constant=np.array([value]))
        for value in (-1.0, 3.0)
    )
    raised = Intervention(steering=(Steering(7, 2.0, "bias"),))
    with tpe_core.apply(model, high):
        want = forward(model, asked).logits
    with tpe_core.apply(model, low), tpe_core.apply(model, high):
        assert torch.equal(forward(model, asked).logits, want)
    base = forward(model, asked).logits
    with tpe_core.apply(model, raised), tpe_core.apply(model, raised):
        twice = forward(model, asked).logits - base
    assert twice[..., 7].numpy() == pytest.approx(2 * math.log(2), abs=1e-5)
    assert not twice[..., :7].any()


def test_blocks_may_be_left_in_any_order() -> None:
    model = tiny_model("causal", "llama")
    asked = inputs(model, ROWS, 8)
    edits = [
        ResolvedEdit(intervention=Intervention((dim,), "mean"), hidden_size=32, constant=np.array([2.0]))
        for dim in (1, 2)
    ]
    with tpe_core.apply(model, edits[1]):
        want = forward(model, asked).logits
    first, second = ExitStack(), ExitStack()
    first.enter_context(tpe_core.apply(model, edits[0]))
    second.enter_context(tpe_core.apply(model, edits[1]))
    first.close()
    assert torch.equal(forward(model, asked).logits, want)
    second.close()
    assert is_clean(model)


def test_a_bare_model_is_measured_unedited_inside_a_block() -> None:
    model = tiny_model("causal", "granite", logits_scaling=5.0)
    asked, raised = inputs(model, ROWS, 8), Intervention(steering=(Steering(7, 2.0, "bias"),))
    base = forward(model, asked).logits
    with tpe_core.apply(model, some_edit(32)):
        edited = forward(model, asked).logits
        with tpe_core.apply(model, raised):
            moved = forward(model, asked).logits - edited
    assert moved[..., 7].numpy() == pytest.approx(math.log(2), abs=1e-5)
    assert torch.equal(forward(model, asked).logits, base)


def test_an_edit_changes_midway() -> None:
    model = tiny_model("causal", "gpt2")
    asked, edits = inputs(model, ROWS, 8), [some_edit(32, seed=seed) for seed in (1, 2)]
    base = forward(model, asked).logits
    wants = []
    for edit in edits:
        with tpe_core.apply(model, edit):
            wants.append(forward(model, asked).logits)
    with tpe_core.apply(model, Intervention()) as applied:
        assert torch.equal(forward(model, asked).logits, base)
        for edit, want in zip(edits, wants, strict=True):
            applied.change(edit)
            assert applied.edit is edit
            assert torch.equal(forward(model, asked).logits, want)
        with pytest.raises(TpeError, match="dimension 99 does not exist"):
            applied.change(Intervention((99,)))
        assert torch.equal(forward(model, asked).logits, wants[1])


@pytest.mark.parametrize("where", ["cpu", "disk"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_an_offloaded_head(where: str, tied: bool, tmp_path: Path) -> None:
    model = tiny_model("causal", "llama", tie_word_embeddings=tied)
    edit, asked = some_edit(32), inputs(model, ROWS, 8)
    want = forward(with_edited_weights(model, edit, 1.0), asked).logits
    names = {"model.embed_tokens": where, "model.layers": "cpu", "model.norm": "cpu", "lm_head": where}
    away = dispatch_model(
        model, names | {"model.rotary_emb": "cpu"}, main_device="cpu", offload_dir=str(tmp_path), force_hooks=True
    )
    assert (where == "disk") == (away.get_output_embeddings().weight.device.type == "meta")
    base = forward(away, asked).logits
    with tpe_core.apply(away, edit):
        got = forward(away, asked).logits
        ids = away.generate(asked["input_ids"], max_new_tokens=3, do_sample=False, eos_token_id=None)
    assert float((got - want).abs().max()) < 1e-5
    assert torch.equal(ids[:, 8], got[:, -1].argmax(-1))
    assert torch.equal(forward(away, asked).logits, base)


def test_a_compiled_model_sees_the_edit_come_change_and_go() -> None:
    model = tiny_model("causal", "gpt2")
    edits, asked = [some_edit(32, seed=seed) for seed in (1, 2)], inputs(model, ROWS, 8)
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        base = compiled(**asked).logits
        for edit in edits:
            want = forward(with_edited_weights(model, edit, 1.0), asked).logits
            with tpe_core.apply(compiled, edit):
                assert float((compiled(**asked).logits - want).abs().max()) < 1e-5
        with tpe_core.apply(compiled, edits[0]) as applied:
            compiled(**asked)
            applied.change(edits[1])
            assert float((compiled(**asked).logits - want).abs().max()) < 1e-5
        assert torch.equal(compiled(**asked).logits, base)


def test_gradients_go_through_an_edited_head() -> None:
    model = tiny_model("causal", "llama")
    edit, asked = some_edit(32), inputs(model, ROWS, 8)
    other = with_edited_weights(model, edit, 1.0)
    with tpe_core.apply(model, edit):
        forward(model, asked)  # in inference mode: what is kept from it must serve the backward pass
        model(**asked).logits.logsumexp(-1).sum().backward()
    other(**asked).logits.logsumexp(-1).sum().backward()
    for name in ("model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight"):
        ours, theirs = (dict(each.named_parameters())[name].grad for each in (model, other))
        assert ours is not None
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


def test_hidden_states_that_a_model_returns_are_not_edited() -> None:
    model = tiny_model("causal", "gpt2")
    asked = inputs(model, ROWS, 8)
    with torch.no_grad():
        want = model(**asked, output_hidden_states=True).hidden_states[-1]
        with tpe_core.apply(model, some_edit(32)):
            got = model(**asked, output_hidden_states=True).hidden_states[-1]
    assert torch.equal(got, want)


def test_what_does_not_fit_is_refused_before_anything_is_hooked() -> None:
    model = tiny_model("causal", "llama")
    for edit, message in [
        (some_edit(16), "the edit is for 16 dimensions, but the head of LlamaForCausalLM has 32"),
        (Intervention((32,)), "dimension 32 does not exist"),
        (Intervention(steering=(Steering(VOCAB, 2.0, "bias"),)), f"token id {VOCAB} does not exist"),
        (Intervention((1,), "mean"), "'mean' needs numbers measured on text"),
        (Intervention(steering=(Steering(1, 2.0),)), "'least-squares' needs numbers measured on text"),
    ]:
        with pytest.raises(TpeError, match=message), tpe_core.apply(model, edit):
            pytest.fail("applied")
        assert is_clean(model)
    for refused, message in [
        (nn.Linear(2, 2), "Linear is no transformers model"),
        (tiny_model("masked", "deberta", legacy=False), "names a 32 x 32 transform"),
    ]:
        with pytest.raises(HeadError, match=message), tpe_core.apply(refused, Intervention((1,))):
            pytest.fail("applied")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, Any]:
    """(a session on a tiny model, the file of an edit made there, the edit)."""
    root = tmp_path_factory.mktemp("hooks")
    (root / "text.txt").write_text(text(1, 4000), encoding="utf-8")
    folder = save_tiny(root / "model", "granite")
    options = RunOptions(model=str(folder), text=(str(root / "text.txt"),), positions=2000, sample=500, cache=False)
    session = run(open_session(options))
    edit = Intervention((1, 3), "least-squares", (Steering(7, 2.0), Steering(9, 0.5, "bias")))
    return session, session.export(root / "edit.json", edit, "the value"), edit


def test_a_file_is_applied_as_the_session_shows_it(exported: tuple[Any, Path, Any]) -> None:
    session, path, edit = exported
    model = session.analysis.model
    want = session.probabilities("the value", edit)[1]
    ids, at, _, _ = model.sampling.prompt("the value", model.context)
    for target in (model, model.hf):
        with tpe_core.apply(target, path):
            got = model.logits(ids)[0, at].double().softmax(-1).numpy()
        assert np.abs(got - want).max() < 1e-6
    numbers = session.basis(edit).resolve(edit)
    with tpe_core.apply(model, numbers):
        got = model.logits(ids)[0, at].double().softmax(-1).numpy()
    assert np.abs(got - want).max() < 1e-6


def test_a_file_made_for_another_head(exported: tuple[Any, Path, Any], tmp_path: Path) -> None:
    session, path, _ = exported
    other = copy.deepcopy(session.analysis.model.hf)
    with torch.no_grad():
        other.get_output_embeddings().weight.mul_(1.5)
    with pytest.raises(ManifestError, match="made for another head"), tpe_core.apply(other, path):
        pytest.fail("applied")
    with tpe_core.apply(other, path, force=True) as applied:
        assert applied.edit.removed == (1, 3)
    with pytest.raises(ManifestError, match="16 dimensions"), tpe_core.apply(tiny_model("causal", "llama"), path):
        pytest.fail("applied")
    with pytest.raises(ManifestError, match="does not exist"), tpe_core.apply(other, tmp_path / "none.json"):
        pytest.fail("applied")
