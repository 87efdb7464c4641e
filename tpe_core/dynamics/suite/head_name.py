"""Which tensor of a checkpoint is its output embedding, by the architecture itself, built without storage.

No table of names: `get_output_embeddings` of a model on the meta device says which parameter it is, and what else a
checkpoint holds tells it apart where it was saved under another name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from tpe_core.dynamics.suite.weight_files import TensorLocation, UnusableError, Weights
from tpe_core.errors import ModelError, reason_of
from tpe_core.models.head import Task
from tpe_core.models.head_sites import find_site
from tpe_core.models.tasks import auto_class, task_of
from tpe_core.progress import Steps

__all__ = ["HeadName", "head_name"]


@dataclass(frozen=True, kw_only=True)
class HeadName:
    """The output embedding by the names that its architecture has for it."""

    architecture: str  # the config's model type
    names: tuple[str, ...]  # its own, then those of what it is tied to
    shape: tuple[int, ...]  # [V_all, d]
    others: frozenset[str]  # the architecture's other parameters
    prefix: str  # that a checkpoint may have or lack, such as "transformer."
    task: Task

    def __str__(self) -> str:
        return f"{self.architecture} with a head of {' x '.join(map(str, self.shape))}"

    def find(self, weights: Weights) -> Steps[str]:
        """The name that it has in a checkpoint: a job. Raises `UnusableError` where it is not there."""
        for name in self.names:
            for variant in self.variants(name):
                if variant in weights.files:
                    return variant
        known = {variant for name in self.others for variant in self.variants(name)}
        rest = [name for name in weights.files if name not in known]
        locations = yield from weights.locations(rest)
        alike = [name for name, location in locations.items() if self._fits(location)]
        if len(alike) == 1:
            return alike[0]
        raise UnusableError(
            f"its output embedding is not there as {' or '.join(self.names)}"
            + (f", and it could be {' or '.join(sorted(alike)[:3])}" if alike else "")
        )

    def variants(self, name: str) -> tuple[str, ...]:
        """A parameter's names in checkpoints saved from the whole model, or from the one below or above its head."""
        return name, name.removeprefix(self.prefix), self.prefix + name

    def _fits(self, location: TensorLocation) -> bool:
        return location.floating and location.shape == self.shape


def head_name(config: Any, task: str | None, called: str, trust_remote_code: bool = False) -> HeadName:
    """The head of a transformers `config`; `task` as in `RunOptions`, `called` what messages call the model.

    Raises `ModelError` where the architecture has no single matrix as its head.
    """
    kind = task_of(config, task, called)
    try:
        with torch.device("meta"):
            model = auto_class(config, kind).from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # whatever a config that does not go with its architecture makes it raise
        raise ModelError(
            f"{called} has a config that its architecture does not accept ({reason_of(error, 200)})."
        ) from error
    site = find_site(model)
    weight = None if site.module is None else site.module._parameters.get("weight")
    if weight is None or site.weights is not None:
        raise ModelError(f"{called} has no single output matrix: {site.reason or 'its head is kept in pieces.'}")
    every = list(model.named_parameters(remove_duplicate=False))
    own_names = [name for name, parameter in every if parameter is weight]
    mine = {id(module): name for name, module in model.named_modules()}[id(site.module)]
    names = sorted(own_names, key=lambda name: name != f"{mine}.weight")
    return HeadName(
        architecture=config.model_type,
        names=tuple(names),
        shape=tuple(weight.shape),
        others=frozenset(_others(every, own_names)),
        prefix=f"{model.base_model_prefix}.",
        task=kind,
    )


def _others(every: Iterable[tuple[str, Any]], own: list[str]) -> Iterable[str]:
    return (name for name, _ in every if name not in own)
