"""A pruned head that is really smaller: only the kept dimensions' columns, with what the others gave folded in.

Whatever replaces a removed dimension linearly (zero, its mean, its least-squares reconstruction) is still one matrix
on the kept dimensions and one constant per token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tpe_core.detection.detection import Detection
from tpe_core.edits.reconstruction import reconstruct
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.errors import TpeError
from tpe_core.models.head import OutputHead, Post

__all__ = ["PrunedHead", "fold"]

Floats = NDArray[np.float64]


class PrunedHead(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """``post(W' h_K + c)``: final logits from hidden states of the full width or of the kept dimensions alone."""

    kept: Tensor  # [k] int64, ascending
    columns: Tensor  # [k, V_all] W' transposed
    constant: Tensor  # [V_all]

    def __init__(self, kept: Tensor, columns: Tensor, constant: Tensor, post: Post, hidden_size: int) -> None:
        super().__init__()
        self.register_buffer("kept", kept)
        self.register_buffer("columns", columns)
        self.register_buffer("constant", constant)
        self.post = post
        self.hidden_size = hidden_size

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., V_all] float32 final logits of h [..., d] or h_K [..., k]."""
        if hidden.shape[-1] == self.hidden_size != len(self.kept):
            hidden = hidden[..., self.kept]
        flat = torch.addmm(self.constant, hidden.reshape(-1, len(self.kept)).float(), self.columns)
        return self.post.apply_(flat).reshape(*hidden.shape[:-1], -1)


def kept_dims(removed: Sequence[int], width: int) -> NDArray[np.int64]:
    """[k] the dimensions of ``range(width)`` that are not removed. Raises `TpeError` where none is left."""
    kept = np.setdiff1d(np.arange(width), np.array(removed, dtype=np.int64))
    if not len(kept):
        raise TpeError(f"all {width} dimensions are removed: keep at least one.")
    return kept


def fold(head: OutputHead, removed: Sequence[int], replacement: str, detection: Detection) -> PrunedHead:
    """The smaller head that equals `head` with dimensions `removed` replaced.

    Raises `TpeError` for a replacement that no linear map is.
    """
    width, gone = head.hidden_size, sorted(set(removed))  # the order of `reconstruct`'s rows
    kept = kept_dims(removed, width)
    columns, constant = head.columns[torch.from_numpy(kept)].float(), torch.zeros(head.total_rows)
    constant = constant.to(columns) if head.bias is None else head.bias.clone()
    lost = head.columns[gone].double()
    chosen = REPLACEMENTS[replacement]
    if chosen.fill is not None:
        constant += (torch.from_numpy(chosen.fill(detection.mean_hidden[gone])).to(lost) @ lost).float()
    elif chosen.rebuilds and not chosen.is_fitted:
        rebuilt = reconstruct(gone, detection)
        columns = (columns.double() + torch.from_numpy(rebuilt.fold.T.copy()).to(lost) @ lost).float()
        constant += (torch.from_numpy(rebuilt.constant).to(lost) @ lost).float()
    else:
        raise TpeError(
            f"the replacement {replacement!r} has no closed form: choose one of {', '.join(REPLACEMENTS.ready)}."
        )
    where = torch.from_numpy(kept).to(columns.device)
    return PrunedHead(where, columns.contiguous(), constant, head.post, width)
