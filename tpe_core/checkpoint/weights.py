"""An edited copy of a transformers model that shares every tensor it does not change with the original.

The original is never written to. Arithmetic is float64 and rounded once, to the model's dtype.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from tpe_core.checkpoint.plan import ADVICE, BakePlan
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.errors import HeadError, reason_of
from tpe_core.models.capture import capture
from tpe_core.models.head import CHUNK_ROWS
from tpe_core.models.head_sites import find_site
from tpe_core.models.model import LanguageModel
from tpe_core.models.probe import RUN_ERRORS

__all__ = ["EditedCopy", "edited_copy", "mark_untied", "shared_copy"]

NEAR = 1e-3  # of h's size: what the precision of h leaves between two ways to scale it


@dataclass(frozen=True, kw_only=True)
class EditedCopy:
    """A model to be saved. `factor` is what its h is multiplied by, compared with the original's."""

    edit: ResolvedEdit
    plan: BakePlan  # the form the edit took
    hf: Any  # transformers.PreTrainedModel
    untied: bool  # its configuration has to say that the head is a matrix of its own
    factor: float

    @property
    def head(self) -> nn.Linear:
        """The edited head."""
        head: Any = find_site(self.hf).head
        return cast("nn.Linear", head)


def edited_copy(model: LanguageModel, edit: ResolvedEdit, plan: BakePlan) -> EditedCopy:
    """The model with an edit in its weights, in the form that `plan` chose.

    Raises `HeadError` where untying the head from the input embedding does more to the model than to scale h.
    """
    hf = shared_copy(model.hf)
    site = find_site(hf)
    head: Any = site.head
    scale, untied, factor = model.head.post.scale, False, 1.0
    if plan.moves_head and (model.head.tied or _says_tied(hf.config)):
        untied, factor = True, _untie(model, hf)
    weight, constants = _head_weight(head.weight, edit, plan, scale, factor)
    if plan.moves_head:
        head.weight = nn.Parameter(weight, requires_grad=False)
    if plan.carrier == "head-bias":
        _replace(hf, head.bias, head.bias.detach().double() + constants)
    elif plan.carrier == "token-offset":
        prefix, _, attribute = plan.offset.rpartition(".")
        holder: Any = hf.get_submodule(prefix)
        old = getattr(holder, attribute)
        added = (constants * scale)[: old.numel()].reshape(old.shape)
        setattr(holder, attribute, (old.double() + added.to(old.device)).to(old.dtype))
    elif plan.norm is not None:
        dims = [plan.dim] if plan.carrier == "freed-column" else list(edit.removed)
        values = torch.ones(1) if plan.carrier == "freed-column" else torch.from_numpy(edit.constant)
        _set_dims(hf.get_submodule(plan.norm.name), dims, plan.norm.silent, values)
    if untied:
        _separate(hf)
    return EditedCopy(edit=edit, plan=plan, hf=hf, untied=untied, factor=factor)


def mark_untied(document: dict[str, Any], config: Any) -> dict[str, Any]:
    """A configuration's JSON that says that the head is a matrix of its own, to every reader."""
    marked = {**document, "tie_word_embeddings": False}
    if "scale_decoder_outputs" in marked:  # T5's: older readers tell it from the other flag, so both say the same
        marked["scale_decoder_outputs"] = False
    texts = (config.get_text_config(), config.get_text_config(decoder=True))
    for name in getattr(type(config), "sub_configs", {}):
        if any(getattr(config, name, None) is text for text in texts) and isinstance(marked.get(name), dict):
            marked[name] = {**marked[name], "tie_word_embeddings": False}
    return marked


def _says_tied(config: Any) -> bool:
    """Whether a configuration calls the head tied (some do whatever the weights are)."""
    return any(getattr(part, "tie_word_embeddings", False) for part in (config, config.get_text_config(decoder=True)))


def shared_copy(hf: Any) -> Any:
    """A copy of a model's modules and configuration that holds the very same tensors."""
    tensors = (*hf.parameters(), *hf.buffers())
    return copy.deepcopy(hf, {id(tensor): tensor for tensor in tensors})


def _head_weight(
    weight: Tensor, edit: ResolvedEdit, plan: BakePlan, scale: float, factor: float
) -> tuple[Tensor, Tensor]:
    """(edited W [V, d] in its dtype, constants [V] float64), both in units of the head module's output.

    With R the moves of the steered rows, S the written and K the kept dimensions (`ResolvedEdit`): W' = W + R with
    W'_S = 0, then (W + R)_S fold is added to W'_K; k = (W + R)_S constant + biases, and k u^T on top where a direction
    carries k; all over `factor`.
    """
    device, real = weight.device, torch.float32 if weight.device.type == "mps" else torch.float64

    def tensor(array: Any) -> Tensor:
        return torch.as_tensor(array, dtype=real, device=device)

    written, kept = (torch.tensor(dims, dtype=torch.int64, device=device) for dims in (edit.written, edit.kept))
    prunes = bool(edit.removed) and plan.carrier != "norm"
    fold = None if edit.fold is None else tensor(edit.fold)
    direction = None if plan.direction is None else tensor(plan.direction)
    edited = torch.empty_like(weight) if plan.moves_head else weight.detach()
    constants = torch.zeros(len(weight), dtype=real, device=device)
    for token_id, bias in edit.biases.items():
        constants[token_id] = bias / scale
    for first in range(0, len(weight), CHUNK_ROWS):
        rows = weight[first : first + CHUNK_ROWS].detach().to(real, copy=True)
        k = constants[first : first + len(rows)]
        for token_id in edit.rows:
            if first <= token_id < first + len(rows):
                rows[token_id - first] += tensor(edit.rows[token_id]) / scale
        if prunes:
            gone = rows[:, written]
            k += gone @ tensor(edit.constant)
            rows[:, written] = 0
            if fold is not None:
                rows[:, kept] += gone @ fold
        if direction is not None:
            rows += torch.outer(k, direction)
        if plan.moves_head:
            edited[first : first + len(rows)] = (rows / factor).to(weight.dtype)
    return edited, constants


def _untie(model: LanguageModel, hf: Any) -> float:
    """Have the copy `hf` act as its untied configuration will; the factor by which that multiplies h."""
    inputs = model.example_inputs()
    document = json.loads(hf.config.to_json_string(use_diff=True))
    hf.config = type(hf.config).from_dict(mark_untied(document, hf.config))
    hf.config._attn_implementation = model.hf.config._attn_implementation
    before, after = (capture(some, find_site(some), inputs)[0].double() for some in (model.hf, hf))
    factor = float((after * before).sum() / (before * before).sum())
    if float((after - factor * before).abs().max()) > NEAR * abs(factor) * float(before.abs().max()):
        raise HeadError(f"untying the head of {model.name} changes more than the head: it cannot be baked; {ADVICE}")
    known = (1.0, math.sqrt(before.shape[-1]), 1 / math.sqrt(before.shape[-1]))
    return next((value for value in known if math.isclose(value, factor, rel_tol=NEAR)), factor)


def _replace(hf: Any, old: Tensor, values: Tensor) -> None:
    """Put a parameter of new values wherever a model holds the old one."""
    new = nn.Parameter(values.to(old.dtype), requires_grad=False)
    for module in hf.modules():
        for name, parameter in module._parameters.items():
            if parameter is old:
                module._parameters[name] = new


def _set_dims(norm: nn.Module, dims: list[int], silent: float, values: Tensor) -> None:
    """Have a norm give `values` in some dimensions whatever it is given."""
    for name, value in (("weight", torch.tensor(silent)), ("bias", values)):
        old: Any = norm._parameters[name]
        new = old.detach().clone()
        new[dims] = value.to(new)
        setattr(norm, name, nn.Parameter(new, requires_grad=False))


def _separate(hf: Any) -> None:
    """Give every parameter storage of its own that the untied configuration will not tie again when it is loaded."""
    try:
        with torch.device("meta"):
            tied = dict(type(hf)(hf.config).all_tied_weights_keys)
    except RUN_ERRORS as error:
        raise HeadError(f"{type(hf).__name__} cannot be built untied ({reason_of(error)}): {ADVICE}") from error

    def root(name: str) -> str:
        while name in tied:
            name = tied[name]
        return name

    first: dict[int, str] = {}
    for prefix, module in hf.named_modules(remove_duplicate=False):
        for attribute, parameter in _own_parameters(module):
            name = f"{prefix}.{attribute}" if prefix else attribute
            other = first.setdefault(id(parameter), name)
            if root(other) != root(name):
                module._parameters[attribute] = nn.Parameter(parameter.detach().clone(), requires_grad=False)


def _own_parameters(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in list(module._parameters.items()):
        if parameter is not None:
            yield name, parameter
