"""Training steps: read from the names of checkpoints, chosen evenly on a log axis, and missed where a pattern has gaps.

Plain integers and strings; nothing is looked up by a suite's name.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

__all__ = ["log_spaced", "missing_steps", "natural", "step_of"]

NUMBER = r"(\d+)([kKmM]?)(?![A-Za-z0-9])"
NAMED = tuple(re.compile(rf"(?<![a-z]){word}[-_=. ]?{NUMBER}", re.IGNORECASE) for word in (
    r"(?:global)?[-_]?steps?", r"(?:checkpoint|ckpt|chkpt)", r"iter(?:ation)?s?",
))  # fmt: skip
ANY = re.compile(rf"(?<!\d){NUMBER}")
POWERS = {"": 1, "k": 1_000, "m": 1_000_000}
BASES = (10.0, 2.0, 10**0.5, 2**0.5, 10**0.25, 2**0.25)  # of log-spaced schedules, the coarsest first
ENOUGH = 4  # steps that follow a pattern before its gaps are believed
MOST = 0.5  # of as many missing as there are steps: with more, it is no pattern


def step_of(name: str, loose: bool = True) -> int | None:
    """The step that a checkpoint's name tells: after ``step``, else ``checkpoint`` or ``iter``, else its only number.

    ``20k`` is 20,000. Without `loose` a bare number is none: it may be a version. None where nothing tells.
    """
    for pattern in NAMED:
        if match := pattern.search(name):
            return int(match[1]) * POWERS[match[2].lower()]
    numbers = ANY.findall(name) if loose and len(re.findall(r"\d+", name)) == 1 else []
    return int(numbers[0][0]) * POWERS[numbers[0][1].lower()] if numbers else None


def natural(name: str) -> list[str | int]:
    """A key that sorts names by the numbers in them."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def log_spaced(steps: Iterable[int], count: int) -> list[int]:
    """At most `count` (1 or more) of the steps, evenly on a log axis: the last among them, and of several the first."""
    every = sorted(set(steps))
    if count >= len(every) or count < 2:
        return every[-count:]
    positive = [step for step in every if step > 0]
    chosen = {every[0], every[-1]}
    left = count - (every[0] == 0)
    first, last = math.log(positive[0]), math.log(positive[-1])
    for i in range(left if left > 1 else 0):
        target = first + (last - first) * i / (left - 1)
        chosen.add(min(positive, key=lambda step: abs(math.log(step) - target)))
    return sorted(chosen)


def missing_steps(steps: Sequence[int]) -> list[int]:
    """The steps that a suite's own pattern asks for and that are not there: every d steps, or on a log axis.

    A suite may begin on a log axis and go on every d steps. Nothing is missing where no pattern holds.
    """
    every = sorted(set(steps))
    distance = _distance(every)
    missing = [
        step
        for a, b in itertools.pairwise(every)
        if distance and (b - a) % distance == 0 and a % distance == every[-1] % distance
        for step in range(a + distance, b, distance)
    ]
    early = [step for step in every if not distance or step < distance]
    missing += _of_powers([*early, distance] if distance else early)
    return sorted(missing) if len(missing) <= MOST * len(every) else []


def _distance(steps: list[int]) -> int:
    """The distance of most of the steps, or 0."""
    gaps = [b - a for a, b in itertools.pairwise(steps)]
    distance, often = Counter(gaps).most_common(1)[0] if gaps else (0, 0)
    wide = sum(gap >= distance for gap in gaps)
    return distance if often >= ENOUGH - 2 and 2 * often >= wide else 0


def _of_powers(steps: list[int]) -> list[int]:
    """Gaps among the rounded powers of a base; the last step may be any."""
    inside = [step for step in steps[:-1] if step > 0]
    if len(inside) < ENOUGH:
        return []
    for base in BASES:
        powers = {round(base**k) for k in range(math.ceil(math.log(inside[-1]) / math.log(base)) + 2)}
        if powers.issuperset(inside):
            return sorted(step for step in powers if inside[0] < step < inside[-1] and step not in inside)
    return []
