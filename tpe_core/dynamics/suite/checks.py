"""Whether a run's checkpoints are what their names say, judged by the weights alone, never by a suite's name.

Public suites have had branches that held the weights of another step, or one file of them. The signs looked for:
checkpoints with the same weights, parts of the network that two of them share, and parts that are nearer to the end of
the run than those of later steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from tpe_core.dynamics.trajectory import Point

__all__ = ["Suspicion", "duplicates", "suspicions", "warn_duplicates"]

JUMP = 0.7  # of the later step's distance to the end: nearer than that is out of order
HEADS = ("head", "embedding")
JUDGED = (*HEADS, "all", "attention", "mlp")  # large matrices: they move steadily towards where they end
NAMED = 5  # that a warning lists


def duplicates(groups: Iterable[Sequence[str]], order: Sequence[str], away: Mapping[str, float]) -> dict[str, str]:
    """For every checkpoint but one of each group of equal weights, the one that they are shown as duplicates of.

    That is the run's last where it is among them, else the one whose distance to the end (`away`) fits best between
    its neighbours in `order`; the earliest where nothing tells.
    """
    original_of: dict[str, str] = {}
    for group in sorted(groups, key=lambda names: order[-1] not in names):  # the sure ones first
        original = (
            order[-1]
            if order[-1] in group
            else min(group, key=lambda name: _misfit(name, {*group, *original_of}, order, away))
        )
        original_of |= {name: original for name in group if name != original}
    return original_of


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
    examples = ", ".join(f"{name} those of {own}" for name, own in list(same.items())[:NAMED])
    more = f", and {len(same) - NAMED} more" if len(same) > NAMED else ""
    return [
        f"{len(same)} of {count} checkpoints hold the weights of another ({examples}{more}): "
        "not all of these steps can be right."
    ]


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Checkpoints that may hold weights of another step, and the sentence that says what tells it."""

    names: tuple[str, ...]
    sentence: str


def suspicions(
    points: Sequence[Point],
    apart: Mapping[str, Mapping[str, float]],
    hashes: Mapping[str, Mapping[str, str]],
) -> list[Suspicion]:
    """What is wrong with the order of a run's checkpoints, judged by every part of the network that was measured.

    `apart` is each checkpoint's distance to the last by parameter group, `hashes` those of its weight files by name,
    where they are known without reading them. Duplicates of other checkpoints are left to `duplicates`.
    """
    distinct = [point for point in points if point.duplicate_of is None]
    sure = list(_shared_with_the_last(distinct, apart))
    named = {name for one in sure for name in one.names}
    return [
        *sure,
        *_out_of_order([point for point in distinct[:-1] if point.name not in named], apart),
        *_shared_with_the_one_before(distinct),
        *_shared_files([point.name for point in distinct], hashes),
    ]


def _shared_with_the_last(own: Sequence[Point], apart: Mapping[str, Mapping[str, float]]) -> Iterable[Suspicion]:
    """Checkpoints of which a part is exactly the last one's and another is not."""
    earlier = [point for point in own[:-1] if point.name in apart]
    for at, point in enumerate(earlier):
        groups = [group for group in _same_parts(apart[point.name]) if not _frozen(earlier, at, group, apart)]
        if groups:
            yield Suspicion(
                (point.name,),
                f"the {_listed(groups)} of {point.name} {_is(groups)} exactly the last one's, and the rest of it is "
                "not: one of its files may hold the weights of the last step.",
            )


def _frozen(earlier: Sequence[Point], at: int, group: str, apart: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether a part stopped moving for good at this place, or never moved, as a part that is not trained does."""
    moved = [apart[point.name].get(group, 0.0) > 0 for point in earlier]
    before, after = moved[:at], moved[at + 1 :]
    return not any(after) and (bool(after) or not any(before) or not all(before))


def _same_parts(distances: Mapping[str, float]) -> list[str]:
    """The large parts at distance 0, where anything else is not. (Norms in 16 bits can stand still for a while.)"""
    kinds = {group: value for group, value in distances.items() if group != "all" and not group.startswith("layer ")}
    same = [group for group in JUDGED if kinds.get(group) == 0]
    return same if any(kinds.values()) else []


def _out_of_order(own: Sequence[Point], apart: Mapping[str, Mapping[str, float]]) -> Iterable[Suspicion]:
    """Steps of which a part is much nearer to the last one's than that of the next step."""
    for point, later in itertools.pairwise([point for point in own if point.name in apart]):
        here, there = apart[point.name], apart[later.name]
        groups = [group for group in JUDGED if 0 < here.get(group, 0.0) < JUMP * there.get(group, 0.0)]
        if groups:
            group = groups[0]
            name = "head" if group in HEADS else "parameters" if group == "all" else group
            yield Suspicion(
                (point.name, later.name),
                f"the {name} of {point.name} {_is([name])} nearer to the last one's ({here[group]:.3g}) than "
                f"{'those' if name == 'parameters' else 'that'} of {later.name} ({there[group]:.3g}): "
                "one of them may hold the weights of another step.",
            )


def _shared_with_the_one_before(points: Sequence[Point]) -> Iterable[Suspicion]:
    """Neighbours of which a part is exactly the same and another is not, though that part moves later."""
    for at, (point, later) in enumerate(itertools.pairwise(points[:-1])):
        rest = [each.change for each in points[at + 2 :]]
        groups = [
            group
            for group in _same_parts(later.change)
            if point.change.get(group, 0.0) > 0 and any(change.get(group, 0.0) > 0 for change in rest)
        ]
        if groups:
            yield Suspicion(
                (point.name, later.name),
                f"the {_listed(groups)} of {point.name} and {later.name} {_is(groups)} the same, and the rest of them "
                "is not: one of them may hold a file of the other.",
            )


def _shared_files(names: Sequence[str], hashes: Mapping[str, Mapping[str, str]]) -> Iterable[Suspicion]:
    """Checkpoints that have a weight file in common with a later one, though it changed in between."""
    reported = set()
    for file in sorted({file for known in hashes.values() for file in known}):
        series = [(name, hashes[name][file]) for name in names if file in hashes.get(name, {})]
        if len({value for _, value in series}) < 2 or len(series) < 3:
            continue
        for at, (name, value) in enumerate(series):
            again = [other for other in range(at + 1, len(series)) if series[other][1] == value]
            split = [other for other in again if any(series[k][1] != value for k in range(at + 1, other))]
            alone = again == [len(series) - 1] and at == len(series) - 2  # the last but one, and it alone
            if not (split or alone) or (name, file) in reported:
                continue
            last = series[-1][1] == value
            others = (name,) if last else (name, series[split[0]][0])
            reported |= {(other, file) for other in others}
            whose = "the last one" if last else series[split[0]][0]
            yield Suspicion(
                others,
                f"{file} of {name} is that of {whose}, and its other files are not: "
                "one of them may hold the weights of another step.",
            )


def _listed(groups: Sequence[str]) -> str:
    return groups[0] if len(groups) == 1 else f"{', '.join(groups[:-1])} and {groups[-1]}"


def _is(groups: Sequence[str]) -> str:
    return "is" if len(groups) == 1 and not groups[0].endswith("s") else "are"
