"""The rows of a head as an edit leaves them: one matrix on the hidden state's kept dimensions, and one offset a token.

Pruning replaces entries of h by a constant, or by a linear guess from the kept ones; both fold into rows and offsets.
So an edited head is a head again, and every question about rows can be put to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.edits.edit import ResolvedEdit
from tpe_core.models.head import OutputHead

__all__ = ["HeadRows", "head_rows"]

CHUNK = 8192  # rows in float64 at a time

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class HeadRows:
    """``z = columnsᵀ h_K + offset``: the logits before a soft cap, which moves no maximum.

    K are the dimensions of h that the edit keeps; h_K may be any vector of them. Padding rows compete like any other,
    and a token that is never predicted has an offset of -inf.
    """

    columns: Tensor  # [k, V_all] float32, on the CPU
    offset: Floats | None  # [V_all]; None where there is none
    kept: NDArray[np.int64]  # [k] dimensions of h
    vocab_rows: int

    @property
    def competes(self) -> NDArray[np.bool_]:
        """[V_all] rows that can be predicted at all."""
        return np.isfinite(self.offset) if self.offset is not None else np.ones(self.columns.shape[1], dtype=np.bool_)

    def row(self, token_id: int) -> Floats:
        """[k] one row, float64."""
        values: Floats = self.columns[:, token_id].double().numpy()
        return values

    def logits(self, h: Floats) -> Floats:
        """[V_all] logits of one hidden state h_K [k], all in float64."""
        state = torch.from_numpy(np.ascontiguousarray(h, dtype=np.float64))
        parts = [part.double().T @ state for part in self.columns.split(CHUNK, dim=1)]
        z: Floats = torch.cat(parts).numpy()
        return z if self.offset is None else z + self.offset

    def margin(self, h: Floats, token_id: int) -> float:
        """How far a token's logit lies above every other one at h_K [k], nats; above 0 where it is the top token."""
        z = self.logits(h)
        own = float(z[token_id])
        z[token_id] = -np.inf
        return own - float(z.max())


def head_rows(head: OutputHead, edit: ResolvedEdit | None = None) -> HeadRows:
    """The rows of a head, under an edit where one is given."""
    columns = head.columns.detach().float().cpu()
    offset = None if head.bias is None else head.bias.detach().double().cpu().numpy().copy()
    kept = np.arange(head.hidden_size)
    if edit is not None and not edit.is_empty:
        total = np.zeros(head.total_rows) if offset is None else offset
        if edit.rows:
            moved = list(edit.rows)
            columns = columns.clone()
            columns[:, moved] += torch.from_numpy(np.stack([edit.rows[each] for each in moved], 1)).float()
        for token_id, amount in edit.biases.items():
            total[token_id] += amount
        if edit.removed:
            kept, written = np.array(edit.kept, dtype=np.int64), list(edit.written)
            replaced = columns[written]
            total += (torch.from_numpy(edit.constant).float() @ replaced).double().numpy()
            stays = len(written) < head.hidden_size or not len(kept)
            folded = None if edit.fold is None else torch.from_numpy(edit.fold.T).float() @ replaced
            columns = columns[kept] if folded is None else columns[kept] + folded if stays else folded
        offset = total if total.any() else None
    return HeadRows(columns=columns, offset=offset, kept=kept, vocab_rows=head.vocab_rows)
