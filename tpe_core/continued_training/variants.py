"""The models of an experiment: copies of one model to be trained, unedited, edited by hooks, or with an edit baked in.

The loaded model itself is never trained: every run starts from a copy of its own.
"""

from __future__ import annotations

import copy
import dataclasses
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from tpe_core.checkpoint.bake import closest_copy
from tpe_core.checkpoint.plan import choose
from tpe_core.checkpoint.weights import shared_copy
from tpe_core.detection.detection import Detection
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.intervention import Intervention
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.errors import TpeError
from tpe_core.models.model import LanguageModel
from tpe_core.progress import Steps

__all__ = ["Trained", "needs_detection", "random_edit", "trained_copy"]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A model that is trained. `module` is what the Trainer is given: the model, or the adapters around it."""

    model: LanguageModel
    module: Any  # transformers.PreTrainedModel or peft.PeftModel
    edit: ResolvedEdit | None  # held in force by hooks
    note: str = ""  # what baking lost, a whole sentence


def needs_detection(edit: ResolvedEdit, model: LanguageModel, variants: tuple[str, ...]) -> bool:
    """Whether a variant of this edit needs numbers measured on text: of random dimensions, or of what baking loses."""
    measured = bool(edit.removed) and REPLACEMENTS[edit.intervention.replacement].is_measured
    return ("random" in variants and measured) or ("free" in variants and not choose(model, edit).is_exact)


def random_edit(edit: ResolvedEdit, seed: int, detection: Detection | None) -> ResolvedEdit:
    """A mask of as many dimensions, drawn by `seed`, with the same replacement and the same steered tokens.

    A refit belongs to one mask, so a random one is replaced by ``least-squares`` there. Raises `TpeError` where the
    edit prunes nothing.
    """
    if not edit.removed:
        raise TpeError("an edit that prunes nothing has no random mask of its size: leave the variant random out.")
    dims = np.random.default_rng([seed, 5]).permutation(edit.hidden_size)[: len(edit.removed)]
    replacement = edit.intervention.replacement
    if REPLACEMENTS[replacement].is_fitted:
        replacement = "least-squares"
    drawn = Intervention(pruned=tuple(dims.tolist()), replacement=replacement)
    if not REPLACEMENTS[replacement].is_measured:
        numbers = ResolvedEdit(intervention=drawn, hidden_size=edit.hidden_size, constant=np.zeros(len(dims)))
    else:
        assert detection is not None  # noqa: S101 - `needs_detection` said so
        numbers = EditStatistics.of(np.zeros(edit.hidden_size), detection).resolve(drawn)
    whole = dataclasses.replace(drawn, steering=edit.intervention.steering)
    return dataclasses.replace(numbers, intervention=whole, rows=edit.rows, biases=edit.biases)


def trained_copy(
    model: LanguageModel,
    variant: str,
    edit: ResolvedEdit | None,
    *,
    rank: int | None = None,
    seed: int = 0,
    detection: Detection | None = None,
) -> Steps[Trained]:
    """A copy of a model that is ready to be trained as a variant: a job.

    `rank` puts LoRA adapters of that rank on all its linear layers but the head, drawn by `seed`; else all parameters
    are trained. Raises `TpeError` where an edit cannot be baked, or peft is not installed.
    """
    hf, kept, note = model.hf, edit, ""
    if variant == "free" and edit is not None:
        plan = choose(model, edit, detection)
        baked, loss = yield from closest_copy(model, edit, plan, detection, allow_lossy=True)
        hf, kept = baked.hf, None
        if loss is not None:
            note = f"baking {model.name} loses {loss.kl:.3g} nats (KL): its architecture cannot hold this edit exactly."
    copied = _frozen_copy(hf) if rank is not None else copy.deepcopy(hf)
    module = copied
    if rank is not None:
        module = _with_adapters(copied, rank, seed)
    else:
        for parameter in copied.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
    return Trained(model=dataclasses.replace(model, hf=copied), module=module, edit=kept, note=note)


def _frozen_copy(hf: Any) -> Any:
    """A copy of a model that shares its values but is trained on its own: none of its parameters is, yet."""
    copied = shared_copy(hf)
    frozen: dict[int, nn.Parameter] = {}  # a tied one stays one
    for module in copied.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                made = nn.Parameter(parameter.detach(), requires_grad=False)
                module._parameters[name] = frozen.setdefault(id(parameter), made)
    return copied


def _with_adapters(hf: Any, rank: int, seed: int) -> Any:
    """LoRA adapters in a model (Hu et al. 2021), scaled by two, as peft puts them."""
    try:
        import peft
    except ImportError:
        raise TpeError("LoRA adapters are made by peft, which is not there: pip install 'tpe-tui[adapters]'.") from None
    torch.manual_seed(seed)
    config = peft.LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers that store their weights transposed, which peft sees by itself
        return peft.get_peft_model(hf, config)
