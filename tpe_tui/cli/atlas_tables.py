"""How a token atlas reads as text: what can be reached, then a table for each list of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tpe_core.printable import cell_width, fit
from tpe_tui.cli.console import line

__all__ = ["report"]

NONE = "-"
PAIRS = frozenset({"cosine", "distance"})  # lists of pairs
TOKEN, KIND, PAIR = 14, 17, 20  # cells of a column
HEX = 11  # cells of a token's bytes, of which the first are shown


def _cell(text: str, width: int) -> str:
    shown = fit(text, width)
    return shown + " " * (width - cell_width(shown))


def _number(value: float | None, shape: str) -> str:
    width = int(shape.strip("+z").split(".")[0])
    return f"{NONE:>{width}}" if value is None else f"{value:{'+' if '+' in shape else ''}z{shape.strip('+z')}f}"


def _pair(entry: Mapping[str, Any], by: str) -> str:
    other = entry[f"nearest_by_{by}"]
    return "" if other is None else f"{_cell(other['token'], PAIR - 9)} {_number(other[by], '8.4')}"


def _row(entry: Mapping[str, Any], by: str) -> str:
    """A token; of a list of pairs with its neighbour in place of its bytes and of its distance to untrained rows."""
    mark = {"reachable": " ", "unreachable": "!"}.get(entry["reach"], "?")
    beside = (
        _pair(entry, by)
        if by in PAIRS
        else f"{_number(entry['untrained_distance'], '5.2')} {_cell(entry['bytes'], HEX)}"
    )
    return (
        f"{entry['token_id']:>7}{mark}{_cell(entry['token'], TOKEN)} {_cell(entry['kind'], KIND)}{entry['count']:>6}"
        f" {_number(entry['surprisal'], '5.1')} {_number(entry['residual'], '+6.2')} {beside}"
    )


def _head(by: str) -> str:
    beside = f"{'nearest row':<{PAIR - 9}} {by:>8}" if by in PAIRS else "untr. bytes"
    return f"{'id':>7} {'token':<{TOKEN}} {'kind':<{KIND}}{'count':>6} {'-log':>5} {'resid.':>6} {beside}"


def _reached(document: Mapping[str, Any]) -> Iterable[str]:
    counts, edited = document["reach"], document["edited"]
    yield f"  whether it is the top token for {document['hidden']['about']}:"
    verdicts = [f"{total:,} {name}" for name, total in counts.items()]
    yield f"    {', '.join(verdicts)}{' under the edit' if edited else ''}"
    if edited:
        before = [f"{total:,} {name}" for name, total in document["reach_unedited"].items()]
        yield f"    {', '.join(before)} without it"


def _lines(document: Mapping[str, Any]) -> Iterable[str]:
    yield f"{document['model']}: token atlas of {document['vocab_rows']:,} rows, {document['positions']:,} positions of"
    yield f"  {document['text']}"
    yield from _reached(document)
    if document["lost"]:
        yield from ("", "made unreachable by the edit", _head("reach"))
        yield from (_row(entry, "reach") for entry in document["lost"])
    for name, one in document["lists"].items():
        of = one["total"]
        shown = len(one["tokens"])
        yield from ("", f"{name}: {one['about']} ({f'{shown:,} of {of:,}' if shown < of else f'{of:,}'})")
        if shown:
            yield _head(name)
        yield from (_row(entry, name) for entry in one["tokens"])
    yield ""
    yield "-log: -log alpha, nats; resid.: that minus the law's; count: in the text;"
    yield f"untr.: cosine distance to the mean row of the {document['untrained_reference']};"
    yield "!: unreachable, ?: not decided"


def report(document: Mapping[str, Any]) -> None:
    """A token atlas on stdout, from its JSON document."""
    for words in _lines(document):
        line(words)
