"""A mask exported by one process and loaded by another gives the same distribution there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.conftest import engine, environment

OTHER_POSITIONS = "2048"  # less text: the second process measures other means and directions, and must not use them


@pytest.fixture(scope="module")
def loaded(masks: dict[str, Any], cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a fresh process makes of the exported masks."""
    folder = Path(masks["zero"]["path"]).parent
    answer: dict[str, Any] = engine(
        "load", folder, environment(tmp_path_factory.mktemp("load"), cache), OTHER_POSITIONS
    )
    return answer


@pytest.mark.parametrize("replacement", ["zero", "mean"])
def test_the_same_distribution_in_a_fresh_process(
    masks: dict[str, Any], loaded: dict[str, Any], replacement: str
) -> None:
    saved, found = masks[replacement], loaded[replacement]
    assert found["pruned"] == saved["pruned"]
    assert found["steered"] == saved["steered"]
    np.testing.assert_allclose(found["base"], saved["base"], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found["now"], saved["now"], rtol=1e-5, atol=1e-9)
    assert np.abs(np.subtract(found["now"], saved["now"])).max() < 1e-6
    assert np.abs(np.subtract(saved["now"], saved["base"])).max() > 0.01
    assert sum(found["now"]) == pytest.approx(1, abs=1e-9)


def test_zero_and_mean_are_different_edits(masks: dict[str, Any]) -> None:
    assert np.abs(np.subtract(masks["zero"]["now"], masks["mean"]["now"])).max() > 1e-3
