"""The parts about the law itself: the fit, its residuals, the components, the slopes (Cho et al. 2025, section 2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tpe_core.fit_tables import components_table, fit_table, pca_table, r2_by_k_table, slopes_table
from tpe_core.progress import Progress, Steps
from tpe_core.report.material import Material
from tpe_core.report.recipes import RECIPES, Measured, Recipe
from tpe_core.tables import Table

__all__: list[str] = []

WELL, PARTLY = 0.8, 0.5  # adjusted R2 from which the law is said to hold, and to hold in part
WORST = 12  # tokens that are named
VISIBLE = 0.3  # |correlation| from which a component is said to show frequency


def _analysed(measure: Callable[[Material], Measured]) -> Callable[[Material], Steps[Measured]]:
    """The job of a part that only reads the analysis."""

    def steps(material: Material) -> Steps[Measured]:
        yield Progress("tables", 0)
        return measure(material)

    return steps


def _analyze(material: Material) -> str:
    return material.command("analyze")


def _fit(material: Material) -> Measured:
    analysis = material.analysis
    encoding = analysis.encoding
    residuals = np.abs((analysis.surprisal - analysis.predicted)[analysis.keep])
    facts = {
        "r2": encoding.r2,
        "r2_adjusted": encoding.r2_adjusted,
        "r2_heldout_vocab": encoding.r2_heldout_vocab,
        "r2_permuted": encoding.r2_permuted,
        "tokens": len(residuals),
        "rows_excluded": analysis.rows_excluded,
        "median_residual": float(np.median(residuals)),
        "jensen_correlation": encoding.jensen_correlation,
    }
    summary = {
        "R²": encoding.r2,
        "adjusted R²": encoding.r2_adjusted,
        "R² on tokens that the fit did not see": encoding.r2_heldout_vocab,
        "R² where tokens are shuffled": encoding.r2_permuted,
        "correlation of −log α with E[−log p]": encoding.jensen_correlation,
    }
    return Measured(tables={"fit": fit_table(analysis.table())}, facts=facts, summary=_facts(summary))


def _facts(values: Mapping[str, Any]) -> Table:
    return Table({"figure": list(values), "value": list(values.values())})


def _verdict(r2: float) -> str:
    return "holds well" if r2 >= WELL else "holds in part" if r2 >= PARTLY else "hardly holds"


def _say_fit(measured: Measured) -> str:
    facts = measured.facts
    unseen = facts["r2_heldout_vocab"]
    seen = (
        "" if unseen is None or math.isnan(unseen) else f" and {_share(unseen)} over tokens that it was not fitted to"
    )
    return (
        f"The log-linear law {_verdict(facts['r2_adjusted'])} here: it explains {_share(facts['r2_adjusted'])} of the "
        f"variance of −log α over {facts['tokens']:,} tokens{seen}, and half of the tokens lie within "
        f"{facts['median_residual']:.2f} nats of it."
    )


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _residuals(material: Material) -> Measured:
    analysis = material.analysis
    table = fit_table(analysis.table())
    residual = np.array([math.nan if value is None else value for value in table.column("residual")], dtype=np.float64)
    known = np.flatnonzero(np.isfinite(residual))
    parts = np.array_split(np.abs(residual[known]), 10)
    worst = known[np.argsort(-np.abs(residual[known]), kind="stable")[:WORST]]
    names = ("token_id", "token", "rank", "minus_log_alpha", "predicted", "residual")
    summary = Table({name: [table.column(name)[at] for at in worst.tolist()] for name in names})
    facts = {
        "frequent": float(np.median(parts[0])) if len(parts[0]) else None,
        "middle": float(np.median(np.abs(residual[known]))) if len(known) else None,
        "rare": float(np.median(parts[-1])) if len(parts[-1]) else None,
        "worst_token": summary.column("token")[0] if len(summary) else None,
        "worst_residual": summary.column("residual")[0] if len(summary) else None,
    }
    return Measured(tables={"fit": table}, facts=facts, summary=summary)


def _say_residuals(measured: Measured) -> str:
    facts = measured.facts
    if facts["frequent"] is None or facts["worst_residual"] is None:
        return "There are too few tokens to say where the law misses."
    ends = {"most frequent": facts["frequent"], "rarest": facts["rare"]}
    worse = max(ends, key=lambda name: float(ends[name]))
    comparison = (
        f"the {worse} tenth of the tokens is fitted worst"
        if ends[worse] > 1.25 * facts["middle"]
        else "no end of the ranks is fitted much worse than the middle"
    )
    more = "rarer" if facts["worst_residual"] > 0 else "more frequent"
    return (
        f"Where the law misses, {comparison}: the median |residual| is {facts['frequent']:.2f} nats in the most "
        f"frequent "
        f"tenth, {facts['middle']:.2f} over all and {facts['rare']:.2f} in the rarest; the worst token, "
        f"“{facts['worst_token']}”, is {more} than predicted by {abs(facts['worst_residual']):.1f} nats."
    )


def _pca(material: Material) -> Measured:
    correlations = material.analysis.components.correlations
    facts = {"pc1": float(correlations[0]), "pc2": float(correlations[1]) if len(correlations) > 1 else None}
    return Measured(tables={"pca": pca_table(material.analysis.table())}, facts=facts)


def _say_pca(measured: Measured) -> str:
    first, second = measured.facts["pc1"], measured.facts["pc2"]
    shown = [f"PC{at}" for at, value in enumerate((first, second), 1) if value is not None and abs(value) >= VISIBLE]
    where = f"is visible in {' and '.join(shown)}" if shown else "is not visible in the first two components"
    numbers = f"{first:+.2f}" + ("" if second is None else f" and {second:+.2f}")
    return (
        f"Token probability {where} of the output embedding: scores on the first two components correlate with −log "
        f"α by "
        f"{numbers}."
    )


def _components(material: Material) -> Measured:
    table = components_table(material.analysis.table())
    together, r = (np.array(table.column(name), dtype=np.float64) for name in ("r2_cumulative", "correlation"))
    best = int(np.argmax(np.abs(r)))
    facts = {
        "best_component": best + 1,
        "best_correlation": float(r[best]),
        "components": len(r),
        "for_90": int(np.argmax(together >= 0.9 * together[-1])) + 1,
        "r2_first_two": float(together[min(1, len(r) - 1)]),
        "r2": float(together[-1]),
    }
    order = np.argsort(-np.abs(r), kind="stable")[:8]
    return Measured(
        tables={"components": table},
        facts=facts,
        summary=Table({name: [values[at] for at in order.tolist()] for name, values in table.columns.items()}),
    )


def _say_components(measured: Measured) -> str:
    facts = measured.facts
    share = facts["r2_first_two"] / facts["r2"] if facts["r2"] else 0.0
    verdict = "The top components carry most of it" if share >= 0.5 else "The top components do not carry most of it"
    return (
        f"{verdict}: the first two reach R² {facts['r2_first_two']:.2f} of {facts['r2']:.2f}, component "
        f"{facts['best_component']} correlates most ({facts['best_correlation']:+.2f}), and 90 % of the R² takes the "
        f"first {facts['for_90']} of {facts['components']}."
    )


def _slopes(material: Material) -> Measured:
    encoding = material.analysis.encoding
    sizes = np.sort(np.abs(encoding.slope_std))[::-1]
    tenth = max(1, len(sizes) // 10)
    facts = {
        "gini": encoding.gini,
        "participation_ratio": encoding.participation_ratio,
        "dimensions": len(sizes),
        "tenth_share": float(sizes[:tenth].sum() / sizes.sum()) if sizes.sum() else None,
    }
    return Measured(tables={"slopes": slopes_table(material.analysis.table())}, facts=facts)


def _say_slopes(measured: Measured) -> str:
    facts = measured.facts
    sparse = facts["participation_ratio"] < 0.25 * facts["dimensions"]
    held = "" if facts["tenth_share"] is None else (
        f"the largest tenth of the dimensions holds {_share(facts['tenth_share'])} of all |slope|·sd, "
    )  # fmt: skip
    return (
        f"The encoding is {'sparse' if sparse else 'spread over many dimensions'} here: {held}Gini "
        f"{facts['gini']:.2f} (0 is uniform), and the squares weigh as much as {facts['participation_ratio']:.1f} "
        f"equal "
        f"dimensions of {facts['dimensions']}."
    )


def _r2_by_k(material: Material) -> Measured:
    curve = material.analysis.encoding.r2_by_k()
    last = list(curve.values())[-1]
    facts = {
        "for_half": next((k for k, value in curve.items() if value >= 0.5 * last), None),
        "for_90": next((k for k, value in curve.items() if value >= 0.9 * last), None),
        "dimensions": material.analysis.model.head.hidden_size,
        "r2": last,
    }
    table = r2_by_k_table(curve)
    return Measured(tables={"r2_by_k": table}, facts=facts, summary=table)


def _say_r2_by_k(measured: Measured) -> str:
    facts = measured.facts
    if facts["for_half"] is None or facts["for_90"] is None:
        return "No number of dimensions explains much of −log α here."
    few = facts["for_90"] <= 0.25 * facts["dimensions"]
    return (
        f"{'A few dimensions are enough' if few else 'A few dimensions are not enough'}: of the numbers that were "
        f"tried, the "
        f"best k dimensions reach half of R² {facts['r2']:.2f} at k = {facts['for_half']} and 90 % of it at k = "
        f"{facts['for_90']} of {facts['dimensions']}."
    )


def _mean_hidden(material: Material) -> Measured:
    encoding = material.analysis.encoding
    return Measured(
        tables={"slopes": slopes_table(material.analysis.table())},
        facts={"cosine": encoding.cosine_to_mean_hidden},
    )


def _say_mean_hidden(measured: Measured) -> str:
    cosine = measured.facts["cosine"]
    if cosine is None or math.isnan(cosine):
        return "The mean hidden state is zero, so that slopes cannot be compared with it."
    says = "little more than" if cosine >= 0.95 else "more than" if cosine >= 0.5 else "something else than"
    return f"The regression says {says} the mean hidden state: the cosine of the slopes to −E[h] is {cosine:.3f}."


for _name, _measure, _sentence in (
    ("fit", _fit, _say_fit),
    ("residuals", _residuals, _say_residuals),
    ("pca", _pca, _say_pca),
    ("components", _components, _say_components),
    ("slopes", _slopes, _say_slopes),
    ("r2-by-k", _r2_by_k, _say_r2_by_k),
    ("mean-hidden", _mean_hidden, _say_mean_hidden),
):
    RECIPES.register(Recipe(name=_name, command=_analyze, measure=_analysed(_measure), sentence=_sentence))
