"""What a training run says about itself: held-out loss, frequency encoding and distance to the end, step by step.

The paper's third observation on our own model (Cho et al. 2025, section 5): the output
embedding encodes token frequencies before the parameters come to rest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file

from tpe_core.dynamics.measure.frequency import Frequencies
from tpe_core.dynamics.measure.head_fit import fit_head
from tpe_core.dynamics.measure.parameter_groups import distances, ratios

__all__ = ["checkpoint_record", "halfway"]

EMBEDDING = "transformer.wte.weight"


def checkpoint_record(folder: Path, counts: NDArray[np.int64]) -> list[dict[str, Any]]:
    """One entry for every ``step*`` folder, in order of steps.

    `counts` [V] are the training text's token counts; frequencies have add-one smoothing. ``r2_adjusted`` is that of
    -log frequency on the embedding's rows, ``convergence`` is |theta_t - theta_T| / |theta_0 - theta_T| by group.
    """
    surprisal = Frequencies.of(counts, "the training text").surprisal
    paths = sorted(folder.glob("step*"), key=lambda path: int(path.name.removeprefix("step")))
    first, last = (load_file(path / "model.safetensors") for path in (paths[0], paths[-1]))
    whole = distances((name, first[name], last[name]) for name in last)
    record = []
    for path in paths:
        weights = load_file(path / "model.safetensors")
        fit = fit_head(weights[EMBEDDING], surprisal)
        record.append(
            {
                **json.loads((path / "loss.json").read_text()),
                "r2_adjusted": fit.r2_adjusted,
                "r2_heldout_vocab": fit.r2_heldout_vocab,
                "convergence": ratios(distances((name, weights[name], last[name]) for name in last), whole),
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
