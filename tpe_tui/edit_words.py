"""Edits in a few words: what one has that another has not, how much it edits, and how much of it is the text's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tpe_core.edits.intervention import Intervention
from tpe_core.printable import printable_token
from tpe_tui.cells import number

if TYPE_CHECKING:
    from tpe_core.encoding.stability import Stability
    from tpe_core.snapshots import NextTokens

__all__ = ["change_between", "compared", "doubtful_words", "edit_sizes"]

LISTED = 30  # dimensions that are named


def change_between(before: Intervention, after: Intervention, tokens: Sequence[str]) -> str:
    """The change that leads from one edit to another, as a command: "prune dim 193"; `tokens` are the names by id."""
    if after.is_empty and not before.is_empty:
        return f"clear {edit_sizes(before)}"
    was, now = set(before.pruned), set(after.pruned)
    parts = [f"prune {_dims(now - was)}"] if now - was else []
    parts += [f"restore {_dims(was - now)}"] if was - now else []
    parts += _steered(before, after, tokens)
    if before.replacement != after.replacement:
        parts.append(f"replace by {after.replacement}")
    return ", ".join(parts) or "use other replacement values"


def _dims(dims: set[int]) -> str:
    return f"dim {min(dims)}" if len(dims) == 1 else f"{len(dims)} dims"


def edit_sizes(edit: Intervention) -> str:
    """How much an edit edits: "3 pruned, 1 steered"."""
    parts = [f"{len(edit.pruned)} pruned"] if edit.pruned else []
    parts += [f"{len(edit.singles)} steered"] if edit.singles else []
    parts += [f"set of {len(each)} steered" for each in edit.sets]
    return ", ".join(parts)


Named = tuple[str, Intervention, "NextTokens | None"]
"""An edit under a name, with what it does after the prompt where that is known."""


def compared(first: Named, second: Named, tokens: Sequence[str]) -> str:
    """What two edits have in common and what one has alone, as lines of text; `tokens` are the names by id."""
    lines = []
    for name, edit, answer in (first, second):
        does = "" if answer is None else f"; KL {number(answer.kl)}, JS {number(answer.js)} after the prompt"
        replaced = f", replaced by {edit.replacement}" if edit.pruned else ""
        lines.append(f"{name}: {edit_sizes(edit) or 'nothing is edited'}{replaced}{does}")
    one, other = set(first[1].pruned), set(second[1].pruned)
    lines += ["", f"pruned in both: {len(one & other)}"]
    lines += [
        f"pruned in {name} alone: {_listed(dims)}" for name, dims in ((first[0], one - other), (second[0], other - one))
    ]
    for each in dict.fromkeys((*first[1].sets, *second[1].sets)):
        how = [side[1].how(each) if each in side[1].sets else None for side in (first, second)]
        said = ["not steered as one" if one is None else f"×{number(one.ratio)} by {one.method}" for one in how]
        name = f"set {printable_token(each.label)} ({len(each)} tokens)"
        lines.append(f"{name}: {said[0] if said[0] == said[1] else f'{said[0]} | {said[1]}'}")
    ratios = [{entry.token_id: entry for entry in side[1].singles} for side in (first, second)]
    for token_id in sorted({*ratios[0], *ratios[1]}):
        name = tokens[token_id] if token_id < len(tokens) else f"#{token_id}"
        entries = [side.get(token_id) for side in ratios]
        sides = ["not steered" if entry is None else f"×{number(entry.ratio)} by {entry.method}" for entry in entries]
        lines.append(f"{name}: {sides[0] if sides[0] == sides[1] else f'{sides[0]} | {sides[1]}'}")
    return "\n".join(lines)


def _listed(dims: set[int]) -> str:
    """How many dimensions, and which: the first of many."""
    shown = ", ".join(map(str, sorted(dims)[:LISTED]))
    more = f" and {len(dims) - LISTED} more" if len(dims) > LISTED else ""
    return f"{len(dims)}{f' ({shown}{more})' if dims else ''}"


def doubtful_words(stability: Stability | None, pruned: Sequence[int]) -> str:
    """How many dimensions of a mask by |slope| the text cannot tell from the kept ones, to follow a message."""
    found = None if stability is None else stability.doubtful(pruned)
    return f"; by this text {len(found)} cannot be told from kept ones" if found is not None and len(found) else ""


def _steered(before: Intervention, after: Intervention, tokens: Sequence[str]) -> list[str]:
    sets = [each for each in after.sets if each not in before.sets or before.how(each) != after.how(each)]
    gone = [each for each in before.sets if not after.steering or after.ratio(each.token_ids[0]) == 1]
    if sets or gone:
        asked = [f"steer {printable_token(each.label)} ×{number(after.how(each).ratio)}" for each in sets]
        return [*asked, *(f"stop steering {printable_token(each.label)}" for each in gone)]
    was = {entry.token_id: entry for entry in before.steering}
    now = {entry.token_id: entry for entry in after.steering}
    changed = [token_id for token_id in {**was, **now} if was.get(token_id) != now.get(token_id)]
    if not changed:
        return []
    if len(changed) > 1:
        return [f"steer {len(changed)} tokens"]
    token_id = changed[0]
    name = tokens[token_id] if token_id < len(tokens) else f"#{token_id}"
    if token_id not in now:
        return [f"stop steering {name}"]
    entry, earlier = now[token_id], was.get(token_id)
    same_ratio = earlier is not None and earlier.ratio == entry.ratio
    return [f"steer {name} by {entry.method}" if same_ratio else f"steer {name} ×{number(entry.ratio)}"]
