"""Rows drawn for a step: what is drawn, what the drawn rows stand for, and fits that use them."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tpe_core.detection.detection import Detection
from tpe_core.detection.hidden import HiddenSample
from tpe_core.models.head import OutputHead, Post
from tpe_core.progress import Progress, run
from tpe_core.pruning.fitting import Objective, Whitening, fit_weights, usual_positions
from tpe_core.pruning.pruned_head import kept_dims
from tpe_core.pruning.refit import StateMap, refit
from tpe_core.pruning.row_sample import RowSampler, inclusion
from tpe_core.pruning.sweep import measure
from tpe_core.store import Store

REMOVED = (1, 4, 6, 11, 12, 15)
ROWS = 400


VOCABULARY, WIDTH, POSITIONS = 2000, 16, 1500
KINDS = ["identity", "softcap", "head bias", "mask"]


@functools.cache
def opened(kind: str) -> tuple[OutputHead, Detection]:
    """A head whose tokens are as unequally probable as words are, and what is detected on hidden states of it."""
    rng = np.random.default_rng(0)
    rows, hidden = rng.normal(size=(VOCABULARY, WIDTH)), rng.normal(size=(POSITIONS, WIDTH)).astype(np.float32)
    hidden[:, 0] += 4  # in which a token's own rate is written, unless it is a bias
    rates = -1.2 * np.log(1 + rng.permutation(VOCABULARY))
    bias = None if kind == "identity" else rates.copy()
    rows[:, 0] = 0.2 * rates if bias is None else 0
    if kind == "mask" and bias is not None:
        bias[::7] = -np.inf
    head = OutputHead(
        columns=torch.from_numpy(rows.T.copy()).float(),
        bias=None if bias is None else torch.from_numpy(bias).float(),
        post=Post("softcap", cap=8.0) if kind == "softcap" else Post(),
        vocab_rows=VOCABULARY,
        tied=False,
        module="Linear",
    )
    p = head.logits(torch.from_numpy(hidden)).double().softmax(1).numpy()
    ids = np.zeros(POSITIONS, dtype=np.int64)
    wide = hidden.astype(np.float64)
    return head, Detection(
        positions=POSITIONS,
        p_sum=p.sum(0),
        log_rescued=np.full(VOCABULARY, -np.inf),
        counts=np.zeros(VOCABULARY, dtype=np.int64),
        h_sum=wide.sum(0),
        hh_sum=wide.T @ wide,
        log_z_sum=0.0,
        nll_sum=0.0,
        sample=HiddenSample(POSITIONS, hidden, ids, np.arange(POSITIONS, dtype=np.uint64)),
    )


def objective(head: OutputHead, detection: Detection) -> Objective:
    white = Whitening(kept_dims(REMOVED, head.hidden_size), detection, head)
    return Objective(head, StateMap(head, detection.mean_hidden, white.map), white)


def drawn(whole: Objective, sampler: RowSampler) -> Objective:
    assert isinstance(whole.parameterisation, StateMap)
    return whole.parameterisation.over(sampler.draw(), whole.white)


@given(
    arrays(np.float64, st.integers(1, 80), elements=st.floats(-90, 0) | st.just(-np.inf) | st.just(np.nan)),
    st.integers(1, 100),
)
def test_a_row_is_drawn_with_the_root_of_its_mean_probability(log_alpha: np.ndarray, rows: int) -> None:
    chances = inclusion(log_alpha, rows)
    assert chances.sum() == pytest.approx(min(rows, len(log_alpha)))
    assert (chances > 0).all()
    assert (chances <= 1).all()
    at = np.flatnonzero((chances < 1) & (np.nan_to_num(log_alpha, nan=-1e9) > np.log(1e-3 / len(log_alpha))))
    ratios = chances[at] / np.exp(0.5 * log_alpha[at])
    np.testing.assert_allclose(ratios, ratios[:1].repeat(len(at)), rtol=1e-9)


@pytest.mark.parametrize("kind", ["identity", "head bias"])
def test_every_row_counts_as_one_on_average(kind: str) -> None:
    head, detection = opened(kind)
    draws = 4000
    counted = np.zeros(head.total_rows)
    numbered = dataclasses.replace(head, columns=torch.arange(head.total_rows).float().repeat(head.hidden_size, 1))
    sampler = RowSampler(numbered, detection.log_alpha, rows=ROWS)
    for _ in range(draws):
        part = sampler.draw()
        rows = part.head.columns[0].long()
        assert len(rows) == part.head.total_rows == ROWS
        assert part.head.bias is None or torch.equal(part.head.bias, head.bias[rows])
        np.add.at(counted, rows.numpy(), part.log_weight.double().exp().numpy())
    chances = inclusion(detection.log_alpha, ROWS)
    error = np.sqrt((1 / chances) / draws)
    assert (np.abs(counted / draws - 1) < 6 * error).all()
    assert np.abs(counted / draws - 1).mean() < error.mean()


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_over_drawn_rows_is_the_derivative_of_their_divergence(kind: str) -> None:
    """Against automatic differentiation, with every drawn row as many times as it stands for."""
    head, detection = opened(kind)
    whole = objective(head, detection)
    torch.manual_seed(0)
    for weights in whole.parameterisation.weights:
        weights.add_(0.1 * torch.randn_like(weights))
    part = drawn(whole, RowSampler(whole.head, detection.log_alpha, rows=ROWS))
    hidden = torch.from_numpy(detection.sample.hidden[:20])
    kl, e, slope = part.losses(hidden)
    torch.testing.assert_close(part.kl(hidden), kl)
    found = part.parameterisation.gradients(e, slope / len(e))

    first, shift = (weights.clone().requires_grad_() for weights in part.parameterisation.weights)
    assert part.log_weight is not None
    raw = (torch.from_numpy(detection.mean_hidden).float() + shift + e @ first) @ part.head.columns
    raw = raw if part.head.bias is None else raw + part.head.bias
    log_p = torch.log_softmax(part.head.logits(hidden) + part.log_weight, 1)
    log_q = torch.log_softmax(part.head.post(raw) + part.log_weight, 1)
    p = log_p.exp()
    divergence = torch.where(p > 0, p * (log_p - log_q), 0.0).sum(1)
    torch.testing.assert_close(kl, divergence.detach(), rtol=1e-4, atol=1e-6)
    divergence.mean().backward()
    for mine, variable in zip(found, (first, shift), strict=True):
        torch.testing.assert_close(mine, variable.grad, rtol=1e-3, atol=1e-6)


def test_gradients_over_drawn_rows_average_to_the_one_over_all() -> None:
    head, detection = opened("identity")
    whole = objective(head, detection)
    hidden = torch.from_numpy(detection.sample.hidden[:200])

    def gradient(of: Objective) -> torch.Tensor:
        _, e, slope = of.losses(hidden)
        return of.parameterisation.gradients(e, slope / len(e))[0].flatten()

    wanted = gradient(whole)
    sampler = RowSampler(whole.head, detection.log_alpha, rows=ROWS)
    found = torch.stack([gradient(drawn(whole, sampler)) for _ in range(200)]).mean(0)
    assert float(torch.cosine_similarity(found, wanted, 0)) > 0.99
    assert float(found.norm() / wanted.norm()) == pytest.approx(1, abs=0.1)


def test_where_heads_agree_drawn_rows_agree() -> None:
    head, detection = opened("identity")
    whole = objective(head, detection)
    white = Whitening(np.arange(head.hidden_size), detection, whole.head)
    same = Objective(whole.head, StateMap(whole.head, detection.mean_hidden, white.map), white)
    part = drawn(same, RowSampler(whole.head, detection.log_alpha, rows=40))
    kl, _, slope = part.losses(torch.from_numpy(detection.sample.hidden[:50]))
    assert float(kl.abs().max()) < 1e-4
    assert float(slope.abs().max()) < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_a_refit_on_drawn_rows_gains_nearly_what_one_on_all_rows_gains(kind: str) -> None:
    head, detection = opened(kind)
    whole, few = (
        run(refit(head, REMOVED, detection, detection.sample, steps=300, rows=rows)) for rows in (VOCABULARY, ROWS)
    )
    assert few.kl_before == whole.kl_before
    assert whole.kl_before - few.kl_after > 0.8 * (whole.kl_before - whole.kl_after) > 0
    # What it says of itself is over all rows.
    shuffled = np.random.default_rng(0).permutation(len(detection.sample))[: len(detection.sample) // 10]
    held = dataclasses.replace(
        detection.sample, hidden=detection.sample.hidden[shuffled], next_ids=detection.sample.next_ids[shuffled],
        priority=detection.sample.priority[shuffled],
    )  # fmt: skip
    assert run(measure(head, few.head, held)).kl == pytest.approx(few.kl_after, abs=1e-5)


def test_the_same_seed_draws_the_same_rows_and_a_refit_knows_on_how_many_it_was_made(tmp_path: Path) -> None:
    head, detection = opened("identity")
    store = Store(tmp_path)

    def made(rows: int, seed: int = 0) -> tuple[torch.Tensor, int]:
        events: list[Progress] = []
        job = refit(head, REMOVED, detection, detection.sample, steps=60, rows=rows, seed=seed, store=store)
        return run(job, events.append).head.columns, len(events)

    first, events = made(ROWS)
    assert events > 60
    again, events = made(ROWS)
    assert events == 0
    assert torch.equal(first, again)
    for other in (made(ROWS, seed=1), made(ROWS - 1), made(VOCABULARY)):
        assert other[1] > 60
        assert not torch.equal(first, other[0])
    # A vocabulary of less than twice as many rows is taken whole, whatever the number.
    assert made(head.total_rows)[1] == 0
    assert made(head.total_rows // 2 + 1)[1] == 0
    part = [run(refit(head, REMOVED, detection, detection.sample, steps=60, rows=ROWS)).head.columns for _ in range(2)]
    assert torch.equal(*part)
    assert torch.equal(part[0], first)


def test_weights_that_cost_more_over_all_rows_are_not_taken() -> None:
    head, detection = opened("identity")
    whole = objective(head, detection)
    start = [weights.clone() for weights in whole.parameterisation.weights]
    misled = dataclasses.replace(whole.head, columns=-whole.head.columns.roll(1, 0))
    assert isinstance(whole.parameterisation, StateMap)
    misleading = Objective(misled, whole.parameterisation.on(misled), whole.white)
    fit = fit_weights(
        whole, detection.sample.hidden, steps=100, seed=0, label="fit", drawn=lambda: misleading, share=0.5
    )
    outcome = run(fit)
    assert (outcome.kl_after, outcome.steps) == (outcome.kl_before, 0)
    for weights, before in zip(whole.parameterisation.weights, start, strict=True):
        assert torch.equal(weights, before)


def test_progress_counts_the_share_of_the_rows_and_ends_at_its_total() -> None:
    head, detection = opened("identity")
    totals = []
    for rows in (VOCABULARY, ROWS):
        events: list[Progress] = []
        run(refit(head, REMOVED, detection, detection.sample, steps=100, rows=rows), events.append)
        assert all(a.done <= b.done for a, b in itertools.pairwise(events))
        assert events[-1].total is not None
        assert 0.9 * events[-1].total <= events[-1].done <= events[-1].total
        totals.append(events[-1].total)
    assert totals[1] < totals[0]


@pytest.mark.parametrize(
    ("parameters", "positions"),
    [(0, 131_072), (5_000_000, 131_072), (8_000_000, 131_072), (16_000_000, 65_536), (135_000_000, 16_384)],
)
def test_a_larger_model_is_fitted_on_fewer_positions(parameters: int, positions: int) -> None:
    body = SimpleNamespace(parameters=lambda: iter([torch.empty(parameters, device="meta")]))
    assert usual_positions(cast("Any", SimpleNamespace(hf=body))) == positions
