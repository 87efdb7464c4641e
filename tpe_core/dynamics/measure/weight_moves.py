"""How far two checkpoints of a run are apart: in their heads, or in all parameters by group, tensor by tensor.

Tensors are matched by name, one at a time in memory. What the architecture does not call a parameter (masks and
tables that some checkpoints hold) is left out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from torch import Tensor

from tpe_core.dynamics.measure.parameter_groups import distances, groups_of, lengths
from tpe_core.dynamics.suite.head_name import HeadName
from tpe_core.dynamics.suite.weight_files import UnusableError, Weights
from tpe_core.progress import Progress, Steps

__all__ = ["head_distance", "head_length", "moves", "parameter_names"]

MOSTLY = 0.5  # of the values must have names that the architecture knows, or all are taken


def head_distance(name: str, a: Tensor, b: Tensor) -> dict[str, float]:
    """Euclidean distance of two heads called `name`, under the name of their group alone."""
    return _only_kind(name, distances([(name, a, b)]))


def head_length(name: str, a: Tensor) -> dict[str, float]:
    """Euclidean length of a head, under the name of its group alone."""
    return _only_kind(name, lengths([(name, a)]))


def _only_kind(name: str, values: Mapping[str, float]) -> dict[str, float]:
    kind = groups_of(name)[1]
    return {kind: values[kind]}


def parameter_names(weights: Weights, head: HeadName, head_tensor: str) -> Steps[dict[str, int]]:
    """A checkpoint's parameters and how many values each has: a job. `head_tensor` is the head's name there."""
    locations = yield from weights.locations(weights.files)
    sizes = {name: math.prod(location.shape) for name, location in locations.items() if location.floating}
    again = {variant for name in head.names for variant in head.variants(name)} - {head_tensor}
    sizes = {name: size for name, size in sizes.items() if name not in again}
    known = {variant for name in head.others for variant in head.variants(name)} | {head_tensor}
    named = {name: size for name, size in sizes.items() if name in known}
    return named if sum(named.values()) >= MOSTLY * sum(sizes.values()) else sizes


def moves(weights: Weights, names: Mapping[str, int], others: Sequence[Weights]) -> Steps[list[dict[str, float]]]:
    """|theta| by group, then |theta - theta'| for each of `others`: a job of one pass over theta.

    Raises `UnusableError` where another lacks a tensor or has it in another shape.
    """
    totals: list[dict[str, float]] = [defaultdict(float) for _ in range(1 + len(others))]
    done = 0
    for name, size in names.items():
        yield Progress("compare parameters", done, sum(names.values()), note=name)
        theta = yield from weights.tensor(name)
        _add(totals[0], lengths([(name, theta)]))
        for total, other in zip(totals[1:], others, strict=True):
            if name not in other.files:
                raise UnusableError(f"it has the parameter {name} and another checkpoint has not")
            there = yield from other.tensor(name)
            if there.shape != theta.shape:
                raise UnusableError(
                    f"its {name} is of shape {tuple(theta.shape)}, in another checkpoint {tuple(there.shape)}"
                )
            _add(total, distances([(name, theta, there)]))
        done += size
    return [{group: math.sqrt(square) for group, square in total.items()} for total in totals]


def _add(total: dict[str, float], values: Mapping[str, float]) -> None:
    for group, value in values.items():
        total[group] += value**2
