"""Whether what a model computes is finite: the one check on every reading of hidden states, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from tpe_core.errors import NotFiniteError

__all__ = ["advice", "check_hidden", "non_finite_weight"]

SCANNED = 2**24  # values of a weight looked at together


def check_hidden(hidden: Tensor, model: nn.Module) -> Tensor:
    """`hidden` [B, L, d] as it is; raises `NotFiniteError` with the first place where it holds NaN or infinity."""
    if bool(torch.isfinite(hidden).all()):
        return hidden
    wrong = (~torch.isfinite(hidden)).any(-1).reshape(-1, hidden.shape[-2])
    row, position = (int(place) for place in wrong.nonzero()[0])
    dtype = str(hidden.dtype).removeprefix("torch.")
    weight = non_finite_weight(model.named_parameters())
    raise NotFiniteError(f"hidden states hold NaN or infinity in {dtype}", advice(dtype, weight), row, position)


def advice(dtype: str, weight: str | None) -> str:
    """What to do where a model of this dtype computes NaN or infinity; `weight` as `non_finite_weight` gives it."""
    if weight is not None:
        return f"{weight}: the checkpoint is damaged, download or save it again"
    wider = {"float16": "try --dtype bfloat16 or float32", "bfloat16": "try --dtype float32"}
    return wider.get(dtype, "its weights are finite, so it overflows: check the checkpoint")


def non_finite_weight(named: Iterable[tuple[str, Tensor]]) -> str | None:
    """A clause that names the first tensor and row that hold NaN or infinity; None where all are finite."""
    for name, tensor in named:
        if not tensor.is_floating_point() or tensor.device.type == "meta" or not tensor.numel():
            continue
        rows = tensor.detach().reshape(len(tensor) if tensor.ndim > 1 else 1, -1)
        step = max(1, SCANNED // rows.shape[1])
        for first in range(0, len(rows), step):
            wrong = ~torch.isfinite(rows[first : first + step])
            if not bool(wrong.any()):
                continue
            row, column = (int(place) for place in wrong.nonzero()[0])
            value = float(rows[first + row, column])
            where = f"row {first + row}" if tensor.ndim > 1 else f"entry {column}"
            return f"{where} of the tensor {name} holds {'NaN' if math.isnan(value) else 'infinity'}"
    return None
