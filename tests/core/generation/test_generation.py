"""Generation against transformers' own, its shared noise, and reports on edits whose effect is known."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from tests.helpers.continuations import greedy_by_transformers, mamba, opened
from tests.helpers.heads import build
from tests.helpers.tiny_models import CONTEXT, VOCAB, WIDTH, random_corpus, text, tiny_config
from tpe_core.corpus.corpus import text_source
from tpe_core.detection.detection import detect
from tpe_core.detection.reading import corpus_spec
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.encoding.design import Design
from tpe_core.encoding.encoding import fit_encoding
from tpe_core.errors import CorpusError, ModelError, NumericalError, TpeError
from tpe_core.generation import generation as engine
from tpe_core.generation.generation import (
    Decoding,
    Generation,
    choose,
    continuations,
    end_ids,
    generate,
    gumbel,
    heldout_prompts,
    text_prompts,
)
from tpe_core.generation.mauve import mauve
from tpe_core.generation.quality import baseline, features, quality, quality_of
from tpe_core.models.model import LanguageModel
from tpe_core.progress import run

NOTHING = Intervention()
GREEDY = Decoding(length=20, temperature=0)


def prompts(count: int = 4, tokens: int = 8, seed: int = 0) -> list[list[int]]:
    found: list[list[int]] = np.random.default_rng(seed).integers(1, VOCAB, size=(count, tokens)).tolist()
    return found


@pytest.fixture(scope="module")
def basis_of() -> Callable[[LanguageModel], EditStatistics]:
    def make(model: LanguageModel) -> EditStatistics:
        detection = run(detect(model, random_corpus(12, 40)))
        vocab = model.head.vocab_rows
        encoding = fit_encoding(Design(model.head.columns[:, :vocab]), -detection.log_alpha[:vocab])
        return EditStatistics.of(encoding.slope, detection)

    return make


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gptj", "neox", "granite"])
def test_greedy_is_that_of_transformers(tiny, kind: str) -> None:
    model = tiny(kind)
    asked = [*prompts(3), *prompts(2, tokens=3)]
    found = run(generate(model, NOTHING, None, asked, GREEDY))
    assert found.cached
    assert found.tokens == greedy_by_transformers(model.hf, asked)
    assert len({token for said in found.tokens for token in said}) > 3


@pytest.mark.parametrize("kind", ["softcap", "mask"])
def test_greedy_under_a_soft_cap_and_with_tokens_never_predicted(kind: str) -> None:
    model = opened(build(kind))
    assert model.report.post.kind == kind
    found = run(generate(model, NOTHING, None, prompts(), GREEDY))
    assert found.cached
    assert found.tokens == greedy_by_transformers(model.hf, prompts())


EDITS = [
    Intervention(tuple(range(0, WIDTH, 3)), "zero"),
    Intervention((1, 4, 5, 11), "mean", (Steering(7, 30.0, "min-norm"), Steering(200, 4.0, "bias"))),
    Intervention((), "zero", (Steering(31, 300.0, "least-squares"),)),
]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("edit", EDITS)
def test_greedy_of_an_edit_is_that_of_edited_weights(tiny, basis_of, kind: str, edit: Intervention) -> None:
    model = tiny(kind)
    basis = basis_of(model)
    W, b = model.hf.get_output_embeddings().weight.detach().clone(), torch.zeros(VOCAB)
    for entry in edit.steering:
        direction = basis.direction(entry.method, edit.pruned)
        if direction is None:
            b[entry.token_id] += math.log(entry.ratio)
        else:
            W[entry.token_id] += torch.from_numpy(math.log(entry.ratio) * direction).float()
    dims = list(edit.pruned)
    if edit.replacement == "mean":
        b += W[:, dims] @ torch.from_numpy(basis.mean_hidden[dims]).float()
    W[:, dims] = 0
    hf = copy.deepcopy(model.hf)
    new = torch.nn.Linear(WIDTH, VOCAB)
    with torch.no_grad():
        new.weight.copy_(W)
        new.bias.copy_(b)
    hf.set_output_embeddings(new)
    found = run(generate(model, edit, basis, prompts(), GREEDY))
    assert found.tokens == greedy_by_transformers(hf, prompts())
    assert found.tokens != run(generate(model, NOTHING, None, prompts(), GREEDY)).tokens


def test_an_edit_that_changes_nothing_says_the_same_for_200_tokens(basis_of) -> None:
    config = GPT2Config(vocab_size=VOCAB, n_positions=256, n_embd=WIDTH, n_layer=2, n_head=2, eos_token_id=0)
    model = opened(GPT2LMHeadModel(config), 256)
    nothing = Intervention(steering=(Steering(9, 1.0, "bias"),))  # adds log 1, by the edited head's whole way
    drawn = Decoding(length=200, seed=3, stop=False)
    base = run(generate(model, NOTHING, None, prompts(3), drawn))
    edited = run(generate(model, nothing, basis_of(model), prompts(3), drawn))
    assert base.tokens == edited.tokens
    assert {len(said) for said in base.tokens} == {200}
    assert min(len(set(said)) for said in base.tokens) > 20


def test_seeds_prompts_and_batches(tiny) -> None:
    model = tiny("llama")
    asked = [*prompts(3), *prompts(2, tokens=3), prompts(1)[0]]
    drawn = Decoding(length=15, seed=5, stop=False)
    first = run(generate(model, NOTHING, None, asked, drawn))
    assert run(generate(model, NOTHING, None, asked, drawn)) == first
    assert run(generate(model, NOTHING, None, asked, drawn, batch=1)).tokens == first.tokens
    assert run(generate(model, NOTHING, None, asked[:2], drawn)).tokens == first.tokens[:2]
    other = run(generate(model, NOTHING, None, asked, replace(drawn, seed=6)))
    assert all(ours != theirs for ours, theirs in zip(first.tokens, other.tokens, strict=True))
    assert asked[0] == asked[5]
    assert first.tokens[0] != first.tokens[5]  # the same prompt again is another sample
    assert first.prompts[3] == tuple(asked[3])


def test_noise_is_gumbel_and_its_own_for_every_choice() -> None:
    noise = gumbel(0, 0, 0, 200_000)
    assert np.array_equal(noise, gumbel(0, 0, 0, 200_000))
    assert noise.mean() == pytest.approx(np.euler_gamma, abs=0.01)
    assert noise.var() == pytest.approx(math.pi**2 / 6, rel=0.02)
    for other in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        assert abs(np.corrcoef(noise, gumbel(*other, 200_000))[0, 1]) < 0.01


@pytest.mark.parametrize(
    ("temperature", "top_p", "kept"), [(1.0, 1.0, 5), (0.5, 1.0, 5), (2.0, 1.0, 5), (1.0, 0.79, 2), (1.0, 0.81, 3)]
)
def test_samples_are_those_of_the_softmax(temperature: float, top_p: float, kept: int) -> None:
    p = torch.tensor([0.1, 0.5, 0.04, 0.3, 0.06], dtype=torch.float64)
    count = 20_000
    noise = torch.from_numpy(np.stack([gumbel(1, row, 0, 5) for row in range(count)]))
    chosen = choose(p.log().float().expand(count, 5), noise, temperature, top_p)
    wanted = p ** (1 / temperature)
    wanted[torch.argsort(wanted, descending=True)[kept:]] = 0
    counts = torch.bincount(chosen, minlength=5).numpy()
    among = wanted.numpy() > 0
    assert counts[~among].sum() == 0
    expected = (wanted / wanted.sum()).numpy()[among] * count
    assert chisquare(counts[among], expected * (count / expected.sum())).pvalue > 1e-3


def test_little_freedom_is_greedy(tiny) -> None:
    model = tiny("gpt2")
    greedy = run(generate(model, NOTHING, None, prompts(), GREEDY))
    for drawn in (Decoding(20, top_p=1e-9), Decoding(20, temperature=1e-6)):
        assert run(generate(model, NOTHING, None, prompts(), drawn)).tokens == greedy.tokens


def test_end_tokens_end_a_sample(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("gpt2")
    assert end_ids(model) == {0}
    whole = run(generate(model, NOTHING, None, prompts(), Decoding(30, stop=False)))
    assert not any(whole.ended)
    stops = [whole.tokens[0][4], whole.tokens[1][9]]
    monkeypatch.setattr(model.hf.generation_config, "eos_token_id", stops)
    cut = run(generate(model, NOTHING, None, prompts(), Decoding(30)))
    for said, full, ended in zip(cut.tokens, whole.tokens, cut.ended, strict=True):
        at = next((at for at, token in enumerate(full) if token in stops), len(full))
        assert said == full[: at + 1]
        assert ended == (at < len(full))
    assert cut.ended[:2] == (True, True)
    assert len(cut.texts(model.tokenizer)) == 4
    monkeypatch.setattr(model.hf.generation_config, "eos_token_id", None)
    assert end_ids(model) == {model.tokenizer.eos_token_id}


class Forgetful(LlamaForCausalLM):
    """Takes a cache and reads nothing from it."""

    def forward(self, *args: Any, past_key_values: Any = None, **kwargs: Any) -> Any:
        return super().forward(*args, **kwargs)


@pytest.mark.parametrize("make", [mamba, lambda: Forgetful(tiny_config("llama"))])
def test_models_without_a_cache_that_works_are_read_anew(make: Callable[[], Any]) -> None:
    model = opened(make())
    found = run(generate(model, NOTHING, None, prompts(2), GREEDY))
    assert not found.cached
    for prompt, said in zip(found.prompts, found.tokens, strict=True):
        logits = model.logits(torch.tensor([prompt + said]))[0]
        assert tuple(logits[len(prompt) - 1 : -1].argmax(-1).tolist()) == said


def test_the_cache_changes_nothing(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model, drawn = tiny("gptj"), Decoding(20)
    cached = run(generate(model, NOTHING, None, prompts(), drawn))
    monkeypatch.setattr(engine, "cache_works", lambda model: False)
    assert replace(run(generate(model, NOTHING, None, prompts(), drawn)), cached=True) == cached


def test_cancelling_stops_within_a_step(tiny) -> None:
    model, forwards = tiny("llama"), []
    handle = model.hf.model.register_forward_hook(lambda *_: forwards.append(1))
    try:
        steps = generate(model, NOTHING, None, prompts(), Decoding(20, stop=False), batch=2)
        assert next(steps).fraction == 0
        before = len(forwards)  # the cache's check
        for done in range(1, 6):
            assert next(steps).done == 2 * done
            assert len(forwards) == before + done
            assert not torch.is_inference_mode_enabled()
        steps.close()
        assert len(forwards) == before + 5
    finally:
        handle.remove()
    assert not model.site.module._forward_pre_hooks
    events: list[float] = []
    run(generate(model, NOTHING, None, prompts(), Decoding(20, stop=False), batch=2), lambda at: events.append(at.done))
    assert events == [*range(0, 80, 2), 80]


def test_heldout_prompts_begin_blocks_that_detection_never_sees(tiny, tmp_path: Path) -> None:
    model, path = tiny("gpt2"), tmp_path / "text.txt"
    path.write_text(text(5))
    source = text_source([str(path)])
    found = run(heldout_prompts(model, source, 5, 12))
    seen = {tuple(row[:12]) for row in run(corpus_spec(source, model, 10**6).corpus()).blocks.tolist()}
    assert [len(prompt) for prompt in found] == [12] * 5
    assert not set(found) & seen
    assert len(run(heldout_prompts(model, source, 10**6, 1))) > 5
    for count, tokens in ((0, 5), (1, 0), (1, CONTEXT + 1)):
        with pytest.raises(TpeError, match=f"{count} prompts of {tokens} tokens"):
            run(heldout_prompts(model, source, count, tokens))
    path.write_text("too short")
    with pytest.raises(CorpusError, match="give more text"):
        run(heldout_prompts(model, source, 5, 12))


def test_prompts_of_ones_own(tiny) -> None:
    model = tiny("gpt2")
    assert text_prompts(model, ["the value", ""]) == (tuple(model.tokenizer("the value")["input_ids"]), (0,))


def test_bad_input_is_one_sentence(tiny) -> None:
    model = tiny("gpt2")
    for settings, said in (
        ({"length": 0}, "not 0"),
        ({"seed": -1}, "not -1"),
        ({"temperature": -0.5}, "not -0.5"),
        ({"temperature": math.nan}, "not nan"),
        ({"top_p": 0}, "not 0"),
        ({"top_p": 1.5}, "not 1.5"),
    ):
        with pytest.raises(TpeError, match=said):
            Decoding(**settings)
    for asked, said in (
        ([], "or there is none"),
        ([[1], []], "prompt is empty"),
        ([[VOCAB]], rf"\(id {VOCAB}\) has no row in the input embedding"),
        ([[1] * 60], "5 tokens after a prompt of 60 do not fit this model's 64 positions"),
    ):
        with pytest.raises(TpeError, match=said):
            run(generate(model, NOTHING, None, asked, Decoding(5)))
    with pytest.raises(TpeError, match="give its EditStatistics"):
        run(generate(model, Intervention((1,)), None, prompts(), GREEDY))
    with pytest.raises(TpeError, match="dimension 16 does not exist"):
        run(generate(model, Intervention((WIDTH,)), None, prompts(), GREEDY))
    for bad in (math.nan, math.inf):
        with pytest.raises(NumericalError, match="NaN or infinity"):
            run(continuations(model, lambda h, bad=bad: model.head.logits(h) + bad, prompts(), GREEDY))
    for task, said in (("masked", "is a masked model"), ("seq2seq", "is an encoder-decoder model")):
        with pytest.raises(ModelError, match=said):
            run(generate(replace(model, task=task), NOTHING, None, prompts(), GREEDY))
        with pytest.raises(ModelError, match=said):
            text_prompts(replace(model, task=task), ["a"])


def test_no_edit_reaches_the_ceiling(tiny) -> None:
    found = run(quality(tiny("gpt2"), NOTHING, None, prompts(40), Decoding(12)))
    assert found.mauve == found.ceiling
    assert found.base == found.edited
    assert (found.identical, found.agreement, found.other_seed) == (1, 1, 1)
    assert 0 < found.ceiling.value < 1


def test_what_an_edit_does_is_seen(tiny, basis_of) -> None:
    model = tiny("gpt2")
    against = run(baseline(model, prompts(60), Decoding(12, seed=4), other_seed=9))
    stuck = Intervention(steering=(Steering(33, 1e9, "bias"),))
    found = run(quality_of(model, engine.logits_under(model, stuck, basis_of(model)), against))
    assert found.edited.distinct == (1 / 720, 1 / 660, 1 / 600, 1 / 540)
    assert found.edited.repetition == tuple(pytest.approx(1 - 1 / (13 - n)) for n in (1, 2, 3, 4))
    assert found.edited.ended == 0
    assert found.mauve.value < 0.5 * found.ceiling.value
    assert found.identical == 0
    assert found.agreement < 0.1
    ended = Intervention(steering=(Steering(0, 1e9, "bias"),))
    short = run(quality_of(model, engine.logits_under(model, ended, basis_of(model)), against))
    assert (short.edited.mean_length, short.edited.ended) == (1, 1)
    assert short.edited.distinct[1] is None
    document = json.loads(json.dumps(short.to_dict()))
    assert (document["seed"], document["other_seed"], document["length"]) == (4, 9, 12)
    assert document["edited"]["distinct"] == [1 / 60, None, None, None]
    assert document["mauve"]["value"] < document["ceiling"]["value"]


@pytest.mark.parametrize("feature", ["mean", "last"])
def test_features_are_the_unedited_models_own(tiny, feature: Any) -> None:
    model = tiny("llama")
    said = ((5, 6, 7), (8,), (9, 10, 11))
    made = Generation(
        prompts=tuple(map(tuple, prompts(3))), tokens=said, ended=(False,) * 3, decoding=Decoding(3), cached=True
    )
    found = run(features(model, made, feature))
    for row, (prompt, tokens) in enumerate(zip(made.prompts, said, strict=True)):
        h = model.hidden(torch.tensor([prompt + tokens]))[0, len(prompt) :]
        wanted = h.mean(0) if feature == "mean" else h[-1]
        np.testing.assert_allclose(found[row], wanted.numpy(), atol=1e-5)


def test_a_report_from_its_parts_and_other_features(tiny) -> None:
    model = tiny("llama")
    against = run(baseline(model, prompts(30), Decoding(8), feature="last"))
    of_base = run(features(model, against.base, "last"))
    assert against.other.decoding.seed == against.base.decoding.seed + 1
    assert against.ceiling == mauve(run(features(model, against.other, "last")), of_base)


def test_reports_that_cannot_be(tiny) -> None:
    model = tiny("gpt2")
    with pytest.raises(TpeError, match="temperature 0"):
        run(quality(model, NOTHING, None, prompts(), GREEDY))
    with pytest.raises(TpeError, match="both are 3"):
        run(quality(model, NOTHING, None, prompts(), Decoding(5, seed=3), other_seed=3))
    with pytest.raises(TpeError, match="unknown feature 'middle'"):
        run(quality(model, NOTHING, None, prompts(), Decoding(5), feature="middle"))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="masked"):
        run(quality(replace(model, task="masked"), NOTHING, None, prompts()))
