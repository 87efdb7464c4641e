"""The tables of `tpe sparsity`: the runs with models beside them, the factors' shares, and the clear effects."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from tpe_tui.cells import fit, number, p_value, percent
from tpe_tui.cli.paragraphs import report_width, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tpe_core.sparsity.design import Level
    from tpe_core.sparsity.effects import Effect
    from tpe_core.sparsity.results import SparsityGrid

__all__ = ["effects_report", "report"]

SHORT = {
    "loss": "loss", "r2_adjusted": "R2 adj", "r2_1": "R2 1", "r2_8": "R2 8", "dimensions_90": "90 %",
    "gini": "Gini", "participation_ratio": "PR", "participation_share": "PR/d", "prunable_share": "prune",
    "outlier_overlap": "outl",
}  # fmt: skip
LEGEND = (
    "R2 1, R2 8: of the best 1 and 8 dimensions. 90 %: dimensions that hold 90 % of R2. PR: participation ratio. "
    "prune: share of dimensions that can go, least |slope| first, replaced by least squares, at a held-out KL of "
    "{budget:g} nats. outl: outlier dimensions among the top slopes."
)
SHOWN = ("loss", "r2_1", "gini", "participation_share", "prunable_share")
CELLS = 6
NAME = 10
FACTORS = {"width": 5, "depth": 2, "vocabulary": 8, "tied": 5, "norm": 5, "decay": 4, "steps": 6}
NORMS = {"LayerNorm": "LN", "RMSNorm": "RMS"}
HEADS = {"width": "d", "depth": "L", "vocabulary": "V", "tied": "tied", "norm": "norm", "decay": "wd", "steps": "steps"}


def report(grid: SparsityGrid) -> list[str]:
    """The lines of a grid: where it is from, a row for each combination and model, shares, clear effects."""
    width = report_width()
    lines = [*wrapped(_origin(grid), width), "", *_runs(grid), ""]
    lines += [*wrapped(LEGEND.format(budget=grid.plan.budget), width), ""]
    return [*lines, *_shares(grid, width), "", *_clear(grid)]


def effects_report(grid: SparsityGrid) -> list[str]:
    """The lines of every effect, with its interval and its share."""
    lines = [*wrapped(_origin(grid), report_width())]
    for key in dict.fromkeys(effect.figure for effect in grid.effects):
        some = [effect for effect in grid.effects if effect.figure == key]
        lines += ["", f"{_title(key)}: mean {number(some[0].mean)}"]
        lines += [f"  {_effect_line(effect)}" for effect in some]
    return lines


def _origin(grid: SparsityGrid) -> str:
    plan = grid.plan
    begin = (
        f"The grid that is shipped with tpe, trained on {grid.shipped}, not on this machine" if grid.shipped
        else "The grid"
    )  # fmt: skip
    levels = "; ".join(f"{f.title} {_level(f.low)} or {_level(f.high)}" for f in plan.factors)
    whole = plan.runs * plan.seeds
    missing = f" ({len(grid.runs)} of these {whole} runs)" if len(grid.runs) < whole else ""
    return (
        f"{begin}: {plan.runs} combinations of levels, {plan.seeds} seeds each{missing}, means over seeds ({levels})."
    )


def _level(level: Level | None) -> str:
    if level is None:
        return ""
    if isinstance(level, bool):
        return "yes" if level else "no"
    return f"{level:,}" if isinstance(level, int) else f"{level:g}" if isinstance(level, float) else level


def _title(key: str) -> str:
    from tpe_core.encoding_comparison import FIGURES

    return next(figure.title.strip() for figure in FIGURES if figure.key == key).replace("of d", "PR of d")


def _runs(grid: SparsityGrid) -> Iterator[str]:
    heads = [fit(HEADS[name], cells, right=True) for name, cells in FACTORS.items()]
    yield fit("", NAME) + "".join(heads) + "".join(f" {fit(SHORT[key], CELLS, right=True)}" for key in SHOWN)
    points: dict[int, list[Any]] = {}
    for run in grid.runs:
        points.setdefault(run.point, []).append(run)
    for number_, runs in points.items():
        figures = [run.figures() for run in runs]
        yield _row(f"{number_:02}", runs[0].levels, {key: [each[key] for each in figures] for key in SHOWN})
    for model in grid.models:
        document = model.document
        levels = {
            "width": document["hidden_size"], "vocabulary": document["vocab_rows"], "tied": document["head"]["tied"],
        }  # fmt: skip
        from tpe_core.encoding_comparison import FIGURES

        read = {figure.key: figure for figure in FIGURES}
        yield _row(model.name, levels, {key: [model.value(read[key])] for key in SHOWN})


def _row(name: str, levels: Mapping[str, Any], values: Mapping[str, list[Any]]) -> str:
    levels = {**levels, "norm": NORMS.get(levels.get("norm", ""))}
    cells = [fit(_level(levels.get(factor)), width, right=True) for factor, width in FACTORS.items()]
    return fit(name, NAME) + "".join(cells) + "".join(f" {_mean(key, some):>{CELLS}}" for key, some in values.items())


def _mean(key: str, values: list[Any]) -> str:
    present = [float(value) for value in values if value is not None]
    if len(present) < len(values):
        return "-"
    mean = fmean(present)
    return percent(mean) if key.endswith("_share") else f"{mean:z.3f}" if mean < 10 else f"{mean:z.1f}"


def _shares(grid: SparsityGrid, width: int) -> Iterator[str]:
    by_pair = {(effect.factor, effect.figure): effect for effect in grid.effects}
    keys = [key for key in SHORT if any(figure == key for _, figure in by_pair)]
    if not keys:
        yield "Fewer combinations than factors, or figures that do not vary: no effects can be fitted."
        return
    sentence = (
        "Share of what varies between combinations that each factor explains (type II); * marks an effect whose 95 % "
        "interval leaves out 0 at a false discovery rate under 5 %."
    )
    yield from wrapped(sentence, width)
    yield fit("", 16) + "".join(f"{fit(SHORT[key], 6, right=True)} " for key in keys)
    for factor in grid.plan.factors:
        yield fit(factor.title, 16) + "".join(_share(by_pair.get((factor.name, key))) for key in keys)
    left = [next(effect for effect in grid.effects if effect.figure == key).residual_share for key in keys]
    yield fit("the rest", 16) + "".join(f"{100 * share:z5.0f}% " for share in left)


def _share(effect: Effect | None) -> str:
    return fit("", 7) if effect is None else f"{100 * effect.share:z5.0f}%{'*' if effect.is_clear else ' '}"


def _clear(grid: SparsityGrid) -> Iterator[str]:
    clear = [effect for effect in grid.effects if effect.is_clear]
    if not clear:
        yield "No effect is clear."
        return
    yield "Clear effects, high level minus low, with 95 % intervals:"
    for effect in clear:
        yield f"  {fit(_title(effect.figure), 19)} {_change(effect)} {_size(effect)}"


def _effect_line(effect: Effect) -> str:
    return f"{_change(effect)} {_size(effect)}, q {p_value(effect.q)}"


def _change(effect: Effect) -> str:
    return fit(f"{effect.factor} {_level(effect.low)} to {_level(effect.high)}", 27)


def _size(effect: Effect) -> str:
    low, high = number(effect.interval_low, signed=True), number(effect.interval_high, signed=True)
    return f"{number(effect.effect, signed=True)} [{low}, {high}]"
