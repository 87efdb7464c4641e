"""Everything in the auto-maps that can be shrunk is supported and right, or refused; the tally is printed."""

from __future__ import annotations

import gc
from collections import defaultdict

import pytest
import torch

from tests.zoo.shrink import CONTEXT, MAPS, tiny_model
from tests.zoo.verdict import TOKENS, error_on_fresh_input
from tpe_core.models.head import Task
from tpe_core.models.probe import open_head

LEAST = 220  # supported architectures


def judge(task: Task, model_type: str) -> tuple[str, str]:
    """(supported, wrong, refused or not built; why) of one architecture."""
    torch.manual_seed(0)
    try:
        model = tiny_model(task, model_type)
    except Exception as error:  # whatever a class raises on its own tiny configuration is the finding
        return "not built", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    head, report = open_head(model, TOKENS, CONTEXT, task)
    if head is None:
        return "refused", report.reason
    try:
        error = error_on_fresh_input(model, head)
    except Exception as failure:
        return "wrong", f"{type(failure).__name__}: {failure}"
    return ("supported", report.post.kind) if error < 1e-3 else ("wrong", f"{report.post}, off by {error:.3g}")


@pytest.mark.slow
def test_every_architecture_is_supported_and_right_or_refused() -> None:
    tally: dict[str, list[str]] = defaultdict(list)
    for task, classes in MAPS.items():
        for model_type, name in classes.items():
            verdict, why = judge(task, model_type)
            tally[verdict].append(f"{task} {name} ({model_type}): {why}")
            gc.collect()
    for verdict, lines in tally.items():
        print(f"{verdict}: {len(lines)}")
        if verdict != "supported":
            print(*(f"  {line}" for line in lines), sep="\n")
    assert not tally["wrong"]
    assert len(tally["supported"]) >= LEAST
