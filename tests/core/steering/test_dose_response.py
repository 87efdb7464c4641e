"""The inspector's steering study: the same figures as `tpe steer`, and under a mask those of the pruned head."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tpe_core.edits.edited_head import edited_logits
from tpe_core.edits.intervention import METHODS, Intervention, Method
from tpe_core.errors import TpeError
from tpe_core.progress import run
from tpe_core.session import LiveSession
from tpe_core.steering.results import DoseRequest
from tpe_core.steering.study import SteeringPlan, study


def test_the_figures_are_those_of_the_study(session: LiveSession) -> None:
    run(session.read_for_steering(Intervention()))
    assert session._samples is not None
    plan = SteeringPlan(token_ids=(5, 9), ratios=(3.0,), methods=METHODS, together=True, dose=True)
    wanted = run(study(session.analysis, session._samples, plan))
    request = DoseRequest(5, "min-norm", Intervention().steer(5, 3.0, "min-norm").steer(9, 3.0, "min-norm"))
    found = session.steering(request)
    for result in wanted.results:
        got = found.results[result.method][request.steered.index(result.token_id)]
        assert got.achieved == pytest.approx(dict(result.achieved))
        assert got.kl == pytest.approx(result.kl)
        assert got.js == pytest.approx(result.js)
        assert got.relative_edit == pytest.approx(result.relative_edit)
        assert got.attainable == result.attainable
    paid = run(session.most_affected(request))
    mine = next(result for result in wanted.results if result.method == "min-norm")
    assert mine.paid is not None
    assert {p.token_id: p.lost for p in paid.tokens[: len(mine.paid)]} == pytest.approx(
        {p.token_id: p.lost for p in mine.paid}
    )


@pytest.mark.parametrize("replacement", ["zero", "mean", "least-squares"])
def test_under_a_mask_the_pruned_head_is_steered(session: LiveSession, replacement: str) -> None:
    """Against whole softmaxes of the pruned head, and of the pruned and steered one."""
    below = Intervention((0, 3, 7), replacement)
    edit = below.steer(5, 3.0, "least-squares").steer(9, 0.5, "least-squares")
    assert run(session.read_for_steering(edit)).positions["heldout"] == 300
    request = DoseRequest(5, "least-squares", edit)
    found = session.steering(request)
    assert session._samples is not None
    for name, sample in session._samples.items():
        states = torch.from_numpy(sample.hidden)
        logits = [
            edited_logits(session.analysis.model.head, one, session.basis(one), states).double()
            for one in (below, edit)
        ]
        p, q = (each.softmax(1) for each in logits)
        before, after = p.mean(0), q.mean(0)
        for got, token_id in zip(found.results["least-squares"], request.steered, strict=True):
            assert got.token_id == token_id
            assert got.alpha[name] == pytest.approx(float(before[token_id]), rel=1e-5)
            assert got.achieved[name] == pytest.approx(float(after[token_id] / before[token_id]), rel=1e-5)
            assert got.kl[name] == pytest.approx(float((p * (p / q).log()).sum(1).mean()), abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_calibrated_achieves_its_ratio(session: LiveSession, method: Method) -> None:
    run(session.read_for_steering(Intervention()))
    edit = Intervention().steer(5, 3.0, method).steer(9, 0.4, method)
    request = DoseRequest(5, method, edit)
    found = session.calibrated(request)
    assert found.request == request
    assert [result.reached for result in found.results] == [True, True]
    for result in found.results:
        edit = edit.steer(result.token_id, result.ratio, method)
    got = [result.achieved["local"] for result in session.steering(DoseRequest(5, method, edit)).results[method]]
    assert got == pytest.approx((3.0, 0.4), rel=1e-6)
    assert [result.achieved["local"] for result in found.results] == pytest.approx(got, rel=1e-6)
    plain = [result.achieved["local"] for result in session.steering(request).results[method]]
    assert plain != pytest.approx((3.0, 0.4), rel=1e-3), "there was something to calibrate"


def test_a_ratio_out_of_reach_says_what_is_nearest(session: LiveSession) -> None:
    run(session.read_for_steering(Intervention()))
    found = session.calibrated(DoseRequest(5, "bias", Intervention().steer(5, 1e9, "bias")))
    (result,) = found.results
    assert not result.reached
    assert 1 < result.achieved["local"] < 1e9


def test_the_curve_passes_through_the_ratio_and_through_one(session: LiveSession) -> None:
    run(session.read_for_steering(Intervention()))
    found = session.steering(DoseRequest(5, "bias", Intervention().steer(5, 4.0, "bias")))
    assert set(found.curves) == set(METHODS)
    for method, curve in found.curves.items():
        achieved = curve.achieved["heldout"]
        assert achieved[curve.asked.index(1.0)] == pytest.approx(1.0)
        assert achieved[curve.asked.index(4.0)] == pytest.approx(found.results[method][0].achieved["heldout"])


def test_texts_are_read_once_for_a_mask(session: LiveSession) -> None:
    edit = Intervention((1,))
    run(session.read_for_steering(edit))
    assert list(session.read_for_steering(edit.steer(4, 2.0))) == []
    with pytest.raises(TpeError, match="other dimensions pruned"):
        session.steering(DoseRequest(4, "bias", Intervention((2,)).steer(4, 2.0)))


def test_what_cannot_be_measured_is_a_sentence(session: LiveSession) -> None:
    with pytest.raises(TpeError, match="no text is read"):
        LiveSession(session.analysis, session.options).steering(DoseRequest(4, "bias", Intervention()))
    run(session.read_for_steering(Intervention()))
    with pytest.raises(TpeError, match="does not exist"):
        session.steering(DoseRequest(10**6, "bias", Intervention()))
    origin = replace(Intervention((1,)), origin="0" * 64)
    with pytest.raises(TpeError, match="import the file again"):
        run(session.read_for_steering(origin))
    name = session.table.tokens[5]
    assert session.find_token("#5") == session.find_token(name) == 5
    with pytest.raises(TpeError, match="no token"):
        session.find_token("no token is like this")
