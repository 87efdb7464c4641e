"""Models of sequences that are no language: tiny ones from configs, and one that is trained on a Markov chain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Chain", "train_on"]


class Chain:
    """A Markov chain over `size` states whose stationary frequencies follow Zipf's law.

    With probability 1/2 a state is drawn anew; else a step of Metropolis's walk over a ring is made, which leaves the
    frequencies as they are.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        zipf = 1 / np.arange(1, size + 1)
        self.frequency: NDArray[np.float64] = rng.permutation(zipf / zipf.sum())
        walk = np.zeros((size, size))
        for state in range(size):
            for other in ((state + 1) % size, (state - 1) % size):
                walk[state, other] = min(1, self.frequency[other] / self.frequency[state]) / 2
            walk[state, state] = 1 - walk[state].sum()
        self.steps = (self.frequency + walk) / 2

    def draw(self, count: int, length: int, seed: int) -> NDArray[np.int64]:
        """[count, length] states of independent walks that begin in the stationary distribution."""
        rng = np.random.default_rng(seed)
        ends = self.steps.cumsum(1)
        walks = np.empty((count, length), np.int64)
        walks[:, 0] = rng.choice(len(self.frequency), count, p=self.frequency)
        for at in range(1, length):
            below = ends[walks[:, at - 1]] < rng.random(count)[:, None]
            walks[:, at] = np.minimum(below.sum(1), len(self.frequency) - 1)
        return walks


def train_on(chain: Chain, folder: Path, *, width: int = 16, steps: int = 300) -> Path:
    """Train a one-layer GPT-2 on walks of a chain and save it, with no tokenizer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(chain.frequency), n_positions=32, n_embd=width, n_layer=1, n_head=2,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model: Any = GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    walks = torch.from_numpy(chain.draw(steps * 64, 32, seed=1))
    for batch in walks.split(64):
        optimizer.zero_grad()
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        schedule.step()
    model.save_pretrained(folder)
    return folder
