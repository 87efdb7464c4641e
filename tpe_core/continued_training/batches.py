"""The batches of a run: blocks of its text in an order that the seed alone decides, so that all variants read alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from tpe_core.corpus.corpus import Corpus
from tpe_core.errors import CorpusError

__all__ = ["Batches", "block_order", "check_blocks"]


def check_blocks(corpus: Corpus, batch: int) -> None:
    """Raise `CorpusError` where a text has fewer blocks than one step takes."""
    if (blocks := len(corpus.blocks)) < batch:
        raise CorpusError(
            f"the text ({corpus.label}) is too short for one step: it has {blocks} block{'s' * (blocks != 1)} of "
            f"{corpus.block_length} tokens to train on and a step takes {batch}: give more text, or a smaller --batch."
        )


def block_order(blocks: int, wanted: int, seed: int) -> NDArray[np.int64]:
    """[wanted] numbers of blocks: every one once before any comes again, each time in another order."""
    rng = np.random.default_rng([seed, 3])
    rounds = -(-wanted // blocks)
    return np.concatenate([rng.permutation(blocks) for _ in range(rounds)])[:wanted].astype(np.int64)


class Batches(Dataset[dict[str, Tensor]]):  # type: ignore[misc]  # torch is not typed here
    """The blocks of a whole run in their order, as the Trainer reads them: ids [L] and the ids that follow [L]."""

    def __init__(self, corpus: Corpus, *, steps: int, batch: int, seed: int) -> None:
        """Take `steps` batches of `batch` blocks. Raises `CorpusError` as `check_blocks` does."""
        check_blocks(corpus, batch)
        self._corpus = corpus
        self.order = block_order(len(corpus.blocks), steps * batch, seed)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, at: int) -> dict[str, Any]:
        block = int(self.order[at])
        return {
            "input_ids": torch.from_numpy(self._corpus.blocks[block].astype(np.int64)),
            "labels": torch.from_numpy(self._corpus.targets[block].astype(np.int64)),
        }

    def counts(self, rows: int) -> NDArray[np.int64]:
        """[rows] how often each token is predicted in the whole run."""
        return np.bincount(self._corpus.targets[self.order].ravel(), minlength=rows).astype(np.int64)
