"""Steering 100 tokens to 9 ratios, measured on a stored sample, against one pass over that sample's logits.

The pass is what any measurement of whole distributions costs: head product and softmax of every position.
"""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.models import VOCAB, WIDTH
from benchmarks.report import Row, at_most
from benchmarks.timing import interleaved, median
from tpe_core.analysis import analyze
from tpe_core.detection.hidden import HiddenSample
from tpe_core.models.head import OutputHead, Post
from tpe_core.options import RunOptions
from tpe_core.progress import run as finish
from tpe_core.steering.effects import effects, logit_chunks, observe, unit

__all__ = ["run"]

TOKENS = 100
RATIOS = (0.1, 0.2, 0.5, 0.8, 1.25, 2.0, 5.0, 10.0, 20.0)


def _compare(name: str, head: OutputHead, sample: HiddenSample, repetitions: int) -> Row:
    ids = tuple(range(500, 500 + TOKENS))
    steps = np.log(RATIOS)[:, None]
    direction = np.random.default_rng(0).normal(size=head.hidden_size) / head.hidden_size

    def steer() -> None:
        observed = finish(observe(head, sample, ids))
        along = unit(observed, direction)
        for token_id in ids:
            effects(observed, (token_id,), steps, along)

    def whole() -> None:
        with torch.inference_mode():
            for _, logits in logit_chunks(head, sample.hidden):
                torch.softmax(logits, 1)

    taken = interleaved({"steer": steer, "pass": whole}, repetitions)
    title = f"steering: {name}, {TOKENS} tokens x {len(RATIOS)} ratios, {len(sample):,} positions / one pass"
    return at_most(title, median(taken["steer"]), median(taken["pass"]), 1.5)


def run(quick: bool) -> list[Row]:
    """The bundled model, whose vocabulary is small for its sample, and a head of GPT-2 small's shape."""
    analysis = finish(analyze(RunOptions()))
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(WIDTH, VOCAB, generator=generator) * 0.1
    head = OutputHead(columns=columns, bias=None, post=Post(), vocab_rows=VOCAB, tied=True, module="Linear")
    count = 512 if quick else 4096
    hidden = torch.randn(count, WIDTH, generator=generator).numpy()
    sample = HiddenSample(count, hidden, np.zeros(count, np.int64), np.arange(count, dtype=np.uint64))
    return [
        _compare("bundled model", analysis.model.head, analysis.detection.sample, 3 if quick else 7),
        _compare("GPT-2 small's shape", head, sample, 1 if quick else 3),
    ]
