"""Edits in a few words: what one has that another has not, how much it edits, and how much of it is the text's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tpe_core.edits.intervention import Intervention
from tpe_tui.cells import number

if TYPE_CHECKING:
    from tpe_core.encoding.stability import Stability

__all__ = ["change_between", "doubtful_words", "edit_sizes"]


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
    return ", ".join([*parts, *([f"{len(edit.steering)} steered"] if edit.steering else [])])


def doubtful_words(stability: Stability | None, pruned: Sequence[int]) -> str:
    """How many dimensions of a mask by |slope| the text cannot tell from the kept ones, to follow a message."""
    found = None if stability is None else stability.doubtful(pruned)
    return f"; by this text {len(found)} cannot be told from kept ones" if found is not None and len(found) else ""


def _steered(before: Intervention, after: Intervention, tokens: Sequence[str]) -> list[str]:
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
