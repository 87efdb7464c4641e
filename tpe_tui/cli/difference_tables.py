"""Two saved interventions side by side in a terminal: the first file is A, the second B."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tpe_core.corpus.domains import DOMAINS
from tpe_core.metrics import METRICS
from tpe_tui.cells import fit, number
from tpe_tui.cli.console import line
from tpe_tui.cli.manifest_tables import dims_text, figure, row, safe

if TYPE_CHECKING:
    from tpe_core.manifest.difference import Difference, Figure, Pair, SetPair, SteeringPair

__all__ = ["print_difference"]

NAME, SIDE = 28, 22  # cells of a column of names, and of a column of A or B
STEERED = 40  # tokens printed; --json has them all


def print_difference(paths: tuple[Path, Path], difference: Difference) -> None:
    """What differs: dimensions, replacement, steering, what both were made on, then figures of both."""
    for name, path in zip("AB", paths, strict=True):
        row(name, str(path))
    line()
    row("edit", "the same in both" if difference.same_edit else "not the same")
    _print_dims(difference)
    _print_numbers(difference)
    _print_steering(difference.steering, difference.sets)
    _print_facts(difference.facts)
    _print_figures(difference.figures)
    _print_next_tokens(difference.next_tokens)


def _sides(name: str, a: str, b: str, more: str = "") -> None:
    """One line of a table: a name, A, B, and what else there is to say."""
    line(" ".join((fit(name, NAME - 1), fit(a, SIDE - 1), fit(b, SIDE - 1), more)))


def _print_dims(difference: Difference) -> None:
    both = len(difference.both)
    a, b = len(difference.only_a) + both, len(difference.only_b) + both
    if not a and not b:
        row("pruned", "nothing in either")
        return
    row("pruned", f"{a:,} dimensions in A, {b:,} in B, {both:,} of them in both")
    for label, dims in (("only in A", difference.only_a), ("only in B", difference.only_b)):
        if dims:
            row(label, dims_text(dims))
    ways = difference.replacement
    if a and b:
        row("replaced by", str(ways.a) if ways.a == ways.b else f"{ways.a} in A, {ways.b} in B")


def _print_numbers(found: Difference) -> None:
    named = {"what pruned dimensions become": found.constant, "the rows of tokens steered alike": found.rows}
    for name, largest in named.items():
        if largest:
            row("numbers", f"{name} differs by up to {number(largest)} between A and B")


def _print_steering(pairs: Sequence[SteeringPair], sets: Sequence[SetPair]) -> None:
    if not pairs and not sets:
        row("steered", "nothing in either")
        return
    line()
    if sets:
        _sides("steered set", "A", "B")
    for each in sets:
        a, b = _asked(each.a, each.method_a), _asked(each.b, each.method_b)
        _sides(f"{fit(safe(each.name, 16), 17)}{each.tokens:,}", a, b, "" if each.same else "differs")
    if pairs:
        _sides("steered token", "A", "B")
    for pair in pairs[:STEERED]:
        a, b = _asked(pair.a, pair.method_a), _asked(pair.b, pair.method_b)
        _sides(f"{fit(safe(pair.token, 16), 17)}#{pair.token_id}", a, b, "" if pair.same else "differs")
    if len(pairs) > STEERED:
        line(f"... {len(pairs) - STEERED:,} more with --json")


def _asked(ratio: float, method: str | None) -> str:
    return "-" if method is None else f"{number(ratio)} x {method}"


def _print_facts(facts: Sequence[Pair]) -> None:
    if not facts:
        return
    line()
    _sides("made on, with and when", "A", "B")
    for pair in facts:
        a, b = (safe("-" if value is None else str(value), SIDE - 2) for value in (pair.a, pair.b))
        _sides(safe(pair.name, NAME - 2), a, b)


def _print_figures(figures: Sequence[Figure]) -> None:
    if not figures:
        return
    line()
    _sides("figures (divergences: nats)", "A", "B", "B - A")
    for each in figures:
        where = DOMAINS[each.where].label if each.where in DOMAINS else f"the {each.where}"
        name = f"{where}: {METRICS[each.name].label if each.name in METRICS else each.name}"
        change = "" if each.a is None or each.b is None else _change(each)
        _sides(name, figure(each.name, each.a), figure(each.name, each.b), change)


def _change(each: Figure) -> str:
    if not each.same_text:
        return "other text"
    by = (each.b or 0.0) - (each.a or 0.0)
    if each.name == "top1":
        return f"{100 * by:+z.1f} points"
    return f"{by:+z.4f}" if each.name in ("kl", "js") else number(by, signed=True)


def _print_next_tokens(pairs: Sequence[Pair]) -> None:
    if not pairs:
        return
    line()
    _sides("most probable token after", "A", "B")
    for pair in pairs:
        a, b = (safe(str(value), SIDE - 2) for value in (pair.a, pair.b))
        _sides(repr(safe(pair.name, NAME - 4)), a, b)
