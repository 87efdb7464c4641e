"""The edited distribution against whole forwards of a model whose weights were edited, and a thousand toggles."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import VOCAB, WIDTH, random_corpus
from tpe_core.detection import detect
from tpe_core.edited_head import REFRESH_EVERY, EditBasis, EditedHead, edited_logits
from tpe_core.encoding import Design, fit_encoding
from tpe_core.errors import TpeError
from tpe_core.intervention import METHODS, Intervention, Steering
from tpe_core.model import LanguageModel
from tpe_core.progress import run

KINDS = ["gpt2", "gptj", "neox", "llama"]


@pytest.fixture(scope="module")
def fitted(tiny):
    """A model of a kind and the basis of its edits, made once."""
    made: dict[str, tuple[LanguageModel, EditBasis]] = {}

    def make(kind: str) -> tuple[LanguageModel, EditBasis]:
        if kind not in made:
            model = tiny(kind)
            detection = run(detect(model, random_corpus(16, 60)))
            vocab = model.head.vocab_rows
            encoding = fit_encoding(Design(model.head.columns[:, :vocab]), -detection.log_alpha[:vocab])
            made[kind] = model, EditBasis.of(encoding.slope, detection)
        return made[kind]

    return make


def whole_forward(
    model: LanguageModel, ids: torch.Tensor, intervention: Intervention, basis: EditBasis
) -> torch.Tensor:
    """[V_all] float64 probabilities after `ids` of a copy of the model whose untied head's weights were edited."""
    edited = copy.deepcopy(model.hf)
    old = edited.get_output_embeddings()
    W = old.weight.detach().double().clone()
    b = torch.zeros(W.shape[0], dtype=torch.float64) if old.bias is None else old.bias.detach().double().clone()
    for entry in intervention.steering:
        W[entry.token_id] += math.log(entry.ratio) * torch.from_numpy(basis.direction(entry.method))
    dims = list(intervention.pruned)
    if intervention.replacement == "mean":
        b += W[:, dims] @ torch.from_numpy(basis.mean_hidden[dims])
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
    replacement=st.sampled_from(["zero", "mean"]),
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


@pytest.mark.parametrize("replacement", ["zero", "mean"])
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
