"""The head's tensor in saved checkpoints of many architectures: the one that transformers multiplies with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.zoo.cases import SUPPORTED, Case
from tests.zoo.shrink import tiny_model
from tpe_core.dynamics.suite.head_name import head_name
from tpe_core.dynamics.suite.weight_files import LocalFiles, open_weights
from tpe_core.models.head_sites import find_site
from tpe_core.progress import run

IN_PIECES = {"mobilebert"}


@pytest.mark.parametrize(
    "case", [case for case in SUPPORTED if case.model_type not in IN_PIECES and not case.cls], ids=lambda case: case.id
)
def test_the_head_is_found_in_a_saved_checkpoint(case: Case, tmp_path: Path) -> None:
    model = tiny_model(case.task, case.model_type, **case.fixed)
    model.save_pretrained(tmp_path)
    site = find_site(model)
    assert site.module is not None
    weights = run(open_weights(LocalFiles(tmp_path)))
    name = run(head_name(model.config, case.task, "it").find(weights))
    assert torch.equal(run(weights.tensor(name)), site.module.get_parameter("weight").detach())
