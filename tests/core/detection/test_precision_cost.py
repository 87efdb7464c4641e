"""What logits in a model's own dtype cost, against brute force in float64 over the model's own forward."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.helpers.tiny_models import WIDTH, random_corpus, save_tiny, text
from tpe_core.corpus.corpus import text_source
from tpe_core.detection import precision as precision_module
from tpe_core.detection.precision import HeadPrecision, head_precision, measure_precision
from tpe_core.errors import NotFiniteError
from tpe_core.models.loading import load_model
from tpe_core.models.model import LanguageModel
from tpe_core.options import RunOptions
from tpe_core.progress import run

BLOCKS, LENGTH, POSITIONS = 3, 40, 100
OUTLIER = 5
KINDS = [
    ("gpt2", "bfloat16"), ("gpt2", "float16"), ("gptj", "bfloat16"), ("neox", "float16"), ("granite", "bfloat16"),
    ("gemma2", "bfloat16"),
]  # fmt: skip


def loaded(folder: Path, dtype: str, kind: str = "gpt2", edit: object = None) -> LanguageModel:
    return load_model(RunOptions(str(save_tiny(folder, kind, edit)), dtype=dtype))  # type: ignore[arg-type]


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p.softmax(-1) * (p.log_softmax(-1) - q.log_softmax(-1))).sum(-1)


class Brute:
    """Everything at once, float64, from two plain forwards and the state dict's own matrix."""

    def __init__(self, model: LanguageModel) -> None:
        ids = torch.from_numpy(random_corpus(BLOCKS, LENGTH).blocks)
        with torch.inference_mode():
            self.h = torch.cat([model.hf(row[None], output_hidden_states=True).hidden_states[-1][0] for row in ids])
            self.own = torch.cat([model.hf(row[None]).logits[0] for row in ids])[:POSITIONS].double()
        self.dtype = self.h.dtype
        self.h = self.h[:POSITIONS].double()
        head = model.hf.get_output_embeddings()
        self.scale = 1 / getattr(model.hf.config, "logits_scaling", 1.0)
        self.cap = getattr(model.hf.config, "final_logit_softcapping", None)
        self.weight = head.weight.detach().double() * self.scale  # [V, d]
        self.raw = self.h @ self.weight.T + (0.0 if head.bias is None else head.bias.detach().double())
        self.z = self.post(self.raw)

    def post(self, raw: Tensor) -> Tensor:
        return raw if self.cap is None else self.cap * torch.tanh(raw / self.cap)

    def rounded(self, dims: list[int]) -> float:
        """Mean KL where the parts of some dimensions are added behind the rounding."""
        apart = self.h[:, dims] @ self.weight[:, dims].T
        return float(kl(self.z, self.post((self.raw - apart).float().to(self.dtype).double() + apart)).mean())


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
def test_every_figure_is_that_of_brute_force(
    tmp_path: Path, kind: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision_module, "VALUES", 7 * 332)  # several parts in a block
    model = loaded(tmp_path, dtype, kind)
    before = model.head.columns.clone()
    found = run(measure_precision(model, random_corpus(BLOCKS, LENGTH), POSITIONS))
    assert torch.equal(model.head.columns, before)
    brute = Brute(model)
    each = kl(brute.z, brute.own)
    assert found.dtype == dtype
    assert found.positions == POSITIONS
    assert found.kl > 0
    assert found.kl == pytest.approx(float(each.mean()), rel=1e-2)
    assert found.kl_max == pytest.approx(float(each.max()), rel=1e-2)
    if brute.cap is None:  # the tiny cap makes whole rows of float32 logits equal
        assert found.top1_flips == pytest.approx(float((brute.own.argmax(-1) != brute.z.argmax(-1)).double().mean()))
    top = brute.own.max(-1, keepdim=True).values
    assert found.tied_tops == pytest.approx(float(((brute.own == top).sum(-1) > 1).double().mean()))
    assert found.largest_logit == pytest.approx(float(brute.z.abs().max()), rel=1e-5)
    p, error = brute.z.softmax(-1), brute.own - brute.z
    parts = (p * (error - (p * error).sum(-1, keepdim=True)) ** 2 / 2).mean(0)
    assert found.half_variance == pytest.approx(float(parts.sum()), rel=1e-2)
    shares = parts / parts.sum()
    for token in found.tokens:
        assert token.share == pytest.approx(float(shares[token.id]), rel=2e-2)
    assert found.tokens[0].share >= 0.98 * float(shares[: model.head.vocab_rows].max())
    assert found.kl_rounding == pytest.approx(brute.rounded([]), rel=2e-2)
    rms = ((p @ brute.weight**2) * brute.h**2).mean(0).sqrt()
    assert {each.dim for each in found.dimensions} == set(rms.topk(precision_module.TRIED).indices.tolist())
    for dimension in found.dimensions:
        assert dimension.rms == pytest.approx(float(rms[dimension.dim]), rel=1e-4)
        assert dimension.kl_in_float32 == pytest.approx(brute.rounded([dimension.dim]), rel=2e-2)
        assert dimension.saved == pytest.approx(1 - dimension.kl_in_float32 / found.kl_rounding)
    together = brute.rounded([each.dim for each in found.dimensions])
    assert found.saved_together == pytest.approx(1 - together / brute.rounded([]), rel=2e-2)


def test_a_float32_model_costs_nothing_and_reads_no_text(tmp_path: Path) -> None:
    model = loaded(tmp_path, "float32")
    source = text_source(())
    steps = head_precision(model, source)
    with pytest.raises(StopIteration) as stop:
        next(steps)
    found: HeadPrecision = stop.value.value
    assert (found.dtype, found.positions, found.kl, found.top1_flips) == ("float32", 0, 0.0, 0.0)
    assert found.dimensions == found.tokens == ()


def test_an_outlier_dimension_is_found(tmp_path: Path) -> None:
    def plant(model: object) -> None:
        weight = model.get_output_embeddings().weight  # type: ignore[attr-defined]
        weight.mul_(0.5)
        weight[:, OUTLIER] = 40.0 + torch.randn(len(weight))  # about the same for every token: a large offset

    model = loaded(tmp_path, "bfloat16", "llama", plant)
    found = run(measure_precision(model, random_corpus(BLOCKS, LENGTH), POSITIONS))
    assert found.dimensions[0].dim == OUTLIER
    assert found.dimensions[0].saved > 0.5
    assert max(each.saved for each in found.dimensions[1:]) < 0.5


def test_bfloat16_costs_more_than_float16(tmp_path: Path) -> None:
    corpus = random_corpus(BLOCKS, LENGTH)
    coarse, fine = (
        run(measure_precision(loaded(tmp_path / dtype, dtype), corpus, POSITIONS)) for dtype in ("bfloat16", "float16")
    )
    assert coarse.kl > 10 * fine.kl > 0  # three bits fewer: 64 times in theory


def test_logits_that_overflow_are_named_with_their_place(tmp_path: Path) -> None:
    model = loaded(tmp_path, "float16", "llama")
    with torch.no_grad():
        model.hf.get_output_embeddings().weight.fill_(60000.0)
    with pytest.raises(NotFiniteError, match=r"own logits hold NaN or infinity in float16 at position \d+ of block 1"):
        run(measure_precision(model, random_corpus(BLOCKS, LENGTH), POSITIONS))


def test_the_text_is_read_as_far_as_it_is_asked_for(tmp_path: Path) -> None:
    model = loaded(tmp_path, "bfloat16")
    own = tmp_path / "own.txt"
    own.write_text(text(0))
    found = run(head_precision(model, text_source((str(own),)), 90))
    assert found.positions == 90
    assert found.text == "own.txt"
    assert found.to_dict()["tokens"][0].keys() == {"id", "token", "share"}
    assert len(found.dimensions) == min(WIDTH, precision_module.TRIED)
    assert np.isfinite(found.kl)
