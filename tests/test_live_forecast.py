"""Live forecasts: the same figures as the Fisher matrix gives a whole mask, however it was reached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import WIDTH, random_corpus, save_tiny, text
from tests.test_posts import build, wrapped
from tpe_core.detecting.detection import detect
from tpe_core.edits.intervention import READY, Intervention
from tpe_core.edits.reconstruction import covariance
from tpe_core.errors import TpeError
from tpe_core.live import open_session
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_core.pruning.fisher import fisher_information, forecast, forecast_least_squares
from tpe_core.pruning.live_forecast import LiveForecast


@pytest.fixture(scope="module")
def known():
    model = wrapped(build("softcap"), "causal")
    detection = run(detect(model, random_corpus(8, 40), sample_size=60))
    fisher = run(fisher_information(model.head, detection.sample, detection.mean_hidden))
    return fisher, covariance(detection)


def test_any_path_to_a_mask_gives_its_own_forecast(known) -> None:
    fisher, spread = known
    live, rng = LiveForecast(fisher, spread), np.random.default_rng(0)
    for step in range(60):
        way = READY[step % len(READY)]
        dims = tuple(sorted(rng.choice(WIDTH, int(rng.integers(0, WIDTH)), replace=False).tolist()))
        found = live.of(Intervention(dims, way).steer(1, 2.0))
        if way == "least-squares":
            expected = forecast_least_squares(fisher.metric, spread, dims)
            assert found.toggled is None
        else:
            expected = forecast(fisher.gates(way), dims)
            assert found.toggled is not None
            other = int(rng.integers(WIDTH))
            one_more = forecast(fisher.gates(way), set(dims) ^ {other})
            assert found.toggled[other] == pytest.approx(one_more, abs=1e-9)
        assert found.kl == pytest.approx(expected, abs=1e-9)
        assert (found.pruned, found.replacement) == (dims, way)


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
