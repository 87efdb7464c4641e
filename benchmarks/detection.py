"""The streaming pass against plain forwards that return logits: the same batches, in turns, in one process."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.models import BLOCK, gpt2_small, opened, random_corpus
from benchmarks.report import Row, at_most
from benchmarks.timing import median
from tpe_core.detection.detection import detect
from tpe_core.models.loading import load_model
from tpe_core.models.model import LanguageModel
from tpe_core.options import RunOptions

__all__ = ["run"]


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _compare(name: str, model: LanguageModel, blocks: int) -> list[Row]:
    """One row for the median forward pass, one for the whole pass with its set-up and result."""
    corpus = random_corpus(blocks, model.head.vocab_rows)
    batches = [torch.from_numpy(corpus.blocks[at : at + 1].copy()) for at in range(blocks)]
    with torch.inference_mode():
        model.logits(batches[0])
    steps = detect(model, corpus, sample_size=4096)
    before = _seconds(lambda: next(steps))
    detecting: list[float] = []
    plain: list[float] = []
    for number, batch in enumerate(batches):
        if number % 2:
            plain.append(_seconds(partial(model.logits, batch)))
        detecting.append(_seconds(lambda: next(steps)))
        if not number % 2:
            plain.append(_seconds(partial(model.logits, batch)))
    whole = before + sum(detecting) + _seconds(lambda: list(steps))
    return [
        at_most(f"detection: {name}, {BLOCK} positions / forward with logits", median(detecting), median(plain), 1.1),
        at_most(f"detection: {name}, whole pass of {blocks} blocks", whole, sum(plain), 1.1),
    ]


def run(quick: bool) -> list[Row]:
    """The bundled model and one of GPT-2 small's shape."""
    demo = load_model(RunOptions())
    rows = _compare("bundled model", demo, 32 if quick else 128)
    return rows + _compare("GPT-2 small's shape", opened(gpt2_small()), 6 if quick else 24)
