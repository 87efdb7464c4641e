"""What an edit does after each of many hidden states: the divergences and probabilities of one product with the head.

The logits of a block of states are in memory at a time, and every figure is that of `Distribution`, which is float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.edits.distribution import Distribution
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.edit_numbers import EditNumbers
from tpe_core.errors import NumericalError
from tpe_core.models.head import OutputHead
from tpe_core.pauses import pause
from tpe_core.progress import Progress

__all__ = ["BaseRows", "RowCosts", "row_costs"]

BLOCK_BYTES = 24 * 2**20  # of float32 logits at a time: products of fewer states wait for W's columns
KEPT_BYTES = 96 * 2**20  # of the base's float32 logits that are kept from one edit to the next


@dataclass(frozen=True, kw_only=True)
class RowCosts:
    """Figures after each of n hidden states; natural logarithms."""

    kl: NDArray[np.float64]  # [n] KL(base || edited), nats
    surprisal_base: NDArray[np.float64]  # [n] -log p of the state's target, nats; NaN without one
    surprisal_now: NDArray[np.float64]  # [n] the same under the edit
    top1_base: NDArray[np.int64]  # [n] the most probable token
    top1_now: NDArray[np.int64]  # [n] under the edit; the base's where another is only as probable


class BaseRows:
    """The unedited logits of hidden states [n, d], kept where they take no more than `KEPT_BYTES`, else made anew."""

    def __init__(self, head: OutputHead, hidden: Tensor) -> None:
        self.head = head
        self.hidden = hidden
        self._kept: dict[int, Tensor] = {}  # by the first state of a block

    @property
    def step(self) -> int:
        """States of one block."""
        return max(1, BLOCK_BYTES // (4 * self.head.total_rows))

    def blocks(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(the first state, h [m, d] float32, logits [m, V_all] float32) of every block, with a pause before each."""
        keeps = 4 * len(self.hidden) * self.head.total_rows <= KEPT_BYTES
        for first in range(0, len(self.hidden), self.step):
            pause(Progress("logits of the prompt", first, len(self.hidden)))
            h = self.hidden[first : first + self.step].to(self.head.columns.device).float()
            logits = self._kept.get(first)
            if logits is None:
                logits = self.head.logits(h)
                if keeps:
                    self._kept[first] = logits
            yield first, h, logits


def row_costs(base: BaseRows, targets: Sequence[int], edit: ResolvedEdit) -> RowCosts:
    """What an edit does after each hidden state of `base`, whose `targets` are tokens or negative where there is none.

    The product with the head is one for the edit, and one for the base where its logits are not kept. Raises
    `NumericalError` where logits are not finite, and what a pause raises.
    """
    head, numbers = base.head, EditNumbers(edit)
    n, is_empty = len(base.hidden), edit.intervention.is_empty
    kl, surprisal, top1 = np.zeros(n), np.full((2, n), math.nan), np.zeros((2, n), np.int64)
    with torch.inference_mode():
        for first, h, logits in base.blocks():
            edited = logits if is_empty else numbers.logits(head, h)
            for row in range(len(h)):
                at = first + row
                pause(Progress("figures of the prompt", at, n))
                before = _distribution(logits[row], at)
                after = before if is_empty else _distribution(edited[row], at)
                if not is_empty:
                    kl[at] = before.kl(after)
                surprisal[:, at] = [_surprisal(side, targets[at]) for side in (before, after)]
                top1[:, at] = _most_probable(before, after, head.vocab_rows)
    return RowCosts(kl=kl, surprisal_base=surprisal[0], surprisal_now=surprisal[1], top1_base=top1[0], top1_now=top1[1])


def _distribution(logits: Tensor, at: int) -> Distribution:
    double = torch.float32 if logits.device.type == "mps" else torch.float64
    found = Distribution(logits.to(double))
    if math.isnan(found.log_z):
        raise NumericalError(
            f"the logits at token {at + 1} hold NaN or infinity: try --dtype float32 or bfloat16, or another prompt."
        )
    return found


def _surprisal(side: Distribution, target: int) -> float:
    """-log p of a token, nats: infinite for one that the head has no row for, NaN for none."""
    if target < 0:
        return math.nan
    return side.log_z - float(side.logits[target]) if target < len(side.logits) else math.inf


def _most_probable(before: Distribution, after: Distribution, rows: int) -> tuple[int, int]:
    """The most probable of the first `rows` tokens of each side; the same one where the other is as probable."""
    first, last = (int(side.weights[:rows].argmax()) for side in (before, after))
    return first, last if after.weights[first] < after.weights[last] else first
