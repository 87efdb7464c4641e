"""How a pair of continuations reads: side by side or one under the other on a terminal, plain in a pipe or a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from tpe_core.printable import fit, printable_token
from tpe_tui.cells import escape_controls, number, percent
from tpe_tui.generation.state import drawn_text
from tpe_tui.token_text import BINS, DIFFERS, END, Tagged, tagged, wrap

if TYPE_CHECKING:
    from tpe_core.edits.intervention import Intervention
    from tpe_core.generation.paired import Continuation, GeneratedToken, PairedGeneration

__all__ = ["difference", "edit_text", "plain_lines", "print_pair"]

SIDE_BY_SIDE = 100  # cells from which two columns read better than two blocks
WIDEST = 100  # cells of a line of text that is still pleasant to read
STYLES = {"likely": "dim", "fair": "", "low": "yellow underline", "rare": "bold red underline"}
STYLES |= {"differs": "bold cyan", "muted": "dim", "row": ""}


def edit_text(edit: Intervention, width: int = 0) -> str:
    """What an edit does, in a few words; of how many dimensions where `width` is given."""
    of = f" of {width:,}" if width else ""
    dims = "dimension" if len(edit.pruned) == 1 and not of else "dimensions"
    parts = [f"{len(edit.pruned)}{of} {dims} pruned ({edit.replacement})"] if edit.pruned else []
    parts += [f"{len(edit.steering)} token{'s' if len(edit.steering) > 1 else ''} steered"] if edit.steering else []
    return ", ".join(parts) or "nothing"


def _name(said: GeneratedToken) -> str:
    return fit(printable_token(said.text), 32) if said.text else f"#{said.token_id}"


def difference(pair: PairedGeneration) -> str:
    """The sentence about the first difference: where, and how likely each side's token was."""
    at = pair.first_difference
    if at is None:
        return f"no difference in {pair.steps} tokens"
    base, edited = pair.base.tokens[at], pair.edited.tokens[at]
    return (
        f"first difference: token {at + 1}, base {_name(base)} ({percent(base.p)}), "
        f"edited {_name(edited)} ({percent(edited.p)}, unedited {percent(edited.p_base)})"
    )


def _head(pair: PairedGeneration, model: str, width: int) -> list[str]:
    """The lines above the texts."""
    edits = pair.edits
    changed = f", changed {len(edits) - 1} times while it was written" if len(edits) > 1 else ""
    last = edits[-1][1] if edits else None
    edited = "nothing" if last is None else edit_text(last, width)
    return [
        f"{model}: {drawn_text(pair.decoding)}; edited: {edited}{changed}",
        f"{difference(pair)}; mean KL {number(pair.mean_kl)} nats a token",
        f"prompt: {pair.prompt}",
    ]


def _tail(side: Continuation) -> str:
    count = len(side.tokens)
    return f"{count} token{'s' if count != 1 else ''}, {'ended' if side.ended else 'cut there'}"


def plain_lines(pair: PairedGeneration, model: str, width: int = 0) -> list[str]:
    """A pair as text without colour, unwrapped, for pipes and files: the first difference is marked in both sides."""
    at, lines = pair.first_difference, [_line(line) for line in _head(pair, model, width)]
    for name, side in (("base", pair.base), ("edited", pair.edited)):
        lines += ["", f"{name} ({_tail(side)}):"]
        said = "".join(stretch.text for stretch in tagged(side, lambda one: one.p, at))
        lines += [_line(line) for line in said.split("\n")]
    return lines


def _line(line: str) -> str:
    return escape_controls(line.replace("\t", "    "))


def print_pair(pair: PairedGeneration, model: str, width: int = 0, console: Console | None = None) -> None:
    """Print a pair: on a terminal in columns or blocks with every token's probability, else as `plain_lines`."""
    console = console or Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        sys.stdout.write("".join(line + "\n" for line in plain_lines(pair, model, width)))
        return
    cells = console.width
    for line in _head(pair, model, width):
        console.print(Text(_line(line)), soft_wrap=True)
    console.print()
    same = pair.first_difference is None and pair.base.ended == pair.edited.ended
    sides = [("base and edited alike", pair.base)] if same else [("base", pair.base), ("edited", pair.edited)]
    if cells >= SIDE_BY_SIDE and len(sides) == 2:
        _columns(console, pair, sides, min(WIDEST, (cells - 3) // 2))
    else:
        for name, side in sides:
            console.print(Text(f"{name}  ({_tail(side)})", style="bold"))
            for stretches in _wrapped(pair, side, min(WIDEST, cells)):
                console.print(_styled(stretches))
            console.print()
    console.print(_legend(pair))


def _columns(console: Console, pair: PairedGeneration, sides: Sequence[tuple[str, Continuation]], width: int) -> None:
    heads = [Text(f"{name}  ({_tail(side)})", style="bold") for name, side in sides]
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
