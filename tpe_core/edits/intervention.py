"""An intervention on the output head: pruned dimensions, what replaces them, and steered tokens.

Pure values without torch, so a front end can edit, undo and save them freely; `edited_head` gives
them their meaning and `manifest` their file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, get_args

from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.errors import TpeError
from tpe_core.shown import Shown
from tpe_core.token_sets.token_set import TokenSet

if TYPE_CHECKING:
    from tpe_core.tables import Table

__all__ = [
    "METHODS",
    "Intervention",
    "Method",
    "Steering",
    "check_steering",
]

Method = Literal["least-squares", "min-norm", "top-k", "bias"]
"""Which direction moves a steered token's row (`tpe_core.edits.directions`); ``bias`` adds to its logit instead."""

METHODS: tuple[Method, ...] = get_args(Method)


def check_steering(ratio: float, method: str) -> None:
    """Raise `TpeError` where a ratio is not a finite number above 0 or a method is unknown."""
    if not (math.isfinite(ratio) and ratio > 0):
        raise TpeError(f"a steering ratio must be a finite number above 0, not {ratio}: 2 doubles, 0.5 halves.")
    if method == "uniform":
        raise TpeError(
            "uniform Omega over all dimensions divides by slopes near 0, so the edit explodes: "
            f"choose one of {', '.join(METHODS)}."
        )
    if method not in METHODS:
        raise TpeError(f"unknown steering method {method!r}: choose one of {', '.join(METHODS)}.")


@dataclass(frozen=True, slots=True, order=True)
class Steering:
    """One steered token: its row moves by ``log(ratio) * direction(method)``, asking for alpha' = ratio * alpha.

    ``bias`` adds log(ratio) to its logit before any cap instead: no edit of a row, the ceiling of what one can do.
    Raises `TpeError` where the ratio is not a finite positive number or the method is unknown.

    Args:
        token_id: The token, a row of the head.
        ratio: What its probability is to be multiplied by.
        method: ``least-squares``, ``min-norm``, ``top-k`` or ``bias``.

    Example:
        >>> tpe.Intervention(steering=(tpe.Steering(633, 2.0, "bias"),)).ratio(633)
        2.0
    """

    token_id: int
    ratio: float
    method: Method = "least-squares"

    def __post_init__(self) -> None:
        check_steering(self.ratio, self.method)
        if self.token_id < 0:
            raise TpeError(f"a token id cannot be negative, got {self.token_id}.")


@dataclass(frozen=True, slots=True)
class Intervention(Shown):
    """Pruned dims (sorted, unique), their replacement, and steered tokens (by id, one entry each).

    Pruning more or less than a refit was fitted for makes its replacement ``least-squares``.

    `origin` names the saved means and directions that the edit was loaded with (empty: those of the detection in
    hand); it stays with every edit made from it, so that undo goes back to the same numbers.

    The edited logits are ``post(W' h' + b)``: W' has the steered rows moved, h' has the pruned
    dimensions replaced. Pruning acts on the moved rows too, exactly as zeroing W's columns would.

    Args:
        pruned: Dimensions of h, in any order.
        replacement: What stands in for them: ``zero``, ``mean``, ``least-squares`` or ``refit``.
        steering: One `Steering` for each steered token, those of `sets` too.
        origin: Hash of the file that its numbers come from.
        sets: The token sets that are steered as one; no token is in two of them. One whose tokens are not all steered,
            and all alike, is left out: its tokens are steered one by one then.

    Example:
        >>> edit = tpe.Intervention((14, 3), "mean").steer(633, 2).toggle([3])
        >>> edit.pruned, edit.ratio(633)
        ((14,), 2)
    """

    pruned: tuple[int, ...] = ()
    replacement: str = "zero"
    steering: tuple[Steering, ...] = field(default=())
    origin: str = ""
    _: KW_ONLY
    sets: tuple[TokenSet, ...] = field(default=(), repr=False)  # `steering` has all that acts

    def __post_init__(self) -> None:
        object.__setattr__(self, "pruned", tuple(sorted({int(dim) for dim in self.pruned})))
        object.__setattr__(self, "steering", tuple(sorted(self.steering, key=attrgetter("token_id"))))
        if self.pruned and self.pruned[0] < 0:
            raise TpeError(f"a dimension cannot be negative, got {self.pruned[0]}.")
        if self.replacement not in REPLACEMENTS or not REPLACEMENTS[self.replacement].can_be_mask:
            names = ", ".join(REPLACEMENTS.masks)
            raise TpeError(f"unknown replacement {self.replacement!r}: choose one of {names}.")
        ids = [entry.token_id for entry in self.steering]
        if len(set(ids)) < len(ids):
            raise TpeError("a token is steered twice: give every token one ratio.")
        if self.sets:
            object.__setattr__(self, "sets", self._sets_alike())

    def _tables(self) -> Mapping[str, Callable[[], Table]]:
        return {"edit": self._edit_table}

    def _edit_table(self) -> Table:
        """A row for each pruned dimension, then one for each steered token."""
        from tpe_core.tables import Table

        pruned, steered = self.pruned, self.steering
        return Table({
            "kind": ["pruned"] * len(pruned) + ["steered"] * len(steered),
            "id": [*pruned, *(entry.token_id for entry in steered)],
            "ratio": [*(None for _ in pruned), *(entry.ratio for entry in steered)],
            "how": [*(self.replacement for _ in pruned), *(entry.method for entry in steered)],
        })  # fmt: skip

    def _summary(self) -> Mapping[str, object]:
        summary: dict[str, object] = {"dimensions pruned": len(self.pruned)}
        if self.pruned:
            summary["replaced by"] = self.replacement
        summary["tokens steered"] = len(self.steering)
        summary |= {f"set {each.label}": f"× {self.how(each).ratio:g}, {self.how(each).method}" for each in self.sets}
        return summary | {f"token {one.token_id}": f"× {one.ratio:g}, {one.method}" for one in self.singles}

    def _sets_alike(self) -> tuple[TokenSet, ...]:
        how = {entry.token_id: (entry.ratio, entry.method) for entry in self.steering}
        taken: set[int] = set()
        kept = []
        for each in self.sets:
            if not taken.isdisjoint(each.token_ids):
                raise TpeError(
                    f"a token of the set {each.label!r} is in another set, too: define one without the other."
                )
            taken.update(each.token_ids)
            if None not in (steered := {how.get(token_id) for token_id in each.token_ids}) and len(steered) == 1:
                kept.append(each)
        return tuple(sorted(kept, key=lambda each: each.token_ids[0]))

    @property
    def singles(self) -> tuple[Steering, ...]:
        """The tokens that are steered on their own, in no set."""
        in_sets = {token_id for each in self.sets for token_id in each.token_ids}
        return tuple(entry for entry in self.steering if entry.token_id not in in_sets)

    def set_of(self, token_id: int) -> TokenSet | None:
        """The steered set that a token is in."""
        return next((each for each in self.sets if token_id in each), None)

    def how(self, token_set: TokenSet) -> Steering:
        """The ratio and method of a steered set, as its first token's."""
        return next(entry for entry in self.steering if entry.token_id == token_set.token_ids[0])

    @property
    def is_empty(self) -> bool:
        """Whether nothing is edited; the replacement alone edits nothing."""
        return not self.pruned and not self.steering

    def check_fits(self, hidden_size: int, vocab_rows: int) -> None:
        """Raise `TpeError` where a dimension or a token does not exist in a head of this size."""
        if self.pruned and self.pruned[-1] >= hidden_size:
            raise TpeError(
                f"dimension {self.pruned[-1]} does not exist: this head has {hidden_size} (0 to {hidden_size - 1})."
            )
        if self.steering and (highest := self.steering[-1].token_id) >= vocab_rows:
            raise TpeError(f"token id {highest} does not exist: this head has {vocab_rows} rows in use.")

    def toggle(self, dims: Iterable[int]) -> Intervention:
        """Prune those of `dims` that are kept and restore those that are pruned."""
        return self.only(set(self.pruned) ^ set(dims))

    def prune(self, dims: Iterable[int]) -> Intervention:
        """Prune `dims` as well."""
        return self.only(set(self.pruned) | set(dims))

    def restore(self, dims: Iterable[int]) -> Intervention:
        """Keep `dims` again."""
        return self.only(set(self.pruned) - set(dims))

    def invert(self, hidden_size: int) -> Intervention:
        """Prune exactly the dimensions of ``range(hidden_size)`` that are kept now."""
        return self.only(set(range(hidden_size)) - set(self.pruned))

    def only(self, dims: Iterable[int]) -> Intervention:
        """Prune exactly `dims`."""
        wanted = set(dims)
        stays = not REPLACEMENTS[self.replacement].is_fitted or wanted == set(self.pruned)
        return replace(self, pruned=tuple(wanted), replacement=self.replacement if stays else "least-squares")

    def with_replacement(self, replacement: str) -> Intervention:
        """The same edit with another replacement."""
        return replace(self, replacement=replacement)

    def ratio(self, token_id: int) -> float:
        """The ratio asked for a token; 1 where it is not steered."""
        return next((entry.ratio for entry in self.steering if entry.token_id == token_id), 1.0)

    def steer(self, token_id: int, ratio: float, method: Method = "least-squares") -> Intervention:
        """Steer a token to `ratio`, replacing an earlier ratio; a ratio of exactly 1 stops steering it.

        A token of a steered set leaves it, and its definition says so.
        """
        others = tuple(entry for entry in self.steering if entry.token_id != token_id)
        added = () if ratio == 1 else (Steering(token_id, ratio, method),)
        left = (each.without([token_id]) if token_id in each else each for each in self.sets)
        return replace(self, steering=others + added, sets=tuple(each for each in left if each is not None))

    def steer_set(self, token_set: TokenSet, ratio: float, method: Method = "least-squares") -> Intervention:
        """Steer the tokens of a set as one to `ratio`, replacing earlier ratios; 1 stops steering them.

        Another set that shares some of its tokens loses those, and its definition says so.
        """
        own = set(token_set.token_ids)
        others = tuple(entry for entry in self.steering if entry.token_id not in own)
        left = (each.less(token_set) for each in self.sets)
        sets = tuple(each for each in left if each is not None)
        if ratio == 1:
            return replace(self, steering=others, sets=sets)
        added = tuple(Steering(token_id, ratio, method) for token_id in token_set.token_ids)
        return replace(self, steering=others + added, sets=(*sets, token_set))

    def clear(self) -> Intervention:
        """Nothing pruned, nothing steered; the replacement stays chosen, but for a refit, which was the mask's."""
        return Intervention(replacement=self.replacement if self.replacement in REPLACEMENTS.ready else "least-squares")
