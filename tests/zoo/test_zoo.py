"""Tiny random models of many architectures: ``logits = post(W h + b)`` on a fresh input, or a refusal that says why."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.zoo.cases import REFUSED, SUPPORTED, Case
from tests.zoo.shrink import CONTEXT, VOCAB, WIDTH, tiny_model
from tests.zoo.verdict import TOKENS, error_on_fresh_input
from tpe_core.models.head import Post, Task
from tpe_core.models.head_sites import find_site
from tpe_core.models.probe import open_head


@pytest.mark.parametrize("case", SUPPORTED, ids=lambda case: case.id)
def test_head_is_right_on_a_fresh_input(case: Case) -> None:
    model = tiny_model(case.task, case.model_type, case.cls, **case.fixed)
    head, report = open_head(model, TOKENS, CONTEXT, case.task)
    assert report.supported, report.reason
    assert head is not None
    assert error_on_fresh_input(model, head) < 1e-3
    assert report.max_abs_error < 1e-3
    assert report.post == Post(case.kind, case.scale, case.cap)  # constants exact: they come from the config
    assert (report.bias, report.tied, report.masked_rows) == (case.bias, case.tied, case.masked)
    assert (report.vocab_rows, report.padding_rows) == (TOKENS, case.rows - TOKENS)
    assert report.hidden_size == case.hidden
    assert report.architecture == type(model).__name__


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
def test_refusal_says_why(case: Case) -> None:
    model = tiny_model(case.task, case.model_type, case.cls, **case.fixed)
    head, report = open_head(model, TOKENS, CONTEXT, case.task)
    assert head is None
    assert not report.supported
    assert case.reason in report.reason
    assert report.reason.endswith(".")
    assert "\n" not in report.reason


HALF: list[tuple[Task, str]] = [
    ("causal", "llama"),
    ("causal", "gptj"),
    ("causal", "mamba"),  # widens its logits after the product
    ("causal", "granite"),
    ("causal", "gemma2"),
    ("causal", "xlstm"),  # widens, then caps
    ("masked", "bert"),
    ("seq2seq", "bart"),  # its bias per token rounds small logits away
    ("seq2seq", "t5"),
]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize(("task", "model_type"), HALF)
def test_half_precision_finds_what_single_precision_does(task: Task, model_type: str, dtype: torch.dtype) -> None:
    model = tiny_model(task, model_type)
    _, single = open_head(model, TOKENS, CONTEXT, task)
    head, report = open_head(model.to(dtype), TOKENS, CONTEXT, task)
    assert report.supported, report.reason
    assert head is not None
    assert (report.post, report.bias, report.tied) == (single.post, single.bias, single.tied)
    assert error_on_fresh_input(model, head) < 4 * torch.finfo(dtype).eps


def test_half_precision_tells_a_scale_from_none() -> None:
    model = tiny_model("causal", "granite", logits_scaling=1.02).to(torch.bfloat16)
    head, report = open_head(model, TOKENS, CONTEXT)
    assert report.post == Post("scale", 1 / 1.02)


class LowRank(nn.Module):
    """An adapter on a head: its own weight is not the effective one."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, 2, bias=False)
        self.up = nn.Linear(2, base.out_features, bias=False)
        nn.init.normal_(self.up.weight)

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + 2.0 * self.up(self.down(x))


class Replaced(nn.Module):
    """A trained copy of a head that is used instead of it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.original, self.trained = base, nn.Linear(base.in_features, base.out_features)

    @property
    def weight(self) -> Tensor:
        return self.original.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.trained(x)


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gptj", "gemma2", "granite"])
@pytest.mark.parametrize("adapter", [LowRank, Replaced])
def test_adapted_head_is_read_through_the_module(model_type: str, adapter: type[nn.Module]) -> None:
    model = tiny_model("causal", model_type)
    torch.manual_seed(1)
    model.lm_head = adapter(model.lm_head).eval()
    head, report = open_head(model, TOKENS, CONTEXT)
    assert report.supported, report.reason
    assert head is not None
    assert report.head == adapter.__name__
    assert not report.tied
    assert error_on_fresh_input(model, head) < 1e-3


def test_head_that_is_never_called_is_refused() -> None:
    model = tiny_model("causal", "llama")
    model.get_output_embeddings = lambda: nn.Linear(WIDTH, VOCAB)
    head, report = open_head(model, TOKENS, CONTEXT)
    assert head is None
    assert "never calls its output head Linear" in report.reason


@pytest.mark.parametrize("layers", [0, 2])
def test_embedding_with_no_or_several_projections_behind_it_is_refused(layers: int) -> None:
    model = tiny_model("causal", "llama")
    model.get_output_embeddings = lambda: model.model.embed_tokens
    model.lm_head = nn.Sequential(*(nn.Linear(WIDTH, VOCAB) for _ in range(layers)))
    site = find_site(model)
    assert site.module is None
    assert f"and {layers} linear layers of its shape (160, 32)" in site.reason


def test_model_without_output_embeddings_is_refused() -> None:
    model = tiny_model("causal", "llama")

    def none() -> nn.Module:
        raise NotImplementedError("no head here")

    model.get_output_embeddings = none
    head, report = open_head(model, TOKENS, CONTEXT)
    assert head is None
    assert report.reason.endswith("(get_output_embeddings() failed: no head here).")


def test_the_zoo_covers_every_kind() -> None:
    assert len({case.model_type for case in SUPPORTED}) >= 60
    assert {case.kind for case in SUPPORTED} == {"identity", "scale", "softcap", "bias", "mask", "slice"}
    assert {case.task for case in SUPPORTED} == {"causal", "masked", "seq2seq"}
    names = [case.id for case in SUPPORTED + REFUSED]
    assert len(names) == len(set(names))
