"""Rows of a large vocabulary, drawn anew for every step of a fit: the step costs what the drawn rows cost.

A step of a fit needs logits of all V_all rows only for the normaliser of the softmax and for where probability is too
high or too low, and both are sums over the vocabulary. Over a sample, with row w drawn with probability pi_w and its
``exp z_w`` counted ``1 / pi_w`` times (Horvitz & Thompson 1952; for a softmax, Bengio & Senecal 2003), every sum keeps
its expectation. Counted so, the rows are two distributions of their own, P and P' again, with ``z_w - log pi_w`` for
logits: their KL is 0 where the heads agree, whichever rows were drawn.

``pi_w = min(1, c √alpha_w)``, as the error of such a sum is least where pi is as the root of E[p_w²], and E[p_w²]
of a token is about its mean probability alpha_w times what it has where it is likely. Rows are drawn one from each of
as many equal parts of the vocabulary in order of alpha, so that every sample has its share of rare tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.models.head import OutputHead

__all__ = ["ROWS", "DrawnRows", "RowSampler", "inclusion"]

Floats = NDArray[np.float64]

ROWS = 16_384  # drawn for a step; a vocabulary of less than twice as many is taken whole
LEAST = 1e-3  # of the uniform probability: what a token has at least when rows are drawn


@dataclass(frozen=True)
class DrawnRows:
    """Some rows of a head: they are one, whose final logits take `log_weight` [rows], nats, to stand for the others."""

    head: OutputHead
    log_weight: Tensor


class RowSampler:
    """Draws rows of a head, the same ones from the same `seed`.

    `log_alpha` [V_all] is the log of every row's mean probability, nats (`Detection.log_alpha`).

    Example:
        >>> sampler = RowSampler(head, detection.log_alpha, rows=32)
        >>> sampler.draw().log_weight.shape
        torch.Size([32])
    """

    def __init__(self, head: OutputHead, log_alpha: Floats, *, rows: int = ROWS, seed: int = 0) -> None:
        self._head, self._rng = head, np.random.default_rng([seed, 4])
        chances = inclusion(log_alpha, rows)
        order = np.argsort(-chances, kind="stable")
        certain = int(np.count_nonzero(chances >= 1))
        self._certain, self._others = order[:certain], order[certain:]
        self._edges = np.cumsum(chances[self._others])
        self._strata = min(rows, len(log_alpha)) - certain
        self._log_weight = -np.log(chances)
        self.share = min(rows, len(log_alpha)) / len(log_alpha)  # of the vocabulary, that is drawn

    def draw(self) -> DrawnRows:
        """Draw `rows` of them; one that is not certain can come twice, and then counts twice."""
        drawn = self._certain
        if self._strata:
            at = (np.arange(self._strata) + self._rng.random(self._strata)) * (self._edges[-1] / self._strata)
            found = np.minimum(np.searchsorted(self._edges, at, side="right"), len(self._others) - 1)
            drawn = np.concatenate([drawn, self._others[found]])
        drawn = np.sort(drawn)  # neighbours of a column are read together
        device = self._head.columns.device
        rows = torch.from_numpy(drawn).to(device)
        bias = self._head.bias
        head = replace(
            self._head,
            columns=self._head.columns.index_select(1, rows),
            bias=None if bias is None else bias[rows],
            vocab_rows=len(drawn),
        )
        return DrawnRows(head, torch.from_numpy(self._log_weight[drawn]).to(device).float())


def inclusion(log_alpha: Floats, rows: int) -> Floats:
    """[V_all] with what probability each row is drawn, as √alpha, `rows` on average; 1 for all where it has no more."""
    if rows >= len(log_alpha):
        return np.ones(len(log_alpha))
    least = math.log(LEAST / len(log_alpha))
    size = np.exp(0.5 * np.maximum(np.nan_to_num(log_alpha, nan=least, neginf=least), least))
    certain = np.zeros(len(size), dtype=bool)
    while True:
        scale = (rows - np.count_nonzero(certain)) / size[~certain].sum()
        more = ~certain & (scale * size >= 1)
        if not more.any():
            return np.where(certain, 1.0, scale * size)
        certain |= more
