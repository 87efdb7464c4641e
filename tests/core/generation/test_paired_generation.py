"""A pair against transformers' own text, against every step computed anew, and under toggles from another thread."""

from __future__ import annotations

import itertools
import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tests.helpers.continuations import greedy_by_transformers, mamba, opened
from tests.helpers.heads import build
from tests.helpers.tiny_models import VOCAB, WIDTH, random_corpus, tiny_tokenizer
from tpe_core.corpus.pieces import Pieces
from tpe_core.detection.detection import detect
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.edited_head import edited_logits
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.encoding.design import Design
from tpe_core.encoding.encoding import fit_encoding
from tpe_core.errors import ModelError, NumericalError, TpeError
from tpe_core.generation.decoding import Decoding
from tpe_core.generation.generation import choose, gumbel, text_prompts
from tpe_core.generation.paired import Continuation, Controls, Mailbox, PairedGeneration, PairRequest, save_pair
from tpe_core.generation.paired_generation import fitting, numbered, pair_texts
from tpe_core.hooks import apply
from tpe_core.models.model import LanguageModel
from tpe_core.progress import run

PROMPT = "the value of a list"
NOTHING = Intervention()
MASK = Intervention(tuple(range(0, WIDTH, 3)), "zero")
EDITS = [
    MASK,
    Intervention((1, 4, 5, 11), "mean", (Steering(7, 30.0, "min-norm"), Steering(200, 4.0, "bias"))),
    Intervention((2, 3, 9), "least-squares", (Steering(31, 300.0, "least-squares"),)),
]


def basis_of(model: LanguageModel) -> EditStatistics:
    detection = run(detect(model, random_corpus(12, 40)))
    design = Design(model.head.columns[:, : model.head.vocab_rows])
    encoding = fit_encoding(design, -detection.log_alpha[: model.head.vocab_rows])
    return EditStatistics.of(encoding.slope, detection)


def ids_of(side: Continuation) -> tuple[int, ...]:
    return tuple(said.token_id for said in side.tokens)


def zeroed(model: LanguageModel, dims: tuple[int, ...] = ()) -> ResolvedEdit:
    return ResolvedEdit(
        intervention=Intervention(dims), hidden_size=model.head.hidden_size, constant=np.zeros(len(dims))
    )


def long(length: int = 256) -> LanguageModel:
    """A model with room for a long text."""
    config = GPT2Config(vocab_size=VOCAB, n_positions=length, n_embd=WIDTH, n_layer=2, n_head=2, eos_token_id=0)
    return opened(GPT2LMHeadModel(config), length)


def check_every_step(model: LanguageModel, basis: EditStatistics, pair: PairedGeneration) -> None:
    """Every token and figure of a pair, from whole forwards over the text before it and the definition of the edit."""
    drawn, edits, head = pair.decoding, dict(pair.edits), model.head
    in_force = NOTHING
    for side, edited in ((pair.base, False), (pair.edited, True)):
        said = ids_of(side)
        hidden = model.hidden(torch.tensor([[*pair.prompt_ids, *said]]))[0, len(pair.prompt_ids) - 1 :]
        for step, token in enumerate(side.tokens):
            in_force = edits.get(step, in_force) if edited else NOTHING
            base = head.logits(hidden[step])
            now = base if in_force.is_empty else edited_logits(head, in_force, basis, hidden[step])
            noise = torch.from_numpy(gumbel(drawn.seed, 0, step, len(base)))[None]
            at = noise if drawn.temperature else None
            assert int(choose(now[None], at, drawn.temperature or 1, drawn.top_p, drawn.top_k)) == token.token_id
            log_p, log_q = (torch.log_softmax(z.double(), -1) for z in (base, now))
            assert token.p == pytest.approx(float(log_q[token.token_id].exp()), rel=1e-3)
            assert token.p_base == pytest.approx(float(log_p[token.token_id].exp()), rel=1e-3)
            kl = float(torch.nan_to_num(log_p.exp() * (log_p - log_q)).sum())  # never-predicted tokens: 0 * nan
            assert token.kl == pytest.approx(kl, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gptj", "neox", "granite", "softcap", "mask", "mamba"])
def test_the_base_is_transformers_own_greedy_text(tiny, kind: str) -> None:
    makers: dict[str, Callable[[], Any]] = {"softcap": lambda: build("softcap"), "mask": lambda: build("mask")}
    model = opened((makers | {"mamba": mamba})[kind]()) if kind in (*makers, "mamba") else tiny(kind)
    edit = zeroed(model, MASK.pruned)
    pair = run(pair_texts(model, PairRequest(PROMPT, Decoding(20, temperature=0)), lambda: edit))
    assert (ids_of(pair.base),) == greedy_by_transformers(model.hf, [list(pair.prompt_ids)])
    with apply(model, edit):
        assert (ids_of(pair.edited),) == greedy_by_transformers(model.hf, [list(pair.prompt_ids)])
    if kind != "softcap":  # a cap so low that pruning does not change which token is first
        assert pair.first_difference is not None


@pytest.mark.parametrize(
    ("kind", "edit", "decoding"),
    [
        ("gpt2", EDITS[0], Decoding(16, seed=3)),
        ("gpt2", EDITS[1], Decoding(16, seed=4, temperature=0.7, top_p=0.9)),
        ("gpt2", EDITS[2], Decoding(16, seed=5, temperature=1.3, top_k=7)),
        ("gpt2", EDITS[1], Decoding(16, temperature=0)),
        ("gemma2", EDITS[2], Decoding(16, seed=6)),
    ],
)
def test_every_step_is_the_definitions(tiny, kind: str, edit: Intervention, decoding: Decoding) -> None:
    model = tiny(kind)
    basis = basis_of(model)
    pair = run(pair_texts(model, PairRequest(PROMPT, decoding), numbered(lambda: edit, lambda _: basis)))
    check_every_step(model, basis, pair)
    assert pair.edits == ((0, edit),)


def test_without_an_edit_both_say_the_same_200_tokens() -> None:
    model = long()
    request = PairRequest(PROMPT, Decoding(200, seed=3, stop=False))
    pair = run(pair_texts(model, request, lambda: zeroed(model)))
    assert pair.base == pair.edited
    assert pair.first_difference is None
    assert len(pair.base.tokens) == 200
    assert len(set(ids_of(pair.base))) > 20
    one = Intervention(steering=(Steering(9, 1.0, "bias"),))  # adds log 1, by the edited head's whole way
    same = run(
        pair_texts(
            model,
            request,
            lambda: ResolvedEdit(intervention=one, hidden_size=WIDTH, constant=np.zeros(0), biases={9: 0.0}),
        )
    )
    assert ids_of(same.edited) == ids_of(pair.base)
    assert same.mean_kl == pytest.approx(0, abs=1e-9)


def test_the_first_difference_is_the_edits_and_the_base_never_depends_on_it() -> None:
    model = long()
    basis, request = basis_of(model), PairRequest(PROMPT, Decoding(60, seed=1, stop=False))
    alone = run(pair_texts(model, request, lambda: zeroed(model)))
    found = []
    for dims in ((2,), (0, 5), tuple(range(8))):
        pair = run(pair_texts(model, request, lambda dims=dims: zeroed(model, dims)))
        assert pair.base == alone.base
        at = pair.first_difference
        assert at is not None
        assert ids_of(pair.edited)[:at] == ids_of(alone.base)[:at]
        assert ids_of(pair.edited)[at] != ids_of(alone.base)[at]
        check_every_step(model, basis, pair)
        assert pair.to_dict()["first_difference"] == at
        found.append(at)
    assert max(found) > 3, "they agree for a while, else nothing was shared"


def test_one_body_serves_both_until_they_part() -> None:
    model, lengths = long(), []
    handle = model.hf.transformer.register_forward_pre_hook(lambda _, args: lengths.append(args[0].shape[1]))
    try:
        request = PairRequest(PROMPT, Decoding(40, seed=1, stop=False))
        steps = pair_texts(model, request, lambda: zeroed(model, (2,)))
        next(steps)
        lengths.clear()  # the cache's check
        pair = run(steps)
    finally:
        handle.remove()
    at = pair.first_difference
    assert at is not None
    assert lengths == [len(pair.prompt_ids)] + [1] * at + [1, 1] * (39 - at)


def test_toggles_of_another_thread_change_what_follows_and_never_the_past() -> None:
    model = long(1024)
    basis, mailbox, stopping = basis_of(model), Mailbox(), threading.Event()
    rng = np.random.default_rng(0)

    def toggle() -> None:
        edit = NOTHING
        for _ in range(200):
            edit = edit.toggle([int(dim) for dim in rng.choice(WIDTH, 2, replace=False)])
            if rng.random() < 0.2:
                edit = edit.with_replacement("mean" if edit.replacement == "zero" else "zero")
            mailbox.put(Controls(edit))
            if stopping.wait(float(rng.exponential(0.002))):
                return

    request = PairRequest(PROMPT, Decoding(1000, seed=8, stop=False))
    steps = pair_texts(model, request, numbered(lambda: mailbox().edit, lambda _: basis))
    other, seen = threading.Thread(target=toggle), []
    try:
        for progress in steps:
            seen.append(progress.partial)
            if len(seen) == 3:
                other.start()
            if len(seen) > 3 and not other.is_alive():
                break
    finally:
        stopping.set()
        other.join()
    pair = seen[-1]
    assert len(pair.edits) > 20, "many toggles met a token"
    for before, after in itertools.pairwise(seen):
        assert after.base.tokens[: before.steps] == before.base.tokens
        assert after.edited.tokens[: before.steps] == before.edited.tokens
        assert after.edits[: len(before.edits)] == before.edits
    check_every_step(model, basis, pair)
    alone = replace(request, decoding=replace(request.decoding, length=pair.steps))
    base = run(pair_texts(model, alone, lambda: zeroed(model))).base
    assert [(said.token_id, said.p) for said in base.tokens] == [(said.token_id, said.p) for said in pair.base.tokens]


def test_a_toggle_holds_from_the_next_token_on() -> None:
    model, mailbox, asked = long(), Mailbox(), []

    def edit() -> ResolvedEdit:
        asked.append(mailbox().edit)
        return zeroed(model, asked[-1].pruned)

    steps = pair_texts(model, PairRequest(PROMPT, Decoding(30, seed=2, stop=False)), edit)
    for step in range(11):
        pair = next(steps).partial
        assert (pair.steps, len(asked)) == (step, step), "it is read once before each token"
    assert pair.edits == ((0, NOTHING),)
    mailbox.put(Controls(MASK))
    pair = next(steps).partial
    mailbox.put(Controls(NOTHING))
    assert pair.edits == ((0, NOTHING), (10, MASK))
    assert [said.kl > 0 for said in pair.edited.tokens] == [False] * 10 + [True]
    pair = run(steps)
    assert pair.edits == ((0, NOTHING), (10, MASK), (11, NOTHING))
    assert [said.kl > 0 for said in pair.edited.tokens] == [step == 10 for step in range(30)]


def test_cancelling_stops_within_a_step() -> None:
    model, forwards = long(), []
    handle = model.hf.transformer.register_forward_hook(lambda *_: forwards.append(1))
    try:
        steps = pair_texts(model, PairRequest(PROMPT, Decoding(50, stop=False)), lambda: zeroed(model))
        assert next(steps).fraction == 0
        before = len(forwards)
        for done in range(1, 6):
            assert next(steps).done == done
            assert not torch.is_inference_mode_enabled()
        steps.close()
        assert len(forwards) == before + 5
    finally:
        handle.remove()


@pytest.mark.parametrize("dims", [(), (2,)])
def test_a_pair_goes_on_where_it_stopped(dims: tuple[int, ...]) -> None:
    model = long()
    request = PairRequest(PROMPT, Decoding(30, seed=1, stop=False))
    whole = run(pair_texts(model, request, lambda: zeroed(model, dims)))
    parted = whole.first_difference
    for stop in (0, 25):
        steps = pair_texts(model, request, lambda: zeroed(model, dims))
        partial = [next(steps).partial for _ in range(stop + 1)][-1]
        steps.close()
        assert partial.steps == stop
        rest = run(pair_texts(model, replace(request, after=partial), lambda: zeroed(model, dims)))
        assert (ids_of(rest.base), ids_of(rest.edited)) == (ids_of(whole.base), ids_of(whole.edited))
        assert (rest.first_difference, rest.edits) == (parted, whole.edits)
        assert rest.edited.text == whole.edited.text
    with pytest.raises(TpeError, match="its own prompt"):
        run(pair_texts(model, PairRequest("the list", after=whole), lambda: zeroed(model)))


def test_one_sides_end_does_not_stop_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    model = long()
    request, edit = PairRequest(PROMPT, Decoding(60, seed=1)), zeroed(model, (2,))
    monkeypatch.setattr(model.hf.generation_config, "eos_token_id", VOCAB - 1)
    whole = run(pair_texts(model, replace(request, decoding=Decoding(60, seed=1, stop=False)), lambda: edit))
    at = whole.first_difference
    assert at is not None
    for side, other in ((whole.base, whole.edited), (whole.edited, whole.base)):
        end = next(token for token in ids_of(side)[at:] if token not in ids_of(other) and token != VOCAB - 1)
        monkeypatch.setattr(model.hf.generation_config, "eos_token_id", end)
        cut = run(pair_texts(model, request, lambda: edit))
        ended, full = (cut.base, cut.edited) if side is whole.base else (cut.edited, cut.base)
        assert ids_of(ended) == ids_of(side)[: ids_of(side).index(end) + 1]
        assert (ended.ended, full.ended) == (True, False)
        assert ids_of(full) == ids_of(other)
        assert cut.finished
        assert cut.steps == 60


def test_the_pace_is_kept_and_a_faster_one_counts_at_once() -> None:
    model, pace = long(), [20.0]
    steps = pair_texts(model, PairRequest(PROMPT, Decoding(100, stop=False)), lambda: zeroed(model), lambda: pace[0])
    started, looks = time.perf_counter(), 0
    for progress in steps:
        looks += 1
        if progress.done == 5:
            break
    assert time.perf_counter() - started >= 4 / 20
    assert looks >= 4 * 2, "others are let in between two tokens"
    pace[0] = 0.01
    next(steps)
    pace[0] = math.inf
    started = time.perf_counter()
    assert run(steps).steps == 100
    assert time.perf_counter() - started < 60


def test_sessions_cut_to_the_context_and_bad_input_is_one_sentence(tiny) -> None:
    model = tiny("gpt2")
    tokens = len(text_prompts(model, [PROMPT])[0])
    request = PairRequest(PROMPT, Decoding(500))
    assert fitting(model, request).decoding.length == 64 - tokens
    assert fitting(model, PairRequest(PROMPT, Decoding(3))).decoding.length == 3
    with pytest.raises(TpeError, match="500 tokens after a prompt"):
        run(pair_texts(model, request, lambda: zeroed(model)))
    with pytest.raises(TpeError, match="1 tokens after a prompt of 64 do not fit"):
        run(pair_texts(model, fitting(model, PairRequest(PROMPT * 30)), lambda: zeroed(model)))
    other = ResolvedEdit(intervention=Intervention((1,)), hidden_size=WIDTH + 1, constant=np.zeros(1))
    with pytest.raises(TpeError, match="17 dimensions, but this head has 16"):
        run(pair_texts(model, PairRequest(PROMPT, Decoding(3)), lambda: other))
    missing = ResolvedEdit(
        intervention=Intervention(steering=(Steering(VOCAB, 2.0, "bias"),)),
        hidden_size=WIDTH,
        constant=np.zeros(0),
        biases={VOCAB: 0.7},
    )
    with pytest.raises(TpeError, match=f"token id {VOCAB} does not exist"):
        run(pair_texts(model, PairRequest(PROMPT, Decoding(3)), lambda: missing))
    infinite = ResolvedEdit(
        intervention=Intervention(steering=(Steering(5, 2.0, "bias"),)),
        hidden_size=WIDTH,
        constant=np.zeros(0),
        biases={5: math.inf},
    )
    with pytest.raises(NumericalError, match="NaN or infinity"):
        run(pair_texts(model, PairRequest(PROMPT, Decoding(3)), lambda: infinite))
    with pytest.raises(ModelError, match="is a masked model"):
        run(pair_texts(replace(model, task="masked"), PairRequest(PROMPT), lambda: zeroed(model)))
    with pytest.raises(TpeError, match="not -1: 0 leaves every token"):
        Decoding(top_k=-1)


def test_top_k_leaves_the_most_probable_and_top_p_a_share_of_those() -> None:
    z = torch.log(torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15]))
    noise = torch.from_numpy(np.stack([gumbel(1, row, 0, 5) for row in range(4000)]))

    def seen(**settings: float) -> set[int]:
        return set(choose(z.expand(4000, 5), noise, 1.0, **settings).tolist())  # type: ignore[arg-type]

    assert seen(top_k=0) == seen(top_k=5) == seen(top_k=9) == {0, 1, 2, 3, 4}
    assert seen(top_k=2) == {1, 3}
    assert seen(top_k=1) == {1}
    assert seen(top_p=0.72) == {1, 3, 4}
    assert seen(top_p=0.72, top_k=3) == {1, 3}, "0.7 of 0.85 is 82 %"
    assert choose(z[None], noise[:1], 1e-320).tolist() == [1], "nearly greedy"


def test_pieces_make_up_the_text_and_characters_come_whole() -> None:
    tokenizer = tiny_tokenizer()
    text = "the value → 漢字 🙂🙂 na\u0308ive\n\treturns"
    ids = tokenizer(text)["input_ids"]
    assert any(tokenizer.decode([token]) == "\ufffd" for token in ids), "characters of several tokens"
    pieces = Pieces(tokenizer)
    said = [pieces.add(token_id) for token_id in ids]
    assert "".join(said) == text
    assert not any("\ufffd" in piece for piece in said)
    for cut in range(len(ids)):
        pieces = Pieces(tokenizer, ids[:cut])
        rest = "".join(pieces.add(token_id) for token_id in ids[cut:]) + pieces.rest()
        assert text.endswith(rest.lstrip("\ufffd"))
    pieces = Pieces(tokenizer)
    smile = tokenizer("🙂")["input_ids"]
    assert "".join([pieces.add(smile[0]), pieces.rest()]) == "\ufffd"
    rng = np.random.default_rng(0)
    for _ in range(50):
        ids = rng.integers(0, VOCAB, 40).tolist()
        pieces = Pieces(tokenizer)
        said = "".join(pieces.add(token_id) for token_id in ids) + pieces.rest()
        whole = tokenizer.decode(ids, skip_special_tokens=True)
        assert said.replace("\ufffd", "") == whole.replace("\ufffd", "")


def test_a_pair_is_saved_whole_or_not_at_all(tmp_path: Path) -> None:
    model = long()
    pair = run(pair_texts(model, PairRequest(PROMPT, Decoding(9, seed=1)), lambda: zeroed(model, (2,))))
    for name in ("pair", "pair.json", "pair.txt"):
        written = save_pair(tmp_path / name, {"model": "m", **pair.to_dict()}, ["a", "b\udc80"])
        assert [path.name for path in written] == ["pair.json", "pair.txt"]
    document = json.loads((tmp_path / "pair.json").read_text())
    assert (len(document.pop("text_sha256")), document.pop("schema"), document.pop("model")) == (64, 1, "m")
    assert document == json.loads(json.dumps(pair.to_dict()))
    assert [one["token_id"] for one in document["edited"]["tokens"]] == list(ids_of(pair.edited))
    assert document["edits"] == [{"step": 0, "pruned": [2], "replacement": "zero", "steering": []}]
    assert (tmp_path / "pair.txt").read_text() == "a\nb\\udc80\n"
    (tmp_path / "folder.txt").mkdir()
    for name, said in (("folder", "is a folder"), ("no/such", "make it first"), ("", "names no file")):
        with pytest.raises(TpeError, match=said):
            save_pair(tmp_path / name if name else Path(""), pair.to_dict(), [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.txt", "pair.json", "pair.txt"]
