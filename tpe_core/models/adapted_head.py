"""The weights of a head that a PEFT adapter's layers stand around, read without rounding them to the base's dtype."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["adapted_weights"]

PLAIN = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
LAYERS = ("base_layer", "modules_to_save", "token_adapter")  # what peft's wrappers keep a module in


def adapted_weights(head: nn.Module) -> Callable[[], tuple[Tensor, Tensor | None]] | None:
    """What gives (W [V, d], b [V] or None) of a head with an adapter's layers around it; None for any other head.

    They are those of a float32 copy of the head after merging. A head whose own weights are packed or not in memory
    is none that can be merged: it is read through the module.
    """
    plain = isinstance(head, nn.Linear) or not any(hasattr(head, name) for name in LAYERS)
    if plain or any(each.device.type == "meta" or each.dtype not in PLAIN for each in head.parameters()):
        return None

    def read() -> tuple[Tensor, Tensor | None]:
        linear = _merged(copy.deepcopy(head).float())
        bias = linear.bias
        return linear.weight.detach(), None if bias is None or not bool(bias.any()) else bias.detach()

    return read


def _merged(head: Any) -> nn.Linear:
    """The linear layer inside, with the adapter's changes in its weights."""
    if hasattr(head, "unload_and_optionally_merge_module"):
        head = head.unload_and_optionally_merge_module(merge=True, safe_merge=False, adapter_names=None)
    elif hasattr(head, "merge"):
        inner = head.get_base_layer()
        if isinstance(inner, nn.Linear) and inner.bias is None:
            inner.bias = nn.Parameter(inner.weight.new_zeros(inner.out_features))  # some adapters add one
        head.merge()
        head = head.get_base_layer()
    if not isinstance(head, nn.Linear):
        raise TypeError(f"an adapted {type(head).__name__} is no linear layer")
    return head
