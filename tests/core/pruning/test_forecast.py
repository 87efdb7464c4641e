"""Live forecasts: the same figures as the Fisher matrix gives a whole mask, however it was reached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.heads import build, wrapped
from tests.helpers.tiny_models import WIDTH, random_corpus, save_tiny, text
from tpe_core.detection.detection import detect
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.edit_numbers import EditNumbers
from tpe_core.edits.intervention import METHODS, Intervention, Method
from tpe_core.edits.reconstruction import covariance
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.errors import TpeError
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.pruning.fisher import fisher_information, forecast, forecast_least_squares
from tpe_core.pruning.forecast import LiveForecast, SteeringCost
from tpe_core.pruning.sweep import measure
from tpe_core.session import open_session


@pytest.fixture(scope="module")
def known():
    model = wrapped(build("softcap"), "causal")
    detection = run(detect(model, random_corpus(8, 40), sample_size=60))
    fisher = run(fisher_information(model.head, detection.sample, detection.mean_hidden))
    steering = SteeringCost(model.head, detection.sample, fisher.log_z)
    return model.head, detection, fisher, LiveForecast(fisher, covariance(detection), steering)


def test_any_path_to_a_mask_gives_its_own_forecast(known) -> None:
    head, detection, fisher, live = known
    spread, rng = covariance(detection), np.random.default_rng(0)
    basis = EditStatistics.of(rng.normal(size=WIDTH), detection)
    for step in range(60):
        way = REPLACEMENTS.ready[step % len(REPLACEMENTS.ready)]
        dims = tuple(sorted(rng.choice(WIDTH, int(rng.integers(0, WIDTH)), replace=False).tolist()))
        mask = Intervention(dims, way)
        steered = live.of(mask.steer(1, 2.0), basis)
        found = live.of(mask, basis)
        if way == "least-squares":
            expected = forecast_least_squares(fisher.metric, spread, dims)
            assert found.toggled is None
        else:
            expected = forecast(fisher.gates(way), dims)
            assert found.toggled is not None
            assert steered.toggled is not None
            other = int(rng.integers(WIDTH))
            one_more = forecast(fisher.gates(way), set(dims) ^ {other})
            assert found.toggled[other] == pytest.approx(one_more, abs=1e-9)
            assert steered.toggled[other] - found.toggled[other] == pytest.approx(steered.kl - found.kl, abs=1e-9)
        assert found.kl == pytest.approx(expected, abs=1e-9)
        assert steered.kl > found.kl
        assert (found.pruned, found.replacement, found.steering) == (dims, way, ())
        assert steered.steering == mask.steer(1, 2.0).steering


@pytest.mark.parametrize("method", METHODS)
def test_the_forecast_of_steered_tokens_alone_is_what_they_cost(known, method: Method) -> None:
    head, detection, fisher, live = known
    slope = np.random.default_rng(1).normal(size=WIDTH)
    basis = EditStatistics.of(slope, detection)
    edit = Intervention().steer(7, 20.0, method).steer(30, 0.3, method)
    numbers = EditNumbers(basis.resolve(edit))
    measured = run(measure(head, lambda h: numbers.logits(head, h), detection.sample)).kl
    assert live.of(edit, basis).kl == pytest.approx(measured, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("replacement", REPLACEMENTS.ready)
def test_the_forecast_of_a_mask_with_steered_tokens_counts_both(session, replacement: str) -> None:
    run(session.prepare_forecast())
    likely = np.argsort(-session.analysis.detection.log_alpha)
    mask = Intervention((3, 9), replacement)
    edit = mask.steer(int(likely[0]), 10.0).steer(int(likely[1]), 0.1)
    alone, both = (run(session.cost(each))["local"].kl for each in (mask, edit))
    assert both > 1.3 * alone  # or nothing would be shown here
    added = session.forecast(edit).kl - session.forecast(mask).kl
    assert added == pytest.approx(both - alone, rel=0.35)


def test_a_session_prepares_once_and_then_answers(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(text(1, 4000))
    model = save_tiny(tmp_path / "model")
    options = RunOptions(model=str(model), text=(str(tmp_path / "text.txt"),), positions=1000, sample=200, cache=False)
    session = run(open_session(options))
    edit = Intervention((3, 5, 8))
    with pytest.raises(TpeError, match="prepare_forecast"):
        session.forecast(edit)
    events: list[object] = []
    run(session.prepare_forecast(), events.append)
    assert events
    first = session.forecast(edit)
    events.clear()
    run(session.prepare_forecast(), events.append)
    assert not events
    assert session.forecast(edit).kl == first.kl > 0
