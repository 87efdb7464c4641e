"""Steering studies: asked and achieved ratios of tokens on three texts, what the edits cost, and who pays.

One V-wide pass over each text's stored hidden states (`observe_texts`) answers for every token, method and ratio; a
second one over the held-out text says who pays. `tpe steer` (`study`) and the inspector ask the same `ObservedTexts`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.analysis import Analysis
from tpe_core.corpus.domains import DOMAINS
from tpe_core.detection.hidden import HiddenSample
from tpe_core.detection.samples import Samples
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.edit_numbers import EditNumbers
from tpe_core.edits.intervention import METHODS, Intervention, Method, check_steering
from tpe_core.errors import TpeError
from tpe_core.printable import printable_token
from tpe_core.progress import Progress, Steps, relayed
from tpe_core.steering.calibration import calibrate
from tpe_core.steering.effects import Observed, effects, log_normaliser, most_affected, observe, observe_again, unit
from tpe_core.steering.few_shot import few_shot
from tpe_core.steering.results import (
    DOSE,
    ONE_EDIT,
    AffectedToken,
    CalibratedRatios,
    DoseCurve,
    DoseRequest,
    DoseResponse,
    MostAffected,
    Steerable,
    SteeringResult,
    SteeringStudy,
    TextsRead,
)
from tpe_core.token_sets.token_set import TokenSet

__all__ = ["ObservedTexts", "SteeringPlan", "SteeringTry", "mid_frequency", "observe_texts", "study", "unsteered"]

T = TypeVar("T")
Floats = NDArray[np.float64]

PRINTED_AFFECTED = 5  # tokens named by a command
SHOWN_AFFECTED = 8  # and in the inspector


def mid_frequency(surprisal: Floats, count: int) -> tuple[int, ...]:
    """`count` token ids spread evenly over the middle half of the vocabulary by -log alpha [V], commonest first."""
    order = np.argsort(surprisal, kind="stable")[: int(np.isfinite(surprisal).sum())]
    middle = order[len(order) // 4 : len(order) - len(order) // 4]
    if not 0 < count <= len(middle):
        raise TpeError(f"there are {len(middle):,} tokens of middle frequency: {count:,} cannot be drawn from them.")
    return tuple(int(token_id) for token_id in middle[np.linspace(0, len(middle) - 1, count).round().astype(np.int64)])


def unsteered(edit: Intervention) -> Intervention:
    """What lies below the steering of an edit: its pruned dimensions."""
    return replace(edit, steering=(), sets=())


@dataclass(frozen=True, kw_only=True)
class SteeringPlan:
    """What to try: each token and each set to each ratio (and each exact mean probability in `targets`) by each method.

    A set's probability is the sum of its tokens'. `together` steers all of them at once; `calibrate` adds the step
    whose measured effect on the local text is the one asked for. Raises `TpeError` for what cannot be tried.
    """

    token_ids: tuple[int, ...] = ()
    sets: tuple[TokenSet, ...] = ()  # each steered as one
    ratios: tuple[float, ...] = ()
    targets: tuple[float, ...] = ()
    methods: tuple[Method, ...] = ("least-squares",)
    together: bool = False
    calibrate: bool = False
    dose: bool = False
    few_shot: bool = False

    def __post_init__(self) -> None:
        if not self.steered or not self.methods or not (self.ratios or self.targets):
            raise TpeError("steering needs a token or a set, a method, and a ratio or a target: name one of each.")
        if len(set(self.token_ids)) < len(self.token_ids):
            raise TpeError("a token is named twice: name every token once.")
        if self.together:
            self._check_apart()
        for method in self.methods:
            for ratio in self.ratios or (2.0,):
                check_steering(ratio, method)
        for target in self.targets:
            if not 0 < target < 1:
                raise TpeError(f"a target probability must lie between 0 and 1, not {target}.")

    def _check_apart(self) -> None:
        """Raise `TpeError` where a token is in two of the sets, or named beside a set that it is in."""
        owner: dict[int, TokenSet] = {}
        for each in self.sets:
            if (shared := next((owner[i] for i in each.token_ids if i in owner), None)) is not None:
                raise TpeError(
                    f"the sets {shared.label!r} and {each.label!r} share tokens: take those of one out of the other, "
                    f"as in '{each.definition} - ({shared.definition})'."
                )
            owner.update(dict.fromkeys(each.token_ids, each))
        for token_id in self.token_ids:
            if token_id in owner:
                raise TpeError(
                    f"token id {token_id} is in the set {owner[token_id].label!r}, too: take it out, as in "
                    f"'{owner[token_id].definition} - #{token_id}'."
                )

    @property
    def steered(self) -> tuple[Steerable, ...]:
        """The tokens, then the sets."""
        return (*self.token_ids, *self.sets)

    @property
    def groups(self) -> tuple[tuple[Steerable, ...], ...]:
        """What is steered at once."""
        return (self.steered,) if self.together else tuple((each,) for each in self.steered)

    @property
    def size(self) -> int:
        """How many edits are asked for; each of them once more where they are calibrated, too."""
        return len(self.groups) * len(self.methods) * (len(self.ratios) + len(self.targets)) * (1 + self.calibrate)

    def check_single(self) -> None:
        """Raise `TpeError` where it names more than one edit: only one can be saved."""
        if self.size > 1 + self.calibrate:
            raise TpeError(ONE_EDIT)


@dataclass(frozen=True, slots=True)
class SteeringTry:
    """One edit of m tokens: the ratio asked of each, the steps taken, and, where calibrated, which reach it."""

    asked: tuple[float, ...]
    steps: tuple[float, ...]  # log r, nats
    reached: tuple[bool, ...] | None = None

    @staticmethod
    def plain(ratios: Sequence[float]) -> SteeringTry:
        """The edit that steps by what is asked."""
        return SteeringTry(tuple(ratios), tuple(math.log(ratio) for ratio in ratios))


def observe_texts(
    analysis: Analysis,
    samples: Samples,
    basis: EditStatistics,
    edit: Intervention,
    steered: Sequence[Steerable] = (),
) -> Steps[ObservedTexts]:
    """Run the head, pruned as `edit` says, over three texts once: a job.

    Pruned dimensions are replaced in the stored hidden states, so that figures are those of steering the pruned head.
    Raises `TpeError` where one of the tokens has no row in use, or no probability ever.
    """
    below, stored, observed = unsteered(edit), {}, {}
    numbers = EditNumbers(basis.resolve(below))
    for name, sample in samples.items():
        stored[name] = sample
        if below.pruned:
            states = numbers.replaced(torch.from_numpy(sample.hidden))
            stored[name] = HiddenSample(sample.size, states.numpy(), sample.next_ids, sample.priority)
        observed[name] = yield from observe(analysis.model.head, stored[name], steered)
    texts = {"local": analysis.text, "heldout": samples.heldout_text, "ood": samples.ood_text}
    read = TextsRead(texts, {name: len(sample) for name, sample in stored.items()}, samples.warnings)
    return ObservedTexts(analysis=analysis, basis=basis, below=below, read=read, stored=stored, observed=observed)


@dataclass(frozen=True, kw_only=True)
class ObservedTexts:
    """Three texts under one mask, `below`, made by `observe_texts`: any edit's effect on them is a closed form."""

    analysis: Analysis
    basis: EditStatistics
    below: Intervention
    read: TextsRead
    stored: Mapping[str, HiddenSample]  # with what is pruned replaced
    observed: Mapping[str, Observed]
    _units: dict[tuple[str, Method], Tensor] = field(default_factory=dict)

    # what the command line's study and the inspector's requests are made of

    def measure(
        self, group: Sequence[Steerable], method: Method, tries: Sequence[SteeringTry]
    ) -> tuple[SteeringResult, ...]:
        """What edits of the same tokens and sets by one method achieve and cost: a result for each of them per edit."""
        steps = np.array([tried.steps for tried in tries])
        found = {name: effects(self.observed[name], group, steps, self._unit(name, method)) for name in DOMAINS}
        direction = self.basis.direction(method, self.below.pruned)
        length = None if direction is None else np.linalg.norm(direction)
        scales = [1 / self._row_length(each) for each in group]
        attainable = [self.observed["local"].attainable(each) for each in group]
        results = []
        for index, tried in enumerate(tries):
            seen = {name: of_tries[index] for name, of_tries in found.items()}
            results += [
                SteeringResult(
                    steered=each,
                    token=self._text(each),
                    together=tuple(group),
                    method=method,
                    asked=tried.asked[at],
                    step=step,
                    calibrated=tried.reached is not None,
                    reached=tried.reached is None or tried.reached[at],
                    alpha={name: effect.alpha[at] for name, effect in seen.items()},
                    achieved={name: effect.achieved[at] for name, effect in seen.items()},
                    spread={name: effect.spread[at] for name, effect in seen.items()},
                    kl={name: effect.kl for name, effect in seen.items()},
                    js={name: effect.js for name, effect in seen.items()},
                    relative_edit=None if length is None else float(abs(step) * length * scale),
                    attainable=attainable[at],
                )
                for at, (each, step, scale) in enumerate(zip(group, tried.steps, scales, strict=True))
            ]
        return tuple(results)

    def _row_length(self, steered: Steerable) -> float:
        """|W_w| of a token's row; of a set's rows the root mean square."""
        ids = list(steered.token_ids) if isinstance(steered, TokenSet) else [steered]
        rows = self.analysis.model.head.columns[:, ids].double()
        return float(rows.norm()) / math.sqrt(len(ids))

    def _text(self, steered: Steerable) -> str:
        return printable_token(steered.label) if isinstance(steered, TokenSet) else self.analysis.tokens[steered]

    def dose_curves(
        self,
        group: Sequence[Steerable],
        method: Method,
        ratios: Sequence[float] = DOSE,
        fixed: Sequence[float] = (),
        *,
        domains: Sequence[str] = tuple(DOMAINS),
    ) -> tuple[DoseCurve, ...]:
        """Dose-response curves of tokens that are asked `ratios` together; the last of them stay at `fixed` ratios."""
        moving = len(group) - len(fixed)
        steps = np.log([[ratio] * moving + list(fixed) for ratio in ratios])
        found = {name: effects(self.observed[name], group, steps, self._unit(name, method)) for name in domains}
        return tuple(
            DoseCurve(
                steered=each,
                token=self._text(each),
                method=method,
                asked=tuple(ratios),
                achieved={name: tuple(effect.achieved[at] for effect in rows) for name, rows in found.items()},
                js={name: tuple(effect.js for effect in rows) for name, rows in found.items()},
            )
            for at, each in enumerate(group[:moving])
        )

    def calibrate(self, group: Sequence[Steerable], method: Method, ratios: Sequence[float]) -> SteeringTry:
        """The edit whose measured effect on the local text is the one asked for, or comes nearest to it."""
        local = self.observed["local"]
        wanted = [ratio * local.alpha(each) for ratio, each in zip(ratios, group, strict=True)]
        solution = calibrate(local, group, wanted, self._unit("local", method))
        return SteeringTry(tuple(ratios), solution.steps, solution.reached)

    def affected(
        self, edits: Sequence[tuple[tuple[Steerable, ...], Method, SteeringTry]], count: int
    ) -> Steps[list[tuple[AffectedToken, ...]]]:
        """The `count` tokens that each edit affects most on held-out text (`most_affected`): a job, a V-wide pass."""
        heldout, moved = self.observed["heldout"], []
        for group, method, tried in edits:
            steps = np.array([tried.steps])
            moved.append((group, log_normaliser(heldout, group, steps, self._unit("heldout", method))[0]))
        head, sample = self.analysis.model.head, self.stored["heldout"]
        return (yield from most_affected(head, sample, heldout.log_z, moved, count))

    def _unit(self, name: str, method: Method) -> Tensor:
        if (name, method) not in self._units:
            direction = self.basis.direction(method, self.below.pruned)
            self._units[name, method] = unit(self.observed[name], direction)
        return self._units[name, method]

    # what the inspector asks

    def respond(self, request: DoseRequest) -> DoseResponse:
        """Achieved ratios and their cost by every method, and the dose-response curves of the token looked at.

        Raises `TpeError` for a token that does not exist or is never predicted, and for another mask than `below`.
        """
        texts, ids, ratios = self._at(request), request.steered, request.ratios
        results, curves = {}, {}
        for method in METHODS:
            results[method] = texts.measure(ids, method, [SteeringTry.plain(ratios)])
            (curves[method],) = texts.dose_curves(ids, method, request.grid, ratios[1:], domains=("heldout",))
        return DoseResponse(request, results, curves)

    def calibrated(self, request: DoseRequest) -> CalibratedRatios:
        """What to ask so that every token achieves its ratio on the local text, by the method in force."""
        texts, ids, method = self._at(request), request.steered, request.method
        return CalibratedRatios(request, texts.measure(ids, method, [texts.calibrate(ids, method, request.ratios)]))

    def most_affected(self, request: DoseRequest) -> Steps[MostAffected]:
        """The tokens that lose most to the edit by the method in force, on held-out text: a job, a V-wide pass."""
        edit = (request.steered, request.method, SteeringTry.plain(request.ratios))
        (tokens,) = yield from self._at(request).affected([edit], SHOWN_AFFECTED)
        return MostAffected(request, tokens)

    def _at(self, request: DoseRequest) -> ObservedTexts:
        """The same texts with the request's tokens observed."""
        if unsteered(request.edit) != self.below:
            raise TpeError("the texts were read with other dimensions pruned: open the steering study again.")
        head, ids = self.analysis.model.head, request.steered
        return replace(self, observed={name: observe_again(head, seen, ids) for name, seen in self.observed.items()})


def study(analysis: Analysis, samples: Samples, plan: SteeringPlan) -> Steps[SteeringStudy]:
    """Try what a plan names on the three samples of an analysed model: a job.

    Its progress carries the study so far. Raises `TpeError` where a token has no row in use, or no probability ever.
    """
    basis = EditStatistics.of(analysis.encoding.slope, analysis.detection)
    texts = yield from observe_texts(analysis, samples, basis, Intervention(), plan.steered)
    done = SteeringStudy(tokens=analysis.tokens, read=texts.read)
    each = list(product(plan.groups, plan.methods))
    edits: list[tuple[tuple[Steerable, ...], Method, SteeringTry]] = []
    for at, (group, method) in enumerate(each):
        yield Progress("steer", at, len(each), partial=done)
        tries = _tries(plan, texts, group, method)
        edits += [(group, method, tried) for tried in tries]
        curves = texts.dose_curves(group, method) if plan.dose else ()
        done = replace(done, results=done.results + texts.measure(group, method, tries), dose=done.dose + curves)
    yield Progress("steer", len(each), len(each), partial=done)
    paid = yield from _carrying(texts.affected(edits, PRINTED_AFFECTED), done)
    by_edit = zip(done.edits(), paid, strict=True)
    done = replace(done, results=tuple(replace(result, paid=who) for edit, who in by_edit for result in edit))
    if plan.few_shot:
        ratios = plan.ratios or tuple(dict.fromkeys(result.asked for result in done.results))
        judged = {name: texts.observed[name] for name in ("heldout", "local")}
        steps = few_shot(analysis, judged, plan.steered, plan.methods, ratios)
        points = yield from _carrying(steps, done)
        done = replace(done, few_shot=tuple(points))
    return done


def _carrying(steps: Steps[T], done: SteeringStudy) -> Steps[T]:
    return relayed(steps, lambda event: replace(event, partial=done))


def _tries(plan: SteeringPlan, texts: ObservedTexts, group: tuple[Steerable, ...], method: Method) -> list[SteeringTry]:
    alpha = [texts.observed["local"].alpha(each) for each in group]
    asked = [tuple(ratio for _ in group) for ratio in plan.ratios]
    asked += [tuple(target / probability for probability in alpha) for target in plan.targets]
    tries: list[SteeringTry] = []
    for ratios in asked:
        tries.append(SteeringTry.plain(ratios))
        if plan.calibrate:
            tries.append(texts.calibrate(group, method, ratios))
    return tries
