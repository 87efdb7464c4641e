"""The inspector's sweep: the figures of `tpe prune`, sooner and in short steps."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.tiny_models import WIDTH
from tpe_core.detection.samples import read_samples
from tpe_core.edits.replacements import ROTATE
from tpe_core.errors import TpeError
from tpe_core.metrics import AVERAGED
from tpe_core.progress import run
from tpe_core.pruning import study
from tpe_core.pruning.results import PruningRequest, PruningResult
from tpe_core.pruning.sweep import Sweep, counts_of
from tpe_core.session import LiveSession

REQUEST = PruningRequest(draws=2, fractions=(0.0, 0.25, 0.5, 0.9))


@pytest.fixture(scope="module")
def result(session: LiveSession) -> PruningResult:
    return run(session.sweep(REQUEST))


def test_both_schedules_give_the_same_figures(session: LiveSession, result: PruningResult) -> None:
    """To 1e-6: logits are float32, and a product may round otherwise where it takes other positions at once."""
    analysis, options = session.analysis, session.options
    samples = run(read_samples(analysis.model, analysis.detection.sample, analysis.source, size=options.sample))
    whole = run(study.prune(analysis, samples, REQUEST, seed=options.seed))
    assert len(result.curves) == len(whole.curves) == 3 * len(REQUEST.orders) + 1
    assert result.complete
    assert whole.complete
    assert result.facts().keys() == whole.facts().keys()
    assert (result.positions, result.texts, result.width) == (whole.positions, whole.texts, whole.width)
    for domain in ("heldout", "ood"):
        for name in AVERAGED:
            own, wanted = (getattr(each.baseline[domain], name) for each in (result, whole))
            assert own == pytest.approx(wanted, rel=1e-6, abs=1e-7)
    for curve in whole.curves:
        found = result.curve(curve.order, curve.replace)
        assert (found.replace, found.removed, found.dims) == (curve.replace, curve.removed, curve.dims)
        for domain in ("heldout", "ood"):
            for metric in ("kl", "js", "top1", "perplexity", "entropy"):
                wanted = curve.mean(domain, metric)
                np.testing.assert_allclose(found.mean(domain, metric), wanted, rtol=1e-6, atol=1e-7)
            assert found.figures[domain].shape == curve.figures[domain].shape
            np.testing.assert_allclose(found.figures[domain], curve.figures[domain], rtol=1e-6, atol=1e-7)


def test_dimensions_come_in_the_order_of_removal(session: LiveSession, result: PruningResult) -> None:
    slope = result.curve("slope", "zero")
    assert slope is not None
    assert slope.dims == tuple(session.table.order("slope", descending=False).tolist())
    reference = result.curve(ROTATE, "mean")
    assert reference is not None
    assert reference.dims == ()
    assert all(sorted(curve.dims) == list(range(WIDTH)) for curve in result.curves if curve.order != ROTATE)


def test_the_time_of_a_sweep_is_that_of_a_step_of_it_times_their_number(
    session: LiveSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[object] = []

    def timed(work) -> float:
        taken.append(work())
        return 2.0

    monkeypatch.setattr(study, "_seconds", timed)
    positions, request = 1000, PruningRequest(orders=("slope", "random"), draws=3)
    measured = study.sweep_seconds(session.analysis, request, positions, read=True)
    assert isinstance(taken[0], Sweep)
    step = taken[0].positions
    assert len(taken[0].costs[""]) == len(removed := counts_of(request.fractions, WIDTH))
    assert removed[-1] > 0.9 * WIDTH
    assert measured == pytest.approx(2.0 * request.paths * 2 * positions / step)
    whole = study.sweep_seconds(session.analysis, request, positions, read=False)
    block = taken[-1].shape[1]
    assert 1 < block <= study.READ_TOKENS
    assert whole - measured == pytest.approx(2.0 * 2 * positions / block)


def test_every_curve_is_rough_before_any_is_fine(session: LiveSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "FIRST", 100)
    events = list(session.sweep(PruningRequest(orders=("slope", "random"), replacements=("mean", "zero"), draws=2)))
    sizes = [{name: curve.positions.get("heldout", 0) for curve in event.partial.curves
              for name in [(curve.order, curve.replace)]} for event in events if event.partial is not None]  # fmt: skip
    refined = next(seen for seen in sizes if max(seen.values()) > 100)
    assert len(refined) == 5
    assert min(refined.values()) >= 100
    assert next(iter(refined)) == ("slope", "mean"), "what the user looks at comes first"
    counted = [event.done for event in events if event.label in ("first look", "full sweep")]
    assert counted == sorted(counted)
    assert [event.label for event in events if event.total][-1] == "full sweep"


def test_orders_without_fisher_information_do_not_wait_for_it(session: LiveSession) -> None:
    steps = session.sweep(PruningRequest(replacements=("zero",), draws=1))
    labels = []
    for event in steps:
        labels.append(event.label)
        if event.label.startswith("Fisher"):
            break
    steps.close()
    assert labels.count("first look") >= 6  # three orders on two texts


def test_unknown_names_are_a_sentence(session: LiveSession) -> None:
    with pytest.raises(TpeError, match="unknown order 'slopes'"):
        run(session.sweep(PruningRequest(orders=("slopes",))))
    with pytest.raises(TpeError, match="between 0 and 1"):
        run(session.sweep(PruningRequest(fractions=(0.1, 1.5))))


def test_the_number_of_paths_counts_draws() -> None:
    assert PruningRequest().paths == 3 * (4 + 5) + 1
    assert PruningRequest(orders=("slope",), replacements=("zero",), reference=False).paths == 1
