"""Generated text as it is shown: every token with the role of its probability, wrapped at words into lines of cells.

Roles differ by more than hue: the unlikelier a token, the heavier it is drawn. Nothing here knows a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, groupby
from typing import NamedTuple

from rich.cells import cell_len

from tpe_core.generation.paired import Continuation, GeneratedToken
from tpe_core.printable import printable_token

__all__ = ["BINS", "CHANGED", "DIFFERS", "END", "GAP", "Bin", "Tagged", "bin_of", "tagged", "wrap"]

DIFFERS, CHANGED, END, NEWLINE = "❯", "¦", "∎", "⏎"
GAP = -1  # the step of what belongs to no token
MARK_ROLE, END_ROLE = "differs", "muted"
TAB = "    "


class Bin(NamedTuple):
    """Tokens of at least this probability, up to the bin before."""

    least: float
    role: str
    label: str


BINS = (
    Bin(0.5, "likely", "≥50%"),
    Bin(0.05, "fair", "5–50%"),
    Bin(0.005, "low", "0.5–5%"),
    Bin(0.0, "rare", "<0.5%"),
)


class Tagged(NamedTuple):
    """A stretch of text with its role and the step that said it."""

    text: str
    role: str
    step: int = GAP


def bin_of(p: float) -> Bin:
    """The bin of a probability."""
    return next((each for each in BINS if p >= each.least), BINS[-1])


def tagged(
    side: Continuation, p: Callable[[GeneratedToken], float], differs: int | None = None, changes: Collection[int] = ()
) -> Iterator[Tagged]:
    """A side's text in stretches: a mark before step `differs`, one before each step of `changes`, one at its end."""
    for step, token in enumerate(side.tokens):
        role, body = bin_of(p(token)).role, token.text.lstrip(" ")
        if body and body != token.text:  # a space before a word is no part of what was unlikely
            yield Tagged(" " * (len(token.text) - len(body)), "row")
        if step in changes:
            yield Tagged(CHANGED, END_ROLE)
        if step == differs:
            yield Tagged(DIFFERS, MARK_ROLE)
        if token.text:
            yield Tagged(body or token.text, role, step)
    if side.ended:
        yield Tagged(END, END_ROLE, len(side.tokens) - 1)


def wrap(stretches: Iterable[Tagged], width: int) -> list[list[Tagged]]:
    """Lines of at most `width` cells, broken at spaces where there are any; a line break shows itself at a line's end.

    Every visible character of the text is on one of the lines, in order; a space at which a line breaks is not.
    """
    lines: list[list[tuple[str, Tagged]]] = [[]]
    used, word = 0, 0  # cells in the line; where its last word begins
    for cell, tag in _cells(stretches):
        if cell == "\n":
            if used + 1 <= width:
                lines[-1].append((NEWLINE, tag))
            lines.append([])
            used = word = 0
            continue
        size = cell_len(cell)
        if used + size > width:
            if cell == " ":
                lines.append([])
                used = word = 0
                continue
            moved = lines[-1][word:] if word else []
            lines[-1] = lines[-1][: word or None]
            while moved and lines[-1] and lines[-1][-1][0] == " ":
                lines[-1].pop()
            lines.append(moved)
            used, word = sum(cell_len(char) for char, _ in moved), 0
            if used + size > width:
                lines.append([])
                used = 0
        lines[-1].append((cell, tag))
        used += size
        if cell == " ":
            word = len(lines[-1])
    return [_merged(line) for line in lines]


def _cells(stretches: Iterable[Tagged]) -> Iterator[tuple[str, Tagged]]:
    """Line breaks, and cells: a character with the marks that attach to it, each with its stretch."""
    for stretch in stretches:
        pending = ""
        for shown in chain.from_iterable(map(_shown, stretch.text.replace("\r\n", "\n"))):
            if pending not in ("", "\n") and cell_len(shown) == 0 and shown != "\n":
                pending += shown
                continue
            if pending:
                yield pending, stretch
            pending = shown
        if pending:
            yield pending, stretch


@lru_cache(maxsize=65536)
def _shown(char: str) -> str:
    """What a character is drawn as: itself, or what `printable_token` shows for one that cannot be drawn."""
    if char in " \n":
        return char
    return TAB if char == "\t" else printable_token("a" + char)[1:]  # a mark attaches to the letter before it


def _merged(line: Sequence[tuple[str, Tagged]]) -> list[Tagged]:
    """Neighbours of one stretch together."""
    return [
        Tagged("".join(cell for cell, _ in group), tag.role, tag.step)
        for tag, group in groupby(line, key=lambda entry: entry[1])
    ]
