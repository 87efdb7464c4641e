"""The nested sweep against whole evaluations of edited weights, one fraction at a time, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.costs import cost_of, float64_logits, replaced
from tests.helpers.heads import build, detected, wrapped
from tests.helpers.tiny_models import VOCAB, WIDTH
from tpe_core.detection.detection import Detection
from tpe_core.detection.hidden import HiddenSample
from tpe_core.edits.reconstruction import covariance
from tpe_core.encoding.design import Design
from tpe_core.errors import TpeError
from tpe_core.models.head import OutputHead, Post
from tpe_core.progress import Progress, run
from tpe_core.pruning.coordinates import Coordinates, along, least_squares, rotated
from tpe_core.pruning.sweep import counts_of, measure, sweep

REMOVED = (0, 1, 3, 4, 9, 15)
ORDER = np.random.default_rng(1).permutation(WIDTH)


@pytest.fixture(scope="module")
def opened() -> Any:
    return detected(20, 300)


def coordinates(head: OutputHead, how: str, detection: Detection) -> Coordinates:
    if how == "least-squares":
        return least_squares(head, ORDER, detection)
    return along(head, ORDER, detection.mean_hidden if how == "mean" else None)


@pytest.mark.parametrize("kind", ["identity", "head bias", "scale", "softcap", "bias", "mask"])
@pytest.mark.parametrize("how", ["zero", "mean", "least-squares"])
def test_every_fraction_is_a_whole_evaluation(opened, kind: str, how: str) -> None:
    model, detection = opened(kind)
    head, sample = model.head, detection.sample
    found = run(sweep(head, {how: coordinates(head, how, detection)}, REMOVED, sample))
    hidden = sample.hidden.astype(np.float64)
    base = float64_logits(head, hidden)
    own = cost_of(base, base, sample.next_ids)
    assert found.base.nll == pytest.approx(own.nll, abs=1e-5)
    assert found.base.entropy == pytest.approx(own.entropy, abs=1e-5)
    assert found.positions == len(sample) == 300
    for removed, cost in zip(REMOVED, found.costs[how], strict=True):
        wanted = cost_of(base, float64_logits(head, replaced(hidden, ORDER[:removed], how, detection)), sample.next_ids)
        for name in ("kl", "js", "nll", "entropy"):
            assert getattr(cost, name) == pytest.approx(getattr(wanted, name), abs=1e-5), (removed, name)
        assert cost.top1 == pytest.approx(wanted.top1, abs=1 / 300 + 1e-12)  # a tie may fall either way


def test_nothing_removed_costs_nothing_and_least_squares_beats_mean(opened) -> None:
    model, detection = opened("identity")
    head = model.head
    ways = {how: coordinates(head, how, detection) for how in ("zero", "mean", "least-squares")}
    found = run(sweep(head, ways, REMOVED, detection.sample))
    for costs in found.costs.values():
        assert costs[0].kl < 1e-6
        assert costs[0].top1 == 1
        assert costs[-1].kl > costs[1].kl
    for mean, folded in zip(found.costs["mean"][1:], found.costs["least-squares"][1:], strict=True):
        assert folded.kl < mean.kl


def test_rotation_is_the_cheapest_cut_in_weighted_error(opened) -> None:
    """Over the sample's own moments no cut of k directions has a smaller error in the centred logits."""
    model, detection = opened("identity")
    head = model.head
    design = Design(head.columns[:, :VOCAB])
    found = rotated(head, design.gram, detection)
    np.testing.assert_allclose(np.linalg.inv(found.forward) @ found.forward, np.eye(WIDTH), atol=1e-8)
    c = covariance(detection)

    def error(coordinates: Coordinates, removed: int) -> float:
        backward = np.linalg.inv(coordinates.forward)
        lost = backward[:, :removed] @ coordinates.forward[:removed]
        return float(np.trace(lost.T @ design.gram @ lost @ c))

    folded = least_squares(head, ORDER, detection)
    for removed in REMOVED[1:]:
        assert error(found, removed) <= error(folded, removed) * (1 + 1e-9)
    hidden = torch.from_numpy(detection.sample.hidden)
    whole = head.raw(torch.from_numpy(found.centre)) + found.of(hidden) @ found.columns
    torch.testing.assert_close(whole, head.raw(hidden), rtol=0, atol=1e-4)


def test_components_are_left_out_like_dimensions(opened) -> None:
    model, detection = opened("identity")
    head = model.head
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(WIDTH, WIDTH)))[0]
    found = run(sweep(head, {"c": along(head, ORDER, None, basis)}, (5,), detection.sample))
    hidden = detection.sample.hidden.astype(np.float64)
    kept = basis[:, ORDER[5:]]
    wanted = cost_of(
        float64_logits(head, hidden), float64_logits(head, hidden @ kept @ kept.T), detection.sample.next_ids
    )
    assert found.costs["c"][0].kl == pytest.approx(wanted.kl, abs=1e-5)


@pytest.mark.parametrize("kind", ["identity", "softcap"])
def test_measure_is_the_same_cost(opened, kind: str) -> None:
    model, detection = opened(kind)
    head, sample = model.head, detection.sample

    def edited(hidden: torch.Tensor) -> torch.Tensor:
        h = hidden.clone()
        h[:, ORDER[:4]] = 0
        return head.logits(h)

    nested = run(sweep(head, {"zero": along(head, ORDER)}, (4,), sample)).costs["zero"][0]
    found = run(measure(head, edited, sample))
    assert found.kl == pytest.approx(nested.kl, abs=1e-5)
    assert found.js == pytest.approx(nested.js, abs=1e-5)
    assert found.nll == pytest.approx(nested.nll, abs=1e-5)


def test_curves_arrive_before_the_end(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    from tpe_core.pruning import sweep as module

    monkeypatch.setattr(module, "CHUNK_BYTES", 4 * VOCAB * 64)
    model, detection = opened("identity")
    events: list[Progress] = []
    found = run(sweep(model.head, {"zero": along(model.head, ORDER)}, REMOVED, detection.sample), events.append)
    partial = [event.partial for event in events if event.partial is not None]
    assert [some.positions for some in partial] == [64, 128, 192, 256, 300]
    assert partial[-1] == found
    assert partial[0].costs["zero"][3].kl != found.costs["zero"][3].kl


def test_counts_of_fractions() -> None:
    assert counts_of([0.5, 0, 0.1, 1.0], 10) == (0, 1, 5, 9)
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(TpeError, match="between 0 and 1"):
            counts_of([wrong], 10)
    with pytest.raises(TpeError, match="each of the 16 dimensions once"):
        along(wrapped(build("identity")).head, np.zeros(WIDTH, np.int64))


def test_a_large_vocabulary_rounds_nothing_away() -> None:
    """Sums over 50,000 tokens in float32 keep KL to 1e-5: nothing removed costs nothing."""
    generator = torch.Generator().manual_seed(0)
    width, vocab = 32, 50_000
    columns = torch.randn(width, vocab, generator=generator)
    head = OutputHead(columns=columns, bias=None, post=Post(), vocab_rows=vocab, tied=False, module="Linear")
    hidden = torch.randn(40, width, generator=generator).numpy()
    sample = HiddenSample(40, hidden, np.arange(40), np.arange(40, dtype=np.uint64))
    order = np.arange(width)
    found = run(sweep(head, {"zero": along(head, order)}, (0, 8), sample)).costs["zero"]
    wide = hidden.astype(np.float64)
    base, gone = float64_logits(head, wide), wide.copy()
    gone[:, :8] = 0
    wanted = cost_of(base, float64_logits(head, gone), sample.next_ids)
    assert found[0].kl < 1e-5
    for name in ("kl", "js", "nll", "entropy"):
        assert getattr(found[1], name) == pytest.approx(getattr(wanted, name), abs=1e-5)


def sweep_of(head: OutputHead, hidden: np.ndarray, targets: np.ndarray, removed: tuple[int, ...]) -> Any:
    sample = HiddenSample(len(hidden), hidden, targets, np.arange(len(hidden), dtype=np.uint64))
    return run(sweep(head, {"zero": along(head, np.arange(head.hidden_size))}, removed, sample))


@pytest.mark.parametrize("shift", [-300.0, 300.0])
def test_an_edit_that_moves_all_logits_alike_costs_nothing(shift: float) -> None:
    """Far beyond what a float32 power holds: the first dimension adds the same to every token."""
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(8, 90, generator=generator)
    columns[0] = 1
    head = OutputHead(columns=columns, bias=None, post=Post(), vocab_rows=90, tied=False, module="Linear")
    hidden = torch.randn(30, 8, generator=generator).numpy()
    hidden[:, 0] = shift
    found = sweep_of(head, hidden, np.arange(30), (0, 1, 3)).costs["zero"]
    wide, gone = hidden.astype(np.float64), hidden.astype(np.float64)
    gone[:, :3] = 0
    wanted = cost_of(float64_logits(head, wide), float64_logits(head, gone), np.arange(30))
    assert found[1].kl < 1e-4  # logits near 300 are 3e-5 apart
    assert found[1].top1 == 1
    for name in ("kl", "js", "nll", "entropy"):
        assert getattr(found[2], name) == pytest.approx(getattr(wanted, name), abs=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("vector_loops", [True, False])
@pytest.mark.parametrize("vocab", [300, 2048, 2500])
def test_the_loops_of_numpy_and_of_torch_give_the_same(
    threads: int, vector_loops: bool, vocab: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tpe_core.pruning import sweep as module

    monkeypatch.setattr(module, "HAS_VECTOR_LOOPS", vector_loops)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(module, "PASS_BYTES", 4 * vocab * 7)
    generator = torch.Generator().manual_seed(1)
    columns = torch.randn(16, vocab, generator=generator)
    bias = torch.zeros(vocab)
    bias[5] = -np.inf  # a token that is never predicted
    head = OutputHead(columns=columns, bias=bias, post=Post(), vocab_rows=vocab, tied=False, module="Linear")
    hidden = torch.randn(60, 16, generator=generator).numpy()
    targets = np.arange(60) + 6
    found = sweep_of(head, hidden, targets, (4,)).costs["zero"][0]
    gone = hidden.astype(np.float64)
    gone[:, :4] = 0
    with np.errstate(invalid="ignore"):
        wanted = cost_of(float64_logits(head, hidden.astype(np.float64)), float64_logits(head, gone), targets)
    for name in ("kl", "js", "top1", "nll", "entropy"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), abs=1e-6)


def test_a_text_with_a_token_that_is_never_predicted_has_an_infinite_loss() -> None:
    generator = torch.Generator().manual_seed(2)
    bias = torch.zeros(40)
    bias[5] = -np.inf
    columns = torch.randn(8, 40, generator=generator)
    head = OutputHead(columns=columns, bias=bias, post=Post(), vocab_rows=40, tied=False, module="Linear")
    found = sweep_of(head, torch.randn(9, 8, generator=generator).numpy(), np.arange(9), (0, 2))
    assert found.base.nll == found.costs["zero"][1].nll == np.inf
    assert np.isfinite(found.costs["zero"][1].kl)
