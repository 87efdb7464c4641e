"""Reachability against brute force and against planted rows, with every verdict's proof checked."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.spatial import ConvexHull

from tests.helpers.head_rows import rows_of
from tpe_core.atlas.head_rows import HeadRows
from tpe_core.atlas.reachability import Reachability, reachability
from tpe_core.atlas.region import Region
from tpe_core.errors import TpeError
from tpe_core.progress import run


def checked(head: HeadRows, region: Region = "any", observed: np.ndarray | None = None) -> Reachability:
    """The verdicts, after their proofs were checked."""
    result = run(reachability(head, region, observed))
    for verdict in ("reachable", "unreachable"):
        for token_id in result.of(verdict).tolist():
            assert result.holds(token_id), (verdict, token_id, result.proof(token_id))
    assert not len(result.of("undecided"))
    return result


@pytest.mark.parametrize(("seed", "tokens", "width"), [(0, 40, 2), (1, 120, 3), (2, 200, 4), (3, 60, 5)])
def test_without_a_bias_the_unreachable_tokens_are_those_that_are_no_corner_of_the_convex_hull(
    seed: int, tokens: int, width: int
) -> None:
    weight = np.random.default_rng(seed).normal(size=(tokens, width)).astype(np.float32).astype(np.float64)
    corners = set(ConvexHull(weight).vertices.tolist())
    result = checked(rows_of(weight))
    assert set(result.of("reachable").tolist()) == corners
    assert len(result.of("unreachable")) == tokens - len(corners) > 0


def whole_program(weight: np.ndarray, offset: np.ndarray, token_id: int) -> float:
    """The largest normalised lead of a token over all others at once: the program without any cascade."""
    others = np.delete(np.arange(len(weight)), token_id)
    away = np.hstack([weight[token_id] - weight[others], (offset[token_id] - offset[others])[:, None]])
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    matrix = np.hstack([-away, np.ones((len(others), 1))])
    bounds = [(-1, 1)] * weight.shape[1] + [(0, 1), (None, None)]
    answer = linprog(np.append(np.zeros(weight.shape[1] + 1), -1.0), matrix, np.zeros(len(others)), bounds=bounds)
    assert answer.x is not None
    return float(answer.x[-1])


@pytest.mark.parametrize("seed", [0, 1])
def test_with_a_bias_the_verdicts_are_those_of_the_program_over_every_row(seed: int) -> None:
    random = np.random.default_rng(seed)
    weight = random.normal(size=(50, 3)).astype(np.float32).astype(np.float64)
    offset = random.normal(size=50)
    expected = {each for each in range(50) if whole_program(weight, offset, each) > 1e-9}
    result = checked(rows_of(weight, offset))
    assert set(result.of("reachable").tolist()) == expected
    assert 0 < len(expected) < 50


def test_a_bias_can_lift_a_row_inside_the_hull_and_sink_no_corner() -> None:
    weight = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1], [0.1, 0.1]])
    assert checked(rows_of(weight)).of("unreachable").tolist() == [4]
    assert checked(rows_of(weight, np.array([0, 0, 0, 0, 0.5]))).of("unreachable").tolist() == []
    sunk = checked(rows_of(weight, np.array([-50.0, 0, 0, 0, 0])))
    assert sunk.of("unreachable").tolist() == []  # the corner is far out, and the inner row wins before it does
    assert sunk.proof(4) == "program"


def test_planted_tokens_in_a_wide_head_are_all_that_is_unreachable() -> None:
    random = np.random.default_rng(5)
    weight = random.normal(size=(1500, 32)) * 0.1
    outside = np.arange(1400)
    for planted in range(1400, 1500):  # inside: halfway between some others
        chosen = random.choice(outside, 40, replace=False)
        weight[planted] = random.dirichlet(np.ones(40)) @ weight[chosen]
    weight = weight.astype(np.float32).astype(np.float64)
    result = checked(rows_of(weight))
    assert result.of("unreachable").tolist() == list(range(1400, 1500))


def test_of_two_tokens_with_the_same_row_neither_is_strictly_on_top() -> None:
    weight = np.random.default_rng(0).normal(size=(30, 8))
    weight[7] = weight[3]
    result = checked(rows_of(weight))
    assert result.of("unreachable").tolist() == [3, 7]
    assert result.combinations[3].ids.tolist() == [7]
    offset = np.zeros(30)
    offset[7] = 0.5
    assert checked(rows_of(weight, offset)).of("unreachable").tolist() == [3]


def test_padding_rows_compete_and_tokens_that_are_never_predicted_do_not() -> None:
    weight = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1], [0.3, 0.3], [4, 4]])
    assert checked(rows_of(weight, padding=1)).of("unreachable").tolist() == [4]  # inside without the padding row, too
    closer = np.array([[1.0, 0], [-1, 0], [0, -1], [0.6, 0.6], [4, 4], [-4, 4]])
    assert checked(rows_of(closer, padding=2)).of("unreachable").tolist() == [3]
    barred = np.array([0, 0, 0, 0, -np.inf, -np.inf])
    result = checked(rows_of(closer, barred))
    assert result.of("never predicted").tolist() == [4, 5]
    assert result.of("unreachable").tolist() == []


@pytest.mark.parametrize("seed", range(3))
def test_in_a_box_the_verdicts_are_those_of_the_program_over_every_row(seed: int) -> None:
    random = np.random.default_rng(seed)
    weight = random.normal(size=(40, 4)).astype(np.float32).astype(np.float64)
    offset = 2 * random.normal(size=40)
    observed = random.uniform(-1, 2, size=(64, 4)).astype(np.float32)
    low, high = observed.min(0).astype(float), observed.max(0).astype(float)
    expected = set()
    for token_id in range(40):
        others = np.delete(np.arange(40), token_id)
        matrix = np.hstack([weight[others] - weight[token_id], np.ones((39, 1))])
        bounds = [*zip(low, high, strict=True), (None, None)]
        answer = linprog([0, 0, 0, 0, -1], matrix, offset[token_id] - offset[others], bounds=bounds)
        assert answer.x is not None
        if answer.x[-1] > 0:
            expected.add(token_id)
    result = checked(rows_of(weight, offset), "observed", observed)
    assert set(result.of("reachable").tolist()) == expected
    assert 0 < len(expected) < 40
    for token_id in expected:
        witness = result.witness(token_id)
        assert witness is not None
        assert (witness >= low - 1e-9).all()
        assert (witness <= high + 1e-9).all()


def test_a_proof_is_refused_where_it_proves_nothing() -> None:
    weight = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1], [0.1, 0.1]])
    result = checked(rows_of(weight))
    proof = result.combinations[4]
    wrong = proof.__class__(np.array([0, 1]), np.array([0.5, 0.5]), 0.0)
    assert not replace(result, combinations={4: wrong}).holds(4)


def test_brute_force_over_directions_finds_no_state_for_an_unreachable_token() -> None:
    random = np.random.default_rng(9)
    weight = random.normal(size=(25, 2))
    result = checked(rows_of(weight.astype(np.float32).astype(np.float64)))
    angles = np.linspace(0, 2 * np.pi, 20_000)
    tops = set((np.stack([np.cos(angles), np.sin(angles)], 1) @ weight.T).argmax(1).tolist())
    assert tops == set(result.of("reachable").tolist())
    for token_id in result.of("unreachable").tolist():  # and it lies in a triangle of others (Caratheodory)
        inside = False
        for three in combinations(sorted(tops), 3):
            system = np.vstack([weight[list(three)].T, np.ones(3)])
            inside |= bool((np.linalg.solve(system, [*weight[token_id], 1]) >= -1e-6).all())
        assert inside


def test_a_time_limit_leaves_the_rest_unchecked() -> None:
    weight = np.random.default_rng(0).normal(size=(600, 8))
    times = iter(range(10_000))
    result = run(reachability(rows_of(weight), seconds=2, clock=lambda: float(next(times))))
    assert len(result.of("not checked")) > 0
    assert sum(result.counts.values()) == 600


def test_only_the_tokens_that_are_named_are_checked() -> None:
    weight = np.random.default_rng(0).normal(size=(60, 3))
    whole, some = run(reachability(rows_of(weight))), run(reachability(rows_of(weight), ids=np.array([5, 2])))
    assert [some.verdict(each) for each in (5, 2, 9)] == [whole.verdict(5), whole.verdict(2), "not checked"]


def test_a_box_needs_hidden_states() -> None:
    with pytest.raises(TpeError, match="no hidden states"):
        run(reachability(rows_of(np.eye(3)), "observed"))
