"""The edited distribution against whole forwards of a model whose weights were edited, and a thousand toggles."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.tiny_models import VOCAB, WIDTH, random_corpus
from tpe_core.detection.detection import detect
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.distribution import Distribution
from tpe_core.edits.edited_head import REFRESH_EVERY, EditedHead, edited_logits
from tpe_core.edits.intervention import METHODS, Intervention, Steering
from tpe_core.edits.reconstruction import covariance
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.encoding.design import Design
from tpe_core.encoding.encoding import fit_encoding
from tpe_core.errors import TpeError
from tpe_core.models.model import LanguageModel
from tpe_core.progress import run

KINDS = ["gpt2", "gptj", "neox", "llama"]


@pytest.fixture(scope="module")
def fitted(tiny):
    """A model of a kind and the basis of its edits, made once."""
    made: dict[str, tuple[LanguageModel, EditStatistics]] = {}

    def make(kind: str) -> tuple[LanguageModel, EditStatistics]:
        if kind not in made:
            model = tiny(kind)
            detection = run(detect(model, random_corpus(16, 60)))
            vocab = model.head.vocab_rows
            encoding = fit_encoding(Design(model.head.columns[:, :vocab]), -detection.log_alpha[:vocab])
            made[kind] = model, EditStatistics.of(encoding.slope, detection)
        return made[kind]

    return make


def whole_forward(
    model: LanguageModel, ids: torch.Tensor, intervention: Intervention, basis: EditStatistics
) -> torch.Tensor:
    """[V_all] float64 probabilities after `ids` of a copy of the model whose untied head's weights were edited."""
    edited = copy.deepcopy(model.hf)
    old = edited.get_output_embeddings()
    W = old.weight.detach().double().clone()
    b = torch.zeros(W.shape[0], dtype=torch.float64) if old.bias is None else old.bias.detach().double().clone()
    for entry in intervention.steering:
        direction = basis.direction(entry.method, intervention.pruned)
        if direction is None:
            b[entry.token_id] += math.log(entry.ratio)
        else:
            W[entry.token_id] += math.log(entry.ratio) * torch.from_numpy(direction)
    dims = list(intervention.pruned)
    if intervention.replacement == "mean":
        b += W[:, dims] @ torch.from_numpy(basis.mean_hidden[dims])
    if intervention.replacement == "least-squares" and dims:
        kept = [dim for dim in range(W.shape[1]) if dim not in dims]
        c, m = covariance(basis.detection), basis.mean_hidden
        fold = np.linalg.solve(c[np.ix_(kept, kept)], c[np.ix_(kept, dims)]).T if kept else np.zeros((len(dims), 0))
        b += W[:, dims] @ torch.from_numpy(m[dims] - fold @ m[kept])
        W[:, kept] += W[:, dims] @ torch.from_numpy(fold)
    W[:, dims] = 0
    new = torch.nn.Linear(W.shape[1], W.shape[0])
    with torch.no_grad():
        new.weight.copy_(W)
        new.bias.copy_(b)
    edited.set_output_embeddings(new)
    with torch.inference_mode():
        return torch.softmax(edited(input_ids=ids, use_cache=False).logits[0, -1].double(), -1)


interventions = st.builds(
    Intervention,
    pruned=st.lists(st.integers(0, WIDTH - 1), max_size=WIDTH).map(tuple),
    replacement=st.sampled_from(REPLACEMENTS.ready),
    steering=st.dictionaries(
        st.integers(0, VOCAB - 1), st.tuples(st.floats(0.05, 20), st.sampled_from(METHODS)), max_size=3
    ).map(lambda found: tuple(Steering(token, ratio, method) for token, (ratio, method) in found.items())),
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(intervention=interventions, seed=st.integers(0, 1000))
def test_any_edit_is_a_whole_forward_of_edited_weights(
    fitted, kind: str, intervention: Intervention, seed: int
) -> None:
    model, basis = fitted(kind)
    ids = torch.from_numpy(np.random.default_rng(seed).integers(0, VOCAB, size=(1, 9)))
    h = model.hidden(ids)[0, -1].clone()
    wanted = whole_forward(model, ids, intervention, basis)
    static = torch.softmax(edited_logits(model.head, intervention, basis, h).double(), -1)
    live = EditedHead(model.head, basis)
    live.set_hidden(h)
    running = torch.softmax(live.logits(intervention), -1)
    assert float((static - wanted).abs().max()) < 1e-5
    assert float((running - wanted).abs().max()) < 1e-5


@pytest.mark.parametrize("replacement", REPLACEMENTS.ready)
def test_a_thousand_toggles_leave_no_trace(fitted, replacement: str) -> None:
    model, basis = fitted("gpt2")
    rng = np.random.default_rng(4)
    ids = torch.from_numpy(rng.integers(0, VOCAB, size=(1, 9)))
    live = EditedHead(model.head, basis)
    live.set_hidden(model.hidden(ids)[0, -1].clone())
    base = live.base_logits().clone()
    at = Intervention(replacement=replacement)
    toggled = []
    for _ in range(1000):
        toggled.append(int(rng.integers(WIDTH)))
        at = at.toggle([toggled[-1]])
        if rng.random() < 0.3:
            at = at.steer(int(rng.integers(VOCAB)), float(rng.choice([1.0, 0.5, 3.0])))
        live.logits(at)
    assert len(toggled) > 3 * REFRESH_EVERY
    wanted = whole_forward(model, ids, at, basis)
    assert float((torch.softmax(live.logits(at), -1) - wanted).abs().max()) < 1e-5
    for dim in reversed(toggled):
        at = at.toggle([dim])
        live.logits(at)
    assert at.pruned == ()
    assert torch.equal(live.logits(at.clear()), base)  # bit for bit


def test_toggling_twice_is_the_exact_base(fitted) -> None:
    model, basis = fitted("llama")
    live = EditedHead(model.head, basis)
    live.set_hidden(model.hidden(torch.arange(1, 9)[None])[0, -1].clone())
    base = live.base_logits().clone()
    for dim in range(WIDTH):
        assert not torch.equal(live.logits(Intervention((dim,))), base)
        assert torch.equal(live.logits(Intervention()), base)


def test_many_columns_at_once_and_changed_replacement(fitted) -> None:
    model, basis = fitted("neox")
    ids = torch.arange(1, 9)[None]
    live = EditedHead(model.head, basis)
    live.set_hidden(model.hidden(ids)[0, -1].clone())
    for edit in (
        Intervention(tuple(range(WIDTH))),
        Intervention(tuple(range(0, WIDTH, 2)), "mean"),
        Intervention((1,), "zero"),
    ):
        wanted = whole_forward(model, ids, edit, basis)
        assert float((torch.softmax(live.logits(edit), -1) - wanted).abs().max()) < 1e-5


logit = st.floats(-200, 60) | st.just(-math.inf)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(logit, logit), min_size=1, max_size=40), st.floats(-100, 100))
def test_distribution_is_the_softmax_with_its_divergences(pairs: list[tuple[float, float]], shift: float) -> None:
    pairs = [(1.0, 2.0), *((a, -math.inf if math.isinf(a) else b) for a, b in pairs)]
    z, other = (torch.tensor(side, dtype=torch.float64) + shift for side in zip(*pairs, strict=True))
    ours, theirs = Distribution(z), Distribution(other)
    p, q = torch.softmax(z, 0), torch.softmax(other, 0)
    torch.testing.assert_close(ours.probabilities(), p, rtol=1e-12, atol=0)
    assert float(ours.at(0)) == pytest.approx(float(p[0]), rel=1e-12)
    assert ours.log_z == pytest.approx(float(torch.logsumexp(z, 0)), abs=1e-12)

    def divergence(left: torch.Tensor, right: torch.Tensor) -> float:
        return float(torch.where(left > 0, left * (left.log() - right), 0).sum())

    assert ours.kl(theirs) == pytest.approx(divergence(p, torch.log_softmax(other, 0)), abs=1e-9)
    middle = ((p + q) / 2).log()
    assert ours.js(theirs) == pytest.approx((divergence(p, middle) + divergence(q, middle)) / 2, abs=1e-9)
    assert ours.entropy == pytest.approx(float(torch.special.entr(p).sum()), abs=1e-9)
    assert ours.kl(Distribution(z.clone())) == 0
    assert set(ours.top(2, len(z)).tolist()) <= set(torch.nonzero(p >= p.topk(2).values[-1]).flatten().tolist())


def test_divergence_of_a_vanished_token_is_infinite_and_of_nan_is_told() -> None:
    z, other = torch.tensor([0.0, 1.0, -math.inf], dtype=torch.float64), torch.tensor([0.0, -math.inf, -math.inf])
    assert Distribution(z).kl(Distribution(other.double())) == math.inf
    assert Distribution(z).js(Distribution(other.double())) < math.log(2)
    for bad in (math.nan, math.inf):
        assert math.isnan(Distribution(torch.tensor([0.0, bad], dtype=torch.float64)).log_z)


def test_running_distribution_is_the_static_one_with_masked_rows(fitted) -> None:
    model, basis = fitted("gpt2")
    bias = torch.zeros(model.head.total_rows)
    bias[[3, 70]] = -math.inf
    head = replace(model.head, bias=bias)
    live = EditedHead(head, basis)
    live.set_hidden(model.hidden(torch.arange(1, 9)[None])[0, -1].clone())
    base = Distribution(live.base_logits())
    at = Intervention()
    for dim in range(0, WIDTH, 3):
        at = at.toggle([dim])
        now = live.distribution(at)
        q = torch.softmax(edited_logits(head, at, basis, live._hidden).double(), -1)
        p = base.probabilities()
        wanted = float(torch.where(p > 0, p * (p.log() - q.log()), 0).sum())
        assert base.kl(now) == pytest.approx(wanted, abs=1e-5)
        assert 0 <= base.js(now) <= math.log(2)
        assert now.probabilities()[[3, 70]].tolist() == [0, 0]


def test_least_squares_multiplies_the_odds(fitted) -> None:
    model, basis = fitted("gpt2")
    sample = torch.from_numpy(basis.detection.sample.hidden[:200])
    shift = sample.double() @ torch.from_numpy(basis.direction("least-squares"))
    others = [sample.double() @ torch.from_numpy(basis.direction(method)) for method in ("min-norm", "top-k")]
    assert float((shift - 1).pow(2).mean()) < min(float((other - 1).pow(2).mean()) for other in others)


def test_dims_and_tokens_that_do_not_exist(fitted) -> None:
    model, basis = fitted("neox")
    h = torch.zeros(WIDTH)
    with pytest.raises(TpeError, match="dimension 16 does not exist: this head has 16"):
        edited_logits(model.head, Intervention((WIDTH,)), basis, h)
    with pytest.raises(TpeError, match=f"token id {VOCAB} does not exist"):  # a padding row
        EditedHead(model.head, basis).logits(Intervention(steering=(Steering(VOCAB, 2.0),)))
