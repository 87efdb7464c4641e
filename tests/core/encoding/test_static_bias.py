"""Static bias: the final norm found by what it does, s against brute force, every R2 against plain least squares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from tests.helpers.tiny_models import tiny_config
from tpe_core.encoding.design import Design
from tpe_core.encoding.encoding import fit_encoding
from tpe_core.encoding.static_bias import FinalNorm, final_norm_bias, static_bias, static_bias_of
from tpe_core.models.capture import probe_inputs
from tpe_core.models.head import OutputHead, Post
from tpe_core.models.head_sites import find_site
from tpe_core.models.model import LanguageModel

BERT = {
    "vocab_size": 90, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 40,
}  # fmt: skip
BART = {
    "vocab_size": 90, "d_model": 16, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 40,
    "decoder_start_token_id": 2,
}  # fmt: skip
OPT = {
    "vocab_size": 90, "hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 40,
}  # fmt: skip
LLAMA = {
    "vocab_size": 90, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 40, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
XLNET = {"vocab_size": 90, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 24}

MODELS: dict[str, tuple[Callable[[], Any], str, str | None]] = {
    "gpt2": (lambda: tiny_config("gpt2"), "causal", "transformer.ln_f"),
    "gptj": (lambda: tiny_config("gptj"), "causal", "transformer.ln_f"),
    "neox": (lambda: tiny_config("neox"), "causal", "gpt_neox.final_layer_norm"),
    "opt": (lambda: transformers.OPTConfig(**OPT, word_embed_proj_dim=16), "causal", "model.decoder.final_layer_norm"),
    "nemotron": (lambda: transformers.NemotronConfig(**LLAMA), "causal", "model.norm"),  # whose scale is 1 + weight
    "xlnet": (lambda: transformers.XLNetConfig(**XLNET), "causal", "transformer.layer.1.ff.layer_norm"),
    "bert": (lambda: transformers.BertConfig(**BERT), "masked", "cls.predictions.transform.LayerNorm"),
    "bart": (lambda: transformers.BartConfig(**BART), "seq2seq", "model.decoder.layers.1.final_layer_norm"),
    "mbart": (lambda: transformers.MBartConfig(**BART), "seq2seq", "model.decoder.layer_norm"),
    "llama": (lambda: tiny_config("llama"), "causal", None),
    "gemma2": (lambda: tiny_config("gemma2"), "causal", None),
    "cohere": (lambda: transformers.CohereConfig(**LLAMA), "causal", None),  # layer norm without a bias
    "opt-projected": (lambda: transformers.OPTConfig(**OPT, word_embed_proj_dim=8), "causal", None),
}


def built(config: Any, task: str) -> Any:
    kinds = {
        "causal": transformers.AutoModelForCausalLM,
        "masked": transformers.AutoModelForMaskedLM,
        "seq2seq": transformers.AutoModelForSeq2SeqLM,
    }
    torch.manual_seed(0)
    model = kinds[task].from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def found_in(model: Any, task: str) -> FinalNorm | None:
    inputs = probe_inputs(task, 90, 40, torch.device("cpu"), start=2)  # type: ignore[arg-type]
    return final_norm_bias(model, find_site(model), inputs)


@pytest.mark.parametrize("name", MODELS)
def test_the_final_norm_is_found_by_what_it_does(name: str) -> None:
    config, task, where = MODELS[name]
    model = built(config(), task)
    found = found_in(model, task)
    if where is None:
        assert found is None
    else:
        assert found is not None
        assert found.name == where
        np.testing.assert_array_equal(found.bias, model.get_submodule(where).bias.detach().double().numpy())
        assert np.abs(found.bias).max() > 0.01
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_half_precision_gives_the_same_bias() -> None:
    model = built(tiny_config("gpt2"), "causal").to(torch.bfloat16)
    found = found_in(model, "causal")
    assert found is not None
    np.testing.assert_array_equal(found.bias, model.transformer.ln_f.bias.detach().double().numpy())


class Toy(nn.Module):
    """norm, optionally something between it and the head."""

    def __init__(self, last: nn.Module, after: Callable[[Tensor], Tensor] = lambda h: h) -> None:
        super().__init__()
        self.embed, self.inner = nn.Embedding(50, 12), nn.LayerNorm(12)
        self.last, self.after, self.head = last, after, nn.Linear(12, 50, bias=False)
        self.config = SimpleNamespace(vocab_size=50)

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def forward(self, input_ids: Tensor) -> Any:
        return SimpleNamespace(logits=self.head(self.after(self.last(self.inner(self.embed(input_ids))))))


@pytest.mark.parametrize(
    ("last", "after", "found"),
    [
        (nn.LayerNorm(12), lambda h: h, True),
        (nn.LayerNorm(12), lambda h: h[:, -1:], True),
        (nn.LayerNorm(12), lambda h: h.transpose(0, 1).contiguous(), True),
        (nn.LayerNorm(12), lambda h: h * 0.5, False),
        (nn.LayerNorm(12, bias=False), lambda h: h, False),
        (nn.Linear(12, 12), lambda h: h, False),  # a projection, though it has a bias and gives the head's input
        (nn.Sequential(nn.LayerNorm(12), nn.Dropout(0.5)), lambda h: h, True),
    ],
)
def test_what_counts_as_the_final_norm(last: nn.Module, after: Callable[[Tensor], Tensor], found: bool) -> None:
    toy = Toy(last, after).eval()
    with torch.no_grad():
        for parameter in toy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    inputs: Mapping[str, Tensor] = {"input_ids": torch.arange(12).reshape(2, 6)}
    norm = final_norm_bias(toy, find_site(toy), inputs)
    assert (norm is not None) is found
    if norm is not None:
        assert norm.name in ("last", "last.0")


def least_squares_r2(w: np.ndarray, y: np.ndarray) -> float:
    x = np.column_stack([w, np.ones(len(w))])
    residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return 1 - float(residual @ residual) / float(np.sum((y - y.mean()) ** 2))


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("with_norm", [False, True])
def test_figures_against_plain_least_squares(with_bias: bool, with_norm: bool) -> None:
    rng = np.random.default_rng(3)
    vocab, width, padding = 1500, 12, 7
    w = rng.normal(size=(vocab + padding, width)).astype(np.float32)
    b = rng.normal(size=vocab + padding).astype(np.float32) if with_bias else None
    norm = FinalNorm("last", rng.normal(size=width)) if with_norm else None
    keep = np.ones(vocab, dtype=bool)
    keep[[3, 700, 1400]] = False
    head = OutputHead(
        columns=torch.from_numpy(w.T.copy()),
        bias=None if b is None else torch.from_numpy(b),
        post=Post(),
        vocab_rows=vocab,
        tied=False,
        module="Linear",
    )
    used = w[:vocab].astype(float)
    static = (used @ norm.bias if norm else 0) + (b[:vocab].astype(float) if b is not None else 0) + np.zeros(vocab)
    y = (5 - 0.7 * static + used @ rng.normal(size=width) + rng.normal(size=vocab))[keep]
    offset = None if b is None else b[:vocab].astype(float)[keep]
    encoding = fit_encoding(Design(head.columns[:, :vocab], keep), y, offset=offset)
    found = static_bias(head, norm, keep, encoding)
    if not (with_bias or with_norm):
        assert found is None
        assert np.isnan(static_bias_of(head, norm, 5))
        return
    assert found is not None
    assert (found.norm is not None, found.head_bias) == (with_norm, with_bias)
    np.testing.assert_allclose(found.values, static, atol=1e-12)
    assert static_bias_of(head, norm, 5) == pytest.approx(static[5], abs=1e-12)
    s, kept = static[keep], used[keep]
    assert found.correlation == pytest.approx(np.corrcoef(s, y)[0, 1], abs=1e-12)
    assert found.slope == pytest.approx(np.polyfit(s, y, 1)[0], abs=1e-10)
    assert found.r2_alone == pytest.approx(least_squares_r2(s[:, None], y), abs=1e-10)
    assert found.r2_fixed == pytest.approx(1 - np.var(y + s) / np.var(y), abs=1e-12)
    assert found.r2_offset == pytest.approx(least_squares_r2(kept, y + s), abs=1e-10)
    assert found.r2_law == pytest.approx(least_squares_r2(kept, y), abs=1e-10)
    assert found.r2_law_bias == pytest.approx(least_squares_r2(kept, y + (offset if with_bias else 0)), abs=1e-10)
    if with_norm and not with_bias:  # beta alone leaves the law's residuals as they are
        x = np.column_stack([kept, np.ones(len(kept))])
        residual = (y + s) - x @ np.linalg.lstsq(x, y + s, rcond=None)[0]
        np.testing.assert_allclose(residual, encoding.residual, atol=1e-9)


def test_a_mask_is_no_static_bias() -> None:
    rng = np.random.default_rng(4)
    mask = torch.zeros(60)
    mask[:9] = -torch.inf
    head = OutputHead(
        columns=torch.from_numpy(rng.normal(size=(5, 60))).float(),
        bias=mask,
        post=Post("mask"),
        vocab_rows=60,
        tied=False,
        module="Linear",
    )
    keep = np.arange(60) >= 9
    encoding = fit_encoding(Design(head.columns, keep), rng.normal(size=51))
    assert static_bias(head, None, keep, encoding) is None
    found = static_bias(head, FinalNorm("norm", rng.normal(size=5)), keep, encoding)
    assert found is not None
    assert not found.head_bias
    assert np.isfinite([found.correlation, found.r2_fixed, found.r2_offset]).all()


def test_it_is_the_logit_of_a_hidden_state_with_nothing_in_it(tiny: Callable[[str], LanguageModel]) -> None:
    model = tiny("gptj")  # a norm's bias and a head bias
    norm = final_norm_bias(model.hf, model.site, model.example_inputs())
    assert norm is not None
    with torch.inference_mode():
        empty = model.hf.transformer.ln_f(torch.zeros(model.head.hidden_size))
        logits = model.hf.get_output_embeddings()(empty).double().numpy()
    ours = [static_bias_of(model.head, norm, token_id) for token_id in range(model.head.vocab_rows)]
    np.testing.assert_allclose(ours, logits[: model.head.vocab_rows], atol=1e-5)
