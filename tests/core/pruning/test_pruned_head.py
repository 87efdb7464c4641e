"""Smaller heads: the fold against edits of the full head; refitting and distilling by their gradients and results."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.costs import cost_of, float64_logits, replaced
from tests.helpers.heads import detected
from tests.helpers.tiny_models import WIDTH, random_corpus
from tpe_core.detection.detection import Detection, detect
from tpe_core.edits.reconstruction import covariance, reconstruct
from tpe_core.errors import TpeError
from tpe_core.models.head import OutputHead
from tpe_core.progress import Progress, run
from tpe_core.pruning import fitting
from tpe_core.pruning import refit as pruning_refit
from tpe_core.pruning.distill import Columns, distill
from tpe_core.pruning.fisher import fisher_information
from tpe_core.pruning.fitting import HeadParameterisation, Objective, Outcome, Whitening, fit_weights
from tpe_core.pruning.pruned_head import fold, kept_dims
from tpe_core.pruning.refit import StateMap, StateMapWithBias, refit, refit_order
from tpe_core.pruning.sweep import measure
from tpe_core.store import Store

REMOVED = (1, 4, 6, 11, 12, 15)


@pytest.fixture(scope="module")
def opened() -> Any:
    return detected(60, 2000)


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


def test_the_order_in_which_dimensions_are_named_does_not_matter(opened) -> None:
    model, detection = opened("identity")
    for how in ("zero", "mean", "least-squares"):
        sorted_, other = (fold(model.head, dims, how, detection) for dims in (REMOVED, (12, 1, 15, 4, 11, 6)))
        assert torch.equal(sorted_.columns, other.columns)
        assert torch.equal(sorted_.constant, other.constant)


def sharper(head: OutputHead) -> OutputHead:
    """Near the uniform distribution the fold is already the optimum, and little is left to gain."""
    return dataclasses.replace(head, columns=6 * head.columns)


def white_of(head: OutputHead, detection: Detection) -> Whitening:
    return Whitening(kept_dims(REMOVED, head.hidden_size), detection, head)


def test_white_coordinates_are_white_and_rebuild_by_least_squares(opened) -> None:
    model, detection = opened("identity")
    white = white_of(model.head, detection)
    rebuilt = reconstruct(REMOVED, detection)
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(40, WIDTH))
    e = white.of(torch.from_numpy(hidden)).double().numpy()
    again = detection.mean_hidden + e @ white.map.T
    np.testing.assert_allclose(again[:, white.kept], hidden[:, white.kept], atol=1e-4)
    wanted = hidden[:, white.kept] @ rebuilt.fold.T + rebuilt.constant
    np.testing.assert_allclose(again[:, list(REMOVED)], wanted, atol=1e-4)
    spread = white.inverse @ covariance(detection)[np.ix_(white.kept, white.kept)] @ white.inverse.T
    np.testing.assert_allclose(spread, np.eye(len(white.kept)), atol=1e-8)


@pytest.mark.parametrize("made", ["columns", "rebuilt", "state"])
@pytest.mark.parametrize("kind", ["identity", "softcap", "head bias", "mask"])
def test_the_gradient_is_the_derivative(opened, kind: str, made: str) -> None:
    """Against automatic differentiation of the KL divergence as it is defined."""
    model, detection = opened(kind)
    head, white = model.head, white_of(model.head, detection)
    parameterisation: HeadParameterisation = (StateMap if made == "state" else StateMapWithBias)(
        head, detection.mean_hidden, white.map
    )
    if made == "columns":
        parameterisation = Columns(*parameterisation.columns())
    torch.manual_seed(0)
    for weights in parameterisation.weights:
        weights.add_(0.1 * torch.randn_like(weights))
    hidden = torch.from_numpy(detection.sample.hidden[:20])
    kl, e, slope = Objective(head, parameterisation, white).losses(hidden)
    found = parameterisation.gradients(e, slope / len(e))

    first, constant = (weights.clone().requires_grad_() for weights in parameterisation.weights)
    if made == "columns":
        raw = e @ first + constant
    else:
        shift, added = (constant, 0.0) if made == "state" else (0.0, constant)
        raw = (torch.from_numpy(detection.mean_hidden).float() + shift + e @ first) @ head.columns + added
        raw = raw if head.bias is None else raw + head.bias
    log_p, log_q = torch.log_softmax(head.logits(hidden), 1), torch.log_softmax(head.post(raw), 1)
    p = log_p.exp()
    divergence = torch.where(p > 0, p * (log_p - log_q), 0.0).sum(1)
    torch.testing.assert_close(kl, divergence.detach(), rtol=1e-4, atol=1e-6)
    assert float(kl.mean()) > 0
    divergence.mean().backward()
    for mine, variable in zip(found, (first, constant), strict=True):
        assert variable.grad is not None
        never = torch.isnan(variable.grad)  # of a token whose logit is -inf
        torch.testing.assert_close(mine[~never], variable.grad[~never], rtol=1e-3, atol=1e-7)
        assert not mine[never].any()


@pytest.mark.parametrize("kind", ["identity", "softcap", "head bias", "mask"])
@pytest.mark.parametrize("how", [refit, distill])
def test_fitting_beats_the_fold_on_other_text(opened, kind: str, how: Any) -> None:
    model, detection = opened(kind)
    head = sharper(model.head)
    found = run(how(head, REMOVED[::-1], detection, detection.sample, steps=300))
    # Where rows are random, making h anew gains less than making every token's row anew.
    share = 0.95 if how is refit else 0.9
    assert found.kl_after < share * found.kl_before
    other = run(detect(model, random_corpus(20, 40, seed=9), sample_size=600)).sample
    folded = run(measure(head, fold(head, REMOVED, "least-squares", detection), other))
    fitted = run(measure(head, found.head, other))
    assert fitted.kl < share * folded.kl
    # What the job says of itself is what the definition gives.
    base = float64_logits(head, other.hidden.astype(np.float64))
    own = found.head(torch.from_numpy(other.hidden)).double().numpy()
    assert fitted.kl == pytest.approx(cost_of(base, own, other.next_ids).kl, abs=1e-5)


@pytest.mark.parametrize("kind", ["head bias", "softcap"])
def test_a_refitted_head_is_the_whole_head_on_the_h_it_rebuilds(opened, kind: str) -> None:
    model, detection = opened(kind)
    head = sharper(model.head)
    found = run(refit(head, REMOVED[::-1], detection, detection.sample, steps=200))
    hidden, rebuilt = torch.from_numpy(detection.sample.hidden[:30]), found.reconstruction
    assert rebuilt.removed == tuple(sorted(REMOVED))
    h = hidden.numpy()[:, list(rebuilt.kept)] @ rebuilt.fold.T + rebuilt.constant
    torch.testing.assert_close(found.head(hidden), head.logits(torch.from_numpy(h).float()), rtol=0, atol=1e-4)
    # The kept dimensions are made anew as well.
    assert np.abs(h[:, list(rebuilt.kept)] - hidden.numpy()[:, list(rebuilt.kept)]).max() > 0.01


def test_a_refit_is_found_in_the_cache_and_a_spoiled_one_is_made_again(opened, tmp_path: Path) -> None:
    model, detection = opened("identity")
    head, store = sharper(model.head), Store(tmp_path)
    fitted: list[Progress] = []
    first = run(refit(head, REMOVED, detection, detection.sample, steps=60, store=store), fitted.append)
    assert len(fitted) >= 60
    events: list[Progress] = []
    again = run(refit(head, REMOVED, detection, detection.sample, steps=60, store=store), events.append)
    assert len(events) == 0
    assert torch.equal(first.head.columns, again.head.columns)
    assert (first.kl_before, first.kl_after, first.steps) == (again.kl_before, again.kl_after, again.steps)
    (entry,) = (path for path in tmp_path.rglob("*") if path.is_file())
    key = entry.stem
    store.save(key, {"fold": np.zeros((2, 2)), "constant": np.zeros(3)}, {})
    anew = run(refit(head, REMOVED, detection, detection.sample, steps=60, store=store), events.append)
    assert events == fitted
    assert torch.equal(first.head.columns, anew.head.columns)


def test_without_steps_it_is_the_fold(opened) -> None:
    model, detection = opened("identity")
    folded = fold(model.head, REMOVED, "least-squares", detection)
    hidden = torch.from_numpy(detection.sample.hidden[:30])
    for how in (refit, distill):
        found = run(how(model.head, REMOVED, detection, detection.sample, steps=0))
        torch.testing.assert_close(found.head(hidden), folded(hidden), rtol=0, atol=1e-4)
        assert found.steps == 0
        assert found.kl_after == pytest.approx(found.kl_before, abs=1e-6)


def test_a_step_that_is_too_large_for_a_head_is_made_smaller(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that every step of such a fit leads away from where it began, and none is kept."""
    model, detection = opened("identity")
    head, white = sharper(model.head), white_of(model.head, detection)

    def outcome() -> Outcome:
        state = StateMap(head, detection.mean_hidden, white.map)
        state.rates = tuple(3000 * rate for rate in state.rates)
        return run(fit_weights(Objective(head, state, white), detection.sample.hidden, steps=400, seed=0, label="fit"))

    found = outcome()
    assert found.kl_after < 0.97 * found.kl_before
    monkeypatch.setattr(fitting, "SLOWER", 1.0)
    assert outcome().steps == 0


def test_a_round_of_the_order_that_refitting_leaves_worse_goes_without_it(
    opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, detection = opened("identity")
    head = sharper(model.head)
    metric = run(fisher_information(head, detection.sample, detection.mean_hidden)).metric

    def order(larger: float) -> list[int]:
        for name in ("RATE", "CONSTANT_RATE"):
            monkeypatch.setattr(pruning_refit, name, larger * getattr(pruning_refit, name))
        return run(refit_order(head, detection, detection.sample, metric)).tolist()

    refitted, leading_nowhere, without = order(1.0), order(1e12), order(0.0)
    assert leading_nowhere == without != refitted


@pytest.mark.parametrize("how", [refit, distill])
def test_the_same_seed_gives_the_same_head(opened, how: Any) -> None:
    model, detection = opened("identity")
    head = sharper(model.head)
    first, second = (run(how(head, REMOVED, detection, detection.sample, steps=100)) for _ in range(2))
    assert torch.equal(first.head.columns, second.head.columns)
    other = run(how(head, REMOVED, detection, detection.sample, steps=100, seed=1))
    assert not torch.equal(first.head.columns, other.head.columns)


@pytest.mark.parametrize("how", [refit, distill])
def test_one_position_is_too_few(opened, how: Any) -> None:
    model, detection = opened("identity")
    sample = dataclasses.replace(
        detection.sample, hidden=detection.sample.hidden[:1], next_ids=detection.sample.next_ids[:1],
        priority=detection.sample.priority[:1],
    )  # fmt: skip
    with pytest.raises(TpeError, match="a sample of 1 positions: give more text"):
        run(how(model.head, REMOVED, detection, sample))


def test_the_order_that_refits_is_cheaper_to_refit_than_a_random_one(opened) -> None:
    model, detection = opened("identity")
    head = sharper(model.head)
    fisher = run(fisher_information(head, detection.sample, detection.mean_hidden))
    order = run(refit_order(head, detection, detection.sample, fisher.metric))
    assert sorted(order.tolist()) == list(range(WIDTH))
    assert order.tolist() == run(refit_order(head, detection, detection.sample, fisher.metric)).tolist()
    other = run(detect(model, random_corpus(20, 40, seed=9), sample_size=600)).sample

    def cost(dims: Any) -> float:
        small = run(refit(head, dims, detection, detection.sample, steps=200)).head
        return run(measure(head, small, other)).kl

    random = [cost(np.random.default_rng(seed).permutation(WIDTH)[:8].tolist()) for seed in range(4)]
    assert cost(order[:8].tolist()) < min(random)


def test_the_order_that_refits_is_found_in_the_cache(opened, tmp_path: Path) -> None:
    model, detection = opened("identity")
    metric = run(fisher_information(model.head, detection.sample, detection.mean_hidden)).metric
    store, told = Store(tmp_path), []

    def order(by: Any) -> list[int]:
        told.clear()
        return run(refit_order(model.head, detection, detection.sample, by, store=store), told.append).tolist()

    first = order(metric)
    assert told
    assert order(metric) == first
    assert not told
    order(2 * metric)
    assert told
