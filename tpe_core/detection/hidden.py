"""Hidden states of a text: forward passes that fit in memory, and a uniform sample of positions that merges.

What the head makes of them is not computed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.errors import NotFiniteError, TpeError

if TYPE_CHECKING:
    from tpe_core.corpus.corpus import Corpus
    from tpe_core.models.model import LanguageModel
    from tpe_core.models.sampling import Batch

__all__ = ["CPU_POSITIONS", "CUDA_POSITIONS", "HiddenSample", "SampleBuilder", "blocks_per_forward", "hidden_batch"]

CPU_POSITIONS = 256  # positions per forward pass, and per chunk of logits: few, so that activations stay small
CUDA_POSITIONS = 8192


@dataclass(frozen=True)
class HiddenSample:
    """A uniform sample of positions with their hidden states, chosen by hash so that samples merge.

    Every position has a pseudo-random priority from its block's content and its place in it; the sample is
    the `size` positions with the smallest priorities, whatever the order in which text was read.

    Example:
        >>> sample = analysis.detection.sample
        >>> sample.hidden.shape == (len(sample), model.head.hidden_size)
        True
    """

    size: int
    hidden: NDArray[np.float32]  # [k, d], k <= size
    next_ids: NDArray[np.int64]  # [k] the token that really followed
    priority: NDArray[np.uint64]  # [k] ascending

    def __len__(self) -> int:
        return len(self.priority)

    def __add__(self, other: HiddenSample) -> HiddenSample:
        return HiddenSample.merged([self, other])

    @staticmethod
    def empty(size: int, width: int) -> HiddenSample:
        """An empty sample of hidden states with `width` dimensions."""
        return HiddenSample(size, np.empty((0, width), np.float32), np.empty(0, np.int64), np.empty(0, np.uint64))

    @staticmethod
    def merged(samples: Sequence[HiddenSample]) -> HiddenSample:
        """The sample of the union of these samples' positions."""
        size = max(sample.size for sample in samples)
        priority = np.concatenate([sample.priority for sample in samples])
        keep = np.argsort(priority, kind="stable")[:size]
        return HiddenSample(
            size,
            np.concatenate([sample.hidden for sample in samples])[keep],
            np.concatenate([sample.next_ids for sample in samples])[keep],
            priority[keep],
        )

    @staticmethod
    def priorities(block_hash: int, length: int, seed: int) -> NDArray[np.uint64]:
        """[length] priorities of a block's positions."""
        rng = np.random.default_rng([int(block_hash), seed])
        return rng.integers(0, 2**64, size=length, dtype=np.uint64)


class SampleBuilder:
    """The `HiddenSample` of a text that comes in batches."""

    def __init__(self, size: int, width: int, seed: int) -> None:
        self._sample, self._seed = HiddenSample.empty(size, width), seed
        self._candidates: list[HiddenSample] = []

    def add(self, h: Tensor, next_ids: Tensor, hashes: NDArray[np.uint64]) -> None:
        """Add h [B L, d] with its next tokens [B L], L positions of each of the blocks that `hashes` [B] name."""
        size, sample = self._sample.size, self._sample
        if not size or not len(hashes):
            return
        length = len(h) // len(hashes)
        priority = np.concatenate([HiddenSample.priorities(int(value), length, self._seed) for value in hashes])
        limit = sample.priority[-1] if len(sample) == size else np.uint64(2**64 - 1)
        rows = np.flatnonzero(priority < limit)
        if len(rows):
            pick = torch.from_numpy(rows).to(h.device)
            part = h[pick].float().cpu().numpy(), next_ids[pick.to(next_ids.device)].cpu().numpy()
            self._candidates.append(HiddenSample(size, *part, priority[rows]))
        # Merging copies the whole sample, so candidates wait until there are enough of them.
        if sum(len(some) for some in self._candidates) >= max(size // 4, 1):
            self.sample()

    def sample(self) -> HiddenSample:
        """The sample so far."""
        if self._candidates:
            self._sample = HiddenSample.merged([self._sample, *self._candidates])
            self._candidates.clear()
        return self._sample


def blocks_per_forward(model: LanguageModel, block_length: int) -> int:
    """How many blocks a forward pass takes; the same split of a text gives the same rounding."""
    wanted = CUDA_POSITIONS if model.device.type == "cuda" else CPU_POSITIONS
    return max(1, wanted // block_length)


def hidden_batch(model: LanguageModel, corpus: Corpus, at: int, batch: int) -> tuple[Tensor, Batch, int]:
    """(h [B, k, d] at the positions asked, what was asked, B) of the blocks from `at` on.

    B is `batch`, fewer at the corpus's end, and half as many as often as the forward pass does not fit in memory.
    Raises `TpeError` where not even one block does, `NotFiniteError` with the text's name where h is not finite.
    """
    while True:
        part = slice(at, at + batch)
        with torch.inference_mode():
            chosen = model.sampling.batch(corpus.blocks[part], corpus.targets[part], corpus.block_hash[part])
            try:
                hidden = _hidden(model, chosen)
            except NotFiniteError as error:
                place = f" at position {error.position + 1} of block {at + error.row + 1} of the text ({corpus.label})"
                raise error.placed(place) from None
        if hidden is not None:
            return hidden, chosen, len(corpus.block_hash[part])
        if batch == 1:
            raise TpeError(
                f"one block of {corpus.block_length} positions does not fit in the memory of {model.device}: "
                "try --dtype bfloat16, --device cpu, or a smaller model."
            )
        batch //= 2


def _hidden(model: LanguageModel, chosen: Batch) -> Tensor | None:
    """[B, k, d] h at the positions asked; None where the forward pass does not fit in memory."""
    try:
        return chosen.select(model.hidden(chosen.inputs))
    except (RuntimeError, MemoryError) as error:  # a CPU allocation fails with a plain RuntimeError
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
    return None
