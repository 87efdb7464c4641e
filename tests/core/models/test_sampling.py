"""Masked and encoder-decoder models: what they are asked, and an analysis against brute force."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.tasks import KINDS, SENTINELS, save_task_model, task_tokenizer
from tests.helpers.tiny_models import VOCAB, random_corpus, text
from tpe_core.analysis import Analysis, analyze
from tpe_core.corpus.corpus import text_source
from tpe_core.corpus.token_ids import special_ends
from tpe_core.detection.reading import corpus_spec
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import ModelError
from tpe_core.models.loading import load_model
from tpe_core.models.sampling import Denoise, MaskedToken, NextToken, Spans, sampling_for
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.session import LiveSession

LENGTH = 40


def corpus(seed: int = 0) -> Any:
    """Blocks without special tokens."""
    some = random_corpus(7, LENGTH + 1, seed, VOCAB - 40).blocks + 40
    return dataclasses.replace(random_corpus(7, LENGTH, seed), blocks=some[:, :-1], targets=some[:, 1:])


def batch_of(sampling: Any, seed: int = 0) -> Any:
    some = corpus(seed)
    return some, sampling.batch(some.blocks, some.targets, some.block_hash)


def test_a_causal_model_is_asked_everywhere() -> None:
    some, asked = batch_of(NextToken(None))
    assert asked.at is None
    np.testing.assert_array_equal(asked.targets, some.targets)
    np.testing.assert_array_equal(asked.inputs["input_ids"].numpy(), some.blocks)


def test_masked_positions_hide_exactly_their_answers() -> None:
    sampling = sampling_for("masked", task_tokenizer("bert"), None)
    assert isinstance(sampling, MaskedToken)
    some, asked = batch_of(sampling)
    ids, at = asked.inputs["input_ids"].numpy(), asked.at.numpy()
    assert asked.targets.shape == (7, sampling.count(LENGTH)) == (7, 6)
    assert ids.shape == (7, LENGTH + 2)
    assert (np.take_along_axis(ids, at, 1) == sampling.mask_id).all()
    restored = ids.copy()
    np.put_along_axis(restored, at, asked.targets, 1)
    np.testing.assert_array_equal(restored[:, 1:-1], some.blocks)
    assert (np.diff(at, axis=1) > 0).all()
    _, again = batch_of(sampling)
    np.testing.assert_array_equal(again.at.numpy(), at)


def test_spans_and_sentinels_put_the_block_together_again() -> None:
    tokenizer = task_tokenizer("t5")
    sampling = sampling_for("seq2seq", tokenizer, 0)
    assert isinstance(sampling, Spans)
    assert len(sampling.sentinels) == SENTINELS
    some, asked = batch_of(sampling)
    for row in range(len(some.blocks)):
        source = asked.inputs["input_ids"][row].tolist()
        said = asked.inputs["decoder_input_ids"][row].tolist()
        assert source[-1] == tokenizer.eos_token_id
        assert said[0] == 0
        answers = dict.fromkeys(asked.at[row].tolist())
        assert len(answers) == sampling.count(LENGTH)
        assert [*said[1:], None][asked.at[row][0]] == asked.targets[row][0]  # at i the decoder is asked for said[i + 1]
        spoken = {at: int(token) for at, token in zip(asked.at[row].tolist(), asked.targets[row], strict=True)}
        missing: dict[int, list[int]] = {}
        for at in range(len(said)):
            if said[at] in sampling.sentinels:
                missing[said[at]] = [spoken[at + step] for step in range(3)]
        restored = []
        for token in source[:-1]:
            restored += missing.get(token, [token])
        assert restored == some.blocks[row].tolist()


def test_a_denoising_decoder_says_the_whole_text() -> None:
    tokenizer = task_tokenizer("bart")
    sampling = sampling_for("seq2seq", tokenizer, tokenizer.eos_token_id)
    assert isinstance(sampling, Denoise)
    some, asked = batch_of(sampling)
    said = asked.inputs["decoder_input_ids"].numpy()
    assert (said[:, 0] == tokenizer.eos_token_id).all()
    assert (said[:, 1] == tokenizer.bos_token_id).all()
    np.testing.assert_array_equal(said[:, 2:], some.blocks[:, :-1])
    np.testing.assert_array_equal(asked.targets, some.blocks)
    source = asked.inputs["input_ids"].numpy()[:, 1:-1]
    masked = source == sampling.mask_id
    assert (masked.sum(1) == 12).all()
    np.testing.assert_array_equal(source[~masked], some.blocks[~masked])


def test_without_mask_or_sentinels_the_second_half_is_said() -> None:
    sampling = sampling_for("seq2seq", task_tokenizer("marian"), 0)
    some, asked = batch_of(sampling)
    np.testing.assert_array_equal(asked.inputs["input_ids"].numpy()[:, :-1], some.blocks[:, :20])
    np.testing.assert_array_equal(asked.inputs["decoder_input_ids"].numpy()[:, 1:], some.blocks[:, 20:-1])
    np.testing.assert_array_equal(asked.targets, some.blocks[:, 20:])


def test_a_masked_model_needs_a_mask_and_a_decoder_a_start() -> None:
    with pytest.raises(ModelError, match="mask token"):
        sampling_for("masked", task_tokenizer("marian"), None)
    with pytest.raises(ModelError, match="decoder_start_token_id"):
        sampling_for("seq2seq", task_tokenizer("t5"), None)


def test_special_ends() -> None:
    assert special_ends(task_tokenizer("t5")) == ((), (1,))
    assert special_ends(task_tokenizer("bart")) == ((task_tokenizer("bart").bos_token_id,), (1,))


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[str, tuple[Analysis, RunOptions]] = {}

    def make(kind: str) -> tuple[Analysis, RunOptions]:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            words = folder / "words.txt"
            words.write_text(text(5, 40000))
            save_task_model(folder / "model", kind)
            options = RunOptions(model=str(folder / "model"), text=(str(words),), positions=2000, cache=False)
            made[kind] = run(analyze(options)), options
        return made[kind]

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_the_analysis_is_brute_force(analysed, kind: str) -> None:
    found, options = analysed(kind)
    model = found.model
    assert model.report.supported
    assert model.report.task == model.task == ("masked" if kind in ("bert", "roberta") else "seq2seq")
    some = run(corpus_spec(text_source(options.text, None), model, options.positions).corpus())
    chances, answers = [], []
    for row in range(len(some.blocks)):
        here = slice(row, row + 1)
        asked = model.sampling.batch(some.blocks[here], some.targets[here], some.block_hash[here])
        p = torch.softmax(model.logits(asked.inputs).double(), -1)
        chances.append(asked.select(p)[0])
        answers.append(asked.targets[0])
    p, ids = torch.cat(chances), np.concatenate(answers)
    assert found.detection.positions == len(p) >= 2000
    alpha = p.mean(0).numpy()
    np.testing.assert_allclose(np.exp(found.detection.log_alpha), alpha, rtol=1e-5)
    np.testing.assert_array_equal(found.detection.counts, np.bincount(ids, minlength=len(alpha)))
    loss = -np.log(p.numpy()[np.arange(len(ids)), ids]).mean()
    assert found.detection.loss == pytest.approx(loss, rel=1e-5)
    # The law, with the bias as offset, by least squares on the model's own weights.
    W = model.hf.get_output_embeddings().weight.detach().double().numpy()
    b = np.zeros(len(W)) if model.head.bias is None else model.head.bias.double().numpy()
    y = -np.log(alpha) + b
    design = np.column_stack([W, np.ones(len(W))])
    slopes, *_ = np.linalg.lstsq(design, y, rcond=None)
    np.testing.assert_allclose(found.encoding.slope, slopes[:-1], rtol=1e-4, atol=1e-4 * np.abs(slopes).max())
    r2 = 1 - np.sum((y - design @ slopes) ** 2) / np.sum((y - y.mean()) ** 2)
    assert found.encoding.r2 == pytest.approx(r2, abs=1e-5)
    assert found.to_dict()["positions"] == len(p)


@pytest.mark.parametrize("kind", KINDS)
def test_the_prompt_is_answered_where_it_asks(analysed, kind: str) -> None:
    session = LiveSession(analysed(kind)[0])
    model, tokenizer = session.analysis.model, session.analysis.model.tokenizer
    assert session.prompt_hint
    base, now = session.probabilities(session.default_prompt, Intervention((3,)))
    assert abs(base - now).max() > 1e-6
    if model.task == "masked":
        ids = tokenizer(f"the value of {tokenizer.mask_token} returns", return_tensors="pt")["input_ids"]
        at = ids[0].tolist().index(tokenizer.mask_token_id)
        wanted = torch.softmax(model.logits(ids)[0, at].double(), -1).numpy()
        prompt = f"the value of {tokenizer.mask_token} returns"
    else:
        source = tokenizer("the value", return_tensors="pt")["input_ids"]
        opening = [model.hf.config.decoder_start_token_id] + ([tokenizer.bos_token_id] if kind == "bart" else [])
        said = tokenizer("returns a list", add_special_tokens=False)["input_ids"]
        decoder = torch.tensor([[*opening, *said]])
        logits = model.logits({"input_ids": source, "decoder_input_ids": decoder})
        wanted = torch.softmax(logits[0, -1].double(), -1).numpy()
        prompt = "the value ||| returns a list"
    found, _ = session.probabilities(prompt, Intervention())
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_prompt_without_a_mask_gets_one_at_its_end(analysed) -> None:
    session = LiveSession(analysed("bert")[0])
    mask = session.analysis.model.tokenizer.mask_token
    plain, _ = session.probabilities("the value", Intervention())
    spelt, _ = session.probabilities(f"the value{mask}", Intervention())
    np.testing.assert_array_equal(plain, spelt)


def test_a_mask_far_from_the_end_is_an_error(analysed) -> None:
    session = LiveSession(analysed("bert")[0])
    mask = session.analysis.model.tokenizer.mask_token
    with pytest.raises(ModelError, match="before its end"):
        session.probabilities(f"{mask} " + "the value " * 200, Intervention())


def test_a_causal_checkpoint_can_be_asked_for_another_task(tmp_path: Path) -> None:
    folder = save_task_model(tmp_path / "bert", "bert")
    assert load_model(RunOptions(model=str(folder))).task == "masked"
    with pytest.raises(ModelError, match="seq2seq"):
        load_model(RunOptions(model=str(folder), task="seq2seq"))
