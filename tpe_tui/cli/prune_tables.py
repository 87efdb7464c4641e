"""The tables of `tpe prune`: held-out and out-of-domain figures side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tpe_core.corpus.domains import DOMAINS, UNSEEN
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.metrics import METRICS
from tpe_core.pruning.orders import ORDERS
from tpe_core.pruning.results import mean_cost
from tpe_tui.cells import four_decimals
from tpe_tui.cli.console import line

if TYPE_CHECKING:
    from tpe_core.generation.mauve import Mauve
    from tpe_core.generation.pruned_text import PrunedText
    from tpe_core.generation.text_quality import TextQuality
    from tpe_core.pruning.budget import BudgetResult, Largest
    from tpe_core.pruning.results import Cost, PruningCurve, PruningResult

__all__ = ["FIGURES", "TITLES", "CurveRows", "LargestRows", "figures", "kl_band", "print_texts"]

NAMES = f"{'order':<14}{'replace':<14}{'removed':>8}{'share':>7}"
CELLS = {"kl": 9, "js": 8, "top1": 7, "perplexity": 9, "entropy": 8}
FIGURES = "".join(f"{METRICS[name].short:>{width}}" for name, width in CELLS.items())
TITLES = {name: DOMAINS[name].label for name in UNSEEN}


def figures(cost: Cost) -> str:
    """One text's figures under `FIGURES`."""
    divergences = f"{four_decimals(cost.kl):>9}{four_decimals(cost.js):>8}"
    return f"{divergences}{cost.top1:>z7.1%}{cost.perplexity:>9.4g}{cost.entropy:>z8.3f}"


def _head(result: PruningResult | BudgetResult) -> list[str]:
    """What was measured on what, the unpruned figures, and the columns."""
    blank = " " * len(NAMES)
    return [
        f"{result.model}: {result.width:,} dimensions; KL, JS and entropy in nats",
        *(
            f"{title + ':':<15} {result.positions[domain]:,} positions of {result.texts[domain]}"
            for domain, title in TITLES.items()
        ),
        "",
        f"{blank}  {TITLES['heldout']:<{len(FIGURES) + 2}}{TITLES['ood']}",
        f"{NAMES}{FIGURES}  {FIGURES}",
        _row("unpruned", "", (0, result.width), result.baseline),
    ]


def _row(order: str, replacement: str, share: tuple[int, int], costs: Mapping[str, Cost]) -> str:
    removed, width = share
    both = "  ".join(figures(costs[domain]) for domain in TITLES)
    return f"{order:<14}{replacement:<14}{removed:>8,}{removed / width:>z7.1%}{both}"


class CurveRows:
    """The table of a pruning study: a line for every point once it is done, under a head before the first.

    Random orders are averaged, with the KL's band over draws below.
    """

    def __init__(self, draws: int = 1) -> None:
        """`draws` of a random order make a point of it; those that are fitted at every point are drawn once."""
        self._draws = draws
        self._printed: set[tuple[str, str, int]] = set()
        self._last: tuple[str, str] | None = None  # curve

    def new(self, result: PruningResult) -> list[str]:
        """The lines of the points of `result` that are done and had none, where every curve in it is complete."""
        return self._lines(result, [curve for curve in result.curves if self._has_all_draws(curve)])

    def rest(self, result: PruningResult) -> list[str]:
        """The same of every point, also of a random order that was stopped between its draws; at least a head."""
        return ([] if self._last or result.curves else _head(result)) + self._lines(result, result.curves)

    def _has_all_draws(self, curve: PruningCurve) -> bool:
        once = curve.order not in ORDERS or not ORDERS[curve.order].is_drawn or REPLACEMENTS[curve.replace].is_fitted
        return all(len(draws) >= (1 if once else self._draws) for draws in curve.figures.values())

    def _lines(self, result: PruningResult, curves: Sequence[PruningCurve]) -> list[str]:
        lines: list[str] = []
        for curve in curves:
            for at, removed in enumerate(curve.removed):
                name = curve.order, curve.replace
                if (*name, removed) in self._printed:
                    continue
                lines += _head(result) if self._last is None else []
                lines += [""] if name != self._last else []
                lines += _point(curve, at)
                self._printed.add((*name, removed))
                self._last = name
        return lines


def _point(curve: PruningCurve, at: int) -> list[str]:
    draws = {domain: curve.costs(domain, at) for domain in TITLES}
    means = {domain: mean_cost(costs) for domain, costs in draws.items()}
    lines = [_row(curve.order, curve.replace, (curve.removed[at], curve.width), means)]
    if len(draws["heldout"]) > 1:
        bands, label = [kl_band(costs) for costs in draws.values()], f"  KL over {len(draws['heldout'])} draws"
        lines.append(f"{label:<{len(NAMES)}}  {bands[0]:<{len(FIGURES)}}  {bands[1]}")
    return lines


def kl_band(draws: Sequence[Cost]) -> str:
    """The least and the most KL of several draws."""
    values = [cost.kl for cost in draws]
    return f"{four_decimals(min(values))} to {four_decimals(max(values))}"


class LargestRows:
    """The table of a budget search: the largest mask of every order, what it costs, and what one more would."""

    def __init__(self) -> None:
        self._printed = 0
        self._headed = False

    def new(self, result: BudgetResult) -> list[str]:
        """The lines of what was found since the last time."""
        lines = [] if self._headed else [*_head(result), ""]
        lines += [_largest(each) for each in result.found[self._printed :]]
        self._headed, self._printed = True, len(result.found)
        return lines


def _largest(largest: Largest) -> str:
    is_drawn = largest.order in ORDERS and ORDERS[largest.order].is_drawn
    order = f"{largest.order} {largest.draw + 1}" if is_drawn else largest.order
    costs = {"heldout": largest.cost} | ({} if largest.ood is None else {"ood": largest.ood})
    return _row(order, largest.replace, (largest.removed, largest.width), costs) + _following(largest)


def _following(largest: Largest) -> str:
    if largest.following is None:
        return ""
    label = METRICS[largest.metric].label
    return f"   one more: {label} {four_decimals(getattr(largest.following, largest.metric))}"


def print_texts(texts: Sequence[PrunedText]) -> None:
    """Sampled text at every point: MAUVE beside its ceiling, distinct and repeated n-grams beside the base's."""
    from tpe_core.generation.mauve import LEAST_SAMPLES

    if not texts:
        return
    first = texts[0].quality
    count = len(first.samples[0].tokens)
    line()
    ceiling, what = first.ceiling, f"text after {count:,} held-out prompts"
    if ceiling.enough:
        line(f"{what}; MAUVE of two base samples (the ceiling) {ceiling.value:z.3f}")
        line(f"(~ before a score: {ceiling.chance:z.3f} and more is chance among so many, the texts may be alike)")
    else:
        line(f"{what}: too few for MAUVE, which tells nothing below {LEAST_SAMPLES}")
    line(f"{NAMES[:-7]}{'MAUVE':>8}{'distinct-2':>12}{'repeat-4':>10}")
    line(_text_row("unpruned", "", 0, first.ceiling, first.base))
    for each in texts:
        line(_text_row(each.order, each.replace, each.removed, each.quality.mauve, each.quality.edited))


def _text_row(order: str, replacement: str, removed: int, score: Mauve, text: TextQuality) -> str:
    mark = "" if score.told_apart else "~"
    shown = f"{mark}{score.value:z.3f}" if score.enough else "-"
    pairs, repeats = ("-" if value is None else f"{value:z.3f}" for value in (text.distinct[1], text.repetition[3]))
    return f"{order:<14}{replacement:<14}{removed:>8,}{shown:>8}{pairs:>12}{repeats:>10}"
