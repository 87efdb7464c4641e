"""The report of `tpe kl`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tpe_core.printable import fit as cut
from tpe_core.printable import printable_token
from tpe_core.progress import size_text
from tpe_tui.cells import fit, four_decimals, percent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tpe_core.comparison.divergence import ModelComparison, TokenGroup

__all__ = ["report"]

NAME = 26
SAID = 70  # cells of text before a position


def report(result: ModelComparison) -> list[str]:
    """The lines of a comparison."""
    base, other = result.perplexities
    over = f"{result.rows:,} rows" + (
        f", {result.padding_rows:,} of them padding" if result.padding_rows else " in use"
    )
    spread = "" if math.isnan(result.kl_stderr) or not result.kl.any() else f" ± {four_decimals(result.kl_stderr)}"
    return [
        f"P  {result.base.shown} ({result.base.dtype})",
        f"Q  {result.other.shown} ({result.other.dtype})",
        f"{result.positions:,} positions of {result.text}; both normalised over {over}; divergences in nats",
        "",
        _row("KL(P || Q)", f"{_nats(float(result.kl.mean()))}{spread}"),
        _row("KL(Q || P)", _nats(float(result.kl_reverse.mean()))),
        _row("JS", _nats(float(result.js.mean()))),
        _row("top-1 flips", f"{int(result.flipped.sum()):,} ({percent(float(result.flipped.mean()))})"),
        _row("top-k kept", ", ".join(f"{percent(share)} of {k}" for k, share in result.kept.items())),
        _row("perplexity", f"{base:.5g} → {other:.5g} (× {result.perplexity_ratio:z.5f})"),
        _row(
            "KL by position",
            ", ".join(f"{_percentile(name)} {_nats(value)}" for name, value in result.percentiles.items()),
        ),
        *_worst(result),
        "",
        *_table("token class", result.classes),
        "",
        *_table("tenth by alpha, rare first", result.deciles),
        "",
        f"h and W take {size_text(result.state_bytes)}; float32 logits of these positions would take "
        f"{size_text(result.logit_bytes)}.",
    ]


def _row(name: str, text: str) -> str:
    return fit(name, NAME) + text


def _nats(value: float) -> str:
    """A divergence; one that is exactly 0 is told from one that only rounds to it."""
    return "0" if value == 0 else four_decimals(value)


def _percentile(name: str) -> str:
    return {"50": "median", "max": "maximum"}.get(name, f"{name} %")


def _worst(result: ModelComparison) -> list[str]:
    worst = result.worst
    if worst.kl == 0:
        return []
    before = printable_token(worst.before)
    shown = before if len(before) <= SAID else f"…{before[-SAID:]}"
    base, other, following = (cut(printable_token(text), 24) for text in (worst.base, worst.other, worst.next))
    return [
        _row("the largest", f"position {worst.position:,} of block {worst.block:,}: P says {base}, Q says {other}"),
        *([_row("  text so far", shown)] if worst.before else []),
        _row("  went on with", f"{following}  {cut(printable_token(worst.after), 44) if worst.after else ''}"),
    ]


def _table(title: str, groups: Iterable[TokenGroup]) -> list[str]:
    return [
        f"{title:<{NAME}}{'tokens':>9}{'of KL':>9}{'of P':>9}",
        *(
            f"{group.name:<{NAME}}{group.tokens:>9,}{_share(group.kl):>9}{percent(group.probability):>9}"
            for group in groups
        ),
    ]


def _share(share: float) -> str:
    return "—" if math.isnan(share) else percent(share)
