"""How a pair of continuations reads: side by side or one under the other on a terminal, plain in a pipe or a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from tpe_tui.generation.text import heading, length_text, plain_lines, shown_line
from tpe_tui.token_text import BINS, DIFFERS, END, Tagged, tagged, wrap

if TYPE_CHECKING:
    from tpe_core.generation.paired import Continuation, PairedGeneration

__all__ = ["print_pair"]

SIDE_BY_SIDE = 100  # cells from which two columns read better than two blocks
WIDEST = 100  # cells of a line of text that is still pleasant to read
STYLES = {"likely": "dim", "fair": "", "low": "yellow underline", "rare": "bold red underline"}
STYLES |= {"differs": "bold cyan", "muted": "dim", "row": ""}


def print_pair(pair: PairedGeneration, model: str, width: int = 0, console: Console | None = None) -> None:
    """Print a pair: on a terminal in columns or blocks with every token's probability, else as `plain_lines`."""
    console = console or Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        sys.stdout.write("".join(line + "\n" for line in plain_lines(pair, model, width)))
        return
    cells = console.width
    for line in heading(pair, model, width):
        console.print(Text(shown_line(line)), soft_wrap=True)
    console.print()
    same = pair.first_difference is None and pair.base.ended == pair.edited.ended
    sides = [("base and edited alike", pair.base)] if same else [("base", pair.base), ("edited", pair.edited)]
    if cells >= SIDE_BY_SIDE and len(sides) == 2:
        _columns(console, pair, sides, min(WIDEST, (cells - 3) // 2))
    else:
        for name, side in sides:
            console.print(Text(f"{name}  ({length_text(side)})", style="bold"))
            for stretches in _wrapped(pair, side, min(WIDEST, cells)):
                console.print(_styled(stretches))
            console.print()
    console.print(_legend(pair))


def _columns(console: Console, pair: PairedGeneration, sides: Sequence[tuple[str, Continuation]], width: int) -> None:
    heads = [Text(f"{name}  ({length_text(side)})", style="bold") for name, side in sides]
    columns = [[head, *map(_styled, _wrapped(pair, side, width))] for head, (_, side) in zip(heads, sides, strict=True)]
    for left, right in zip_longest(*columns):
        line = left or Text()
        line.pad_right(width - line.cell_len)
        line.append(" │ ", style="dim")
        line.append_text(right or Text())
        line.rstrip()
        console.print(line, no_wrap=True, overflow="crop")
    console.print()


def _wrapped(pair: PairedGeneration, side: Continuation, width: int) -> list[list[Tagged]]:
    changes = {step for step, _ in pair.edits if step} if side is pair.edited else set()
    return wrap(tagged(side, lambda said: said.p, pair.first_difference, changes), width)


def _styled(line: Sequence[Tagged]) -> Text:
    return Text.assemble(*((part.text, STYLES[part.role]) for part in line))


def _legend(pair: PairedGeneration) -> Text:
    """What the styles say, in those styles."""
    legend = Text("probability: ")
    for each in BINS:
        legend.append(each.label, style=STYLES[each.role]).append("  ")
    if pair.first_difference is not None:
        legend.append(DIFFERS, style=STYLES["differs"]).append(" first difference  ")
    if pair.base.ended or pair.edited.ended:
        legend.append(END, style="dim").append(" end of text")
    return legend
