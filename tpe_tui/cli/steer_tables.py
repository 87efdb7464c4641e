"""How a steering study reads as text: one block per token, then what holds over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tpe_core.corpus.domains import DOMAINS
from tpe_tui.cli.console import line
from tpe_tui.cli.manifest_tables import safe

if TYPE_CHECKING:
    from tpe_core.steering.results import AffectedToken, Steerable, SteeringResult, SteeringStudy
    from tpe_core.steering.study import SteeringPlan
    from tpe_core.token_sets.summary import SetSummary

__all__ = ["EditRows", "print_sets", "print_study"]

SHOWN = 8  # tokens and sets printed one by one
NAMED, DEFINED = 60, 200  # characters of a set's name and of its definition


def _named(text: str, steered: Steerable) -> str:
    """A token's text with its number; the number alone where that is its text. A set's name with its size."""
    if not isinstance(steered, int):
        return f"set {text} ({len(steered):,} tokens)"
    number = f"#{steered}"
    return number if text == number else f"{text} ({number})"


def _ratio(value: float) -> str:
    return f"{value:z.4g}"


def _mean(value: float | None, spread: float | None) -> str:
    return "-" if value is None or spread is None else f"{value:z.3f} ({spread:z.2f})"


def _domains(values: Mapping[str, float], width: int = 9, digits: str = ".4g") -> str:
    return "".join(f"{format(values[name], digits):>{width}}" for name in DOMAINS)


def _row(result: SteeringResult) -> str:
    name = "  calibrated" if result.calibrated else result.method
    size = "-" if result.relative_edit is None else f"{result.relative_edit:z.3f}"
    kl = f"{result.kl['heldout']:>9.3g}{result.kl['ood']:>9.3g}"
    measured = f"{_domains(result.achieved)} |{_domains(result.js, digits='.3g')} |{kl}"
    return f"  {name:<16}{_ratio(result.asked):>8} |{measured} |{result.spread['heldout']:>z7.3f} {size:>7}"


def _paid(paid: Sequence[AffectedToken], tokens: Sequence[str]) -> str:
    verb = "gained" if paid and paid[0].lost < 0 else "paid"
    named = "  ".join(f"{tokens[payer.token_id]} {abs(payer.lost):.2g}" for payer in paid)
    return f"      {verb}: {named}" if paid else "      nobody paid"


def _blocks(study: SteeringStudy) -> Iterable[str]:
    """Per token: what it had, and every edit of it."""
    by_token: dict[Steerable, list[SteeringResult]] = {}
    for result in study.results:
        by_token.setdefault(result.steered, []).append(result)
    for steered, group in by_token.items():
        had = ", ".join(f"{group[0].alpha[name]:.3g} {domain.adjective}" for name, domain in DOMAINS.items())
        yield f"{_named(group[0].token, steered)}: mean probability {had}"
        highest = group[0].attainable[1]
        if highest < 1:
            yield f"  the soft cap keeps it below {highest:.3g} on the local text, whatever its row"
        for result in group:
            yield _row(result)
            if result.paid is not None:
                yield _paid(result.paid, study.tokens)
        yield ""


def _summary(study: SteeringStudy) -> Iterable[str]:
    rows = [row for row in study.summary() if row["tokens"] > 1]  # an exact target is another ratio for every token
    if not rows:
        return
    yield "all tokens: geometric mean of the achieved ratios (standard deviation of their log)"
    yield f"  {'method':<16}{'asked':>8}" + "".join(f"{domain.short:>18}" for domain in DOMAINS.values())
    for row in rows:
        name = "  calibrated" if row["calibrated"] else row["method"]
        cells = (_mean(row["achieved"][domain], row["spread"][domain]) for domain in DOMAINS)
        yield f"  {name:<16}{_ratio(row['asked']):>8}" + "".join(f"{cell:>18}" for cell in cells)
    yield ""


def _dose(study: SteeringStudy) -> Iterable[str]:
    yield "dose-response: achieved by asked ratio"
    domains = "".join(f"{domain.short:>9}" for domain in DOMAINS.values())
    for curve in study.dose:
        yield f"{_named(curve.token, curve.steered)} by {curve.method}"
        yield f"  {'asked':>8} |{domains} |{domains} (JS)"
        for asked, achieved, js in curve.points():
            yield f"  {_ratio(asked):>8} |{_domains(achieved)} |{_domains(js, digits='.3g')}"
        yield ""


def _few_shot(study: SteeringStudy) -> Iterable[str]:
    yield "few-shot: achieved on held-out text, geometric mean (deviation of the log), with directions from n positions"
    asked = list(dict.fromkeys(point.asked for point in study.few_shot))
    yield f"  {'method':<16}{'n':>8}" + "".join(f"{'asked ' + _ratio(value):>18}" for value in asked)
    rows: dict[tuple[str, int], list[str]] = {}
    for point in study.few_shot:
        heldout = point.figures["heldout"]
        rows.setdefault((point.method, point.positions), []).append(_mean(heldout.achieved, heldout.spread))
    for (method, count), cells in sorted(rows.items()):
        yield f"  {method:<16}{count:>8,}" + "".join(f"{cell:>18}" for cell in cells)
    yield ""


class EditRows:
    """A line for every edit as it is measured, for a log: the table has who pays, too, which comes last."""

    def __init__(self) -> None:
        self._printed = 0

    def new(self, study: SteeringStudy) -> list[str]:
        """The lines of the edits that were measured since the last time."""
        results = study.results[self._printed :]
        self._printed = len(study.results)
        return [_log_row(result) for result in results]


def _log_row(result: SteeringResult) -> str:
    achieved = ", ".join(f"{domain.adjective} {_ratio(result.achieved[name])}" for name, domain in DOMAINS.items())
    name = f"{result.method}, calibrated" if result.calibrated else result.method
    return f"{_named(result.token, result.steered)} by {name}: asked {_ratio(result.asked)}, {achieved}"


def print_sets(summaries: Sequence[SetSummary], tokens: Sequence[str]) -> None:
    """The sets before they are steered: how many tokens, their mean probability together, the likeliest of them."""
    positions = summaries[0].positions
    line(f"token sets: mean probability on {positions:,} positions of the detecting text, before steering")
    for each in summaries:
        some = each.token_set
        line(
            f"  {safe(some.label, NAMED)}: {len(some):,} tokens, mean probability {each.probability:.3g} together, "
            f"came {each.came:,} times"
        )
        if some.name:
            line(f"    {safe(some.definition, DEFINED)}")
        line("    " + "  ".join(f"{tokens[token_id]} {own:.2g}" for token_id, own in each.examples))
    line()


def print_study(model: str, plan: SteeringPlan, study: SteeringStudy) -> None:
    """A study on stdout: achieved ratios, JS and KL by text, spread over contexts, relative size of the edit."""
    how = "at once" if plan.together and len(plan.steered) > 1 else "one at a time"
    counted = {"token": len(plan.token_ids), "token set": len(plan.sets)}
    what = " and ".join(f"{count} {name}{'s' * (count > 1)}" for name, count in counted.items() if count)
    lines = [f"{model}: {what} steered {how}"]
    lines += [
        f"  {domain.adjective}: {study.read.positions[name]:,} positions of {study.read.texts[name]}"
        for name, domain in DOMAINS.items()
    ]
    domains = "".join(f"{domain.short:>9}" for domain in DOMAINS.values())
    columns = [
        "",
        f"  {'':<24} |{'achieved ratio alpha_now / alpha':^27} |{'JS, nats':^27} |{'KL, nats':^18} |",
        f"  {'method':<16}{'asked':>8} |{domains} |{domains} |{'held-out':>9}{'ood':>9} |{'spread':>7} {'edit':>7}",
        "",
    ]
    if len(plan.steered) <= SHOWN:
        lines += [*columns, *_blocks(study)]
    else:
        lines += ["", "--json has every token", ""]
    lines += _summary(study)
    if study.dose:
        lines += _dose(study)
    if study.few_shot:
        lines += _few_shot(study)
    if len(plan.steered) <= SHOWN:
        lines.append(
            "spread: standard deviation of log(p'/p) over held-out contexts, nats; edit: |dW| / |W| of the token's row"
        )
    for words in lines:
        line(words)
