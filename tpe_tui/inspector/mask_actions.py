"""The keys that prune: each action of the key table is one method named after its id."""

from __future__ import annotations

from collections.abc import Callable

from tpe_core.edits.intervention import Intervention
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_tui.edit_words import change_between, doubtful_words
from tpe_tui.inspector.frame import InspectFrame
from tpe_tui.inspector.refit_job import start_refit

__all__ = ["MaskActions", "parse_share"]


def parse_share(text: str) -> float | None:
    """0.3, 30% or 30 as 0.3; None where it is no share in [0, 1]. A number above 1 is a percentage."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        return None
    share = value / 100 if text.strip().endswith("%") or value > 1 else value
    return share if 0 <= share <= 1 else None


class MaskActions:
    """The keys of `frame` that change which dimensions are pruned, and what they become."""

    def __init__(self, frame: InspectFrame) -> None:
        self.frame, self.workspace = frame, frame.workspace

    def mask_toggle(self, count: int = 1) -> None:
        """Prune or restore the dimension, `count` of them from it down, or the marked range."""
        dims = self.frame.dims.range_dims(count)
        ranged = self.frame.dims.range_from is not None
        if not dims:
            self.workspace.has_table()
            return
        replaced = self.workspace.history.intervention.replacement
        self.workspace.edit(lambda: self.workspace.history.toggle(dims))
        pruned, now = set(self.workspace.history.intervention.pruned), self.workspace.history.intervention.replacement
        also = "" if now == replaced else f"; the {replaced} was another mask's: {now} now"
        if ranged:
            self.frame.dims.set_range(False)
            self.workspace.status.say(f"toggled {len(dims)} dimensions: {len(pruned)} pruned{also}")
        elif count > 1:
            fewer = " (the list ends there)" if len(dims) < count else ""
            many = f"{len(dims)} dimension{'s' if len(dims) > 1 else ''}"
            self.workspace.status.say(f"toggled {many}{fewer}: {len(pruned)} pruned{also}")
        else:
            self.workspace.status.say(f"dim {dims[0]} {'pruned' if dims[0] in pruned else 'kept'}{also}")

    def mask_range(self) -> None:
        """Mark a range of dimensions; again toggles it, escape drops it."""
        if not self.workspace.has_table():
            return
        if self.frame.dims.range_from is not None:
            self.mask_toggle()
            return
        self.frame.show_pane(1)
        self.frame.dims.set_range(True)
        keys = self.workspace.keymap
        self.workspace.status.say(
            f"range: move, then {keys.shown('mask.toggle')} toggles it, {keys.shown('app.escape')} drops it"
        )

    def mask_bottom(self) -> None:
        """Prune the bottom share by the current sort key."""
        table = self.workspace.table
        if not self.workspace.has_table() or table is None:
            return
        key = "slope" if self.frame.dims.sort == "dim" else self.frame.dims.sort

        def check(text: str) -> str | None:
            return None if parse_share(text) is not None else "a share lies between 0 and 1: try 0.3 or 30%"

        def prune(text: str) -> None:
            share = parse_share(text) or 0.0
            self.workspace.edit(
                lambda: self.workspace.history.prune_bottom(share, table, key),
                "",
                "that mask is in force already",
            )
            pruned = self.workspace.history.intervention.pruned
            doubtful = doubtful_words(table.stability, pruned) if key == "slope" else ""
            self.workspace.status.say(f"pruned the {len(pruned)} dimensions with the smallest |{key}|{doubtful}")

        def would(text: str) -> Intervention:
            return self.workspace.history.without_bottom(parse_share(text) or 0.0, table, key)

        question = f"prune the bottom share by |{key}|"
        self.frame.question(question, prune, "30%", "0.3 or 30%; replaces the mask", check, would=would)

    def mask_invert(self) -> None:
        """Prune exactly what is kept now."""
        self.workspace.edit(self.workspace.history.invert, "inverted: what was kept is pruned")

    def mask_clear(self) -> None:
        """Clear every edit, pruned and steered."""
        undo = self.workspace.keymap.shown("mask.undo")
        self.workspace.edit(self.workspace.history.clear, f"cleared; {undo} brings it back", "nothing is edited")

    def mask_undo(self, count: int = 1) -> None:
        """Undo the last edit, or the last `count` of them."""
        self._step_back_or_forth(self.workspace.history.undo, "undone", "nothing to undo", count)

    def mask_redo(self, count: int = 1) -> None:
        """Redo the last edit that was undone, or the last `count` of them."""
        self._step_back_or_forth(self.workspace.history.redo, "redone", "nothing to redo", count)

    def _step_back_or_forth(self, one: Callable[[], bool], name: str, nothing: str, count: int) -> None:
        taken = 0

        def step() -> bool:
            nonlocal taken
            while taken < count and one():
                taken += 1
            return bool(taken)

        before, table = self.workspace.history.intervention, self.workspace.table
        self.workspace.edit(step, "", nothing)
        after = self.workspace.history.intervention
        if after is not before and table is not None:
            first, second = (after, before) if name == "undone" else (before, after)
            steps = f"{taken} step{'s' if taken > 1 else ''} {name}" if count > 1 else name
            self.workspace.status.say(f"{steps}: {change_between(first, second, table.tokens)}")

    def mask_replacement(self) -> None:
        """Choose what stands in for pruned dimensions: zero, their mean, or a guess from the kept."""
        current = self.workspace.history.intervention.replacement
        ready = REPLACEMENTS.ready
        other = ready[(ready.index(current) + 1) % len(ready)] if current in ready else ready[0]
        meaning = REPLACEMENTS[other].they_become
        self.workspace.edit(
            lambda: self.workspace.history.set_replacement(other), f"pruned dimensions become {meaning}"
        )

    def mask_refit(self) -> None:
        """Make h anew from the kept dimensions, at the least KL: a job of minutes."""
        start_refit(self.workspace)
