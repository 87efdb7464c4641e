"""The lists of the token atlas: what each shows, by which figure it is sorted, and for which tokens that counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tpe_core.encoding.undertrained import lowest
from tpe_core.registry import Registry

if TYPE_CHECKING:
    from tpe_core.atlas.token_atlas import TokenAtlas

__all__ = ["SECTIONS", "Section"]


@dataclass(frozen=True, slots=True)
class Section:
    """A list of tokens: `order` gives a key [V] for each, smallest first, NaN where the token is not in it."""

    name: str
    about: str
    order: Callable[[TokenAtlas], NDArray[np.float64]]

    def ids(self, atlas: TokenAtlas, count: int) -> NDArray[np.int64]:
        """The first `count` token ids of the list."""
        return lowest(self.order(atlas), count)

    def total(self, atlas: TokenAtlas) -> int:
        """How many tokens the whole list has."""
        return int((~np.isnan(self.order(atlas))).sum())


def _unseen(atlas: TokenAtlas) -> NDArray[np.float64]:
    return np.where(atlas.counts == 0, atlas.surprisal, np.nan)


def _unreachable(atlas: TokenAtlas) -> NDArray[np.float64]:
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
