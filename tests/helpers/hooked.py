"""Edits to hook onto models."""

from __future__ import annotations

import math

import numpy as np

from tests.zoo.shrink import VOCAB
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.intervention import Intervention, Steering

ROWS = VOCAB - 10  # rows in use; the others are padding


def some_edit(
    width: int, replacement: str = "least-squares", dims: tuple[int, ...] = (1, 4, 5), seed: int = 0
) -> ResolvedEdit:
    """Three pruned dimensions, two moved rows and one raised logit, with random numbers."""
    rng = np.random.default_rng(seed)
    steering = (Steering(3, 2.0), Steering(20, 0.5, "min-norm"), Steering(9, 3.0, "bias"))
    size = len(dims)
    written = width if replacement == "refit" else size
    return ResolvedEdit(
        intervention=Intervention(dims, replacement, steering),  # type: ignore[arg-type]
        hidden_size=width,
        constant=np.zeros(size) if replacement == "zero" else rng.normal(size=written),
        fold=rng.normal(size=(written, width - size)) / 4 if replacement in ("least-squares", "refit") else None,
        rows={3: rng.normal(size=width), 20: rng.normal(size=width)},
        biases={9: math.log(3.0)},
    )
