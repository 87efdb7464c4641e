"""Orders in which tokens enter a draft vocabulary, each from what one pass over a text measured.

A new order is one entry of `ORDERS`: help, completion and tables are made from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpe_core.lazy import Deferred
from tpe_core.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = Deferred("numpy")

__all__ = ["ORDERS", "TokenEvidence", "TokenOrder", "ordered"]

EXPECTED = 1.0
"""Occurrences in the text that a token's alpha must amount to, for `alpha+ids` to rank it by alpha."""


@dataclass(frozen=True, kw_only=True)
class TokenEvidence:
    """What is known of each of V tokens from the detecting text."""

    log_alpha: NDArray[np.float64]  # [V] log of the mean probability, nats; -inf where never predicted
    counts: NDArray[np.int64]  # [V] how often each came next
    positions: int
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenOrder:
    """One order: `rank` gives [V] token ids, the one to keep first in front."""

    name: str
    about: str
    rank: Callable[[TokenEvidence], NDArray[np.int64]]


def _alpha(evidence: TokenEvidence) -> NDArray[np.int64]:
    return np.argsort(-evidence.log_alpha, kind="stable")


def _alpha_then_ids(evidence: TokenEvidence) -> NDArray[np.int64]:
    least = math.log(EXPECTED / evidence.positions)
    return np.argsort(np.where(evidence.log_alpha >= least, -evidence.log_alpha, np.inf), kind="stable")


def _alpha_zipf(evidence: TokenEvidence) -> NDArray[np.int64]:
    return np.argsort(np.log1p(np.arange(len(evidence.log_alpha))) - evidence.log_alpha, kind="stable")


def _counts(evidence: TokenEvidence) -> NDArray[np.int64]:
    shuffled = np.random.default_rng(evidence.seed).permutation(len(evidence.counts))
    result: NDArray[np.int64] = shuffled[np.argsort(-evidence.counts[shuffled], kind="stable")]
    return result


def _counts_then_ids(evidence: TokenEvidence) -> NDArray[np.int64]:
    return np.argsort(-evidence.counts, kind="stable")


ORDERS: Registry[TokenOrder] = Registry(
    "order of tokens",
    TokenOrder(name="alpha", about="by mean probability alpha", rank=_alpha),
    TokenOrder(
        name="alpha+ids",
        about="by alpha, but what is expected less than once in the text by id",
        rank=_alpha_then_ids,
    ),
    TokenOrder(name="alpha-zipf", about="by alpha / (id + 1), as if ids were ranks by frequency", rank=_alpha_zipf),
    TokenOrder(name="counts", about="by how often each came next, ties at random", rank=_counts),
    TokenOrder(name="counts+ids", about="by how often each came next, ties by id", rank=_counts_then_ids),
)
"""Why ids: those of a BPE vocabulary are in the order of its merges, most frequent pairs of the tokenizer's text first.

By Zipf's law the token of rank r has a probability in proportion to 1 / r, so that ``alpha / (id + 1)`` orders as the
geometric mean of alpha and that prior does. Of a vocabulary whose ids mean nothing it is a worse order than alpha.
"""


def ordered(name: str, evidence: TokenEvidence, first: NDArray[np.int64]) -> NDArray[np.int64]:
    """[V] token ids in the order `name`, with the tokens `first` in front. Raises `TpeError` for an unknown order."""
    ranked = ORDERS.choose(name).rank(evidence)
    is_first = np.zeros(len(ranked), dtype=np.bool_)
    is_first[first] = True
    return np.concatenate([ranked[is_first[ranked]], ranked[~is_first[ranked]]])
