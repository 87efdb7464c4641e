"""What a training run says about itself: held-out loss, frequency encoding and distance to the end, step by step.

The paper's third observation on our own model (Cho et al. 2025, section 5): the output
embedding encodes token frequencies before the parameters come to rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from tpe_core.design import Design
from tpe_core.encoding import fit_encoding

__all__ = ["checkpoint_record", "halfway"]

EMBEDDING = "transformer.wte.weight"


def _group(name: str) -> str:
    """The part of a GPT-2 that a parameter belongs to."""
    for mark, group in ((".wte.", "embedding"), (".wpe.", "positions"), (".attn.", "attention"), (".mlp.", "mlp")):
        if mark in name:
            return group
    return "norms"


def _distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor], group: str) -> float:
    """Euclidean distance of two checkpoints in one group's parameters ("all" for every one)."""
    total = sum(
        float((a[name].double() - b[name].double()).pow(2).sum()) for name in b if group in ("all", _group(name))
    )
    return float(total**0.5)


def checkpoint_record(folder: Path, counts: NDArray[np.int64]) -> list[dict[str, Any]]:
    """One entry for every ``step*`` folder, in order of steps.

    `counts` [V] are the training text's token counts; frequencies have add-one smoothing. ``r2_adjusted`` is that of
    -log frequency on the embedding's rows, ``convergence`` is |theta_t - theta_T| / |theta_0 - theta_T| by group.
    """
    surprisal = -np.log((counts + 1) / (counts.sum() + len(counts)))
    paths = sorted(folder.glob("step*"), key=lambda path: int(path.name.removeprefix("step")))
    first, last = (load_file(path / "model.safetensors") for path in (paths[0], paths[-1]))
    groups = ["all", *sorted({_group(name) for name in last})]
    whole = {group: _distance(first, last, group) for group in groups}
    record = []
    for path in paths:
        weights = load_file(path / "model.safetensors")
        fit = fit_encoding(Design(weights[EMBEDDING].float().T.contiguous()), surprisal)
        record.append(
            {
                **json.loads((path / "loss.json").read_text()),
                "r2_adjusted": fit.r2_adjusted,
                "r2_heldout_vocab": fit.r2_heldout_vocab,
                "convergence": {group: _distance(weights, last, group) / whole[group] for group in groups},
            }
        )
    return record


def halfway(record: list[dict[str, Any]]) -> dict[str, int]:
    """The first recorded steps at which adjusted R2 passes half its final value, and all parameters are half-way."""
    final = record[-1]["r2_adjusted"]
    return {
        "encoding": next(entry["step"] for entry in record if entry["r2_adjusted"] >= final / 2),
        "parameters": next(entry["step"] for entry in record if entry["convergence"]["all"] <= 0.5),
    }
