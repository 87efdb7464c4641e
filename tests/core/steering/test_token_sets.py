"""A token set steered as one, against whole softmaxes of the edited head; and where sets are kept, left and undone."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tpe_core.edit_history import EditHistory
from tpe_core.edits.edit_numbers import EditNumbers
from tpe_core.edits.edited_head import edited_logits
from tpe_core.edits.intervention import METHODS, Intervention, Method, Steering
from tpe_core.errors import ManifestError, TpeError
from tpe_core.export.logit_bias import judge_logit_bias
from tpe_core.export.low_rank import factorised
from tpe_core.generation.decoding import Decoding
from tpe_core.generation.paired import PairRequest
from tpe_core.generation.paired_generation import pair_texts
from tpe_core.hooks import apply
from tpe_core.manifest.difference import difference
from tpe_core.manifest.manifest import read_edit, read_manifest
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.session import LiveSession, open_session
from tpe_core.steering.named_sets import token_set
from tpe_core.steering.results import DoseRequest, SteeringStudy
from tpe_core.steering.study import SteeringPlan, SteeringTry, observe_texts, study
from tpe_core.token_sets.summary import summarize_set
from tpe_core.token_sets.token_set import TokenSet

SOME = TokenSet("#10 + #20 + the rest", tuple(range(10, 90, 4)), "some")
OTHER = TokenSet("#200 + #201", (200, 201, 202))


def studied(session: LiveSession, plan: SteeringPlan) -> SteeringStudy:
    run(session.read_for_steering(Intervention()))
    assert session._samples is not None
    return run(study(session.analysis, session._samples, plan))


def whole(session: LiveSession, edit: Intervention, name: str) -> torch.Tensor:
    """[N, V] float64 probabilities of the edited head at a sample's positions, by whole softmaxes."""
    assert session._samples is not None
    states = torch.from_numpy(dict(session._samples.items())[name].hidden)
    return edited_logits(session.analysis.model.head, edit, session.basis(edit), states).double().softmax(1)


def test_the_summary_is_the_sum_over_its_tokens(session: LiveSession) -> None:
    detection = session.analysis.detection
    found = summarize_set(SOME, detection.log_alpha, detection.counts, detection.positions)
    own = np.exp(detection.log_alpha)
    assert found.probability == pytest.approx(sum(float(own[token_id]) for token_id in SOME.token_ids))
    assert found.came == sum(int(detection.counts[token_id]) for token_id in SOME.token_ids)
    best = sorted(SOME.token_ids, key=lambda token_id: -own[token_id])[:8]
    assert [token_id for token_id, _ in found.examples] == best
    document = found.to_dict(session.analysis.tokens)
    assert (document["name"], document["tokens"]) == ("some", 20)
    assert document["examples"][0]["token"] == session.analysis.tokens[best[0]]


@pytest.mark.parametrize("method", METHODS)
def test_a_set_achieves_what_whole_softmaxes_say(session: LiveSession, method: Method) -> None:
    plan = SteeringPlan(token_ids=(5,), sets=(SOME, OTHER), ratios=(0.05,), methods=(method,), together=True)
    found = studied(session, plan)
    edit = found.intervention()
    assert edit.sets == (SOME, OTHER)
    assert [(entry.ratio, entry.method) for entry in edit.steering] == [(pytest.approx(0.05), method)] * 24
    for name in ("local", "heldout", "ood"):
        p, q = whole(session, Intervention(), name), whole(session, edit, name)
        for result, ids in zip(found.results, ([5], SOME.ids, OTHER.ids), strict=True):
            before, after = p[:, ids].sum(1), q[:, ids].sum(1)
            assert result.alpha[name] == pytest.approx(float(before.mean()), rel=1e-5)
            assert result.achieved[name] == pytest.approx(float(after.mean() / before.mean()), rel=1e-4)
            assert result.spread[name] == pytest.approx(float((after / before).log().std(correction=0)), rel=1e-3)
        kl = (p * (p / q).log()).sum(1).mean()
        m = (p + q) / 2
        js = ((p * (p / m).log()).sum(1).mean() + (q * (q / m).log()).sum(1).mean()) / 2
        assert found.results[0].kl[name] == pytest.approx(float(kl), rel=1e-3)
        assert found.results[0].js[name] == pytest.approx(float(js), rel=1e-3)
    rows = session.analysis.model.head.columns[:, SOME.ids].double()
    numbers = session.resolved(edit)
    if method != "bias":
        moved = torch.from_numpy(np.stack([numbers.rows[i] for i in SOME.token_ids], 1))
        assert found.results[1].relative_edit == pytest.approx(float(moved.norm() / rows.norm()))
    paid = found.results[0].paid
    assert paid is not None
    gain = whole(session, edit, "heldout").mean(0) - whole(session, Intervention(), "heldout").mean(0)
    gain[[5, *SOME.token_ids, *OTHER.token_ids]] = 0
    assert [one.token_id for one in paid] == gain.topk(len(paid)).indices.tolist()
    assert [-one.lost for one in paid] == pytest.approx(gain.topk(len(paid)).values.tolist(), rel=1e-3)


def test_least_squares_keeps_the_odds_inside_a_set_and_moves_its_rows_alike(session: LiveSession) -> None:
    edit = Intervention().steer_set(SOME, 0.01).steer(5, 3.0)
    run(session.read_for_steering(Intervention()))
    p, q = (whole(session, one, "heldout")[:, SOME.ids] for one in (Intervention(), edit))
    inside = [each / each.sum(1, keepdim=True) for each in (p, q)]
    torch.testing.assert_close(inside[1], inside[0], rtol=1e-5, atol=1e-9)
    rows = session.resolved(edit).rows
    assert np.linalg.matrix_rank(np.stack([rows[i] for i in (5, *SOME.token_ids)])) == 1
    assert all(rows[i] is rows[SOME.token_ids[0]] for i in SOME.token_ids), "one array for all of a set"


def test_a_target_and_a_calibrated_ratio_are_of_the_whole_set(session: LiveSession) -> None:
    plan = SteeringPlan(sets=(SOME,), targets=(0.003,), calibrate=True)
    plain, calibrated = studied(session, plan).results
    assert plain.target == calibrated.target == pytest.approx(0.003)
    edit = Intervention().steer_set(SOME, calibrated.ratio)
    assert float(whole(session, edit, "local")[:, SOME.ids].sum(1).mean()) == pytest.approx(0.003, rel=1e-4)


def test_a_set_of_one_token_is_that_token(session: LiveSession) -> None:
    alone = TokenSet("#7", (7,))
    plan = SteeringPlan(token_ids=(7,), sets=(alone,), ratios=(4.0,), calibrate=True, few_shot=True)
    results = studied(session, plan).results
    for token, as_set in zip(results[:2], results[2:], strict=True):
        assert as_set.token_set is alone
        assert as_set.token_id is None
        assert as_set.achieved == pytest.approx(dict(token.achieved), rel=1e-5)
        assert as_set.kl == pytest.approx(dict(token.kl), rel=1e-4)
        assert as_set.step == pytest.approx(token.step, rel=1e-5)


def test_what_overlaps_is_refused_together_and_said_how_to_part(session: LiveSession) -> None:
    with pytest.raises(TpeError, match=r"token id 10 is in the set 'some', too: take it out, as in .* - #10'"):
        SteeringPlan(token_ids=(10,), sets=(SOME,), ratios=(2.0,), together=True)
    shares = TokenSet("#10", (10,))
    with pytest.raises(TpeError, match=r"'some' and '#10' share tokens: .* as in '#10 - \(#10 \+ #20 \+ the rest\)'"):
        SteeringPlan(sets=(SOME, shares), ratios=(2.0,), together=True)
    SteeringPlan(token_ids=(10,), sets=(SOME, shares), ratios=(2.0,))  # one by one they do not meet
    with pytest.raises(TpeError, match="is in another set, too"):
        Intervention(steering=tuple(Steering(i, 2.0) for i in SOME.token_ids), sets=(SOME, shares))
    with pytest.raises(TpeError, match="does not exist: this head has"):
        studied(session, SteeringPlan(sets=(TokenSet("#99999", (99999,)),), ratios=(2.0,)))


def test_a_steered_set_stays_while_its_tokens_are_steered_alike() -> None:
    edit = Intervention().steer_set(SOME, 0.5)
    assert edit.sets == (SOME,)
    assert edit.singles == ()
    assert edit.how(SOME) == Steering(10, 0.5)
    other_method = replace(edit, steering=tuple(replace(entry, method="bias") for entry in edit.steering))
    assert other_method.sets == (SOME,)
    apart = replace(edit, steering=(*edit.steering[1:], Steering(10, 2.0)))
    assert (apart.sets, len(apart.singles)) == ((), 20)
    alone = edit.steer(10, 2.0)
    assert alone.sets == (TokenSet(f"{SOME.definition} - #10", SOME.token_ids[1:], "some"),)
    assert (alone.ratio(10), alone.ratio(14), [entry.token_id for entry in alone.singles]) == (2.0, 0.5, [10])
    assert alone.set_of(14) == alone.sets[0]
    assert alone.set_of(10) is None
    newer = edit.steer_set(TokenSet("#10 + #3", (3, 10), "two"), 4.0)
    assert [(each.label, len(each)) for each in newer.sets] == [("two", 2), ("some", 19)]
    assert newer.ratio(10) == 4.0
    assert edit.steer_set(SOME, 1.0) == Intervention()
    assert edit.toggle([1]).sets == (SOME,)


def test_steering_a_set_is_one_step_that_is_undone(session: LiveSession) -> None:
    history = EditHistory(hidden_size=16, vocab_rows=320)
    assert history.steer_set(SOME, 0.25)
    assert not history.steer_set(SOME, 0.25)
    assert history.intervention.sets == (SOME,)
    assert history.undo()
    assert history.intervention == Intervention()
    assert history.redo()
    assert history.intervention.ratio(14) == 0.25
    with pytest.raises(TpeError, match="token id 320 does not exist"):
        history.steer_set(TokenSet("#320", (1, 320)), 2.0)


def test_the_inspectors_study_asks_about_the_set_that_a_token_is_in(session: LiveSession) -> None:
    edit = Intervention().steer_set(SOME, 0.2).steer(5, 3.0)
    run(session.read_for_steering(edit))
    request = DoseRequest(14, "least-squares", edit)
    assert request.steered == (SOME, 5)
    assert request.ratios == (0.2, 3.0)
    found = session.steering(request)
    alone = found.results["least-squares"][0]
    ids = SOME.ids
    p, q = whole(session, Intervention(), "heldout")[:, ids].sum(1), whole(session, edit, "heldout")[:, ids].sum(1)
    assert alone.achieved["heldout"] == pytest.approx(float(q.mean() / p.mean()), rel=1e-4)
    assert found.curves["least-squares"].steered == SOME
    assert session.calibrated(request).results[0].achieved["local"] == pytest.approx(0.2, rel=1e-6)
    again = session.steering(replace(request, token_id=5))
    assert again.results["least-squares"][0].achieved == pytest.approx(found.results["least-squares"][1].achieved)


def test_the_next_tokens_hold_the_likeliest_of_a_set_and_not_all_of_it(session: LiveSession) -> None:
    many = TokenSet("class:word", tuple(range(20, 300)))
    edit = Intervention().steer_set(many, 1e-6).steer(5, 1e-6)
    shown = session.evaluate("the value", edit, keep=4)
    assert 5 in shown.ids
    assert 64 <= len(shown.ids) <= 64 + 9
    base = session.evaluate("the value", Intervention(), keep=320)
    best = max(range(20, 300), key=lambda i: float(base.base[list(base.ids).index(i)]))
    assert best in shown.ids


def test_a_set_goes_through_its_file_and_back(session: LiveSession, tmp_path: Path) -> None:
    run(session.read_for_steering(Intervention()))
    edit = Intervention((1,), "mean").steer_set(SOME, 0.5).steer(5, 2.0)
    path = session.export(tmp_path / "set.json", edit, "the value")
    document, numbers = read_edit(path)
    (saved,) = document.sets
    assert (saved.name, saved.definition, saved.token_ids) == ("some", SOME.definition, SOME.token_ids)
    assert [entry.token_id for entry in document.steering] == [5]
    assert replace(document.intervention(), origin="") == edit
    assert replace(session.load(path), origin="") == edit
    wanted = session.resolved(edit)
    assert numbers.rows.keys() == wanted.rows.keys()
    assert all(np.array_equal(numbers.rows[i], wanted.rows[i]) for i in wanted.rows)
    states = session.analysis.detection.sample.hidden[:3]
    head = session.analysis.model.head
    got, direct = (EditNumbers(each).logits(head, torch.from_numpy(states)) for each in (numbers, wanted))
    torch.testing.assert_close(got, direct)
    assert document.self_test is not None
    assert {each.token_id for each in document.self_test.prompts[0].steered} & set(SOME.token_ids)
    assert difference(read_edit(path), read_edit(path)).same_edit
    other = session.export(tmp_path / "other.json", edit.steer_set(SOME, 0.4), "the value")
    found = difference(read_edit(path), read_edit(other))
    assert not found.same_edit
    assert [(pair.name, pair.tokens, pair.a, pair.b, pair.same) for pair in found.sets] == [
        ("some", 20, 0.5, 0.4, False)
    ]


def test_a_file_without_sets_has_no_such_field_and_one_with_a_broken_set_is_refused(
    session: LiveSession, tmp_path: Path
) -> None:
    plain = session.export(tmp_path / "plain.json", Intervention().steer(5, 2.0, "bias"), "the value")
    assert '"sets"' not in plain.read_text()
    path = session.export(tmp_path / "set.json", Intervention().steer_set(SOME, 2.0, "bias"), "the value")
    text = path.read_text()
    for old, new in (('"token_ids": [', '"token_ids": [9999,'), ('"steering": []', '"steering": [' + _entry(10) + "]")):
        path.write_text(text.replace(old, new))
        assert path.read_text() != text
        with pytest.raises(ManifestError):
            read_manifest(path)


def _entry(token_id: int) -> str:
    return f'{{"token_id": {token_id}, "token": "a", "ratio": 2.0, "method": "bias"}}'


def test_what_was_measured_of_a_set_is_saved_with_its_name(session: LiveSession, tmp_path: Path) -> None:
    run(session.read_for_steering(Intervention()))
    edit = Intervention().steer_set(SOME, 0.5)
    document, _ = read_manifest(session.export(tmp_path / "set.json", edit, "the value"))
    assert document.measured is not None
    results = session.steering(DoseRequest(10, "least-squares", edit)).results["least-squares"]
    assert [text.domain for text in document.measured.texts] == ["local", "heldout", "ood"]
    for text in document.measured.texts:
        assert text.achieved == ()
        ((name, ratio),) = [(each.name, each.ratio) for each in text.achieved_by_set]
        assert (name, ratio) == ("some", results[0].achieved[text.domain])


def test_under_a_soft_cap_a_set_is_refused_by_name(tiny) -> None:
    from tests.helpers.heads import corpus_for
    from tpe_core.detection.detection import detect
    from tpe_core.steering.effects import observe

    model = tiny("gemma2")
    sample = run(detect(model, corpus_for(model), sample_size=20)).sample
    with pytest.raises(TpeError, match="the set 'some' cannot be measured as one under this model's soft cap"):
        run(observe(model.head, sample, [SOME]))


def test_calibration_steers_sets_and_tokens_at_once(session: LiveSession) -> None:
    run(session.read_for_steering(Intervention()))
    assert session._samples is not None
    basis = session.basis(Intervention())
    steered = (SOME, OTHER, 5)
    texts = run(observe_texts(session.analysis, session._samples, basis, Intervention(), steered))
    tried = texts.calibrate(steered, "least-squares", (0.1, 3.0, 2.0))
    assert isinstance(tried, SteeringTry)
    edit = Intervention()
    for each, step in zip(steered, tried.steps, strict=True):
        ratio = math.exp(step)
        edit = edit.steer(each, ratio) if isinstance(each, int) else edit.steer_set(each, ratio)
    p, q = whole(session, Intervention(), "local"), whole(session, edit, "local")
    for ids, wanted in ((SOME.ids, 0.1), (OTHER.ids, 3.0), ([5], 2.0)):
        assert float(q[:, ids].sum(1).mean() / p[:, ids].sum(1).mean()) == pytest.approx(wanted, rel=1e-4)


def test_200_tokens_of_the_bundled_model_are_written_without_one_of_a_set(tmp_path: Path) -> None:
    """At temperature 1, after a prompt that it goes on with digits."""
    text = tmp_path / "text.txt"
    text.write_text("The numbers are 1, 2, 3 and the list of values is 4, 5, 6 or None.\n" * 200)
    options = RunOptions("demo", text=(str(text),), positions=1024, sample=256, cache=False)
    live = run(open_session(options))
    digits = token_set(live.analysis, "digits = class:digits")
    edit = live.resolved(Intervention().steer_set(digits, 1e-12))
    request = PairRequest("The numbers are 1, 2, 3, 4, 5, 6, 7,", Decoding(200, stop=False))
    pair = run(pair_texts(live.analysis.model, request, lambda: edit))
    base, edited = ([token.token_id for token in side.tokens] for side in (pair.base, pair.edited))
    assert len(base) == len(edited) == 200
    assert sum(token_id in digits for token_id in base) > 10
    assert not any(token_id in digits for token_id in edited)
    assert not any(char.isdigit() for char in pair.edited.text)


def test_a_set_and_tokens_are_rank_one_for_an_adapter_and_listed_for_a_server(session: LiveSession) -> None:
    edit = session.resolved(Intervention().steer_set(SOME, 0.01).steer(5, 3.0))
    found = factorised(edit.rows)
    assert found.rank == 1
    assert sorted(found.ids) == [5, *SOME.token_ids]
    for token_id, coefficient in zip(found.ids, found.coefficients, strict=True):
        np.testing.assert_allclose(coefficient @ found.directions, edit.rows[token_id], rtol=1e-9, atol=1e-12)
    biased = session.resolved(Intervention().steer_set(SOME, 0.01, "bias").steer(5, 3.0, "bias"))
    verdict = judge_logit_bias(session.analysis.model, biased)
    assert (verdict.holding, verdict.how) == ("exactly", "a constant on the logit of 21 tokens")


def test_a_set_edits_a_loaded_model_as_it_edits_the_head(session: LiveSession, tmp_path: Path) -> None:
    """Hooks on the whole model, by the file alone, against the closed form."""
    edit = Intervention().steer_set(SOME, 0.2).steer(5, 3.0)
    path = session.export(tmp_path / "set.json", edit, "the value")
    model = session.analysis.model
    with apply(model, str(path)), torch.inference_mode():
        got = model.hf(**model.example_inputs()).logits.float()
    wanted = edited_logits(model.head, edit, session.basis(edit), model.hidden(model.example_inputs()))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
