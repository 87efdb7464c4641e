"""The gain and offset of the norm right before the head, where both can be rewritten without anyone else noticing.

What a weight does is measured on a copy of the norm, not known by its class: some scale by 1 + weight.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tpe_core.encoding.static_bias import final_norm_bias
from tpe_core.models.model import LanguageModel

__all__ = ["FinalAffine", "final_affine"]

SILENT = (0.0, -1.0)  # weights that may stand for a gain of 0: of `weight`, and of `1 + weight`
SAME = 1e-3  # of the output's size: what rounding may do where nothing should change

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class FinalAffine:
    """``h = gain * normalised + beta``, whose weights are ``gain + silent`` and beta; nothing else reads them."""

    name: str  # dotted, in the model
    silent: float  # the weight that stands for a gain of 0
    gain: Floats  # [d]
    beta: Floats  # [d]
    centred: bool  # the normalised values sum to 0, as those of a layer norm do


def final_affine(model: LanguageModel) -> FinalAffine | None:
    """The final norm's gain and offset; None where there is no such norm, or it also serves elsewhere."""
    inputs, hf = model.example_inputs(), model.hf
    norm = final_norm_bias(hf, model.site, inputs)
    if norm is None:
        return None
    module = hf.get_submodule(norm.name)
    weight, bias = (module._parameters.get(name) for name in ("weight", "bias"))
    if weight is None or bias is None or not weight.shape == bias.shape == (model.head.hidden_size,):
        return None
    named = [parameter for _, parameter in hf.named_parameters(remove_duplicate=False)]
    if any(sum(candidate is parameter for candidate in named) != 1 for parameter in (weight, bias)):
        return None
    calls: list[int] = []
    handle = module.register_forward_hook(lambda *_: calls.append(1))
    try:
        model.hidden(inputs)
    finally:
        handle.remove()
    silent = _silent(module, bias) if len(calls) == 1 else None
    if silent is None:
        return None
    gain, beta = (tensor.detach().double().cpu().numpy() for tensor in (weight, bias))
    return FinalAffine(name=norm.name, silent=silent, gain=gain - silent, beta=beta, centred=_centred(module))


def _silent(module: nn.Module, bias: Tensor) -> float | None:
    """The weight at which a norm gives its bias whatever it is given; None where neither candidate does."""
    copied: Any = copy.deepcopy(module)
    for value in SILENT:
        with torch.inference_mode():
            copied.weight = nn.Parameter(torch.full_like(copied.weight, value), requires_grad=False)
            if bool((copied(_noise(module)) == bias).all()):
                return value
    return None


def _centred(module: nn.Module) -> bool:
    """Whether a norm does not feel what is added to all dimensions alike."""
    noise = _noise(module)
    with torch.inference_mode():
        plain, shifted = module(noise), module(noise + 1)
    return float((plain - shifted).abs().max()) <= SAME * float(plain.abs().max())


def _noise(module: nn.Module) -> Tensor:
    """[2, 3, d] numbers as large as those of a hidden state."""
    weight: Any = module.weight
    drawn = torch.randn(2, 3, len(weight), generator=torch.Generator().manual_seed(0)) * 4
    return drawn.to(weight)
