"""What a steering study is asked for and what it measured, for `tpe steer` and for the inspector.

Plain values without torch, so that a front end can show them while the engine measures (`tpe_core.steering.study`).
Mappings by domain have the names of `DOMAINS`; probabilities are means over a text's positions, divergences nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tpe_core.edits.intervention import Intervention, Method
from tpe_core.errors import TpeError
from tpe_core.lazy import Deferred
from tpe_core.shown import Shown
from tpe_core.token_sets.token_set import TokenSet

if TYPE_CHECKING:
    import numpy as np

    from tpe_core.tables import Table
else:
    np = Deferred("numpy")

__all__ = [
    "DOSE", "ONE_EDIT", "AffectedToken", "CalibratedRatios", "DoseCurve", "DoseRequest", "DoseResponse",
    "FewShotFigures", "FewShotPoint", "MostAffected", "Steerable", "SteeringResult", "SteeringStudy", "TextsRead",
    "dose_ratios", "edit_of",
]  # fmt: skip

Steerable = int | TokenSet
"""What an edit steers: a token, by its id, or a token set, as one."""

DOUBLINGS = 5  # a dose-response curve goes so far down and up, farther where the ratio does
STEPS = 10  # on either side of 1
ONE_EDIT = "only one edit can be saved: give one ratio or target, one method, and several tokens only together."


def dose_ratios(doublings: int = DOUBLINGS) -> tuple[float, ...]:
    """The ratios asked along a dose-response curve: evenly on a logarithmic scale, 1 in the middle."""
    return tuple(float(2 ** (doublings * step / STEPS)) for step in range(-STEPS, STEPS + 1))


DOSE = dose_ratios()


def edit_of(edit: Intervention, steered: Iterable[tuple[Steerable, float, Method]]) -> Intervention:
    """An edit that also steers tokens and sets, each to a ratio by a method."""
    for each, ratio, method in steered:
        edit = edit.steer_set(each, ratio, method) if isinstance(each, TokenSet) else edit.steer(each, ratio, method)
    return edit


@dataclass(frozen=True, slots=True)
class AffectedToken:
    """A token that an edit takes mean probability from without steering it; `lost` is below 0 where it gains."""

    token_id: int
    lost: float


@dataclass(frozen=True, kw_only=True)
class SteeringResult:
    """One token, or one set of tokens, under one edit; divergences are those of the whole edit.

    Probabilities of a set are the sums over its tokens.
    """

    steered: Steerable
    token: str  # printable text; a set's label
    together: tuple[Steerable, ...]  # all that the edit steers
    method: Method
    asked: float  # ratio
    step: float  # what the row moves along its direction, log r where it is not calibrated; nats
    calibrated: bool
    reached: bool  # False where no step of a calibrated edit has the mean probability asked for on the local text
    alpha: Mapping[str, float]  # before
    achieved: Mapping[str, float]  # alpha' / alpha
    spread: Mapping[str, float]  # standard deviation over positions of log(p'_x / p_x), nats
    kl: Mapping[str, float]
    js: Mapping[str, float]
    relative_edit: float | None  # |dW| / |W_w|, of a set's rows as one matrix; None by `bias`, which edits no row
    attainable: tuple[float, float]  # infimum and supremum of alpha' on the local text under any edit of the row
    paid: tuple[AffectedToken, ...] | None = None  # on held-out text; None where it is not measured

    @property
    def token_id(self) -> int | None:
        """The token; None where it is a set."""
        return None if isinstance(self.steered, TokenSet) else self.steered

    @property
    def token_set(self) -> TokenSet | None:
        """The set; None where it is a token."""
        return self.steered if isinstance(self.steered, TokenSet) else None

    @property
    def target(self) -> float:
        """The mean probability on the local text that the ratio means."""
        return self.asked * self.alpha["local"]

    @property
    def ratio(self) -> float:
        """The ratio that the edit carries, whose logarithm is its step."""
        return math.exp(self.step)

    @property
    def problem(self) -> str:
        """A sentence where what was asked cannot be had; empty where it can."""
        wanted = f"a mean probability of {self.target:.3g} on the local text ({self.asked:.3g} times its own)"
        name, (lowest, highest) = f"{self.token!r}", self.attainable
        if self.target >= highest:
            return f"{name} cannot have {wanted}: no edit of its row takes it to {highest:.3g}."
        if self.target <= lowest:
            return f"{name} cannot have {wanted}: under the soft cap no edit of its row takes it down to {lowest:.3g}."
        if not self.reached:
            nearest = self.alpha["local"] * self.achieved["local"]
            return f"{name} does not reach {wanted} by {self.method}: the nearest is {nearest:.3g}."
        return ""

    def to_dict(self, tokens: Sequence[str]) -> dict[str, Any]:
        """One entry of ``results`` in the JSON document of `tpe steer`; numbers that do not exist are null."""
        names = (
            "token", "token_id", "together", "method", "asked", "target", "calibrated", "step", "alpha", "achieved",
            "spread", "js", "kl", "relative_edit", "attainable",
        )  # fmt: skip
        document = {name: getattr(self, name) for name in names}
        document |= {} if self.token_set is None else {"set": self.token_set.label}
        for name, value in document.items():
            if isinstance(value, tuple | Mapping):
                document[name] = [_said(each) for each in value] if isinstance(value, tuple) else _finite(value)
        paid = [{"token": tokens[one.token_id], "token_id": one.token_id, "lost": one.lost} for one in self.paid or ()]
        return {**document, "problem": self.problem or None, "paid": None if self.paid is None else paid}


@dataclass(frozen=True, kw_only=True)
class DoseCurve:
    """What one token or set achieves at each ratio asked of it, uncalibrated."""

    steered: Steerable
    token: str  # printable text; a set's label
    method: Method
    asked: tuple[float, ...]
    achieved: Mapping[str, tuple[float, ...]]  # by domain, along `asked`
    js: Mapping[str, tuple[float, ...]]

    def points(self) -> Iterator[tuple[float, dict[str, float], dict[str, float]]]:
        """(asked, achieved by domain, JS by domain) along the curve."""
        for at, ratio in enumerate(self.asked):
            achieved, js = ({name: values[at] for name, values in by.items()} for by in (self.achieved, self.js))
            yield ratio, achieved, js


@dataclass(frozen=True, slots=True)
class FewShotFigures:
    """What one method achieves and costs on one text, over the tokens that are steered one at a time."""

    achieved: float  # geometric mean over tokens of alpha'/alpha
    spread: float  # standard deviation of its log over tokens, nats
    kl: float  # mean over tokens of E[KL(P || P')], nats


@dataclass(frozen=True, slots=True, kw_only=True)
class FewShotPoint:
    """How one method steers on each text, by domain, with directions from `positions` detecting positions."""

    positions: int
    method: Method
    asked: float
    figures: Mapping[str, FewShotFigures]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: held-out figures first, every other domain's under its name."""
        document: dict[str, Any] = {"positions": self.positions, "method": self.method, "asked": self.asked}
        for name, figures in self.figures.items():
            document |= asdict(figures) if name == "heldout" else {name: asdict(figures)}
        return document


@dataclass(frozen=True)
class TextsRead:
    """What a study measures on, by domain, once it is read."""

    texts: Mapping[str, str]
    positions: Mapping[str, int]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SteeringStudy(Shown):
    """Everything that was tried so far, in the order of the plan's tokens, methods and ratios."""

    tokens: Sequence[str]  # [V] printable texts
    read: TextsRead
    results: tuple[SteeringResult, ...] = ()
    dose: tuple[DoseCurve, ...] = ()
    few_shot: tuple[FewShotPoint, ...] = ()

    def edits(self) -> list[tuple[SteeringResult, ...]]:
        """The results of each edit, one for each token that it steers."""
        width = len(self.results[0].together) if self.results else 1  # the same in a whole study
        return [self.results[first : first + width] for first in range(0, len(self.results), width)]

    @property
    def problems(self) -> tuple[str, ...]:
        """The sentences about what cannot be had."""
        return tuple(dict.fromkeys(result.problem for result in self.results if result.problem))

    def summary(self) -> list[dict[str, Any]]:
        """Over the tokens of each method and asked ratio: geometric mean achieved, and the deviation of its log."""
        groups: dict[tuple[Method, float, bool], list[SteeringResult]] = {}
        for result in self.results:
            groups.setdefault((result.method, result.asked, result.calibrated), []).append(result)
        rows = []
        for (method, asked, calibrated), group in groups.items():
            logs = {name: np.log([result.achieved[name] for result in group]) for name in self.read.positions}
            rows.append({
                "method": method,
                "asked": asked,
                "calibrated": calibrated,
                "tokens": len(group),
                "achieved": _finite({name: float(np.exp(values.mean())) for name, values in logs.items()}),
                "spread": _finite({name: float(values.std()) for name, values in logs.items()}),
            })  # fmt: skip
        return rows

    def _tables(self) -> Mapping[str, Callable[[], Table]]:
        few_shot = {"few_shot": self._few_shot_table} if self.few_shot else {}
        return {"steering": self._results_table, **few_shot}

    def _results_table(self) -> Table:
        """A row for each result and text; divergences, of the whole edit, in nats."""
        from tpe_core.tables import Table

        return Table.of(
            {
                "token_id": each.token_id,
                "token": each.token,
                "text": text,
                "ratio_asked": each.asked,
                "ratio_achieved": each.achieved[text],
                "kl": each.kl[text],
                "js": each.js[text],
                "alpha": each.alpha[text],
                "method": each.method,
                "calibrated": each.calibrated,
            }
            for each in self.results
            for text in each.achieved
        )

    def _few_shot_table(self) -> Table:
        """A row for each length of the detecting text and each text judged on; KL in nats where it was measured."""
        from tpe_core.tables import Table

        return Table.of(
            {
                "tokens": point.positions,
                "text": text,
                "ratio_asked": point.asked,
                "ratio_achieved": figures.achieved,
                "kl": figures.kl,
                "spread": figures.spread,
                "method": point.method,
            }
            for point in self.few_shot
            for text, figures in point.figures.items()
        )

    def _summary(self) -> Mapping[str, object]:
        summary: dict[str, object] = {}
        for row in self.summary():
            how = f"{row['method']}, calibrated" if row["calibrated"] else row["method"]
            achieved = (f"{text} {value:.3g}" for text, value in row["achieved"].items() if value is not None)
            summary[f"{row['asked']:g} asked of {row['tokens']}, {how}"] = ", ".join(achieved)
        return summary

    def only_edit(self) -> tuple[SteeringResult, ...]:
        """The results of the one edit that was tried, calibrated where that was asked for.

        Raises `TpeError` if there are several.
        """
        calibrated = any(result.calibrated for result in self.results)
        chosen, *others = [edit for edit in self.edits() if edit[0].calibrated is calibrated]
        if others:
            raise TpeError(ONE_EDIT)
        return chosen

    def intervention(self) -> Intervention:
        """The one edit that was tried, a calibrated one with what it asks. Raises as `only_edit` does."""
        chosen = self.only_edit()
        return edit_of(Intervention(), [(each.steered, each.ratio, each.method) for each in chosen])

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `tpe steer`, less the model's name."""
        return {
            "texts": dict(self.read.texts),
            "positions": dict(self.read.positions),
            "results": [result.to_dict(self.tokens) for result in self.results],
            "summary": self.summary(),
            "dose": [
                {
                    "token": curve.token,
                    "token_id": None if isinstance(curve.steered, TokenSet) else curve.steered,
                    **({"set": curve.token} if isinstance(curve.steered, TokenSet) else {}),
                    "method": curve.method,
                    "asked": asked,
                    "achieved": _finite(achieved),
                    "js": _finite(js),
                }
                for curve in self.dose
                for asked, achieved, js in curve.points()
            ],
            "few_shot": [point.to_dict() for point in self.few_shot],
        }


def _said(value: object) -> object:
    """A set by its name, anything else as it is."""
    return value.label if isinstance(value, TokenSet) else value


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


@dataclass(frozen=True, slots=True)
class DoseRequest:
    """What an inspector asks: the token looked at, the method in force, and the whole edit with every steered token.

    The token is one of them, unless its ratio is 1. All tokens are steered by the one method.
    """

    token_id: int
    method: Method
    edit: Intervention

    @property
    def steered(self) -> tuple[Steerable, ...]:
        """The token looked at, or the steered set that it is in, then all else that is steered with it."""
        own: Steerable = self.edit.set_of(self.token_id) or self.token_id
        singles = (entry.token_id for entry in self.edit.singles)
        others: tuple[Steerable, ...] = (*self.edit.sets, *singles)
        return (own, *(each for each in others if each != own))

    @property
    def ratios(self) -> tuple[float, ...]:
        """The ratio asked of each."""
        first = [each.token_ids[0] if isinstance(each, TokenSet) else each for each in self.steered]
        return tuple(self.edit.ratio(token_id) for token_id in first)

    @property
    def grid(self) -> tuple[float, ...]:
        """The ratios asked along the dose-response curve of the token looked at: as far as its own, at least."""
        return dose_ratios(max(DOUBLINGS, math.ceil(abs(math.log2(self.edit.ratio(self.token_id))))))


@dataclass(frozen=True, slots=True)
class DoseResponse:
    """The answer to a `DoseRequest`, by every method."""

    request: DoseRequest
    results: Mapping[Method, tuple[SteeringResult, ...]]  # one for each that the request steers, in order
    curves: Mapping[Method, DoseCurve]  # of the token looked at along `DoseRequest.grid`, on held-out text

    @property
    def token(self) -> SteeringResult:
        """The token looked at by the method in force."""
        return self.results[self.request.method][0]


@dataclass(frozen=True, slots=True)
class CalibratedRatios:
    """A request's tokens by the steps whose effect on the local text is the one that it asks for."""

    request: DoseRequest
    results: tuple[SteeringResult, ...]  # one for each that the request steers, in order


@dataclass(frozen=True, slots=True)
class MostAffected:
    """The tokens that lost most mean probability on held-out text to a request's edit, or gained most."""

    request: DoseRequest
    tokens: tuple[AffectedToken, ...]
