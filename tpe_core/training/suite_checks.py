"""Whether a run's checkpoints are what their names say, judged by the weights alone, never by a suite's name.

Public suites have had branches that held the weights of another step. Two signs are looked for: checkpoints with the
same weights, and heads that are nearer to the end of the run than those of later steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from tpe_core.training.trajectory import Point

__all__ = ["duplicates", "out_of_order", "warn_duplicates"]

JUMP = 0.7  # of the later step's distance to the end: nearer than that is out of order
NAMED = 5  # that a warning lists


def duplicates(groups: Iterable[Sequence[str]], order: Sequence[str], away: Mapping[str, float]) -> dict[str, str]:
    """For every checkpoint but one of each group of equal weights, the one that they are shown as duplicates of.

    That is the run's last where it is among them, else the one whose distance to the end (`away`) fits best between
    its neighbours in `order`; the earliest where nothing tells.
    """
    found: dict[str, str] = {}
    for group in sorted(groups, key=lambda names: order[-1] not in names):  # the sure ones first
        own = (
            order[-1]
            if order[-1] in group
            else min(group, key=lambda name: _misfit(name, {*group, *found}, order, away))
        )
        found |= {name: own for name in group if name != own}
    return found


def _misfit(name: str, doubtful: AbstractSet[str], order: Sequence[str], away: Mapping[str, float]) -> float:
    """How far a checkpoint's distance to the end is from the mean of its nearest neighbours' that are not doubtful."""
    at = order.index(name)
    known = [
        [other for other in side if other not in doubtful and other in away]
        for side in (order[:at][::-1], order[at + 1 :])
    ]
    around = [away[side[0]] for side in known if side]
    return abs(away[name] - sum(around) / len(around)) if around and name in away else 0.0


def warn_duplicates(same: Mapping[str, str], count: int) -> list[str]:
    """What duplicates mean for who reads the trajectory."""
    if not same:
        return []
    some = ", ".join(f"{name} those of {own}" for name, own in list(same.items())[:NAMED])
    more = f", and {len(same) - NAMED} more" if len(same) > NAMED else ""
    return [
        f"{len(same)} of {count} checkpoints hold the weights of another ({some}{more}): "
        "not all of these steps can be right."
    ]


def out_of_order(points: Sequence[Point], away: Mapping[str, float]) -> list[str]:
    """Steps whose head is much nearer to the last one's than that of the next step, a sentence each."""
    own = [point for point in points[:-1] if point.duplicate_of is None and point.name in away]
    return [
        f"the head of {point.name} is nearer to the last one's ({away[point.name]:.3g}) than that of {later.name} "
        f"({away[later.name]:.3g}): one of them may hold the weights of another step."
        for point, later in itertools.pairwise(own)
        if away[point.name] < JUMP * away[later.name]
    ]
