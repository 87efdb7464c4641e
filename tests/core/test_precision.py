"""A bf16 model against its float32 twin: only the body rounds; the head's product and the softmax are float32."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers.tiny_models import random_corpus, save_tiny
from tpe_core.detection.detection import detect
from tpe_core.models import head as heads
from tpe_core.models.loading import load_model
from tpe_core.models.model import LanguageModel
from tpe_core.options import RunOptions
from tpe_core.progress import run

BLOCKS, LENGTH = 8, 48
KINDS = ["gpt2", "gptj", "llama", "granite", "gemma2"]  # tied, with a bias, untied, scaled, capped


@pytest.fixture(params=KINDS)
def twins(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[LanguageModel, LanguageModel]:
    """(a bf16 model, the same weights in float32)."""
    folder = save_tiny(tmp_path, request.param, dtype=torch.bfloat16)
    half, full = (load_model(RunOptions(model=str(folder), dtype=dtype)) for dtype in ("bfloat16", "float32"))
    assert half.report.dtype == "bfloat16"
    assert full.report.dtype == "float32"
    return half, full


def ids() -> Tensor:
    return torch.from_numpy(random_corpus(BLOCKS, LENGTH).blocks)


def log_alpha(model: LanguageModel) -> np.ndarray:
    return run(detect(model, random_corpus(BLOCKS, LENGTH))).log_alpha


def log_mean(log_p: Tensor) -> np.ndarray:
    """Log of the mean over positions, in float64."""
    return (torch.logsumexp(log_p.double(), 0) - np.log(len(log_p))).numpy()


def brute_force(hidden: Tensor, head: heads.OutputHead) -> np.ndarray:
    """Log alpha of hidden states under a head, everything in float64."""
    logits = hidden.double().flatten(0, 1) @ head.columns.double()
    if head.bias is not None:
        logits = logits + head.bias.double()
    return log_mean(torch.log_softmax(head.post(logits), -1))


def farthest(a: np.ndarray, b: np.ndarray) -> float:
    """The largest relative difference of two alphas, of rows that have any probability."""
    shown = np.isfinite(b)
    assert (np.isfinite(a) == shown).all()
    return float(np.abs(np.expm1(a[shown] - b[shown])).max())


def test_only_the_body_rounds(twins: tuple[LanguageModel, LanguageModel]) -> None:
    half, full = twins
    hidden = torch.cat([half.hidden(row[None]) for row in ids()])
    assert hidden.dtype == torch.bfloat16
    torch.testing.assert_close(half.head.columns.float(), full.head.columns, rtol=0, atol=0)
    of_half = log_alpha(half)
    # The float32 twin's head on the bf16 body's hidden states: the whole difference lies in those.
    assert farthest(of_half, brute_force(hidden, full.head)) < 1e-6
    own = torch.cat([full.hidden(row[None]) for row in ids()])
    assert farthest(log_alpha(full), brute_force(own, full.head)) < 1e-6
    assert float((hidden.float() - own).abs().max()) > 1e-4 * float(own.abs().max())
    assert 1e-5 < farthest(of_half, log_alpha(full)) < 0.2


def test_half_precision_after_the_body_would_be_far_off(twins: tuple[LanguageModel, LanguageModel]) -> None:
    half, full = twins
    hidden = torch.cat([half.hidden(row[None]) for row in ids()])
    right, own = brute_force(hidden, full.head), half.logits(ids()).flatten(0, 1)
    assert own.dtype == torch.bfloat16
    error = max(farthest(log_alpha(half), right), 1e-9)
    assert farthest(log_mean(torch.log_softmax(own.float(), -1)), right) > 100 * error  # a bf16 product
    exact = torch.log_softmax(full.head.logits(hidden).flatten(0, 1).bfloat16(), -1)
    assert farthest(log_mean(exact), right) > 100 * error  # a float32 product, a bf16 softmax


def test_weights_kept_in_half_precision_are_widened(
    twins: tuple[LanguageModel, LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    half, _ = twins
    narrow = half.head.columns.bfloat16()
    assert torch.equal(narrow.float(), half.head.columns.float())
    monkeypatch.setattr(heads, "CHUNK_ROWS", 100)  # several chunks even of a small vocabulary
    kept = replace(half, measured_head=replace(half.head, columns=narrow))
    assert farthest(log_alpha(kept), log_alpha(half)) < 1e-6
