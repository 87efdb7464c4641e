"""What stands in for a pruned dimension of h: one record for each replacement.

A new one that needs no fit is one entry of `REPLACEMENTS`: edits, files, sweeps, forecasts, the help of `tpe prune`,
its completion, the keys and the sweep screen are made from it. Importing this module imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tpe_core.lazy import Deferred
from tpe_core.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
else:
    np = Deferred("numpy")

__all__ = ["REPLACEMENTS", "ROTATE", "Replacement", "Replacements"]

ROTATE = "rotate"
"""The reference curve, order and replacement in one: directions instead of dimensions, the same beside everything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Replacement:
    """One way to replace removed dimensions.

    Three texts say it to people: `about` goes on "replaced by", `they_become` "pruned dimensions become", `it_becomes`
    "what is removed". `fill` maps E[h] [n] of any dimensions to the constants [n] that stand in for them; it is None
    where something else than a constant does.
    """

    name: str
    about: str
    they_become: str = ""
    it_becomes: str = ""
    fill: Callable[[Floats], Floats] | None = None
    rebuilds: bool = False  # whether dimensions are made of the kept ones, by a matrix that belongs to one mask
    is_fitted: bool = False  # whether its numbers are fitted for one mask, in minutes; all of h is made anew then
    is_measured: bool = True  # whether it needs numbers measured on text
    can_be_mask: bool = True  # whether an intervention, and its file, can say it
    gates: Literal["zero", "mean"] = "mean"  # the Fisher information that forecasts it: for 0 or for E[h] in its place


class Replacements(Registry[Replacement]):
    """Replacements by name, and the names of some of them."""

    @property
    def ready(self) -> tuple[str, ...]:
        """Those that every mask has at once, without a fit of its own."""
        return tuple(each.name for each in self.values() if each.can_be_mask and not each.is_fitted)

    @property
    def masks(self) -> tuple[str, ...]:
        """Those that an intervention can have."""
        return tuple(each.name for each in self.values() if each.can_be_mask)

    @property
    def fitted(self) -> tuple[str, ...]:
        """Those that are fitted at every point of a curve, least free first: minutes instead of seconds."""
        return tuple(each.name for each in self.values() if each.is_fitted)

    @property
    def references(self) -> tuple[str, ...]:
        """Those that a sweep measures beside the others, and no mask can have."""
        return tuple(each.name for each in self.values() if not each.can_be_mask and not each.is_fitted)


def _zeros(mean: Floats) -> Floats:
    return np.zeros_like(mean)


REPLACEMENTS = Replacements(
    "replacement",
    Replacement(
        name="zero",
        about="zero",
        they_become="0",
        it_becomes="becomes 0",
        fill=_zeros,
        is_measured=False,
        gates="zero",
    ),
    Replacement(
        name="mean",
        about="their means",
        they_become="their mean over the text",
        it_becomes="becomes its mean",
        fill=lambda mean: mean,
    ),
    Replacement(
        name="least-squares",
        about="the best linear guess from the others",
        they_become="a guess from the kept ones",
        it_becomes="is guessed from the kept",
        rebuilds=True,
    ),
    Replacement(
        name=ROTATE,
        about="nothing: directions are removed instead of dimensions, a reference",
        can_be_mask=False,
    ),
    Replacement(
        name="refit",
        about="a refit: all of h made anew from the others, at the least KL",
        rebuilds=True,
        is_fitted=True,
    ),
    Replacement(
        name="distill",
        about="nothing: the kept columns of W are fitted anew, at the least KL",
        is_fitted=True,
        can_be_mask=False,
    ),
)
"""``zero`` is the paper's; ``mean`` is E[h_i] over the detecting text; ``least-squares`` guesses from the dimensions
that are kept. Under ``refit`` all of h is made anew from the kept dimensions, at the least KL
(`tpe_core.pruning.refit`): numbers that were fitted for one mask and belong to no other. ``distill`` and ``rotate`` are
no masks."""
