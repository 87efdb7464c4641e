"""Hooks on every kind of head that is accepted, against ``post(W h' + b)`` in double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import tpe_core
from tests.helpers.hooked import ROWS, some_edit
from tests.zoo.cases import SUPPORTED, Case
from tests.zoo.shrink import CONTEXT, inputs, tiny_model
from tpe_core.models.capture import capture, forward
from tpe_core.models.head_sites import find_site
from tpe_core.models.probe import open_head


@pytest.mark.parametrize("case", SUPPORTED, ids=lambda case: case.id)
def test_every_supported_head_follows_the_definition(case: Case) -> None:
    model = tiny_model(case.task, case.model_type, case.cls, **case.fixed)
    head, _ = open_head(model, ROWS, CONTEXT, case.task)
    assert head is not None
    edit, asked = some_edit(head.hidden_size), inputs(model, ROWS, 10)
    hidden, output = capture(model, find_site(model), asked, stop=False)
    h = hidden.double().numpy()
    gone, kept = list(edit.removed), list(edit.kept)
    h[..., gone] = h[..., kept] @ np.asarray(edit.fold).T + edit.constant
    z = h @ head.columns.double().numpy() + (0 if head.bias is None else head.bias.double().numpy())
    for token_id, row in edit.rows.items():
        z[..., token_id] += h @ row
    z[..., 9] += math.log(3.0)
    want = head.post(torch.from_numpy(z))
    with tpe_core.apply(model, edit):
        got = forward(model, asked).logits.double()
    seen = want > -1e4
    size = float(want[seen].abs().max())
    assert float((got - want)[seen].abs().max()) < 2e-6 * max(1.0, size)
    assert bool((got[~seen] < -1e4).all())
    assert torch.equal(forward(model, asked).logits, output.logits)
