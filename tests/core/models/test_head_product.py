"""The product with bf16 or fp16 operands and float32 sums: where it is taken, and that it changes no number.

There is no GPU here: the CPU is declared one, and a `torch.mm` that widens stands for the real one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.helpers.tiny_models import random_corpus, save_tiny
from tpe_core.detection import detection as detections
from tpe_core.detection.detection import detect
from tpe_core.models import head_product as products
from tpe_core.models.head import OutputHead, Post
from tpe_core.models.head_product import HALF_POSITIONS, half_product, keeps_half, mm_widens
from tpe_core.models.head_sites import HeadSite
from tpe_core.models.loading import load_model
from tpe_core.models.probe import _read
from tpe_core.options import RunOptions
from tpe_core.progress import run

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
Calls = list[tuple[int, ...]]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The CPU as a device whose mm widens; the shapes that it was asked for [N, d, V]."""
    calls: Calls = []
    plain = torch.mm

    def mm(left: Tensor, right: Tensor, *, out_dtype: torch.dtype | None = None, out: Tensor | None = None) -> Tensor:
        if out_dtype is None:
            return plain(left, right) if out is None else plain(left, right, out=out)
        assert left.dtype == right.dtype
        assert left.dtype in (BF16, FP16)
        assert out_dtype == FP32
        calls.append((*left.shape, right.shape[1]))
        product = plain(left.double(), right.double()).float()
        return product if out is None else out.copy_(product)

    monkeypatch.setattr(torch, "mm", mm)
    monkeypatch.setattr(products, "HALF_DEVICES", ("cuda", "cpu"))
    assert mm_widens.__wrapped__(BF16, CPU)
    calls.clear()
    monkeypatch.setattr(products, "mm_widens", lambda dtype, device: True)
    return calls


def untried() -> Callable[[torch.dtype, torch.device], bool]:
    """An mm that must not be tried."""

    def fail(dtype: torch.dtype, device: torch.device) -> bool:
        raise AssertionError(f"{dtype} on {device} was tried")

    return fail


@pytest.mark.parametrize(
    ("hidden", "weight", "positions", "taken"),
    [
        (BF16, BF16, HALF_POSITIONS, True),
        (FP16, FP16, HALF_POSITIONS, True),
        (BF16, BF16, HALF_POSITIONS - 1, False),
        (BF16, FP16, HALF_POSITIONS, False),
        (FP32, BF16, HALF_POSITIONS, False),
        (BF16, FP32, HALF_POSITIONS, False),
        (FP32, FP32, HALF_POSITIONS, False),
        (torch.float64, torch.float64, HALF_POSITIONS, False),
    ],
)
def test_both_operands_are_narrow_and_the_positions_many(
    hidden: torch.dtype, weight: torch.dtype, positions: int, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "mm_widens", lambda dtype, device: True)
    assert half_product(hidden, weight, CUDA, positions) is taken
    for device in (CPU, torch.device("mps"), torch.device("meta")):
        assert not half_product(hidden, weight, device, positions)


def test_a_torch_or_device_without_it_takes_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "mm_widens", lambda dtype, device: dtype == FP16)
    assert not half_product(BF16, BF16, CUDA, HALF_POSITIONS)
    assert half_product(FP16, FP16, CUDA, HALF_POSITIONS)


def test_where_it_cannot_be_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "mm_widens", untried())
    assert not half_product(BF16, BF16, CPU, HALF_POSITIONS)
    assert not keeps_half(FP32, CUDA)


@pytest.mark.parametrize("dtype", [BF16, FP16])
def test_the_trial_asks_torch_itself(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = mm_widens.__wrapped__
    assert not tried(dtype, CPU)  # this torch has the argument, but not for a CPU

    def older(left: Tensor, right: Tensor) -> Tensor:
        return left @ right

    def wrong(left: Tensor, right: Tensor, *, out_dtype: torch.dtype) -> Tensor:
        return torch.zeros(16, 16, dtype=out_dtype)

    def narrow(left: Tensor, right: Tensor, *, out_dtype: torch.dtype) -> Tensor:
        return left @ right

    for mm in (older, wrong, narrow):
        monkeypatch.setattr(torch, "mm", mm)
        assert not tried(dtype, CPU)
    monkeypatch.setattr(torch, "mm", lambda a, b, *, out_dtype: (a.double() @ b.double()).to(out_dtype))
    assert tried(dtype, CPU)


@pytest.mark.parametrize("dtype", [BF16, FP16])
def test_the_product_of_narrow_operands_is_that_of_the_widened_ones(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(64, 576, generator=generator).mul(4).to(dtype)
    w = torch.randn(576, 500, generator=generator).mul(0.1).to(dtype)
    exact = (h.double() @ w.double()).float()
    size = h.float().norm(dim=1)[:, None] * w.float().norm(dim=0)  # what a sum's rounding is measured by
    assert float(((h.float() @ w.float() - exact).abs() / size).max()) < 1e-6
    assert float((((h @ w).float() - exact).abs() / size).max()) > 1e-5  # rounded to its dtype it would not do
    # One product by itself is exact in float32: 2 x 11 bits at most.
    singles = h.double()[:, :1] * w.double()[:1]
    assert torch.equal(h.float()[:, :1] * w.float()[:1], singles.float())
    assert torch.equal(singles.float().double(), singles)


def _head(dtype: torch.dtype, bias: bool, post: Post) -> OutputHead:
    torch.manual_seed(0)
    offset = torch.randn(70).index_fill(0, torch.tensor([3]), -torch.inf)
    return OutputHead(
        columns=torch.randn(24, 70).to(dtype), bias=offset if bias else None, post=post, vocab_rows=67, tied=False,
        module="Linear",
    )  # fmt: skip


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [BF16, FP16])
def test_a_head_multiplies_as_it_is_and_adds_its_bias_in_float32(gpu: Calls, dtype: torch.dtype, bias: bool) -> None:
    head = _head(dtype, bias, Post("softcap", cap=5.0))
    h = torch.randn(4, HALF_POSITIONS // 4, 24).to(dtype)
    logits = head.logits(h)
    assert gpu == [(HALF_POSITIONS, 24, 70)]
    assert logits.shape == (4, HALF_POSITIONS // 4, 70)
    assert logits.dtype == FP32
    torch.testing.assert_close(logits, head.logits(h.float()), rtol=0, atol=5e-6)  # raw ones are up to 20
    exact = h.double() @ head.columns.double() + (0.0 if head.bias is None else head.bias.double())
    torch.testing.assert_close(logits.double(), head.post(exact), rtol=0, atol=2e-6)
    buffer = torch.full((HALF_POSITIONS, 70), torch.nan)
    assert head.raw(h.flatten(0, 1), out=buffer).data_ptr() == buffer.data_ptr()
    torch.testing.assert_close(head.post(buffer).view_as(logits), logits, rtol=0, atol=0)
    before = len(gpu)
    head.logits(h[:3])  # too few
    head.logits(h.float())
    replace(head, columns=head.columns.float()).logits(h)
    assert len(gpu) == before


@pytest.mark.parametrize(
    ("dtype", "scale", "kept"),
    [
        (BF16, 1.0, BF16),
        (BF16, 0.0625, BF16),
        (BF16, 0.3, FP32),
        (FP16, 1.0, FP16),
        (FP16, 0.0625, FP32),  # its smallest values have no room below
        (FP32, 1.0, FP32),
    ],
)
def test_w_stays_narrow_where_that_is_exact(gpu: Calls, dtype: torch.dtype, scale: float, kept: torch.dtype) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(24, 70).to(dtype)
    with torch.no_grad():
        linear.weight[0, 0] = 1.5 * 2.0**-20
    site = HeadSite(linear)
    columns, bias = _read(site, 24, CPU, dtype, scale)
    assert columns.dtype == kept
    assert bias is not None
    assert bias.dtype == FP32
    expected = linear.weight.detach().double().T * scale
    tolerance = 0.0 if kept == dtype else 1e-7
    torch.testing.assert_close(columns.double(), expected, rtol=tolerance, atol=0)


@pytest.mark.parametrize("kind", ["gpt2", "gptj", "granite", "gemma2"])  # tied, with a bias, scaled, capped
def test_a_detection_is_the_same_with_it(
    kind: str, gpu: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = RunOptions(model=str(save_tiny(tmp_path, kind, dtype=BF16)), dtype="bfloat16")
    corpus = random_corpus(25, 48)  # 1,200 positions: a chunk that is large enough, and a rest

    def detected(free: int = 2**40) -> Any:
        monkeypatch.setattr(detections, "available_bytes", lambda device: free)
        model = load_model(options)
        gpu.clear()
        return run(detect(model, corpus, batch_size=25)), model.head.columns.dtype, list(gpu)

    ours, narrow, calls = detected()
    assert narrow == BF16
    assert [call[0] for call in calls] == [HALF_POSITIONS]
    _, _, calls = detected(free=1000)  # a chunk that large does not fit
    assert not calls
    monkeypatch.setattr(products, "HALF_DEVICES", ())
    reference, wide, calls = detected()
    assert not calls
    assert wide == FP32
    torch.testing.assert_close(
        torch.from_numpy(ours.log_alpha).exp(), torch.from_numpy(reference.log_alpha).exp(), rtol=1e-6, atol=0
    )
    assert ours.nll_sum == pytest.approx(reference.nll_sum, rel=1e-7)
    assert (ours.hh_sum == reference.hh_sum).all()
    assert (ours.sample.hidden == reference.sample.hidden).all()
