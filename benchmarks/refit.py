"""A step of a refit on drawn rows of a large vocabulary beside one on all of them, at the same weights."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.report import Row, milliseconds
from benchmarks.timing import interleaved, median
from tpe_core.detection.detection import Detection
from tpe_core.detection.hidden import HiddenSample
from tpe_core.models.head import OutputHead, Post
from tpe_core.pruning.fitting import BATCH, Adam, Objective, Whitening
from tpe_core.pruning.pruned_head import kept_dims
from tpe_core.pruning.refit import STEPS, StateMap
from tpe_core.pruning.row_sample import ROWS, RowSampler

__all__ = ["run"]

REMOVED = 0.3  # of the dimensions


def _detected(vocab: int, width: int) -> tuple[OutputHead, Detection]:
    """A random head whose rates fall as those of words do, and sums over some hidden states."""
    rng = np.random.default_rng(0)
    columns = torch.randn(width, vocab, generator=torch.Generator().manual_seed(0)) / width**0.5
    rates = -np.log(1.0 + rng.permutation(vocab))
    bias = torch.from_numpy(rates).float()
    head = OutputHead(columns=columns, bias=bias, post=Post(), vocab_rows=vocab, tied=False, module="Linear")
    hidden = rng.normal(size=(2 * width, width)).astype(np.float32)
    wide = hidden.astype(np.float64)
    return head, Detection(
        positions=len(wide),
        p_sum=np.exp(rates) * len(wide),
        log_rescued=np.full(vocab, -np.inf),
        counts=np.zeros(vocab, dtype=np.int64),
        h_sum=wide.sum(0),
        hh_sum=wide.T @ wide,
        log_z_sum=0.0,
        nll_sum=0.0,
        sample=HiddenSample.empty(0, width),
    )


def _compare(vocab: int, width: int, repetitions: int) -> Row:
    head, detection = _detected(vocab, width)
    white = Whitening(kept_dims(range(round(REMOVED * width)), width), detection, head)
    parameterisation = StateMap(head, detection.mean_hidden, white.map)
    whole, sampler = Objective(head, parameterisation, white), RowSampler(head, detection.log_alpha)
    adam, hidden = Adam(parameterisation, STEPS), torch.randn(BATCH, width)

    def step(here: Objective) -> None:
        with torch.inference_mode():
            _, e, slope = here.losses(hidden)
            adam.step(here.parameterisation.gradients(e, slope.div_(len(e))))

    def drawn() -> None:
        step(parameterisation.over(sampler.draw(), white))

    taken = interleaved({"drawn": drawn, "all": lambda: step(whole)}, repetitions)
    some, everything = median(taken["drawn"]), median(taken["all"])
    name = f"refit: a step of {BATCH} positions, V = {vocab:,}, d = {width}, {ROWS:,} drawn rows / all rows"
    return Row(name, milliseconds(some), milliseconds(everything), some / everything)


def run(quick: bool) -> list[Row]:
    """Heads of SmolLM2-135M's and of Gemma 3 270M's shape."""
    return [_compare(vocab, width, 3 if quick else 9) for vocab, width in ((49_152, 576), (262_144, 640))]
