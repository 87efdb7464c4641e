"""What a front end edits: a prompt and an intervention, with undo and redo.

No torch, no I/O, no UI: what is typed is changed here, and is not lost while the engine is busy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field

from tpe_core.edits.intervention import Intervention, Method
from tpe_core.errors import TpeError
from tpe_core.shares import count_of
from tpe_core.snapshots import EncodingTable
from tpe_core.token_sets.token_set import TokenSet

__all__ = ["EditHistory"]

MAX_UNDO = 1000


@dataclass(kw_only=True)
class EditHistory:
    """A prompt and an intervention with undo. Every change of the edit goes through `apply`, back to `start`.

    Args:
        prompt: What is typed.
        hidden_size: Dimensions of the head, d.
        vocab_rows: Rows of the head in use.
        method: The steering method of `steer`.
        start: The intervention to begin with; nothing is edited where None.
        saved: The intervention that a file holds.
        named: Edits by the names that the user gave them.

    Example:
        >>> history = tpe.EditHistory(prompt="Return the", hidden_size=64, vocab_rows=1000)
        >>> history.toggle([3, 14])
        True
        >>> history.intervention.pruned, history.undo(), history.intervention.pruned
        ((3, 14), True, ())
    """

    prompt: str = ""
    hidden_size: int = 0
    vocab_rows: int = 0
    method: Method = "least-squares"
    start: InitVar[Intervention | None] = None
    saved: Intervention | None = None  # what was written to a file last, or read from one
    named: dict[str, Intervention] = field(default_factory=dict)  # edits to come back to, whatever is undone
    _history: list[Intervention] = field(init=False)
    _at: int = field(default=0, init=False)
    _cleared: Intervention | None = field(default=None, init=False)  # in force instead of an edit that is held back

    def __post_init__(self, start: Intervention | None) -> None:
        self._history = [start or Intervention()]

    def restore(self, steps: Sequence[Intervention], at: int, *, hold_back: bool = False) -> None:
        """Take the `steps` of an earlier history, the one with the index `at` in force.

        With `hold_back` nothing is edited instead until `undo` brings that one back. Raises `TpeError`, and changes
        nothing, where a step names a dimension or token that the head does not have, or where there is no such step.
        """
        if not 0 <= at < len(steps):
            raise TpeError(f"a history of {len(steps)} steps has no step {at}.")
        for step in steps if self.hidden_size else ():
            step.check_fits(self.hidden_size, self.vocab_rows)
        self._history, self._at = list(steps), at
        self._cleared = steps[at].clear() if hold_back and not steps[at].is_empty else None

    @property
    def all_steps(self) -> tuple[Intervention, ...]:
        """What `restore` takes.

        Those are `steps`, but without what is in force instead of an edit that is held back, and with those behind that
        edit, which `redo` reaches once it is brought back.
        """
        return tuple(self._history)

    @property
    def at(self) -> int:
        """The index in `all_steps` of the edit in force, or of the one that is held back."""
        return self._at

    @property
    def held_back(self) -> Intervention | None:
        """The edit that `undo` brings back, after `restore` held it back and nothing was edited since."""
        return None if self._cleared is None else self._history[self._at]

    @property
    def intervention(self) -> Intervention:
        """The edit in force."""
        return self._history[self._at] if self._cleared is None else self._cleared

    @property
    def is_unsaved(self) -> bool:
        """Whether there is an edit in force that no file holds."""
        return not self.intervention.is_empty and self.intervention != self.saved

    @property
    def undo_depth(self) -> tuple[int, int]:
        """How many steps can be undone and redone."""
        return (self._at, len(self._history) - 1 - self._at) if self._cleared is None else (self._at + 1, 0)

    @property
    def steps(self) -> tuple[Intervention, ...]:
        """Every edit that can be gone back or forth to, the earliest first."""
        return tuple(self._history) if self._cleared is None else (*self._history[: self._at + 1], self._cleared)

    @property
    def position(self) -> int:
        """The index in `steps` of the edit in force."""
        return self._at if self._cleared is None else self._at + 1

    def go_to(self, position: int) -> bool:
        """Bring the edit at an index of `steps` into force, with those before and behind it kept; False if it is."""
        if not 0 <= position < len(self.steps):
            raise TpeError(f"there is no step {position}: there are {len(self.steps)}, counted from 0.")
        moved = position != self.position
        if moved:
            self._bring_back()
            self._at = position
        return moved

    def _bring_back(self) -> None:
        """Put what is held back in force; what was in force instead is the step after it, unless there is one."""
        if self._cleared is not None and self._at == len(self._history) - 1:
            self._history.append(self._cleared)
        self._cleared = None

    def apply(self, intervention: Intervention) -> bool:
        """Make `intervention` the one in force; False (and no undo step) where it changes nothing.

        Raises `TpeError` where it names a dimension or token that the head does not have.
        """
        if self.hidden_size:
            intervention.check_fits(self.hidden_size, self.vocab_rows)
        if intervention == self.intervention:
            return False
        del self._history[self._at + 1 :]
        self._history += [intervention] if self._cleared is None else [self._cleared, intervention]
        self._cleared = None
        del self._history[: max(0, len(self._history) - MAX_UNDO)]
        self._at = len(self._history) - 1
        return True

    def undo(self) -> bool:
        """Go one step back; False at the beginning. The first step back brings what is held back.

        `redo` then takes it away again, unless it was followed by other steps: those are gone to.
        """
        if self._cleared is not None:
            self._bring_back()
            return True
        moved = self._at > 0
        self._at -= moved
        return moved

    def redo(self) -> bool:
        """Go one step forward; False at the end."""
        moved = self._cleared is None and self._at + 1 < len(self._history)
        self._at += moved
        return moved

    def toggle(self, dims: Sequence[int]) -> bool:
        """Prune the kept ones of `dims`, restore the pruned ones."""
        return self.apply(self.intervention.toggle(dims))

    def prune_bottom(self, share: float, table: EncodingTable, key: str = "slope") -> bool:
        """Prune exactly the `share` of dimensions with the smallest |key| (the paper's order for ``slope``)."""
        return self.apply(self.without_bottom(share, table, key))

    def without_bottom(self, share: float, table: EncodingTable, key: str = "slope") -> Intervention:
        """What `prune_bottom` would make of the edit in force."""
        if not 0 <= share <= 1:
            raise TpeError(f"a share must lie between 0 and 1, not {share:g}.")
        count = count_of(share, self.hidden_size)
        dims = table.order(key, descending=False)[:count]
        return self.intervention.only(int(dim) for dim in dims)

    def invert(self) -> bool:
        """Prune exactly what is kept now."""
        return self.apply(self.intervention.invert(self.hidden_size))

    def clear(self) -> bool:
        """Undo every edit at once, as one undoable step."""
        return self.apply(self.intervention.clear())

    def set_replacement(self, replacement: str) -> bool:
        """Choose what stands in for pruned dimensions."""
        return self.apply(self.intervention.with_replacement(replacement))

    def steer(self, token_id: int, ratio: float) -> bool:
        """Steer a token with the chosen method; a ratio of 1 stops steering it."""
        return self.apply(self.intervention.steer(token_id, ratio, self.method))

    def steer_set(self, token_set: TokenSet, ratio: float) -> bool:
        """Steer a token set as one with the chosen method; a ratio of 1 stops steering it."""
        return self.apply(self.intervention.steer_set(token_set, ratio, self.method))
