"""Models while they are trained: an edit that is kept acts exactly, whatever the model ties, and nothing trains it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.tiny_models import CONTEXT, WIDTH, random_corpus
from tpe_core.continued_training.batches import Batches
from tpe_core.continued_training.measuring import acting_head
from tpe_core.continued_training.training import Stretch, train_stretch
from tpe_core.continued_training.variants import random_edit, trained_copy
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.edit_numbers import EditNumbers
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.errors import TpeError
from tpe_core.hooks import apply
from tpe_core.models.model import LanguageModel
from tpe_core.progress import run

pytestmark = pytest.mark.usefixtures("one_thread")

DIMS = (1, 4, 6, 11)
Tiny = Callable[[str], LanguageModel]


def edit(**changes: object) -> ResolvedEdit:
    steering = (Steering(7, 3.0, "bias"),)
    return ResolvedEdit(
        intervention=Intervention(DIMS, steering=steering), hidden_size=WIDTH, constant=np.zeros(4),
        biases={7: float(np.log(3.0))},
    )  # fmt: skip


def stretch(folder: Path, steps: int = 5) -> Stretch:
    return Stretch(folder=folder, first=0, last=steps, total=steps, batch=2, learning_rate=0.01, seed=0, label="a test")


@pytest.mark.parametrize(("kind", "tied"), [("gpt2", True), ("gemma", True), ("llama", False), ("gemma2", True)])
def test_a_kept_edit_leaves_pruned_dimensions_without_any_effect(
    tiny: Tiny, tmp_path: Path, kind: str, tied: bool
) -> None:
    model = tiny(kind)
    assert model.head.tied is tied
    trained = run(trained_copy(model, "kept", edit()))
    batches = Batches(random_corpus(8, CONTEXT), steps=5, batch=2, seed=0)
    hf, site = trained.model.hf, trained.model.site
    with apply(trained.model, edit()):
        train_stretch(trained.module, batches, stretch(tmp_path))
        ids = trained.model.example_inputs()["input_ids"]
        assert site.head is not None
        hidden = torch.randn(3, WIDTH)
        moved = hidden.clone()
        moved[:, list(DIMS)] += 100.0
        assert torch.equal(site.head(hidden), site.head(moved))  # exactly no effect of a pruned dimension
        hidden.requires_grad_(True)
        gradient = torch.autograd.grad(site.head(hidden).square().sum(), hidden)[0]
        assert not gradient[:, list(DIMS)].any()
        logits = hf(ids).logits
    bare = hf(ids).logits
    assert not torch.equal(logits, bare)
    before, after = (one.hf.get_output_embeddings().weight.detach() for one in (model, trained.model))
    assert not torch.equal(before, after)
    kept = [dim for dim in range(WIDTH) if dim not in DIMS]
    assert not torch.equal(before[:, kept], after[:, kept])
    if tied:  # the input side is trained, in those columns too
        assert hf.get_input_embeddings().weight is hf.get_output_embeddings().weight
        assert not torch.equal(before[:, list(DIMS)], after[:, list(DIMS)])
    else:
        assert torch.equal(before[:, list(DIMS)], after[:, list(DIMS)])  # nothing reached them
    odds = [values[..., 7] - values[..., 8] for values in (logits, pruned_logits(trained.model, ids))]
    if kind != "gemma2":  # under a cap, odds are moved before it
        assert torch.allclose(odds[0] - odds[1], torch.full_like(odds[0], float(np.log(3.0))), atol=1e-4)


def pruned_logits(model: LanguageModel, ids: torch.Tensor) -> torch.Tensor:
    with apply(model, Intervention(DIMS)), torch.no_grad():
        logits: torch.Tensor = model.hf(ids).logits
    return logits


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma"])
def test_a_baked_edit_begins_as_the_kept_one_and_all_its_parameters_are_trained(tiny: Tiny, kind: str) -> None:
    model = tiny(kind)
    pruned = ResolvedEdit(intervention=Intervention(DIMS), hidden_size=WIDTH, constant=np.zeros(4))
    free = run(trained_copy(model, "free", pruned))
    assert free.edit is None
    assert all(parameter.requires_grad for parameter in free.model.hf.parameters())
    ids = model.example_inputs()["input_ids"]
    with torch.no_grad():
        assert torch.allclose(free.model.hf(ids).logits, pruned_logits(model, ids), atol=1e-4)
    shared = {id(parameter) for parameter in model.hf.parameters()}
    assert shared.isdisjoint(map(id, free.model.hf.parameters()))


def test_adapters_are_trained_alone_and_drawn_by_the_seed(tiny: Tiny) -> None:
    model = tiny("llama")
    drawn = [run(trained_copy(model, "unedited", None, rank=2, seed=seed)) for seed in (0, 0, 1)]
    names = {name for name, value in drawn[0].module.named_parameters() if value.requires_grad}
    assert names
    assert all("lora_" in name for name in names)
    first, same, other = (dict(one.module.named_parameters()) for one in drawn)
    matrices = [name for name in names if "lora_A" in name]
    assert all(torch.equal(first[name], same[name]) for name in matrices)
    assert not any(torch.equal(first[name], other[name]) for name in matrices)
    assert all(parameter.requires_grad for parameter in model.hf.parameters())  # the model itself is as it was
    values = {parameter.data_ptr() for parameter in model.hf.parameters()}
    assert values <= {parameter.data_ptr() for parameter in drawn[0].model.hf.parameters()}  # and not copied


def test_adapters_leave_tied_embeddings_tied(tiny: Tiny) -> None:
    adapted = run(trained_copy(tiny("gpt2"), "unedited", None, rank=2)).model.hf
    assert adapted.get_input_embeddings().weight is adapted.get_output_embeddings().weight


@pytest.mark.parametrize("kind", ["gpt2", "gptj", "granite", "gemma2"])
def test_the_acting_head_gives_the_edited_logits(tiny: Tiny, kind: str) -> None:
    head = tiny(kind).head
    hidden = torch.randn(5, WIDTH)
    rng = np.random.default_rng(0)
    folded = ResolvedEdit(
        intervention=Intervention(DIMS, "least-squares", (Steering(3, 2.0), Steering(7, 0.5, "bias"))),
        hidden_size=WIDTH,
        constant=rng.normal(size=4),
        fold=rng.normal(size=(4, WIDTH - 4)),
        rows={3: rng.normal(size=WIDTH)},
        biases={7: float(np.log(0.5))},
    )
    for each in (edit(), folded):
        acting = acting_head(head, each)
        assert torch.allclose(acting.logits(hidden), EditNumbers(each).logits(head, hidden), atol=2e-4)
        assert not acting.columns[list(DIMS)].any()
    assert acting_head(head, None) is head


def test_a_random_edit_is_of_the_same_size_and_steers_alike() -> None:
    first, same, other = (random_edit(edit(), seed, None) for seed in (0, 0, 1))
    assert first.intervention == same.intervention != other.intervention
    assert len(first.removed) == len(DIMS)
    assert first.biases == edit().biases
    with pytest.raises(TpeError, match="prunes nothing"):
        random_edit(ResolvedEdit(intervention=Intervention(), hidden_size=4, constant=np.zeros(0)), 0, None)
