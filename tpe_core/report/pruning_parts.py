"""The parts about pruning: what removing dimensions costs, and what the pruned head writes (section 4)."""

from __future__ import annotations

from typing import Any

from tpe_core.generation.mauve import Mauve
from tpe_core.generation.pruned_text import pruned_texts
from tpe_core.generation.text_quality import ORDERS as LENGTHS
from tpe_core.generation.text_quality import TextQuality
from tpe_core.progress import Steps
from tpe_core.pruning.results import Cost, PruningRequest, PruningResult
from tpe_core.pruning.study import prune
from tpe_core.report.material import Material
from tpe_core.report.recipes import RECIPES, Measured, Recipe
from tpe_core.report.settings import CURVES, DISTINCT, REPEATED, TEXTS
from tpe_core.tables import Table

__all__: list[str] = []

CLAIMED = 0.3  # the share that the paper removes without a significant change
SLIGHT = 0.1  # nats of KL up to which a change is called slight here


def _words(request: PruningRequest) -> tuple[str, ...]:
    return (
        "--order", ",".join(request.orders), "--replace", ",".join(request.replacements),
        "--fractions", ",".join(f"{share:g}" for share in request.fractions), "--seeds", str(request.draws),
    )  # fmt: skip


def _curves(material: Material, request: PruningRequest) -> Steps[PruningResult]:
    samples = yield from material.samples()
    return (yield from prune(material.analysis, samples, request, seed=material.options.seed, store=material.store))


def _measure(material: Material) -> Steps[Measured]:
    result = yield from _curves(material, CURVES)
    table = result.to_table("pruning")
    rows: list[dict[str, Any]] = table.records()
    heldout = [row for row in rows if row["text"] == "heldout"]
    claimed = min({row["share"] for row in rows}, key=lambda share: abs(share - CLAIMED))
    at_claim = [row for row in heldout if row["share"] == claimed]
    facts = {
        "share": claimed,
        "slope": _of(at_claim, "slope", "zero"),
        "random": _of(at_claim, "random", "zero"),
        "best": min(at_claim, key=lambda row: float(row["kl"])),
        "largest_slight": max(
            (row["share"] for row in heldout if _is(row, "slope", "zero") and row["kl"] <= SLIGHT), default=None
        ),
    }  # fmt: skip
    names = ("order", "replacement", "kl", "js", "top1_same", "perplexity")
    summary = Table({name: [row[name] for row in at_claim] for name in names})
    return Measured(tables={"pruning": table}, facts=facts, summary=summary)


def _of(rows: list[dict[str, Any]], order: str, replacement: str) -> dict[str, Any]:
    return next(row for row in rows if _is(row, order, replacement))


def _is(row: dict[str, Any], order: str, replacement: str) -> bool:
    return (row["order"], row["replacement"]) == (order, replacement)


def _say(measured: Measured) -> str:
    facts = measured.facts
    slope, random, best = facts["slope"], facts["random"], facts["best"]
    holds = slope["kl"] <= SLIGHT
    order = "less" if slope["kl"] < random["kl"] else "no less"
    within = (
        "no share tried stays" if facts["largest_slight"] is None
        else f"{100 * facts['largest_slight']:.0f} % is the largest share tried that stays"
    )  # fmt: skip
    return (
        f"That {100 * CLAIMED:.0f} % of the dimensions can go unnoticed {'holds' if holds else 'does not hold'} "
        f"here: without "
        f"those of the smallest slopes ({100 * facts['share']:.0f} %) KL on held-out text is {slope['kl']:.2g} nats, "
        f"{order} than the {random['kl']:.2g} of random ones, and {100 * slope['top1_same']:.0f} % of the most "
        f"probable tokens "
        f"stay; {within} within {SLIGHT:g} nats, and of all of them {best['order']} with "
        f"{best['replacement']} costs least, "
        f"{best['kl']:.2g} nats."
    )


RECIPES.register(
    Recipe(
        name="pruning",
        command=lambda material: material.command("prune", *_words(CURVES), judged=True),
        measure=_measure,
        sentence=_say,
        is_kept=True,
    )
)


def _measure_texts(material: Material) -> Steps[Measured]:
    result = yield from _curves(material, TEXTS)
    texts = yield from pruned_texts(
        material.analysis, result, material.prompts, seed=material.options.seed, store=material.store
    )
    rows: list[dict[str, Any]] = []
    for curve in result.curves:
        own = [text for text in texts if (text.order, text.replace) == (curve.order, curve.replace)]
        place = {"order": curve.order, "replacement": curve.replace}
        if own:
            quality = own[0].quality
            written = _written(quality.base, quality.ceiling, result.baseline["heldout"])
            rows.append({**place, "share": 0.0, "pruned": 0, **written})
        for text in own:
            (cost,) = curve.costs("heldout", curve.removed.index(text.removed))
            written = _written(text.quality.edited, text.quality.mauve, cost)
            rows.append({**place, "share": text.removed / curve.width, "pruned": text.removed, **written})
    slopes = [text for text in texts if text.order == "slope"]
    facts = {
        "prompts": material.prompts,
        "ceiling": slopes[0].quality.ceiling.value,
        "enough": slopes[0].quality.mauve.enough,
        "shares": [text.removed / result.width for text in slopes],
        "mauve": [text.quality.mauve.value for text in slopes],
        "told_apart": [text.quality.mauve.told_apart for text in slopes],
    }
    table = Table.of(rows)
    return Measured(tables={"generation": table}, facts=facts, summary=table)


def _written(text: TextQuality, mauve: Mauve, cost: Cost) -> dict[str, Any]:
    """The figures of one sample of texts, and the perplexity of held-out text under the head that wrote them."""
    return {
        "mauve": mauve.value,
        "distinct": text.distinct[LENGTHS.index(DISTINCT)],
        "repetition": text.repetition[LENGTHS.index(REPEATED)],
        "perplexity": cost.perplexity,
    }


def _say_texts(measured: Measured) -> str:
    facts = measured.facts
    share, mauve, apart = facts["shares"][0], facts["mauve"][0], facts["told_apart"][0]
    if not facts["enough"]:
        return (
            f"{facts['prompts']} prompts are too few for MAUVE to tell pruned from unpruned text: ask for 128 or more."
        )
    later = [at for at, told in zip(facts["shares"], facts["told_apart"], strict=True) if told]
    verdict = "can be told from" if apart else "cannot be told from"
    rest = (
        "nor can any share tried" if not later
        else "" if apart else f"from {100 * later[0]:.0f} % on it can"
    )  # fmt: skip
    return (
        f"Text written without {100 * share:.0f} % of the dimensions (smallest slopes) {verdict} the unpruned "
        f"model's: MAUVE "
        f"{mauve:.2f}, where two samples of the unpruned model have {facts['ceiling']:.2f}; with "
        f"{100 * facts['shares'][-1]:.0f} % removed it is {facts['mauve'][-1]:.2f}{'; ' + rest if rest else ''}."
    )


RECIPES.register(
    Recipe(
        name="generation",
        command=lambda material: material.command(
            "prune", *_words(TEXTS), "--generate", str(material.prompts), judged=True
        ),
        measure=_measure_texts,
        sentence=_say_texts,
        is_kept=True,
    )
)
