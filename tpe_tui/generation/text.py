"""A pair of continuations as plain text: its heading, its first difference, both sides; for files and pipes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpe_core.printable import fit, printable_token
from tpe_tui.cells import escape_controls, number, percent
from tpe_tui.generation.state import drawn_text
from tpe_tui.token_text import tagged

if TYPE_CHECKING:
    from tpe_core.edits.intervention import Intervention
    from tpe_core.generation.paired import Continuation, GeneratedToken, PairedGeneration

__all__ = ["difference", "edit_text", "heading", "length_text", "plain_lines", "shown_line"]


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


def heading(pair: PairedGeneration, model: str, width: int) -> list[str]:
    """The lines above both texts: what is drawn how, where they first differ, the prompt."""
    edits = pair.edits
    changed = f", changed {len(edits) - 1} times while it was written" if len(edits) > 1 else ""
    last = edits[-1][1] if edits else None
    edited = "nothing" if last is None else edit_text(last, width)
    return [
        f"{model}: {drawn_text(pair.decoding)}; edited: {edited}{changed}",
        f"{difference(pair)}; mean KL {number(pair.mean_kl)} nats a token",
        f"prompt: {pair.prompt}",
    ]


def length_text(side: Continuation) -> str:
    """How long a side is, and whether it ended there."""
    count = len(side.tokens)
    return f"{count} token{'s' if count != 1 else ''}, {'ended' if side.ended else 'cut there'}"


def plain_lines(pair: PairedGeneration, model: str, width: int = 0) -> list[str]:
    """A pair as text without colour, unwrapped, for pipes and files: the first difference is marked in both sides."""
    at, lines = pair.first_difference, [shown_line(line) for line in heading(pair, model, width)]
    for name, side in (("base", pair.base), ("edited", pair.edited)):
        lines += ["", f"{name} ({length_text(side)}):"]
        said = "".join(stretch.text for stretch in tagged(side, lambda one: one.p, at))
        lines += [shown_line(line) for line in said.split("\n")]
    return lines


def shown_line(line: str) -> str:
    """A line as it is printed, its control characters escaped."""
    return escape_controls(line.replace("\t", "    "))
