"""The parts about steering: ratios asked and achieved, what they cost, and how little text is enough (section 3)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from tpe_core.corpus.domains import DOMAINS
from tpe_core.progress import Steps
from tpe_core.report.material import Material
from tpe_core.report.recipes import RECIPES, Measured, Recipe
from tpe_core.report.settings import FEW_SHOT_RATIO, METHODS, RATIOS, TOKENS
from tpe_core.steering.results import SteeringStudy
from tpe_core.steering.study import SteeringPlan, mid_frequency, study
from tpe_core.tables import Table

__all__: list[str] = []

ACCURATE = 1.25  # a factor within which a ratio counts as achieved


def _plan(material: Material, ratios: tuple[float, ...], *, few_shot: bool) -> SteeringPlan:
    chosen = mid_frequency(material.analysis.surprisal, TOKENS)
    return SteeringPlan(token_ids=chosen, ratios=ratios, methods=METHODS, few_shot=few_shot)


def _words(ratios: Iterable[float]) -> tuple[str, ...]:
    listed = ",".join(f"{ratio:g}" for ratio in ratios)
    return ("--mid-frequency", str(TOKENS), "--ratio", listed, "--method", ",".join(METHODS))


def _by_method(study: SteeringStudy, name: str) -> dict[str, Table]:
    """A table of the study for each method."""
    rows = study.to_table(name).records()
    return {
        f"{name}_{method.replace('-', '_')}": Table.of(row for row in rows if row["method"] == method)
        for method in METHODS
    }


def _measure(material: Material) -> Steps[Measured]:
    samples = yield from material.samples()
    results = yield from study(material.analysis, samples, _plan(material, RATIOS, few_shot=False))
    tables = _by_method(results, "steering")
    rows: list[dict[str, Any]] = []
    for summary in results.summary():
        achieved = {f"achieved, {DOMAINS[name].label}": summary["achieved"][name] for name in DOMAINS}
        js = [
            each.js["heldout"] for each in results.results
            if (each.method, each.asked) == (summary["method"], summary["asked"])
        ]  # fmt: skip
        rows.append({"method": summary["method"], "asked": summary["asked"], **achieved, "JS, held-out": _mean(js)})
    facts = {
        "asked": list(RATIOS),
        "achieved": {
            method: [row["achieved, held-out"] for row in rows if row["method"] == method] for method in METHODS
        },
        "js": {method: [row["JS, held-out"] for row in rows if row["method"] == method] for method in METHODS},
        "tokens": TOKENS,
    }
    return Measured(tables=tables, facts=facts, summary=Table.of(rows))


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _reach(asked: Iterable[float], achieved: Iterable[float | None]) -> float | None:
    """The largest ratio up to which all above 1 are achieved within `ACCURATE`; None where none is."""
    reached = None
    for want, have in zip(asked, achieved, strict=True):
        if want <= 1:
            continue
        if have is None or abs(math.log(have / want)) > math.log(ACCURATE):
            break
        reached = want
    return reached


def _say_reach(reach: float | None) -> str:
    return "none of the ratios above 1" if reach is None else f"ratios up to {reach:g}"


def _say(measured: Measured) -> str:
    facts = measured.facts
    own, best = (facts["achieved"][method] for method in METHODS)
    ratio, cost = facts["asked"][-1], facts["js"][METHODS[0]][-1]
    return (
        f"On held-out text the paper's edit achieves {_say_reach(_reach(facts['asked'], own))} within a factor of "
        f"{ACCURATE:g}, least squares {_say_reach(_reach(facts['asked'], best))}: asked for {ratio:g}, "
        f"{facts['tokens']} "
        f"tokens come to {_number(own[-1])} and {_number(best[-1])} in the geometric mean, and the paper's edit "
        f"costs a "
        f"JS divergence of {_number(cost)} nats."
    )


def _number(value: float | None) -> str:
    return "nothing finite" if value is None else f"{value:.3g}"


RECIPES.register(
    Recipe(
        name="steering",
        command=lambda material: material.command("steer", *_words(RATIOS), judged=True),
        measure=_measure,
        sentence=_say,
        is_kept=True,
    )
)


def _measure_few_shot(material: Material) -> Steps[Measured]:
    samples = yield from material.samples()
    results = yield from study(material.analysis, samples, _plan(material, (FEW_SHOT_RATIO,), few_shot=True))
    tables = _by_method(results, "few_shot")
    rows: list[dict[str, Any]] = results.to_table("few_shot").records()
    heldout = [row for row in rows if row["text"] == "heldout" and row["method"] == METHODS[0]]
    facts = {
        "positions": [row["tokens"] for row in heldout],
        "achieved": [row["ratio_achieved"] for row in heldout],
        "asked": FEW_SHOT_RATIO,
    }
    return Measured(tables=tables, facts=facts, summary=tables["few_shot_min_norm"])


def _say_few_shot(measured: Measured) -> str:
    facts = measured.facts
    lengths, achieved = facts["positions"], facts["achieved"]
    whole = achieved[-1]
    if whole is None or whole <= 0:
        return "Steering with all of the text achieves no ratio here, so that less cannot be compared with it."
    near = [value is not None and value > 0 and abs(math.log(value / whole)) <= math.log(1.1) for value in achieved]
    settled = next(at for at in range(len(near)) if all(near[at:]))
    enough = f"{lengths[settled]:,} positions are enough"
    verdict = (
        f"Little text is enough: {enough}"
        if lengths[settled] <= 0.25 * lengths[-1]
        else f"It takes much of the text: {enough}"
    )
    return (
        f"{verdict} to steer as the whole text of {lengths[-1]:,} does, within 10 %: asked for {facts['asked']:g}, "
        f"held-out "
        f"text shows {_number(achieved[0])} with {lengths[0]:,} positions and {_number(whole)} with all."
    )


RECIPES.register(
    Recipe(
        name="few-shot",
        command=lambda material: material.command("steer", *_words((FEW_SHOT_RATIO,)), "--few-shot", judged=True),
        measure=_measure_few_shot,
        sentence=_say_few_shot,
        is_kept=True,
    )
)
