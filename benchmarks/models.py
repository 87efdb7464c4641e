"""Models to measure on: a random one of GPT-2 small's shape, and text of random tokens for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tpe_core.corpus.corpus import Corpus, stretches_of
from tpe_core.models.model import LanguageModel
from tpe_core.models.probe import open_head

__all__ = ["BLOCK", "VOCAB", "WIDTH", "gpt2_small", "opened", "random_corpus"]

VOCAB, WIDTH = 50257, 768
BLOCK = 256  # positions of a block


def gpt2_small() -> Any:
    """A transformers model of GPT-2 small's shape (124 M parameters) with random weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config()).eval()


def opened(hf: Any) -> LanguageModel:
    """A model with its measured head and no tokenizer."""
    vocab = int(hf.config.vocab_size)
    head, report = open_head(hf, vocab, BLOCK)
    return LanguageModel(
        name="random", revision=None, hf=hf, tokenizer=None, context=BLOCK, report=report, measured_head=head
    )


def random_corpus(blocks: int, vocab: int) -> Corpus:
    """Blocks of `BLOCK` random token ids."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, vocab, size=(blocks, BLOCK + 1))
    return Corpus(
        blocks=ids[:, :-1],
        targets=ids[:, 1:],
        block_hash=rng.integers(0, 2**64, size=blocks, dtype=np.uint64),
        stretch=stretches_of(blocks),
        label="random tokens",
        fingerprint="0" * 64,
        part="detect",
        add_bos=False,
    )
