"""Steps from names, their choice, and their gaps."""

from __future__ import annotations

import itertools

import pytest

from tpe_core.dynamics.suite.step_names import log_spaced, missing_steps, natural, step_of
from tpe_core.dynamics.trajectory import log_steps

PYTHIA = [0, *(2**k for k in range(10)), *range(1000, 144_000, 1000)]


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("checkpoint-500", 500),
        ("step143000", 143_000),
        ("global_step12", 12),
        ("step_20k", 20_000),
        ("stage1-step1000-tokens5B", 1000),
        ("epoch-3-step-10", 10),
        ("ckpt_2M", 2_000_000),
        ("iter-0005", 5),
        ("0001000", 1000),
        ("run7", 7),
        ("main", None),
        ("seed2-part3", None),
        ("stepmania", None),
        ("checkpoint-1e3", None),
    ],
)
def test_the_step_of_a_name(name: str, step: int | None) -> None:
    assert step_of(name) == step


def test_a_bare_number_may_be_a_version() -> None:
    assert step_of("v1", loose=False) is None
    assert step_of("step1", loose=False) == 1


def test_names_sort_by_their_numbers() -> None:
    assert sorted(["step10", "step9", "step100"], key=natural) == ["step9", "step10", "step100"]


def test_log_spaced_steps() -> None:
    chosen = log_spaced(PYTHIA, 12)
    assert chosen[0] == 0
    assert chosen[-1] == 143_000
    assert len(chosen) <= 12
    assert set(chosen) <= set(PYTHIA)
    ratios = [b / a for a, b in itertools.pairwise(chosen[1:])]
    assert max(ratios) < 6  # 143,000 ** (1 / 10) is 3.3
    assert log_spaced([3, 1, 2], 5) == [1, 2, 3]
    assert log_spaced([3, 1, 2], 1) == [3]
    assert log_spaced([], 1) == []
    for count in range(1, 30):
        assert len(log_spaced(PYTHIA, count)) <= count


def test_missing_steps() -> None:
    assert missing_steps(PYTHIA) == []
    assert missing_steps([step for step in PYTHIA if step not in (4, 5000, 6000)]) == [4, 5000, 6000]
    assert missing_steps([100, 200, 400, 500]) == [300]
    assert missing_steps([500, 1000, 1500, 2000, 2345]) == []  # the end may be any
    assert missing_steps([0, 1, 2, 4, 16, 32]) == [8]
    every = log_steps(3600)
    assert missing_steps(every) == []
    assert missing_steps([step for step in every if step not in (11, 724)]) == [11, 724]


def test_nothing_is_missing_without_a_pattern() -> None:
    for steps in ([], [0], [7], [0, 7], [5, 17, 90, 300], [100, 200, 400], [1, 2, 3, 1000]):
        assert missing_steps(steps) == []
