"""The networks of recipes: what differs between them, which optimiser moves what, and recipes of older runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from tpe_core.demo.network import ARCHITECTURES, new_model, optimizers_of
from tpe_core.demo.recipe import Recipe
from tpe_core.errors import TpeError

TINY = Recipe(vocab_size=300, hidden_size=16, n_layer=2, n_head=2, context=16)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_every_parameter_has_one_optimizer_and_norms_do_not_decay(
    architecture: str, tied: bool, optimizer: str
) -> None:
    recipe = replace(TINY, architecture=architecture, tied=tied, optimizer=optimizer)
    model: Any = new_model(recipe)
    groups = [group for each in optimizers_of(recipe, model) for group in each.param_groups]
    moved = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(moved) == sorted(id(parameter) for parameter in model.parameters())
    for group in groups:
        assert all((parameter.ndim == 2) == (group["weight_decay"] > 0) for parameter in group["params"])
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) is tied


def test_the_norm_is_all_that_differs_between_stablelm_and_llama() -> None:
    kinds, shapes = [], []
    for architecture in ("stablelm", "llama"):
        model = new_model(replace(TINY, architecture=architecture))
        norms = {name for name, module in model.named_modules() if "norm" in name}
        kinds.append({type(module).__name__ for name, module in model.named_modules() if name in norms})
        shapes.append({n: tuple(p.shape) for n, p in model.named_parameters() if n.rpartition(".")[0] not in norms})
    assert kinds[0] == {nn.LayerNorm.__name__}
    assert kinds[1] == {"LlamaRMSNorm"}
    assert shapes[0] == shapes[1]
    one, other = (new_model(replace(TINY, architecture=name)).eval() for name in ("stablelm", "llama"))
    other.load_state_dict({**other.state_dict(), **{n: v for n, v in one.state_dict().items() if "norm" not in n}})
    for model in (one, other):  # with the norms out of the way both compute the same: positions, gates and all
        for name in [name for name, _ in model.named_modules()]:
            if "norm" in name:
                model.set_submodule(name, nn.Identity())
    ids = torch.arange(16)[None]
    with torch.no_grad():
        assert torch.allclose(one(ids).logits, other(ids).logits, atol=1e-6)


def test_the_bundled_models_recipe_is_written_as_before() -> None:
    assert not {"architecture", "tied", "optimizer"} & Recipe().to_dict().keys()
    assert replace(TINY, tied=False).to_dict()["tied"] is False


def test_unknown_names_are_refused() -> None:
    with pytest.raises(TpeError, match="unknown architecture 'mamba': choose one of gpt2, stablelm, llama"):
        new_model(replace(TINY, architecture="mamba"))
    with pytest.raises(TpeError, match="unknown optimizer 'sgd': choose muon or adamw"):
        optimizers_of(replace(TINY, optimizer="sgd"), new_model(TINY))
