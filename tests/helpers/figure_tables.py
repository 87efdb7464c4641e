"""A table for every figure, with numbers of the kind that the engine measures."""

from __future__ import annotations

from typing import Any

import numpy as np

from tpe_core.tables import Table

__all__ = ["table"]

ROWS = 400
HOSTILE = ("$x^2$", "_private", "漢字", "·the", "\\alpha", "$\\frac{", "<b>&", "⟨F0⟩")


def table(name: str) -> Table:
    """The table of that name: the same values each time."""
    rng = np.random.default_rng(0)
    return MAKERS[name](rng)


def _tokens(rng: np.random.Generator) -> dict[str, Any]:
    tokens = [HOSTILE[at] if at < len(HOSTILE) else f"token{at}" for at in range(ROWS)]
    return {"token_id": np.arange(ROWS), "token": tokens, "rank": np.arange(1, ROWS + 1)}


def _fit(rng: np.random.Generator) -> Table:
    actual = np.sort(rng.uniform(2, 14, ROWS))
    predicted = actual + 0.4 * rng.normal(size=ROWS)
    predicted[:8] += 6 * np.where(np.arange(8) % 2, 1, -1)  # the hostile ones are the worst fitted, and so named
    actual[-1], predicted[-1] = np.inf, np.nan  # a token that is never predicted
    columns = {"alpha": np.exp(-actual), "minus_log_alpha": actual, "predicted": predicted}
    return Table({**_tokens(rng), **columns, "residual": actual - predicted})


def _pca(rng: np.random.Generator) -> Table:
    columns = {"percentile": np.linspace(0, 1, ROWS), "pc1": rng.normal(size=ROWS), "pc2": rng.normal(size=ROWS)}
    return Table({**_tokens(rng), **columns})


def _slopes(rng: np.random.Generator) -> Table:
    slope = rng.normal(size=64) * np.geomspace(2, 0.02, 64)
    return Table({
        "dim": rng.permutation(64), "rank": np.arange(1, 65), "slope": slope, "std_error": np.full(64, 0.01),
        "slope_std": slope * 0.1, "r": np.tanh(slope), "mean_hidden": -slope + 0.1 * rng.normal(size=64),
    })  # fmt: skip


def _components(rng: np.random.Generator) -> Table:
    correlation = rng.uniform(-1, 1, 64) * np.geomspace(0.9, 0.001, 64)
    variance = np.geomspace(1, 0.01, 64)
    return Table({
        "component": np.arange(1, 65), "explained_variance": variance / variance.sum(), "correlation": correlation,
        "r2_cumulative": np.cumsum(correlation**2),
    })  # fmt: skip


def _r2_by_k(rng: np.random.Generator) -> Table:
    return Table({"k": [1, 2, 4, 8, 16, 32, 64], "r2": [0.3, 0.4, 0.55, 0.7, 0.8, 0.86, 0.9]})


def _steering(rng: np.random.Generator) -> Table:
    rows = [
        (at, HOSTILE[at], text, ratio, ratio**0.9, 0.01 * ratio, 0.004 * ratio)
        for text in ("local", "heldout", "ood")
        for at in range(3)
        for ratio in (0.5, 2.0, 20.0)
    ]
    return _rows(("token_id", "token", "text", "ratio_asked", "ratio_achieved", "kl", "js"), rows)


def _few_shot(rng: np.random.Generator) -> Table:
    rows = [(n, text, 2 - 20 / n, 1 / n) for text in ("local", "heldout") for n in (100, 1000, 10_000)]
    return _rows(("tokens", "text", "ratio_achieved", "kl"), rows)


def _pruning(rng: np.random.Generator) -> Table:
    orders = [(order, by) for by in ("zero", "least-squares") for order in ("slope", "random", "fisher")]
    rows = [
        (order, by, share, int(64 * share), text, share**2, 1 - share)
        for order, by in [*orders, ("rotate", "rotate")]
        for share in (0.0, 0.25, 0.5, 0.75)
        for text in ("heldout", "ood")
    ]
    return _rows(("order", "replacement", "share", "pruned", "text", "kl", "top1_same"), rows)


def _generation(rng: np.random.Generator) -> Table:
    rows = [
        (order, share, 1 - share, 0.8 - share / 4, share / 2, 20 * (1 + share))
        for order in ("slope", "random")
        for share in (0.0, 0.3, 0.6)
    ]
    return _rows(("order", "share", "mauve", "distinct", "repetition", "perplexity"), rows)


def _dynamics(rng: np.random.Generator) -> Table:
    steps = (0, 1, 8, 64, 512, 4096)
    rows: list[tuple[Any, ...]] = [
        (source, "", step, 0.9 * (1 - np.exp(-step / 30)), np.exp(-step / 900))
        for source in ("one", "two")
        for step in steps
    ]
    rows += [("one", f"layer {at}", step, None, np.exp(-step / 300 / (at + 1))) for at in range(3) for step in steps]
    return _rows(("source", "layer", "step", "r2_adjusted", "convergence"), rows)


def _compared(x: str, *columns: str) -> Any:
    def make(rng: np.random.Generator) -> Table:
        rows = [(model, at, *(1 / (at + 2) for _ in columns)) for model in ("one", "_two $") for at in (1, 2, 4, 8, 16)]
        return _rows(("model", x, *columns), rows)

    return make


def _edit(rng: np.random.Generator) -> Table:
    rows: list[tuple[Any, ...]] = [("pruned", dim, None, "zero") for dim in (3, 9, 40)]
    rows += [("steered", 7, 2.0, "bias"), ("steered", 20, 0.5, "min-norm")]
    return _rows(("kind", "id", "ratio", "how"), rows)


def _continued(rng: np.random.Generator) -> Table:
    rows = [
        (scenario, "low", variant, step, figure, 0.1 + harm - step / 500, 0.05 - step / 500, 0.3 + harm, 3)
        for scenario in ("same", "fast")
        for harm, variant in enumerate(("kept", "random"))
        for figure in ("gap.heldout", "kl.heldout")
        for step in (0, 20, 40)
    ]
    return _rows(("scenario", "mask", "variant", "step", "figure", "mean", "low", "high", "seeds"), rows)


def _effects(rng: np.random.Generator) -> Table:
    rows = [
        (figure, factor, effect, effect - 0.1, effect + 0.1, effect > 0.1)
        for figure in ("gini", "loss", "r2_1", "participation_ratio")
        for effect, factor in ((0.2, "width"), (-0.05, "depth"), (0.0, "tied"))
    ]
    return _rows(("figure", "factor", "effect", "interval_low", "interval_high", "clear"), rows)


def _curriculum(rng: np.random.Generator) -> Table:
    rows = [
        ("unigram", arm, step, figure, 0.1 * number + step / 100, step / 100 - 0.05, step / 100 + 0.2, 3)
        for number, arm in enumerate(("ordinary", "unigram"))
        for figure in ("loss", "r2_adjusted")
        for step in (0, 10, 100)
    ]
    return _rows(("experiment", "arm", "step", "figure", "mean", "low", "high", "seeds"), rows)


def _rows(names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Table:
    return Table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


MAKERS = {
    "fit": _fit,
    "pca": _pca,
    "slopes": _slopes,
    "components": _components,
    "r2_by_k": _r2_by_k,
    "steering": _steering,
    "few_shot": _few_shot,
    "pruning": _pruning,
    "generation": _generation,
    "dynamics": _dynamics,
    "compared_r2_by_k": _compared("k", "r2"),
    "compared_slopes": _compared("rank", "share"),
    "compared_components": _compared("component", "correlation", "r2_cumulative"),
    "edit": _edit,
    "continued_training": _continued, "sparsity_effects": _effects, "curriculum": _curriculum,
}  # fmt: skip
