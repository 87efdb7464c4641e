"""Figures at every position of a prompt, against whole softmaxes of an edited head's weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from tests.helpers.tasks import save_task_model
from tests.helpers.tiny_models import random_corpus
from tpe_core.detection.detection import Detection, detect
from tpe_core.edits import row_costs as rows
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.edits.prompt_reader import PromptReader
from tpe_core.errors import CancelledError, TpeError
from tpe_core.models.loading import load_model
from tpe_core.models.model import LanguageModel
from tpe_core.models.prompt_states import PromptStates, StatesCache
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, attended, run
from tpe_core.session import LiveSession

PROMPT = "Return the value of the array at index three"
EDIT = Intervention((1, 3, 5), "mean", (Steering(17, 4.0, "bias"),))


def softmax_rows(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def brute(model: LanguageModel, ids: list[int], edit: Intervention, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(p, p') [n, V_all] by the model's own forward, and by W with columns of zeros on h with replaced entries."""
    with torch.inference_mode():
        hidden = model.hidden(torch.tensor([ids]))[0].double().numpy()
        own = model.logits(torch.tensor([ids]))[0].double().numpy()
    weight = model.head.columns.double().numpy().T
    bias = 0.0 if model.head.bias is None else model.head.bias.double().numpy()
    dims = list(edit.pruned)
    kept = weight.copy()
    kept[:, dims] = 0
    logits = hidden @ kept.T + weight[:, dims] @ mean[dims] + bias
    for entry in edit.steering:
        logits[:, entry.token_id] += math.log(entry.ratio)
    return softmax_rows(own), softmax_rows(logits)


def test_every_position_is_the_softmax_of_edited_weights(session: LiveSession) -> None:
    model, mean = session.analysis.model, session.analysis.detection.mean_hidden
    ids = model.sampling.prompt(PROMPT, model.context)[0]["input_ids"][0].tolist()
    p, q = brute(model, ids, EDIT, mean)
    found = session.positions(PROMPT, EDIT)
    assert found.ids.tolist() == ids
    assert found.texts == tuple(session.table.tokens[each] for each in ids)
    assert (found.asked, found.is_next, found.truncated) == (len(ids) - 1, True, 0)
    np.testing.assert_allclose(found.kl, (p * np.log(p / q)).sum(1), atol=1e-6)
    assert (found.kl > 1e-4).all()
    assert math.isnan(found.surprisal_base[0])
    assert math.isnan(found.surprisal_now[0])
    for figures, side in ((found.surprisal_base, p), (found.surprisal_now, q)):
        expected = [-math.log(side[at - 1, token]) for at, token in enumerate(ids) if at]
        np.testing.assert_allclose(figures[1:], expected, atol=1e-6)
    vocab = model.head.vocab_rows
    assert found.top1_base.tolist() == p[:, :vocab].argmax(1).tolist()
    assert found.top1_now.tolist() == q[:, :vocab].argmax(1).tolist()
    assert found.top1_changed.tolist() == (p.argmax(1) != q.argmax(1)).tolist()


def test_the_distribution_at_a_position_is_that_after_the_tokens_up_to_it(session: LiveSession) -> None:
    found = session.positions(PROMPT, EDIT)
    mean = session.analysis.detection.mean_hidden
    for at in range(len(found.ids)):
        p, q = brute(session.analysis.model, found.ids[: at + 1].tolist(), EDIT, mean)
        answer = session.evaluate(PROMPT, EDIT, position=at)
        assert (answer.position, answer.prompt_tokens) == (at, len(found.ids))
        np.testing.assert_allclose(answer.base, p[-1][answer.ids], atol=1e-6)
        np.testing.assert_allclose(answer.now, q[-1][answer.ids], atol=1e-6)
        assert answer.kl == pytest.approx(found.kl[at], abs=1e-6)
        assert answer.top1_changed == found.top1_changed[at]
        detail = session.token(17, PROMPT, EDIT, at)
        assert (detail.base, detail.now) == pytest.approx((p[-1][17], q[-1][17]), abs=1e-6)


def test_without_a_position_the_prompt_is_asked_at_its_end(session: LiveSession) -> None:
    last = len(session.positions(PROMPT, EDIT).ids) - 1
    there, default = session.evaluate(PROMPT, EDIT, position=last), session.evaluate(PROMPT, EDIT)
    assert default.position is None
    assert default.kl == there.kl
    np.testing.assert_array_equal(default.now, there.now)


def test_a_position_that_is_not_there_is_a_sentence(session: LiveSession) -> None:
    last = len(session.positions(PROMPT, EDIT).ids) - 1
    for position in (-1, last + 1):
        with pytest.raises(TpeError, match=f"positions 0 to {last}, not {position}: choose"):
            session.evaluate(PROMPT, EDIT, position=position)


def test_no_edit_costs_nothing_anywhere(session: LiveSession) -> None:
    found = session.positions(PROMPT, Intervention())
    assert found.kl.tolist() == [0.0] * len(found.ids)
    np.testing.assert_array_equal(found.surprisal_base, found.surprisal_now)
    assert not found.top1_changed.any()


@pytest.mark.parametrize("kept", [0, 10**9], ids=["made anew", "kept"])
def test_blocks_of_any_size_give_the_same_figures(
    session: LiveSession, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    whole = session.positions(PROMPT, EDIT)
    monkeypatch.setattr(rows, "BLOCK_BYTES", 4 * session.analysis.model.head.total_rows * 2)
    monkeypatch.setattr(rows, "KEPT_BYTES", kept)
    fresh = LiveSession(session.analysis, session.options)
    for _ in range(2):
        parts = fresh.positions(PROMPT, EDIT)
        np.testing.assert_allclose(parts.kl, whole.kl, atol=1e-7)
        np.testing.assert_allclose(parts.surprisal_now[1:], whole.surprisal_now[1:], atol=1e-6)


def test_the_model_runs_once_and_the_head_once_an_edit(session: LiveSession, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, products = [], []
    hidden, raw = LanguageModel.hidden, type(session.analysis.model.head).raw
    monkeypatch.setattr(LanguageModel, "hidden", lambda self, inputs: runs.append(1) or hidden(self, inputs))
    monkeypatch.setattr(
        type(session.analysis.model.head), "raw", lambda self, h, out=None: products.append(len(h)) or raw(self, h, out)
    )
    fresh = LiveSession(session.analysis, session.options)
    n = len(fresh.positions(PROMPT, EDIT).ids)
    products.clear()
    for dims in ((1,), (1, 2), (1, 2, 3)):
        fresh.positions(PROMPT, EDIT.only(dims))
    assert products == [n, n, n]
    fresh.evaluate(PROMPT, EDIT, position=0)
    fresh.evaluate(PROMPT, EDIT)
    assert runs == [1]


def test_it_can_be_ended_between_positions_and_says_how_far_it_is(session: LiveSession) -> None:
    told: list[Progress] = []

    def attend(progress: Progress | None) -> None:
        if progress is not None and progress.label == "figures of the prompt":
            told.append(progress)
            if progress.done == 3:
                raise CancelledError("enough")

    with attended(attend), pytest.raises(CancelledError):
        session.positions(PROMPT, EDIT)
    n = len(session.positions(PROMPT, EDIT).ids)
    assert [(event.done, event.total) for event in told] == [(done, n) for done in range(4)]


def test_padding_rows_and_a_cap_are_the_models_own(tiny: Any) -> None:
    """The softmax runs over padding rows, which no table shows; a capped head's logits are capped."""
    for kind in ("neox", "gemma2"):
        model = tiny(kind)
        detection = run(detect(model, random_corpus(4, 32, seed=1)))
        reader, basis = PromptReader(model, [""] * model.head.vocab_rows), statistics(model, detection)
        found = reader.positions(PROMPT, Intervention(), basis)
        with torch.inference_mode():
            own = model.logits(torch.tensor([found.ids.tolist()]))[0].double()
        expected = -own.log_softmax(-1)[torch.arange(len(found.ids) - 1), torch.from_numpy(found.ids[1:])]
        np.testing.assert_allclose(found.surprisal_base[1:], expected.numpy(), atol=2e-6)
        assert found.top1_base.max() < model.head.vocab_rows


def statistics(model: LanguageModel, detection: Detection | None = None) -> EditStatistics:
    width = model.head.hidden_size
    return EditStatistics(slope=np.zeros(width), detection=cast("Detection", detection), mean_hidden=np.zeros(width))


def test_a_masked_model_predicts_every_token_in_its_place(tmp_path: Path) -> None:
    model = load_model(RunOptions(model=str(save_task_model(tmp_path, "bert"))))
    mask = model.tokenizer.mask_token
    prompt = f"Return the {mask} of the array"
    found = PromptReader(model, [""] * model.head.vocab_rows).positions(prompt, Intervention((1, 2)), statistics(model))
    inputs = model.sampling.prompt(prompt, model.context)[0]
    with torch.inference_mode():
        own = model.logits(inputs)[0].double().log_softmax(-1)
    ids = inputs["input_ids"][0].tolist()
    assert (found.ids.tolist(), found.is_next, found.asked) == (ids, False, ids.index(model.tokenizer.mask_token_id))
    for at, token in enumerate(ids):
        if at == found.asked:
            assert math.isnan(found.surprisal_base[at]), "what the mask hides is not known"
        else:
            assert found.surprisal_base[at] == pytest.approx(-float(own[at, token]), abs=2e-6)


def test_of_an_encoder_decoder_model_the_decoders_tokens_are_the_positions(tmp_path: Path) -> None:
    model = load_model(RunOptions(model=str(save_task_model(tmp_path, "marian"))))
    prompt = "Return the value of ||| the array at index"
    found = PromptReader(model, [""] * model.head.vocab_rows).positions(prompt, Intervention(), statistics(model))
    inputs = model.sampling.prompt(prompt, model.context)[0]
    with torch.inference_mode():
        own = model.logits(inputs)[0].double().log_softmax(-1)
    ids = inputs["decoder_input_ids"][0].tolist()
    assert (found.ids.tolist(), found.is_next, found.asked) == (ids, True, len(ids) - 1)
    expected = [-float(own[at - 1, token]) for at, token in enumerate(ids) if at]
    np.testing.assert_allclose(found.surprisal_base[1:], expected, atol=2e-6)


def test_hidden_states_are_kept_within_a_bound() -> None:
    read = []

    def reading(prompt: str) -> PromptStates:
        read.append(prompt)
        return PromptStates(hidden=torch.zeros(4, 2), ids=(1, 2, 3, 4), asked=3, used=4, dropped=0, is_next=True)

    cache = StatesCache(reading, limit=64)
    for prompt in "abaca":
        cache(prompt)
        assert cache.bytes <= 64
    assert read == ["a", "b", "c"]
    cache("b")
    assert read == ["a", "b", "c", "b"], "the one used longest ago went"
    longest = StatesCache(reading, limit=0)
    assert longest("a") is longest("a"), "the last one stays whatever it takes"


def test_several_prompts_have_the_figures_that_each_has_alone(
    session: LiveSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [PROMPT, "Return the value", "", "of the index"]
    mean, model = session.analysis.detection.mean_hidden, session.analysis.model
    runs: list[int] = []
    hidden = LanguageModel.hidden
    monkeypatch.setattr(LanguageModel, "hidden", lambda self, inputs: runs.append(1) or hidden(self, inputs))
    fresh = LiveSession(session.analysis, session.options)
    for edit in (EDIT, EDIT.only((2, 4)), Intervention()):
        costs = fresh.compare_prompts(prompts, edit)
        assert len(runs) == len(prompts), "the model reads each once"
        for prompt, cost in zip(prompts, costs, strict=True):
            assert (cost.prompt, cost.intervention, cost.problem) == (prompt, edit, "")
            ids = model.sampling.prompt(prompt, model.context)[0]["input_ids"][0].tolist()
            with monkeypatch.context() as plain:
                plain.setattr(LanguageModel, "hidden", hidden)
                p, q = brute(model, ids, edit, mean)
            assert cost.tokens == len(ids)
            assert cost.kl == pytest.approx(float((p[-1] * np.log(p[-1] / q[-1])).sum()), abs=1e-6)
            assert (cost.top1_base, cost.top1_now) == (int(p[-1].argmax()), int(q[-1].argmax()))
            assert cost.top1_changed == (p[-1].argmax() != q[-1].argmax())


def test_a_prompt_that_cannot_be_asked_has_a_sentence_among_the_others(
    session: LiveSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh, last_hidden = LiveSession(session.analysis, session.options), LanguageModel.last_hidden

    def fails(self: LanguageModel, prompt: str) -> Any:
        if prompt == "odd":
            raise TpeError("this prompt is odd: type another.")
        return last_hidden(self, prompt)

    monkeypatch.setattr(LanguageModel, "last_hidden", fails)
    odd, fine = fresh.compare_prompts(["odd", PROMPT], EDIT)
    assert odd.problem == "this prompt is odd: type another."
    assert fine.kl == pytest.approx(session.evaluate(PROMPT, EDIT).kl, abs=1e-6)
    assert fresh.compare_prompts([], EDIT) == ()
