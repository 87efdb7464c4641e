"""The table of `tpe transfer`: one block for home, one for each model that the mask was taken to, as it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpe_core.pruning.results import mean_cost
from tpe_tui.cells import fit, four_decimals
from tpe_tui.cli.prune_tables import FIGURES, TITLES, figures, kl_band

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tpe_core.manifest.schema import MeasuredText
    from tpe_core.pruning.results import Cost
    from tpe_core.transfer import Mask, TransferResult

    Home = TransferResult | Mapping[str, MeasuredText]

__all__ = ["block", "heading"]

NAME = 34


def heading(mask: Mask, home: Home) -> list[str]:
    """The mask, and its cost at home: measured, as its file says, or not known."""
    from tpe_core.transfer import TransferResult

    width, way = mask.edit.hidden_size, mask.edit.intervention.replacement
    lines = [
        f"a mask of {mask.removed:,} of {width:,} dimensions, replaced by {way}; KL, JS and entropy in nats",
        "",
        f"{'':<{NAME}}  {TITLES['heldout']:<{len(FIGURES) + 2}}{TITLES['ood']}",
        f"{'':<{NAME}}{FIGURES}  {FIGURES}",
    ]
    name = _named(mask.model, mask.revision)
    if isinstance(home, TransferResult):
        return lines + _block(f"{name} (home)", home, at_home=True)
    if not home:
        return [*lines, f"{name} (home): the file holds no costs of the mask alone; --measure-home finds them"]
    return [
        *lines,
        f"{name} (home, as the file says)",
        _row("  unpruned", {domain: _before(each) for domain, each in home.items()}),
        _row("  the mask", {domain: _after(each) for domain, each in home.items()}),
    ]


def block(target: TransferResult) -> list[str]:
    """The lines of one model that the mask was taken to."""
    return ["", *_block(_named(target.model, target.revision), target)]


def _named(model: str, revision: str | None) -> str:
    return model if revision is None else f"{model} @ {revision}"


def _block(title: str, target: TransferResult, at_home: bool = False) -> list[str]:
    again = bool(target.refitted) and not at_home
    lines = [title]
    for domain, name in TITLES.items():
        lines.append(f"  {name + ':':<15} {target.positions[domain]:,} positions of {target.texts[domain]}")
    lines.append(_row("  unpruned", _texts(target.baseline)))
    lines.append(_row("  the mask, its own numbers" if again else "  the mask", _texts(target.costs)))
    if again:
        lines.append(_row("  the mask, fitted again here", _texts(target.refitted)))
    lines.append(_row(f"  its own by slope ({target.shared:,} shared)", _texts(target.own)))
    drawn = {domain: target.random.costs(domain, 0) for domain in TITLES}
    draws = len(drawn["heldout"])
    means = {domain: mean_cost(costs) for domain, costs in drawn.items()}
    lines.append(_row(f"  random, {draws} draw{'s' if draws > 1 else ''}", _texts(means)))
    if draws > 1:
        bands = [kl_band(costs) for costs in drawn.values()]
        lines.append(f"{'    KL over draws':<{NAME}}  {bands[0]:<{len(FIGURES)}}  {bands[1]}")
    return lines


def _texts(costs: Mapping[str, Cost]) -> dict[str, str]:
    return {domain: figures(cost) for domain, cost in costs.items()}


def _row(name: str, texts: Mapping[str, str]) -> str:
    blank = " " * len(FIGURES)
    return fit(name, NAME) + "  ".join(texts.get(domain, blank) for domain in TITLES)


def _before(measured: MeasuredText) -> str:
    return _cells(0.0, 0.0, 1.0, measured.base_perplexity, measured.base_entropy)


def _after(measured: MeasuredText) -> str:
    return _cells(measured.kl, measured.js, measured.top1, measured.perplexity, measured.entropy)


def _cells(
    kl: float | None, js: float | None, top1: float | None, perplexity: float | None, entropy: float | None
) -> str:
    """Figures under `FIGURES`, of which a file may hold only some."""
    cells = ((top1, "7.1%"), (perplexity, "9.4g"), (entropy, "8.3f"))
    divergences = ((kl, 9), (js, 8))
    texts = ["" if x is None else four_decimals(x) for x, _ in divergences]
    rest = "".join(" " * int(form.split(".")[0]) if x is None else format(x, form) for x, form in cells)
    return "".join(f"{text:>{width}}" for text, (_, width) in zip(texts, divergences, strict=True)) + rest
