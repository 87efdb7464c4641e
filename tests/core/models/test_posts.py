"""Every kind of post: detection, edits and steering against whole forwards of the model, its weights edited."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from tests.helpers.heads import KEPT, KINDS, build, corpus_for, edited_model, wrapped
from tests.helpers.tiny_models import CONTEXT, VOCAB, WIDTH, text, tiny_config
from tpe_core.analysis import analyze
from tpe_core.detection.detection import Detection, detect
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.edited_head import EditedHead, edited_logits
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.encoding.design import Design
from tpe_core.encoding.encoding import fit_encoding
from tpe_core.models.head import Post
from tpe_core.models.model import LanguageModel
from tpe_core.models.probe import open_head
from tpe_core.options import RunOptions
from tpe_core.progress import run


class Rotating(LlamaForCausalLM):
    """Does something that is no function of one logit."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = output.logits.roll(1, -1)
        return output


class Drifting(LlamaForCausalLM):
    """Scales its logits by the position."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits = output.logits * torch.arange(1, output.logits.shape[1] + 1)[:, None]
        return output


@pytest.fixture(scope="module")
def opened() -> Any:
    made: dict[str, tuple[LanguageModel, Detection, EditStatistics]] = {}

    def make(kind: str) -> tuple[LanguageModel, Detection, EditStatistics]:
        if kind not in made:
            model = wrapped(build(kind), "seq2seq" if kind == "bias" else "causal")
            detection = run(detect(model, corpus_for(model)))
            vocab = model.head.vocab_rows
            surprisal = -detection.log_alpha[:vocab]
            keep = np.isfinite(surprisal)
            encoding = fit_encoding(Design(model.head.columns[:, :vocab], keep), surprisal[keep])
            made[kind] = model, detection, EditStatistics.of(encoding.slope, detection)
        return made[kind]

    return make


def brute_force_alpha(model: LanguageModel) -> Tensor:
    """[V_all] mean probability by whole forwards and a float64 softmax."""
    corpus = corpus_for(model)
    asked = model.sampling.batch(corpus.blocks, corpus.targets, corpus.block_hash)
    logits = model.logits(asked.inputs).double()
    p = torch.softmax(logits, -1)
    return asked.select(p).flatten(0, 1).mean(0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_card_names_what_lies_after_the_head(opened, kind: str) -> None:
    report = opened(kind)[0].report
    assert report.supported
    assert report.post.kind == {"head bias": "identity"}.get(kind, kind)
    assert report.post.scale == (0.25 if kind == "scale" else 1.0)
    assert report.post.cap == (2.5 if kind == "softcap" else None)
    assert report.bias == (kind == "head bias")
    assert report.masked_rows == (20 if kind == "mask" else 0)
    assert report.vocab_rows == (KEPT if kind == "slice" else VOCAB)
    assert report.max_abs_error < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_alpha_is_the_models_own(opened, kind: str) -> None:
    model, detection, _ = opened(kind)
    wanted = brute_force_alpha(model).numpy()
    found = np.exp(detection.log_alpha)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-300)
    assert (found == 0).sum() == (20 if kind == "mask" else 0)


EDITS = [
    Intervention((1, 4, 5)),
    Intervention((0, 3, 9, 12), "mean"),
    Intervention((3, 5, 10), "least-squares", (Steering(9, 4.0, "min-norm"),)),
    Intervention(steering=(Steering(7, 5.0, "least-squares"),)),
    Intervention((2, 8), "mean", (Steering(7, 0.2, "min-norm"), Steering(100, 3.0, "top-k"), Steering(45, 2.0))),
    Intervention((2, 8), "zero", (Steering(7, 0.2, "bias"), Steering(100, 3.0, "bias"))),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("edit", EDITS)
def test_edits_are_edited_weights(opened, kind: str, edit: Intervention) -> None:
    model, _, basis = opened(kind)
    corpus = corpus_for(model)
    inputs = model.sampling.batch(corpus.blocks[:1], corpus.targets[:1], corpus.block_hash[:1]).inputs
    wanted = torch.softmax(edited_model(model, edit, basis).logits(inputs)[0, 9].double(), -1)
    h = model.hidden(inputs)[0, 9].clone()
    static = torch.softmax(edited_logits(model.head, edit, basis, h).double(), -1)
    live = EditedHead(model.head, basis)
    live.set_hidden(h)
    running = torch.softmax(live.logits(edit), -1)
    assert float((static - wanted).abs().max()) < 1e-5
    assert float((running - wanted).abs().max()) < 1e-5
    assert float((running - torch.softmax(live.base_logits(), -1)).abs().max()) > 1e-5  # the edit does something


def test_a_cap_bounds_what_an_edit_can_reach(opened) -> None:
    model, _, basis = opened("softcap")
    h = model.hidden(torch.from_numpy(corpus_for(model).blocks[:1]))[0, 5].clone()
    live = EditedHead(model.head, basis)
    live.set_hidden(h)
    bound = live.distribution(Intervention((3,))).attainable(7, model.head.post.highest)
    reached = float(live.distribution(Intervention((3,), steering=(Steering(7, 1e30, "bias"),))).at(7))
    assert reached == pytest.approx(bound, rel=1e-6)
    assert bound < 0.2
    plain = opened("identity")[0]
    other = EditedHead(plain.head, opened("identity")[2])
    other.set_hidden(h)
    assert other.distribution(Intervention()).attainable(7, plain.head.post.highest) == 1


@pytest.mark.parametrize("kind", ["identity", "scale", "head bias", "bias"])
def test_the_mean_logit_falls_along_the_slopes_in_final_units(opened, kind: str) -> None:
    """-E[log p] = -W.E[h] - b + E[log Z] exactly: the columns carry the scale and the bias the offset."""
    model, detection, _ = opened(kind)
    corpus = corpus_for(model)
    asked = model.sampling.batch(corpus.blocks, corpus.targets, corpus.block_hash)
    own = asked.select(torch.log_softmax(model.logits(asked.inputs).double(), -1)).flatten(0, 1).mean(0)
    linear = torch.from_numpy(detection.mean_hidden) @ model.head.columns.double()
    if model.head.bias is not None:
        linear = linear + model.head.bias.double()
    np.testing.assert_allclose(own.numpy(), (linear - detection.mean_log_z).numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("build_model", "reason"), [(Rotating, "neither a scale"), (Drifting, "depends on the position")]
)
def test_anything_else_is_refused(build_model: Any, reason: str) -> None:
    torch.manual_seed(0)
    head, report = open_head(build_model(tiny_config("llama")).eval(), VOCAB, CONTEXT)
    assert head is None
    assert not report.supported
    assert report.post.kind == "opaque"
    assert reason in report.reason


def test_under_a_cap_the_jensen_gap_is_taken_from_the_sample(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text(text(3, 4000))
    found = run(analyze(RunOptions(text=(str(words),), positions=1000, cache=False), model=wrapped(build("softcap"))))
    head, sample = found.model.head, found.detection.sample
    log_p = torch.log_softmax(head.logits(torch.from_numpy(sample.hidden)).double(), 1).mean(0).numpy()
    wanted = np.corrcoef(-found.detection.log_alpha, -log_p)[0, 1]
    assert found.encoding.jensen_correlation == pytest.approx(wanted, abs=1e-6)


def test_a_cap_leaves_masked_tokens_out() -> None:
    z = torch.tensor([1.0, -math.inf, 40.0, -40.0])
    found = Post("softcap", 1.0, 30.0)(z)
    torch.testing.assert_close(found[[0, 2, 3]], 30 * torch.tanh(z[[0, 2, 3]] / 30))
    assert found[1] == -math.inf
    assert z[2] == 40


@pytest.mark.parametrize("kind", KINDS)
def test_the_derivative_of_every_kind_of_post_is_autograds(kind: str, opened: Any) -> None:
    head = opened(kind)[0].head
    hidden = torch.randn(7, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z = head.raw(hidden.float()).double().requires_grad_()
    logits = head.post(z)
    (wanted,) = torch.autograd.grad(logits.where(~torch.isneginf(logits), 0.0).sum(), z)
    seen = ~torch.isneginf(z.detach())
    derivative = head.post.derivative(z.detach())
    assert derivative.shape == z.shape
    torch.testing.assert_close(derivative[seen], wanted[seen], rtol=1e-9, atol=1e-12)
    assert head.post.is_linear == bool((derivative == 1).all())
    assert kind != "mask" or not bool(seen.all())


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_a_loss_goes_back_through_every_kind_of_post(kind: str, opened: Any) -> None:
    head = opened(kind)[0].head
    z = head.raw(torch.randn(7, WIDTH, generator=torch.Generator().manual_seed(2))).double().requires_grad_()
    logits = head.post(z)
    seen = ~torch.isneginf(logits.detach())
    (wanted,) = torch.autograd.grad(-torch.log_softmax(logits, 1)[:, 3].sum(), z)
    gradient = torch.softmax(logits.detach(), 1)
    gradient[:, 3] -= 1
    kept = gradient.clone()
    torch.testing.assert_close(head.post.chain(gradient, logits.detach())[seen], wanted[seen], rtol=1e-9, atol=1e-12)
    assert torch.equal(gradient, kept), "nothing is written where no `out` is given"
    written = head.post.chain(gradient, logits.detach(), out=gradient)
    assert written.data_ptr() == gradient.data_ptr()
    torch.testing.assert_close(written[seen], wanted[seen], rtol=1e-9, atol=1e-12)


def test_a_token_that_is_never_predicted_has_no_derivative_under_a_cap() -> None:
    post, z = Post("softcap", 1.0, 30.0), torch.tensor([0.0, -math.inf, 1e6])
    assert post.derivative(z).tolist() == [1, 0, 0]
    assert post.chain(torch.tensor([2.0, 5.0, 7.0]), post(z)).tolist() == [2, 0, 0]


@pytest.mark.parametrize("cap", [0.5, 15.0, 30.0, 300.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_caps_are_exact_in_any_precision(cap: float, dtype: torch.dtype) -> None:
    from transformers import AutoModelForCausalLM

    config = tiny_config("gemma2")
    config.final_logit_softcapping = cap
    torch.manual_seed(0)
    _, report = open_head(AutoModelForCausalLM.from_config(config).to(dtype).eval(), VOCAB, CONTEXT)
    assert report.supported
    assert report.post.cap == cap


def test_a_narrow_copy_of_the_head_gives_float32_products(monkeypatch: pytest.MonkeyPatch) -> None:
    from tpe_core.models import probe

    hf = build("head bias").bfloat16()
    wide, _ = open_head(hf, VOCAB, CONTEXT)
    monkeypatch.setattr(probe, "available_bytes", lambda device: 1)
    narrow, report = open_head(hf, VOCAB, CONTEXT)
    assert report.supported
    assert narrow.columns.dtype == torch.bfloat16
    assert wide.columns.dtype == torch.float32
    h = torch.randn(5, WIDTH)
    assert torch.equal(narrow.logits(h), wide.logits(h))
    assert narrow.sha256 == wide.sha256
