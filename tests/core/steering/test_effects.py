"""Closed-form steering against edited weights and whole forwards, and the directions it takes."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers.heads import KINDS, build, corpus_for, edited_model, wrapped
from tests.helpers.tiny_models import WIDTH
from tpe_core.detection.detection import Detection, detect
from tpe_core.detection.hidden import HiddenSample
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.directions import LeastSquares, steering_direction
from tpe_core.edits.intervention import METHODS, Intervention, Steering
from tpe_core.encoding.design import Design
from tpe_core.encoding.encoding import fit_encoding
from tpe_core.errors import NumericalError, TpeError
from tpe_core.models.model import LanguageModel
from tpe_core.progress import run
from tpe_core.steering.calibration import calibrate
from tpe_core.steering.effects import effects, log_normaliser, most_affected, observe, unit
from tpe_core.steering.few_shot import detections

ONE, FIVE = (7,), (7, 100, 3, 150, 200)
RATIOS = {7: 5.0, 100: 0.2, 3: 2.0, 150: 20.0, 200: 0.5}


@pytest.fixture(scope="module")
def opened() -> Any:
    made: dict[str, tuple[LanguageModel, Detection, EditStatistics]] = {}

    def make(kind: str) -> tuple[LanguageModel, Detection, EditStatistics]:
        if kind not in made:
            model = wrapped(build(kind), "seq2seq" if kind == "bias" else "causal")
            detection = run(detect(model, corpus_for(model), sample_size=1000))
            vocab = model.head.vocab_rows
            surprisal = -detection.log_alpha[:vocab]
            keep = np.isfinite(surprisal)
            encoding = fit_encoding(Design(model.head.columns[:, :vocab], keep), surprisal[keep])
            made[kind] = model, detection, EditStatistics.of(encoding.slope, detection)
        return made[kind]

    return make


def whole(model: LanguageModel) -> tuple[Tensor, Tensor]:
    """([N, d] hidden states, [N, V] float64 probabilities) at every position, by whole float64 forwards."""
    corpus = corpus_for(model)
    asked = model.sampling.batch(corpus.blocks, corpus.targets, corpus.block_hash)
    hf = copy.deepcopy(model.hf).double()
    exact = LanguageModel(
        name="exact",
        revision=None,
        hf=hf,
        tokenizer=model.tokenizer,
        context=model.context,
        report=model.report,
        measured_head=model.measured_head,
        task=model.task,
    )
    logits = asked.select(exact.logits(asked.inputs).double()).flatten(0, 1)
    return asked.select(exact.hidden(asked.inputs)).flatten(0, 1), torch.softmax(logits, -1)


def sample_of(hidden: Tensor) -> HiddenSample:
    count = len(hidden)
    return HiddenSample(
        count, hidden.float().numpy(), np.zeros(count, np.int64), np.arange(count, dtype=np.uint64)
    )  # fmt: skip


def divergences(p: Tensor, q: Tensor) -> tuple[float, float]:
    """Mean KL(P || Q) and Jensen-Shannon divergence of [N, V], by the definitions."""

    def kl(left: Tensor, right: Tensor) -> Tensor:
        return torch.where(left > 0, left * (left.log() - right.log()), 0.0).sum(1)

    middle = (p + q) / 2
    return float(kl(p, q).mean()), float((kl(p, middle) + kl(q, middle)).mean() / 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("token_ids", [ONE, FIVE], ids=["one", "five"])
@pytest.mark.parametrize("method", METHODS)
def test_closed_form_is_edited_weights_and_whole_forwards(opened, kind: str, token_ids: Any, method: Any) -> None:
    model, _, basis = opened(kind)
    hidden, p = whole(model)
    edit = Intervention(steering=tuple(Steering(i, RATIOS[i], method) for i in token_ids))
    _, q = whole(edited_model(model, edit, basis))
    sample = sample_of(hidden)
    observed = run(observe(model.head, sample, token_ids))
    along = unit(observed, basis.direction(method))
    steps = np.log([[RATIOS[i] for i in token_ids], [1.0] * len(token_ids)])
    found, nothing = effects(observed, token_ids, steps, along)

    log_s = log_normaliser(observed, token_ids, steps, along)[0]
    closed = p * torch.exp(-log_s)[:, None]
    rows = observed.rows(token_ids)
    moved = observed.shift(rows, torch.from_numpy(steps[0])[:, None] * along)
    closed[:, list(token_ids)] = torch.exp(observed.log_p + moved - log_s).T
    assert float((closed - q).abs().max()) < 1e-6
    kl, js = divergences(p, q)
    assert kl > 1e-4
    assert found.kl == pytest.approx(kl, abs=1e-6)
    assert found.js == pytest.approx(js, abs=1e-6)
    for i, token_id in enumerate(token_ids):
        assert found.alpha[i] == pytest.approx(float(p[:, token_id].mean()), abs=1e-6)
        assert found.now[i] == pytest.approx(float(q[:, token_id].mean()), abs=1e-6)
        assert found.achieved[i] == pytest.approx(float(q[:, token_id].mean() / p[:, token_id].mean()), rel=1e-4)
        ratio = torch.log(q[:, token_id] / p[:, token_id])
        assert found.spread[i] == pytest.approx(float(ratio.std(correction=0)), abs=1e-4)
    assert nothing.achieved == pytest.approx([1.0] * len(token_ids))
    assert (nothing.kl, nothing.js) == pytest.approx((0.0, 0.0), abs=1e-12)

    lost = (p - q).mean(0)
    lost[list(token_ids)] = 0
    lost[model.head.vocab_rows :] = 0
    best = torch.topk(lost * float(lost.sum().sign()), 4)
    (who,) = run(most_affected(model.head, sample, observed.log_z, [(token_ids, log_s)], 4))
    assert [payer.token_id for payer in who] == best.indices.tolist()
    assert [payer.lost for payer in who] == pytest.approx((best.values * lost.sum().sign()).tolist(), abs=1e-6)
    still = log_normaliser(observed, token_ids, np.zeros((1, len(token_ids))), along)[0]
    assert run(most_affected(model.head, sample, observed.log_z, [(token_ids, still)], 4)) == [()], "none by rounding"


def test_extreme_ratios_stay_finite(opened) -> None:
    model, detection, basis = opened("identity")
    observed = run(observe(model.head, detection.sample, ONE))
    along = unit(observed, basis.direction("least-squares"))
    up, down = effects(observed, ONE, np.array([[700.0], [-700.0]]), along)
    assert up.now[0] == pytest.approx(1.0)
    assert down.now[0] < 1e-200
    assert math.isfinite(up.kl)
    assert up.js <= math.log(2)


def test_tokens_without_a_row_or_a_chance(opened) -> None:
    model, detection, _ = opened("mask")
    with pytest.raises(TpeError, match="token id 45 is never predicted"):
        run(observe(model.head, detection.sample, (7, 45)))
    with pytest.raises(TpeError, match="token id 320 does not exist"):
        run(observe(model.head, detection.sample, (320,)))
    with pytest.raises(TpeError, match="no stored hidden states"):
        run(observe(model.head, sample_of(torch.empty(0, WIDTH)), (7,)))


def test_what_is_attainable_under_a_cap(opened) -> None:
    model, detection, _ = opened("softcap")
    observed = run(observe(model.head, detection.sample, ONE))
    lowest, highest = observed.attainable(7)
    logits = model.head.logits(torch.from_numpy(detection.sample.hidden)).double()
    for sign, wanted in ((-1, lowest), (1, highest)):
        logits[:, 7] = sign * model.head.post.cap
        assert float(torch.softmax(logits, 1)[:, 7].mean()) == pytest.approx(wanted, abs=1e-6)
    best = effects(observed, ONE, np.array([[60.0], [-60.0]]), torch.ones(len(detection.sample), dtype=torch.float64))
    assert [some.now[0] for some in best] == pytest.approx([highest, lowest], rel=1e-6)
    free = run(observe(opened("identity")[0].head, detection.sample, ONE))
    assert free.attainable(7) == (0.0, 1.0)


@pytest.mark.parametrize("kind", ["identity", "softcap", "scale"])
@pytest.mark.parametrize("method", ["least-squares", "min-norm", "bias"])
def test_calibration_reaches_what_is_asked(opened, kind: str, method: Any) -> None:
    model, detection, basis = opened(kind)
    observed = run(observe(model.head, detection.sample, FIVE))
    along = unit(observed, basis.direction(method))
    for token_ids, ratios in ((ONE, [1.7]), (ONE, [0.6]), (FIVE, [1.3, 0.8, 1.1, 1.2, 0.9])):
        asked = [ratio * observed.alpha(i) for ratio, i in zip(ratios, token_ids, strict=True)]
        found = calibrate(observed, token_ids, asked, along)
        assert all(found.reached)
        (seen,) = effects(observed, token_ids, np.array([found.steps]), along)
        assert seen.achieved == pytest.approx(ratios, rel=1e-6)
        assert found.alpha == pytest.approx(asked, rel=1e-6)


def test_calibration_says_what_cannot_be_reached(opened) -> None:
    model, detection, _ = opened("softcap")
    observed = run(observe(model.head, detection.sample, FIVE))
    along = torch.ones(len(detection.sample), dtype=torch.float64)
    highest = observed.attainable(7)[1]
    found = calibrate(observed, ONE, [highest * 1.05], along)
    assert found.reached == (False,)
    assert found.alpha[0] == pytest.approx(highest, rel=1e-3)
    free = run(observe(opened("identity")[0].head, detection.sample, FIVE))
    assert not all(calibrate(free, FIVE, [0.3] * 5, along).reached)  # more than there is


def test_calibration_finds_the_turning_point(opened) -> None:
    """Where h.v has both signs alpha' turns back: a target just above its least is reached, one below it is not."""
    model, detection, _ = opened("identity")
    observed = run(observe(model.head, detection.sample, ONE))
    along = torch.from_numpy(np.random.default_rng(0).normal(0.4, 1.0, len(detection.sample)))
    grid = np.linspace(-4, 0, 4001)[:, None]
    alphas = [some.now[0] for some in effects(observed, ONE, grid, along)]
    least = min(alphas)
    assert 0 < int(np.argmin(alphas)) < 4000
    within = calibrate(observed, ONE, [least * 1.0001], along)
    assert within.reached == (True,)
    beyond = calibrate(observed, ONE, [least * 0.99], along)
    assert beyond.reached == (False,)
    assert beyond.alpha[0] == pytest.approx(least, rel=1e-5)


@pytest.mark.parametrize("pruned", [(), (3,), (0, 5, 9), tuple(range(1, 12)), tuple(range(16))])
def test_least_squares_is_solved_over_the_kept_dimensions(opened, pruned: tuple[int, ...]) -> None:
    _, detection, basis = opened("identity")
    moment, mean = detection.second_moment, detection.mean_hidden
    kept = np.setdiff1d(np.arange(WIDTH), pruned)
    wanted = np.zeros(WIDTH)
    ridge = 1e-6 * np.trace(moment) / WIDTH * np.eye(len(kept))
    wanted[kept] = np.linalg.solve(moment[np.ix_(kept, kept)] + ridge, mean[kept])
    found = basis.direction("least-squares", pruned)
    np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-9)
    if 0 < len(pruned) < WIDTH:
        left = detection.sample.hidden.astype(np.float64)
        left[:, list(pruned)] = 0
        shift, stale = left @ found, left @ basis.direction("least-squares")
        assert ((shift - 1) ** 2).mean() < ((stale - 1) ** 2).mean()
        assert basis.direction("min-norm", pruned) is basis.direction("min-norm")


def test_directions_are_remembered_and_few_are_kept(opened) -> None:
    _, detection, _ = opened("identity")
    solver = LeastSquares(detection)
    assert solver.direction((1, 2)) is solver.direction((1, 2))
    first = solver.direction((1, 2))
    for a in range(WIDTH):
        for b in range(a + 1, WIDTH):
            solver.direction((a, b))
    assert solver.direction((1, 2)) is not first
    np.testing.assert_allclose(solver.direction((1, 2)), first)


def test_what_is_no_direction(opened) -> None:
    _, detection, basis = opened("identity")
    assert basis.direction("bias") is None
    with pytest.raises(NumericalError, match="bias moves no row"):
        steering_direction("bias", basis.slope, detection)
    with pytest.raises(NumericalError, match="all slopes are 0"):
        steering_direction("min-norm", np.zeros(WIDTH), detection)
    with pytest.raises(TpeError, match="uniform Omega over all dimensions divides by slopes near 0"):
        Steering(1, 2.0, "uniform")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["identity", "softcap", "mask"])
def test_few_shot_detections_are_those_of_the_first_positions(opened, kind: str) -> None:
    model, detection, _ = opened(kind)
    sample = detection.sample
    found = run(detections(model.head, sample, (5, 33, len(sample))))
    assert [some.positions for some in found] == [5, 33, len(sample)]
    for some in found:
        hidden = torch.from_numpy(sample.hidden[: some.positions]).double()
        log_p = torch.log_softmax(model.head.logits(hidden.float()).double(), 1)
        np.testing.assert_allclose(some.log_alpha, log_p.exp().mean(0).log().numpy(), atol=1e-5)
        np.testing.assert_allclose(some.mean_hidden, hidden.mean(0).numpy(), rtol=1e-9)
        np.testing.assert_allclose(some.second_moment, (hidden.T @ hidden / len(hidden)).numpy(), rtol=1e-9)
        own = -log_p[torch.arange(len(hidden)), torch.from_numpy(sample.next_ids[: some.positions])].mean()
        assert some.loss == pytest.approx(float(own), abs=1e-5)
    if len(sample) == detection.positions:
        np.testing.assert_allclose(found[-1].log_alpha, detection.log_alpha, atol=1e-5)
