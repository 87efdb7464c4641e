"""Steering studies: asked and achieved ratios of tokens on three texts, and what the edits cost.

One V-wide pass over each text's stored hidden states answers for every token, method and ratio (`steered`); a second
one over the held-out text says who pays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.analysis import Analysis
from tpe_core.detection.samples import Samples
from tpe_core.edits.directions import Directions
from tpe_core.edits.intervention import Intervention, Method, Steering, check_steering
from tpe_core.errors import TpeError
from tpe_core.progress import Progress, Steps
from tpe_core.steering.calibration import calibrate
from tpe_core.steering.effects import (
    AffectedToken,
    Effect,
    Observed,
    effects,
    log_normaliser,
    most_affected,
    observe,
    unit,
)
from tpe_core.steering.few_shot import FewShotPoint, few_shot

__all__ = ["DOSE", "DosePoint", "Result", "SteeringPlan", "Study", "mid_frequency", "study"]

Floats = NDArray[np.float64]

DOSE: tuple[float, ...] = tuple(2 ** (i / 2) for i in range(-10, 11))  # asked ratios of a dose-response curve
AFFECTED_TOKENS = 5  # tokens named
ONE_EDIT = "only one edit can be saved: give one ratio or target, one method, and several tokens only together."


def mid_frequency(surprisal: Floats, count: int) -> tuple[int, ...]:
    """`count` token ids spread evenly over the middle half of the vocabulary by -log alpha [V], commonest first."""
    order = np.argsort(surprisal, kind="stable")[: int(np.isfinite(surprisal).sum())]
    middle = order[len(order) // 4 : len(order) - len(order) // 4]
    if not 0 < count <= len(middle):
        raise TpeError(f"there are {len(middle):,} tokens of middle frequency: {count:,} cannot be drawn from them.")
    return tuple(int(token_id) for token_id in middle[np.linspace(0, len(middle) - 1, count).round().astype(np.int64)])


@dataclass(frozen=True, kw_only=True)
class SteeringPlan:
    """What to try: each token to each ratio (and each exact mean probability in `targets`) by each method.

    `together` steers all tokens at once; `calibrate` adds the step whose measured effect on the local text is the one
    asked for. Raises `TpeError` for what cannot be tried.
    """

    token_ids: tuple[int, ...]
    ratios: tuple[float, ...] = ()
    targets: tuple[float, ...] = ()
    methods: tuple[Method, ...] = ("least-squares",)
    together: bool = False
    calibrate: bool = False
    dose: bool = False
    few_shot: bool = False

    def __post_init__(self) -> None:
        if not self.token_ids or not self.methods or not (self.ratios or self.targets):
            raise TpeError("steering needs a token, a method, and a ratio or a target: name one of each.")
        if len(set(self.token_ids)) < len(self.token_ids):
            raise TpeError("a token is named twice: name every token once.")
        for method in self.methods:
            for ratio in self.ratios or (2.0,):
                check_steering(ratio, method)
        for target in self.targets:
            if not 0 < target < 1:
                raise TpeError(f"a target probability must lie between 0 and 1, not {target}.")

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The tokens that are steered at once."""
        return (self.token_ids,) if self.together else tuple((token_id,) for token_id in self.token_ids)

    def check_single(self) -> None:
        """Raise `TpeError` where it names more than one edit: only one can be saved."""
        if len(self.groups) * len(self.methods) * (len(self.ratios) + len(self.targets)) > 1:
            raise TpeError(ONE_EDIT)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One token under one edit. Mappings are by domain (`DOMAINS`); probabilities are means over its positions."""

    token_id: int
    together: tuple[int, ...]  # all tokens that the edit steers
    method: Method
    asked: float  # ratio
    target: float  # the mean probability on the local text that the ratio means
    step: float  # what the row moves along its direction, log r where it is not calibrated; nats
    calibrated: bool
    alpha: Mapping[str, float]  # before
    achieved: Mapping[str, float]  # alpha' / alpha
    spread: Mapping[str, float]  # standard deviation over positions of log(p'_x / p_x), nats
    kl: Mapping[str, float]  # of the whole edit, nats
    js: Mapping[str, float]
    relative_edit: float | None  # |dW| / |W_w|; None by `bias`, which edits no row
    attainable: tuple[float, float]  # infimum and supremum of alpha' on the local text under any edit of the row
    problem: str = ""  # a sentence where what was asked cannot be had
    paid: tuple[AffectedToken, ...] = ()  # on held-out text

    def steering(self) -> Steering:
        """The edit of this token alone; a calibrated one carries the ratio that its step is the logarithm of."""
        return Steering(self.token_id, math.exp(self.step), self.method)

    def to_dict(self, tokens: Sequence[str]) -> dict[str, Any]:
        """One entry of ``results`` in the JSON document of `tpe steer`; numbers that do not exist are null."""
        return {
            "token": tokens[self.token_id],
            "token_id": self.token_id,
            "together": list(self.together),
            "method": self.method,
            "asked": self.asked,
            "target": self.target,
            "calibrated": self.calibrated,
            "step": self.step,
            "alpha": _finite(self.alpha),
            "achieved": _finite(self.achieved),
            "spread": _finite(self.spread),
            "js": _finite(self.js),
            "kl": _finite(self.kl),
            "relative_edit": self.relative_edit,
            "attainable": list(self.attainable),
            "problem": self.problem or None,
            "paid": [{"token": tokens[p.token_id], "token_id": p.token_id, "lost": p.lost} for p in self.paid],
        }


@dataclass(frozen=True, kw_only=True)
class DosePoint:
    """One point of a dose-response curve, uncalibrated; mappings by domain."""

    token_id: int
    method: Method
    asked: float
    achieved: Mapping[str, float]
    js: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything that was tried, in the order of the plan's tokens, methods and ratios."""

    results: tuple[Result, ...]
    dose: tuple[DosePoint, ...]
    few_shot: tuple[FewShotPoint, ...]
    tokens: Sequence[str]  # [V] printable texts
    texts: Mapping[str, str]  # what was read, by domain
    positions: Mapping[str, int]

    def summary(self) -> list[dict[str, Any]]:
        """Over the tokens of each method and asked ratio: geometric mean achieved, and the deviation of its log."""
        groups: dict[tuple[Method, float, bool], list[Result]] = {}
        for result in self.results:
            groups.setdefault((result.method, result.asked, result.calibrated), []).append(result)
        rows = []
        for (method, asked, calibrated), group in groups.items():
            logs = {name: np.log([result.achieved[name] for result in group]) for name in self.positions}
            rows.append({
                "method": method,
                "asked": asked,
                "calibrated": calibrated,
                "tokens": len(group),
                "achieved": _finite({name: float(np.exp(values.mean())) for name, values in logs.items()}),
                "spread": _finite({name: float(values.std()) for name, values in logs.items()}),
            })  # fmt: skip
        return rows

    def intervention(self) -> Intervention:
        """The one edit that was tried, calibrated where that was asked for. Raises `TpeError` if there are several."""
        calibrated = any(result.calibrated for result in self.results)
        chosen = [result for result in self.results if result.calibrated is calibrated]
        if len(chosen) > len(chosen[0].together):
            raise TpeError(ONE_EDIT)
        return Intervention(steering=tuple(result.steering() for result in chosen))

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `tpe steer`, less the model's name."""
        names = ("positions", "method", "asked", "achieved", "spread")
        return {
            "texts": dict(self.texts),
            "positions": dict(self.positions),
            "results": [result.to_dict(self.tokens) for result in self.results],
            "summary": self.summary(),
            "dose": [
                {
                    "token": self.tokens[point.token_id],
                    "token_id": point.token_id,
                    "method": point.method,
                    "asked": point.asked,
                    "achieved": _finite(point.achieved),
                    "js": _finite(point.js),
                }
                for point in self.dose
            ],
            "few_shot": [{name: getattr(point, name) for name in names} for point in self.few_shot],
        }


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class _Try:
    """One edit of a group of tokens by one method: what was asked of each, and the steps taken."""

    group: tuple[int, ...]
    method: Method
    asked: tuple[float, ...]
    steps: tuple[float, ...]
    reached: tuple[bool, ...] | None = None  # of a calibrated one


def study(analysis: Analysis, samples: Samples, plan: SteeringPlan) -> Steps[Study]:
    """Try what a plan names on the three samples of an analysed model: a job.

    Raises `TpeError` where a token has no row in use, or no probability ever.
    """
    observed: dict[str, Observed] = {}
    for name, sample in samples.items():
        observed[name] = yield from observe(analysis.model.head, sample, plan.token_ids)
    directions = Directions(analysis.encoding.slope, analysis.detection)
    moves = {method: directions.of(method) for method in plan.methods}
    units = {(name, method): unit(observed[name], moves[method]) for name in observed for method in moves}
    results: list[Result] = []
    edits: list[tuple[tuple[int, ...], Tensor]] = []
    dose: list[DosePoint] = []
    for at, (group, method) in enumerate(product(plan.groups, plan.methods)):
        yield Progress("steer", at, len(plan.groups) * len(plan.methods))
        along = {name: units[name, method] for name in observed}
        tries = _tries(plan, observed["local"], group, method, along["local"])
        steps = np.array([tried.steps for tried in tries])
        measured = {name: effects(observed[name], group, steps, along[name]) for name in observed}
        normalisers = log_normaliser(observed["heldout"], group, steps, along["heldout"])
        edits += [(group, row) for row in normalisers]
        for index, tried in enumerate(tries):
            seen = {name: rows[index] for name, rows in measured.items()}
            results += _results(analysis, observed["local"], moves[method], tried, seen)
        if plan.dose:
            curve = np.repeat(np.log(DOSE)[:, None], len(group), 1)
            measured = {name: effects(observed[name], group, curve, along[name]) for name in observed}
            dose += [
                DosePoint(
                    token_id=token_id,
                    method=method,
                    asked=dose_ratio,
                    achieved={name: rows[index].achieved[i] for name, rows in measured.items()},
                    js={name: rows[index].js for name, rows in measured.items()},
                )
                for i, token_id in enumerate(group)
                for index, dose_ratio in enumerate(DOSE)
            ]
    who = yield from most_affected(
        analysis.model.head, samples.heldout, observed["heldout"].log_z, edits, AFFECTED_TOKENS
    )
    width = len(plan.token_ids) if plan.together else 1
    results = [replace(result, paid=who[index // width]) for index, result in enumerate(results)]
    curve_points: list[FewShotPoint] = []
    if plan.few_shot:
        ratios = plan.ratios or tuple(dict.fromkeys(result.asked for result in results))
        curve_points = yield from few_shot(analysis, observed["heldout"], plan.token_ids, plan.methods, ratios)
    return Study(
        results=tuple(results),
        dose=tuple(dose),
        few_shot=tuple(curve_points),
        tokens=analysis.tokens,
        texts={"local": analysis.text, "heldout": samples.heldout_text, "ood": samples.ood_text},
        positions={name: len(sample) for name, sample in samples.items()},
    )


def _tries(plan: SteeringPlan, local: Observed, group: tuple[int, ...], method: Method, along: Tensor) -> list[_Try]:
    alpha = [local.alpha(token_id) for token_id in group]
    ratio_sets = [tuple(ratio for _ in group) for ratio in plan.ratios]
    ratio_sets += [tuple(target / probability for probability in alpha) for target in plan.targets]
    tries: list[_Try] = []
    for ratios in ratio_sets:
        tries.append(_Try(group=group, method=method, asked=ratios, steps=tuple(math.log(ratio) for ratio in ratios)))
        if plan.calibrate:
            solution = calibrate(
                local, group, [r * probability for r, probability in zip(ratios, alpha, strict=True)], along
            )
            tries.append(_Try(group=group, method=method, asked=ratios, steps=solution.steps, reached=solution.reached))
    return tries


def _results(
    analysis: Analysis,
    local: Observed,
    direction: Floats | None,
    tried: _Try,
    seen: Mapping[str, Effect],
) -> list[Result]:
    """One result per token of an edit, without the tokens most affected."""
    results = []
    for i, (token_id, asked, step) in enumerate(zip(tried.group, tried.asked, tried.steps, strict=True)):
        size = None
        if direction is not None:
            row = analysis.model.head.columns[:, token_id].double().norm()
            size = float(abs(step) * np.linalg.norm(direction) / row)
        before = {name: effect.alpha[i] for name, effect in seen.items()}
        result = Result(
            token_id=token_id,
            together=tried.group,
            method=tried.method,
            asked=asked,
            target=asked * before["local"],
            step=step,
            calibrated=tried.reached is not None,
            alpha=before,
            achieved={name: effect.achieved[i] for name, effect in seen.items()},
            spread={name: effect.spread[i] for name, effect in seen.items()},
            kl={name: effect.kl for name, effect in seen.items()},
            js={name: effect.js for name, effect in seen.items()},
            relative_edit=size,
            attainable=local.attainable(token_id),
        )
        reached = tried.reached is None or tried.reached[i]
        results.append(replace(result, problem=_problem(result, analysis.tokens[token_id], reached)))
    return results


def _problem(result: Result, token: str, reached: bool) -> str:
    wanted = f"a mean probability of {result.target:.3g} on the local text ({result.asked:.3g} times its own)"
    lowest, highest = result.attainable
    if result.target >= highest:
        return f"{token!r} cannot have {wanted}: no edit of its row takes it to {highest:.3g}."
    if result.target <= lowest:
        return f"{token!r} cannot have {wanted}: under the soft cap no edit of its row takes it down to {lowest:.3g}."
    if not reached:
        nearest = result.alpha["local"] * result.achieved["local"]
        return f"{token!r} does not reach {wanted} by {result.method}: the nearest is {nearest:.3g}."
    return ""
