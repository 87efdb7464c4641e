"""Heads made of their rows alone, for the token atlas."""

from __future__ import annotations

import numpy as np
import torch

from tpe_core.atlas.head_rows import HeadRows


def rows_of(weight: np.ndarray, offset: np.ndarray | None = None, padding: int = 0) -> HeadRows:
    """A head of rows [V, k]."""
    columns = torch.from_numpy(np.ascontiguousarray(weight.T)).float()
    return HeadRows(columns=columns, offset=offset, kept=np.arange(weight.shape[1]), vocab_rows=len(weight) - padding)
