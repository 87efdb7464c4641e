"""Designs: balanced, orthogonal, as free of interactions as they say; plans as files and recipes; what is refused."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from tpe_core.errors import TpeError
from tpe_core.sparsity.design import FACTORS, RUNS, Factor, Plan, parse_levels, resolution, two_level_design


@pytest.mark.parametrize("runs", RUNS)
def test_a_design_is_balanced_and_orthogonal(runs: int) -> None:
    design = two_level_design(runs, 7)
    assert set(np.unique(design)) == {-1, 1}
    assert np.array_equal(design.T @ design, runs * np.eye(7))
    assert not design.sum(0).any()
    assert len({tuple(row) for row in design}) == runs


@pytest.mark.parametrize(("runs", "factors"), [(16, 7), (16, 8), (32, 7), (32, 16), (8, 4)])
def test_resolution_four_mistakes_no_interaction_of_two_for_a_factor(runs: int, factors: int) -> None:
    assert resolution(runs, factors) == "IV"
    design = two_level_design(runs, factors)
    for first, second in itertools.combinations(range(factors), 2):
        assert not (design.T @ (design[:, first] * design[:, second])).any()


@pytest.mark.parametrize(("runs", "factors", "part"), [(12, 7, 1 / 3), (8, 7, 1.0)])
def test_resolution_three_does(runs: int, factors: int, part: float) -> None:
    assert resolution(runs, factors) == "III"
    design = two_level_design(runs, factors)
    shares = [
        abs(design.T @ (design[:, first] * design[:, second])).max() / runs
        for first, second in itertools.combinations(range(factors), 2)
    ]
    assert max(shares) == pytest.approx(part)


def test_a_plan_is_its_document_and_its_recipes_differ_in_the_factors_alone() -> None:
    plan = Plan()
    assert Plan.from_dict(plan.to_dict()) == plan
    recipes = [plan.recipe(point, 1) for point in plan.points()]
    same = {"context", "batch_size", "other_lr", "documents", "seed", "optimizer", "cooldown_share", "clip"}
    assert all(len({getattr(recipe, name) for recipe in recipes}) == 1 for name in same)
    for name in ("hidden_size", "n_layer", "vocab_size", "tied", "architecture", "weight_decay", "steps"):
        values = [getattr(recipe, name) for recipe in recipes]
        assert len(set(values)) == 2
        assert values.count(values[0]) == len(values) // 2
    assert min(recipe.steps for recipe in recipes) >= 1000


def test_levels_are_written_as_name_low_high() -> None:
    factors = parse_levels(["width=16,48", "decay=0,0.1"])
    by_name = {factor.name: factor for factor in factors}
    assert (by_name["width"].low, by_name["width"].high, by_name["decay"].high) == (16, 48, 0.1)
    assert [factor.name for factor in factors] == [factor.name for factor in FACTORS]
    for text in ("norm=a,b", "size=1,2", "width", "tied=no,yes"):
        with pytest.raises(TpeError, match=r"sets no factor's levels|has no two levels"):
            parse_levels([text])
    for text in ("width=16", "width=1,2,3", "width=a,b", "steps=1.5,2"):
        with pytest.raises(TpeError, match="has no two levels"):
            parse_levels([text])


@pytest.mark.parametrize(
    ("name", "low", "high", "match"),
    [
        ("width", 33, 64, "must be even"),
        ("width", 32, 50, "multiple of 16"),
        ("depth", 0, 2, "from 1 on"),
        ("vocabulary", 100, 512, "from 257"),
        ("vocabulary", 512, 70000, "65,536"),
        ("decay", -1.0, 0.1, "from 0 to 100"),
        ("decay", 0.0, float("nan"), "from 0 to 100"),
        ("steps", 0, 10, "from 1 on"),
        ("steps", 10, 10, "both levels"),
    ],
)
def test_levels_that_cannot_be_trained_are_refused(name: str, low: float, high: float, match: str) -> None:
    factors = tuple(Factor(f.name, f.title, low, high) if f.name == name else f for f in FACTORS)
    with pytest.raises(TpeError, match=match):
        replace(Plan(), factors=factors).check()


def test_numbers_of_runs_that_are_no_design_are_refused() -> None:
    with pytest.raises(TpeError, match="8, 12, 16 or 32 runs, not 10"):
        replace(Plan(), runs=10).check()
    with pytest.raises(TpeError, match="from 1 to 7 factors, not 8"):
        two_level_design(8, 8)
    with pytest.raises(TpeError, match="at least 1 seed"):
        replace(Plan(), seeds=0).check()
