"""Smaller heads: the fold against edits of the full head, and distilling against a convex reference."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import WIDTH, random_corpus
from tests.test_posts import build, wrapped
from tests.test_sweep import cost_of, float64_logits, replaced
from tpe_core.detecting.detection import Detection, detect
from tpe_core.errors import TpeError
from tpe_core.models.model import LanguageModel
from tpe_core.progress import run
from tpe_core.pruning.distill import _loss, distill
from tpe_core.pruning.pruned_head import fold
from tpe_core.pruning.sweep import measure

REMOVED = (1, 4, 6, 11, 12, 15)


@pytest.fixture(scope="module")
def opened() -> Any:
    made: dict[str, tuple[LanguageModel, Detection]] = {}

    def make(kind: str) -> tuple[LanguageModel, Detection]:
        if kind not in made:
            model = wrapped(build(kind), "seq2seq" if kind == "bias" else "causal")
            made[kind] = model, run(detect(model, random_corpus(60, 40), sample_size=2000))
        return made[kind]

    return make


@pytest.mark.parametrize("kind", ["identity", "head bias", "scale", "softcap", "mask"])
@pytest.mark.parametrize("how", ["zero", "mean", "least-squares"])
def test_the_smaller_head_gives_the_same_logits(opened, kind: str, how: Any) -> None:
    model, detection = opened(kind)
    small = fold(model.head, REMOVED, how, detection)
    assert small.columns.shape == (WIDTH - len(REMOVED), model.head.total_rows)
    hidden = detection.sample.hidden[:50]
    wanted = float64_logits(model.head, replaced(hidden.astype(np.float64), np.array(REMOVED), how, detection))
    found = small(torch.from_numpy(hidden)).double().numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)
    narrow = small(torch.from_numpy(hidden[:, small.kept.numpy()]))
    assert torch.equal(narrow, small(torch.from_numpy(hidden)))
    assert found.dtype == np.float64
    assert small(torch.from_numpy(hidden[0])).shape == (model.head.total_rows,)


def test_removing_everything_or_nothing(opened) -> None:
    model, detection = opened("identity")
    with pytest.raises(TpeError, match="keep at least one"):
        fold(model.head, range(WIDTH), "zero", detection)
    whole = fold(model.head, (), "least-squares", detection)
    hidden = torch.from_numpy(detection.sample.hidden[:9])
    torch.testing.assert_close(whole(hidden), model.head.logits(hidden), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["identity", "softcap"])
def test_the_gradient_is_the_derivative(opened, kind: str) -> None:
    model, detection = opened(kind)
    torch.manual_seed(0)
    hidden = torch.from_numpy(detection.sample.hidden[:20])
    e = torch.randn(20, 4)
    weights = (0.3 * torch.randn(4, model.head.total_rows)).requires_grad_()
    head = model.head
    p = torch.softmax(head.logits(hidden), 1)
    log_q = torch.log_softmax(head.post(e @ weights), 1)
    (p * (p.log() - log_q)).sum(1).mean().backward()
    kl, gradient = _loss(head, hidden, e, weights.detach())
    torch.testing.assert_close(gradient, weights.grad, rtol=1e-3, atol=1e-7)
    assert kl > 0


@pytest.mark.parametrize("kind", ["identity", "softcap", "head bias"])
def test_distilling_beats_the_fold_on_other_text(opened, kind: str) -> None:
    """With sharp distributions: near the uniform one the fold is already the optimum, and little is left to gain."""
    model, detection = opened(kind)
    head = dataclasses.replace(model.head, columns=6 * model.head.columns)
    found = run(distill(head, REMOVED, detection, detection.sample, steps=300))
    assert found.kl_after < 0.9 * found.kl_before
    other = run(detect(model, random_corpus(20, 40, seed=9), sample_size=600)).sample
    folded = run(measure(head, fold(head, REMOVED, "least-squares", detection), other))
    distilled = run(measure(head, found.head, other))
    assert distilled.kl < 0.9 * folded.kl
    # What the job says of itself is what the definition gives.
    base = float64_logits(head, other.hidden.astype(np.float64))
    own = found.head(torch.from_numpy(other.hidden)).double().numpy()
    assert distilled.kl == pytest.approx(cost_of(base, own, other.next_ids).kl, abs=1e-5)


def test_the_same_seed_gives_the_same_head(opened) -> None:
    model, detection = opened("identity")
    first, second = (run(distill(model.head, REMOVED, detection, detection.sample, steps=60)) for _ in range(2))
    assert torch.equal(first.head.columns, second.head.columns)
    other = run(distill(model.head, REMOVED, detection, detection.sample, steps=60, seed=1))
    assert not torch.equal(first.head.columns, other.head.columns)
