"""What every order removes first, by its definition."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.helpers.heads import build, wrapped
from tests.helpers.tiny_models import VOCAB, WIDTH, text
from tpe_core.analysis import Analysis, analyze
from tpe_core.errors import TpeError
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.pruning.coordinates import covariance
from tpe_core.pruning.evidence import Evidence
from tpe_core.pruning.fisher import fisher_information, greedy_order, obs_order
from tpe_core.pruning.fitting import fitting_sample
from tpe_core.pruning.orders import ORDERS
from tpe_core.pruning.refit import refit_order
from tpe_core.pruning.saliency import gather_evidence, order_of, saliency_of


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(text(3, 6000))
    options = RunOptions(text=(str(path),), positions=2000, sample=500, cache=False)
    return run(analyze(options, model=wrapped(build("identity"))))


@pytest.fixture(scope="module")
def evidence(analysis: Analysis) -> Evidence:
    return run(gather_evidence(ORDERS, analysis))


def by_definition(analysis: Analysis) -> dict[str, Any]:
    w = analysis.model.head.weight.double().numpy()
    assert w.shape == (VOCAB, WIDTH)
    detection, slope = analysis.detection, analysis.encoding.slope
    fisher = run(fisher_information(analysis.model.head, detection.sample, detection.mean_hidden))
    centred = w - w.mean(0)
    return {
        "slope": np.abs(slope),
        "slope-std": np.abs(slope) * w.std(0),
        "magnitude": np.linalg.norm(w, axis=0),
        "activation": np.sqrt(np.diag(covariance(detection))) * w.std(0),
        "fisher": np.diag(fisher.zero),
        "component": np.linalg.svd(centred, compute_uv=False) ** 2 / np.sum(centred**2),
    }


def test_saliencies_are_their_definitions(analysis: Analysis, evidence: Evidence) -> None:
    wanted = by_definition(analysis)
    for name, values in wanted.items():
        np.testing.assert_allclose(saliency_of(name, evidence), values, rtol=1e-6, err_msg=name)
        assert order_of(name, evidence).tolist() == np.argsort(values).tolist()
    assert set(wanted) == set(ORDERS) - {"random", "fisher-greedy", "fisher-obs", "fisher-refit"}


def test_orders_that_are_made_step_by_step(analysis: Analysis, evidence: Evidence) -> None:
    assert evidence.fisher is not None
    assert order_of("fisher-greedy", evidence).tolist() == greedy_order(evidence.fisher.zero).tolist()
    surgery, _ = run(obs_order(evidence.fisher.metric, covariance(analysis.detection)))
    assert order_of("fisher-obs", evidence).tolist() == surgery.tolist()
    sample = run(fitting_sample(analysis))
    refitted = run(refit_order(analysis.model.head, analysis.detection, sample, evidence.fisher.metric))
    assert order_of("fisher-refit", evidence).tolist() == refitted.tolist()


def test_what_replaces_a_dimension_decides_what_a_gate_costs(evidence: Evidence) -> None:
    assert evidence.fisher is not None
    for way in ("mean", "least-squares"):
        found = saliency_of("fisher", replace(evidence, replacement=way))
        np.testing.assert_array_equal(found, np.diag(evidence.fisher.mean))
    assert not np.allclose(evidence.fisher.mean, evidence.fisher.zero)


def test_random_orders_differ_by_seed_and_draw_and_nothing_else(evidence: Evidence) -> None:
    orders = {(s, d): tuple(order_of("random", replace(evidence, seed=s, draw=d))) for s in range(3) for d in range(3)}
    assert len(set(orders.values())) == 9
    assert all(sorted(order) == list(range(WIDTH)) for order in orders.values())
    assert tuple(order_of("random", replace(evidence, seed=2, draw=1))) == orders[2, 1]


def test_only_what_is_needed_is_gathered(analysis: Analysis) -> None:
    plain = run(gather_evidence(["slope", "random"], analysis))
    assert (plain.fisher, plain.surgery, plain.refitted) == (None, None, None)
    for name in ("fisher", "fisher-greedy", "fisher-obs", "fisher-refit"):
        with pytest.raises(TpeError, match="gather the evidence"):
            saliency_of(name, plain)
    some = run(gather_evidence(["fisher"], analysis))
    assert some.fisher is not None
    assert some.surgery is None


def test_unknown_orders(analysis: Analysis, evidence: Evidence) -> None:
    with pytest.raises(TpeError, match=r"unknown order 'slop': choose one of slope, slope-std, random"):
        run(gather_evidence(["slop"], analysis))
    with pytest.raises(TpeError, match="unknown order 'best'"):
        order_of("best", evidence)
