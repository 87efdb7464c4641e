"""A share of the dimensions is the same number of them wherever it is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from tpe_core.edit_history import EditHistory
from tpe_core.pruning.sweep import counts_of
from tpe_core.shares import count_of


class _Order:
    """Of a table only the order that `prune_bottom` asks for."""

    def __init__(self, width: int) -> None:
        self.width = width

    def order(self, key: str, descending: bool) -> np.ndarray:
        return np.arange(self.width)


@pytest.mark.parametrize("width", [8, 90, 256, 576, 768, 1600, 4096])
def test_a_share_is_one_count_in_the_inspector_the_sweep_and_the_command_line(width: int) -> None:
    for percent in range(0, 100):
        inspector = EditHistory(hidden_size=width, vocab_rows=2 * width)
        inspector.prune_bottom(percent / 100, _Order(width))  # type: ignore[arg-type]
        count = len(inspector.intervention.pruned)
        assert count == count_of(percent / 100, width)
        assert counts_of([percent / 100], width) == (min(width - 1, count),)


@pytest.mark.parametrize(
    ("share", "whole", "count"), [(0.3, 256, 77), (0.29, 1600, 464), (0.35, 90, 32), (0.5, 5, 3), (0, 9, 0), (1, 9, 9)]
)
def test_a_count_is_the_nearest_whole_number(share: float, whole: int, count: int) -> None:
    assert count_of(share, whole) == count
