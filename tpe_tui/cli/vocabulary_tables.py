"""How a draft vocabulary reads as text: what every order holds at each size, then which is better where."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tpe_core.corpus.domains import DOMAINS
from tpe_tui.cli.console import line

if TYPE_CHECKING:
    from tpe_core.vocabulary.coverage import DraftVocabulary

__all__ = ["print_vocabulary"]


def _rows(draft: DraftVocabulary) -> Iterable[str]:
    """A line for each order at each size; `*` marks the most probability of each text."""
    for size in draft.sizes:
        best = {name: draft.best(size, name) for name in DOMAINS}
        for at, order in enumerate(draft.orders):
            probability, came = draft.coverage(size, order), draft.came(size, order)
            held = "".join(f"{probability[name]:>z9.4f}{'*' if best[name] == order else ' '}" for name in DOMAINS)
            share = "".join(f"{came[name]:>z10.4f}" for name in DOMAINS)
            yield f"  {'' if at else f'{size:,}':>9}  {order:<12}|{held} |{share}"


def _verdict(draft: DraftVocabulary) -> Iterable[str]:
    """Which order holds most at the size in force, on each text that detection did not see."""
    for name, domain in DOMAINS.items():
        if domain.is_detected:
            continue
        best = draft.best(draft.size, name)
        own, most = draft.coverage(draft.size)[name], draft.coverage(draft.size, best)[name]
        instead = "" if best == draft.order else f", {draft.order} {own:z.4f}: --order {best} chooses it"
        yield f"  most on {domain.adjective} text: {best}, {most:z.4f}{instead}"


def print_vocabulary(draft: DraftVocabulary) -> None:
    """A draft vocabulary on stdout."""
    special, padding = len(draft.special), draft.total_rows - draft.vocab_rows
    beside = f", none of {padding:,} padding rows" if padding else ""
    kept = "the special token is" if special == 1 else f"all {special:,} special tokens are"
    how = "which holds most on held-out text" if draft.chosen else "as asked"
    lines = [
        f"{draft.model}: a draft vocabulary of {draft.size:,} of {draft.vocab_rows:,} rows",
        f"  {kept} among them{beside}",
        f"  in the order {draft.order}, {how}",
    ]
    for name, domain in DOMAINS.items():
        each = draft.shares[name]
        lines.append(f"  {domain.adjective}: {each.positions:,} positions of {each.text}")
    domains = "".join(f"{domain.short:>10}" for domain in DOMAINS.values())
    came = "".join(f"{domain.short:>10}" for domain in DOMAINS.values())
    lines += [
        "",
        f"  {'':<23}|{'probability that is kept':^31} |{'next tokens that are kept':^30}",
        f"  {'rows':>9}  {'order':<12}|{domains}  |{came}",
        *_rows(draft),
        "",
        f"at {draft.size:,} rows:",
        *_verdict(draft),
        "* most probability on that text; local text orders the tokens itself, so its figures flatter",
    ]
    for words in lines:
        line(words)
