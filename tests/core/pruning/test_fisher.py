"""Fisher information against the derivatives that autograd gives, forecasts and orders against brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.heads import detected
from tests.helpers.tiny_models import VOCAB, WIDTH
from tpe_core.analysis import analyze
from tpe_core.detection.hidden import HiddenSample
from tpe_core.detection.samples import read_samples
from tpe_core.errors import TpeError
from tpe_core.models.head import OutputHead
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.pruning import fisher as module
from tpe_core.pruning.coordinates import covariance
from tpe_core.pruning.fisher import (
    Forecast,
    fisher_information,
    forecast,
    forecast_least_squares,
    greedy_order,
    obs_order,
)
from tpe_core.store import Store


@pytest.fixture(scope="module")
def opened() -> Any:
    return detected(8, 60)


def log_p(head: OutputHead, hidden: torch.Tensor) -> torch.Tensor:
    z = hidden @ head.columns.double()
    if head.bias is not None:
        z = z + head.bias.double()
    return torch.log_softmax(head.post(z), -1)


def exact(head: OutputHead, hidden: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(M, F) by their definitions: derivatives of log p by gates and by h, every token weighted by p."""
    gates, metric = np.zeros((2, WIDTH, WIDTH))
    for h in torch.from_numpy(hidden).double():
        p = log_p(head, h).exp()
        rows = p > 0

        def of(x: torch.Tensor, rows: torch.Tensor = rows) -> torch.Tensor:
            return log_p(head, x)[rows]

        u = torch.func.jacfwd(of)(h)
        weighted = (u * p[rows, None]).T @ u
        metric += weighted.numpy()
        moved = h.numpy() - centre
        gates += weighted.numpy() * np.outer(moved, moved)
    return gates / len(hidden), metric / len(hidden)


@pytest.mark.parametrize("kind", ["identity", "head bias", "scale", "softcap", "mask"])
def test_information_is_that_of_the_derivatives(opened, kind: str) -> None:
    model, detection = opened(kind)
    head, sample, mean = model.head, detection.sample, detection.mean_hidden
    found = run(fisher_information(head, sample, mean, draws=2000))
    zero, metric = exact(head, sample.hidden, np.zeros(WIDTH))
    centred, _ = exact(head, sample.hidden, mean)
    np.testing.assert_allclose(found.metric, metric, rtol=0, atol=2e-5 * metric.max())
    for drawn, wanted in ((found.zero, zero), (found.mean, centred)):
        np.testing.assert_allclose(drawn, wanted, rtol=0, atol=0.02 * np.abs(wanted).max())
        np.testing.assert_array_equal(drawn, drawn.T)
    assert found.gates("zero") is found.zero
    assert found.gates("least-squares") is found.gates("mean") is found.mean


def test_a_soft_cap_matters(opened) -> None:
    """The same head without its cap has another metric, so the test above sees the cap's derivative."""
    model, detection = opened("softcap")
    head = model.head
    bare = OutputHead(
        columns=head.columns,
        bias=head.bias,
        post=type(head.post)(),
        vocab_rows=head.vocab_rows,
        tied=head.tied,
        module=head.module,
    )
    capped, free = (exact(some, detection.sample.hidden, np.zeros(WIDTH))[1] for some in (head, bare))
    assert np.abs(capped - free).max() > 0.1 * np.abs(free).max()


def test_draws_depend_on_the_seed_and_not_on_the_chunks(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    model, detection = opened("identity")
    arguments = (model.head, detection.sample, detection.mean_hidden)
    whole = run(fisher_information(*arguments))
    monkeypatch.setattr(module, "CHUNK_BYTES", 4 * VOCAB * 8)
    events: list[Any] = []
    parts = run(fisher_information(*arguments), events.append)
    assert len(events) == 8
    np.testing.assert_allclose(parts.zero, whole.zero, rtol=1e-4, atol=1e-6 * whole.zero.max())
    assert np.abs(run(fisher_information(*arguments, seed=1)).zero - whole.zero).max() > 1e-3 * whole.zero.max()


def test_a_stored_result_is_the_same_and_only_for_the_same_question(opened, tmp_path) -> None:
    model, detection = opened("identity")
    store, events = Store(tmp_path), []
    arguments = (model.head, detection.sample, detection.mean_hidden)
    first = run(fisher_information(*arguments, store=store))
    again = run(fisher_information(*arguments, store=store), events.append)
    assert not events
    for name in ("zero", "mean", "metric"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    for changes in ({"draws": 4}, {"seed": 1}):
        run(fisher_information(*arguments, store=store, **changes), events.append)
        assert events
        events.clear()
    empty = HiddenSample(0, np.empty((0, WIDTH), np.float32), np.empty(0, np.int64), np.empty(0, np.uint64))
    with pytest.raises(TpeError, match="no stored hidden states"):
        run(fisher_information(model.head, empty, detection.mean_hidden))


def random_matrices(width: int = 9, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two positive definite matrices: one with a shared part, one of unequal variances."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, 3 * width, width))
    a, b = a + rng.normal(size=(3 * width, 1)), b * (0.3 + rng.random(width))
    return a.T @ a / len(a), b.T @ b / len(b)


def test_a_forecast_follows_its_mask() -> None:
    matrix, _ = random_matrices()
    live, mask = Forecast(matrix), set()
    rng = np.random.default_rng(3)
    for _ in range(40):
        dims = rng.choice(len(matrix), rng.integers(1, 4), replace=False).tolist()
        live.toggle(dims)
        mask ^= set(dims)
        assert live.kl == pytest.approx(forecast(matrix, mask), abs=1e-10)
        expected = [forecast(matrix, mask ^ {dim}) for dim in range(len(matrix))]
        np.testing.assert_allclose(live.toggled(), expected, atol=1e-10)
    live.set((2, 5))
    assert live.kl == pytest.approx(forecast(matrix, (2, 5)))
    live.set(())
    assert live.kl == pytest.approx(0, abs=1e-10)


def test_the_least_squares_forecast_is_the_residuals_cost() -> None:
    """Over data whose own moments are given, ½ tr(F Σ) is half the mean of rᵀ F r."""
    metric, _ = random_matrices()
    h = np.random.default_rng(1).normal(size=(50, 9)) @ np.random.default_rng(2).normal(size=(9, 9))
    h -= h.mean(0)
    c = h.T @ h / len(h)
    for gone in ([4], [0, 3, 8], [0, 1, 2, 3, 4, 5, 6, 7, 8]):
        kept = np.setdiff1d(np.arange(9), gone)
        rest = h.copy()
        if len(kept):
            rest -= h[:, kept] @ np.linalg.lstsq(h[:, kept], h, rcond=None)[0]
        wanted = 0.5 * np.einsum("ni,ij,nj->n", rest, metric, rest).mean()
        assert forecast_least_squares(metric, c, gone) == pytest.approx(wanted)
    assert forecast_least_squares(metric, c, []) == 0


def test_greedy_takes_the_cheapest_next_step() -> None:
    matrix, _ = random_matrices(seed=4)
    order = greedy_order(matrix).tolist()
    assert sorted(order) == list(range(9))
    for step in range(9):
        before = order[:step]
        costs = {dim: forecast(matrix, [*before, dim]) for dim in range(9) if dim not in before}
        assert order[step] == min(costs, key=costs.__getitem__)


def test_surgery_takes_the_cheapest_residual_and_folds_exactly() -> None:
    metric, c = random_matrices(seed=5)
    order, costs = run(obs_order(metric, c))
    assert sorted(order.tolist()) == list(range(9))
    for step in range(9):
        before = order[:step].tolist()
        spent = forecast_least_squares(metric, c, before)
        brute = {
            dim: forecast_least_squares(metric, c, [*before, dim]) - spent for dim in range(9) if dim not in before
        }
        assert order[step] == min(brute, key=brute.__getitem__)
        assert costs[step] == pytest.approx(brute[int(order[step])], rel=1e-8)
        # From scratch: Λ, P and G of the dimensions still kept.
        kept = np.setdiff1d(np.arange(9), before)
        inverse = np.linalg.inv(c[np.ix_(kept, kept)])
        rebuilt = c[:, kept] @ inverse
        each = 0.5 * np.diag(rebuilt.T @ metric @ rebuilt) / np.diag(inverse)
        assert kept[each.argmin()] == order[step]
        assert costs[step] == pytest.approx(each.min(), rel=1e-8)


def test_surgery_on_a_head_with_nearly_singular_states(opened) -> None:
    """A LayerNorm without gain leaves h on a plane: the first removal is free, the costs still add up."""
    model, detection = opened("identity")
    found = run(fisher_information(model.head, detection.sample, detection.mean_hidden))
    c = covariance(detection)
    order, costs = run(obs_order(found.metric, c))
    for count in (1, 4, 9, 15):
        assert costs[:count].sum() == pytest.approx(forecast_least_squares(found.metric, c, order[:count]), rel=1e-3)


@pytest.mark.slow
def test_the_forecast_holds_on_the_bundled_model() -> None:
    """100 random masks whose measured KL on held-out text is below 0.1: each within 30 %."""
    analysis = run(analyze(RunOptions(positions=8192, cache=False)))
    detection, head = analysis.detection, analysis.model.head
    samples = run(read_samples(analysis.model, detection.sample, analysis.source))
    found = run(fisher_information(head, detection.sample, detection.mean_hidden))
    hidden = torch.from_numpy(samples.heldout.hidden)
    p = head.logits(hidden).softmax(1)

    def measured(dims: np.ndarray) -> float:
        """KL(P || P') = log E_p[exp(shift)] - E_p[shift], shift the logits' change."""
        sums = []
        for part in range(0, len(hidden), 512):
            rows = slice(part, part + 512)
            shift = -hidden[rows][:, dims] @ head.columns[dims]
            sums.append(((p[rows] * shift.exp()).sum(1).log() - (p[rows] * shift).sum(1)).double())
        return float(torch.cat(sums).mean())

    rng, ratios = np.random.default_rng(0), []
    while len(ratios) < 100:
        dims = rng.choice(head.hidden_size, rng.integers(1, 25), replace=False)
        kl = measured(dims)
        if kl < 0.1:
            ratios.append(forecast(found.zero, dims) / kl)
    assert min(ratios) > 0.7
    assert max(ratios) < 1.3
