"""The lists of the token atlas: what each shows, by which figure it is sorted, and for which tokens that counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tpe_core.encoding.undertrained import lowest
from tpe_core.registry import Registry

if TYPE_CHECKING:
    from tpe_core.atlas.reachability import Reachability

__all__ = ["SECTIONS", "Listed", "Section"]


class Listed(Protocol):
    """What the lists are made of: a `tpe_core.atlas.token_atlas.TokenAtlas`."""

    @property
    def tokens(self) -> Sequence[str]:
        """[V] texts."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """[V] how often each came."""

    @property
    def surprisal(self) -> NDArray[np.float64]:
        """[V] -log alpha."""

    @property
    def residual(self) -> NDArray[np.float64]:
        """[V] of the regression."""

    @property
    def untrained(self) -> NDArray[np.float64]:
        """[V] cosine distance to the mean untrained row."""

    @property
    def reach(self) -> Reachability:
        """Which tokens some hidden state makes the top one."""

    def pair_order(self, by: Literal["cosine", "distance"]) -> NDArray[np.float64]:
        """[V] keys of the nearest pairs."""


@dataclass(frozen=True, slots=True)
class Section:
    """A list of tokens: `order` gives a key [V] for each, smallest first, NaN where the token is not in it."""

    name: str
    about: str
    order: Callable[[Listed], NDArray[np.float64]]

    def first(self, atlas: Listed, count: int) -> tuple[NDArray[np.int64], int]:
        """The first `count` token ids of the list, and how many the whole list has."""
        order = self.order(atlas)
        return lowest(order, count), int((~np.isnan(order)).sum())


def _unseen(atlas: Listed) -> NDArray[np.float64]:
    return np.where(atlas.counts == 0, atlas.surprisal, np.nan)


def _unreachable(atlas: Listed) -> NDArray[np.float64]:
    key = np.full(len(atlas.tokens), np.nan)
    ids = atlas.reach.of("unreachable")
    key[ids] = atlas.surprisal[ids]
    return key


SECTIONS: Registry[Section] = Registry(
    "list",
    Section("residual", "worst fitted, by |residual| of -log alpha", lambda atlas: -np.abs(atlas.residual)),
    Section("unseen", "never seen in the text, most probable first", _unseen),
    Section("untrained", "nearest to the mean untrained row, by cosine distance", lambda atlas: atlas.untrained),
    Section("unreachable", "no hidden state makes it the top token, most frequent first", _unreachable),
    Section("cosine", "nearest other row by cosine, W's mean row taken off", lambda atlas: atlas.pair_order("cosine")),
    Section("distance", "nearest other row by Euclidean distance", lambda atlas: atlas.pair_order("distance")),
)
"""The lists in the order of the table."""
