"""One toggled dimension at V = 50,257 and d = 768: the running logits against a head product and an edited forward.

Every repetition toggles once and then runs the baselines, so the columns are as cold as between two keystrokes.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks.models import VOCAB, WIDTH, gpt2_small
from benchmarks.report import Row, at_least, milliseconds
from benchmarks.timing import interleaved, median
from tpe_core.detection.detection import Detection
from tpe_core.detection.hidden import HiddenSample
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.distribution import Distribution
from tpe_core.edits.edited_head import EditedHead
from tpe_core.edits.intervention import Intervention
from tpe_core.models.head import OutputHead, Post

__all__ = ["run"]

PROMPT = 16  # tokens
SHOWN = 256  # tokens kept of an answer
PRUNED = 64  # dimensions pruned all the time, as in real use


def _basis() -> EditStatistics:
    d = np.zeros(WIDTH)
    sample = HiddenSample(0, np.empty((0, WIDTH), np.float32), np.empty(0, np.int64), np.empty(0, np.uint64))
    rows = np.zeros(VOCAB)
    detection = Detection(
        positions=1,
        p_sum=rows,
        log_rescued=rows - np.inf,
        counts=rows.astype(np.int64),
        h_sum=d,
        hh_sum=np.zeros((WIDTH, WIDTH)),
        log_z_sum=0.0,
        nll_sum=0.0,
        sample=sample,
    )
    return EditStatistics.of(d, detection)


def run(quick: bool) -> list[Row]:
    """Medians over interleaved repetitions, and a mean over many toggles that includes the regular refreshes."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(VOCAB, WIDTH, generator=generator) * 0.1
    hidden = torch.randn(WIDTH, generator=generator)
    edited = EditedHead(
        OutputHead(columns=weight.T.contiguous(), bias=None, post=Post(), vocab_rows=VOCAB, tied=True, module="Linear"),
        _basis(),
    )
    edited.set_hidden(hidden)
    base = Distribution(edited.base_logits())
    kept = tuple(range(PRUNED))
    dims = itertools.cycle(range(PRUNED, WIDTH))
    edits = itertools.chain.from_iterable((Intervention((*kept, dim)), Intervention(kept)) for dim in dims)
    edited.logits(Intervention(kept))

    def divergence() -> float:
        return base.kl(edited.distribution(next(edits)))

    def shown() -> torch.Tensor:
        now = edited.distribution(next(edits))
        base.kl(now), base.js(now), now.entropy
        return now.at(now.top(SHOWN, VOCAB))

    model: Any = gpt2_small()
    ids = torch.arange(PROMPT)[None]

    def prune(_: Any, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        h = arguments[0].clone()
        h[..., kept] = 0
        return (h,)

    model.lm_head.register_forward_pre_hook(prune)
    with torch.inference_mode():
        taken = interleaved(
            {
                "logits": lambda: edited.logits(next(edits)),
                "answer": divergence,
                "shown": shown,
                "product": lambda: functional.linear(hidden[None], weight),
                "forward": lambda: model(input_ids=ids, use_cache=False).logits,
            },
            10 if quick else 60,
            warm_up=3,
        )
        many = interleaved(
            {"answer": divergence, "product": lambda: functional.linear(hidden[None], weight)}, 128 if quick else 1024
        )
    logits, answer, screen, product, forward = (median(values) for values in taken.values())
    mean, mean_product = (sum(many[name]) / len(many[name]) for name in ("answer", "product"))
    return [
        at_least("toggle: logits / head product", logits, product, 20),
        at_least("toggle: logits, softmax, KL / head product", answer, product, 20),
        at_least("toggle: the same, mean with refreshes / head product", mean, mean_product, 20),
        at_least("toggle: logits / edited forward, 16 tokens", logits, forward, 500),
        at_least("toggle: logits, softmax, KL / edited forward", answer, forward, 500),
        Row(
            f"toggle: the same, JS, entropy and the {SHOWN} most probable / edited forward",
            milliseconds(screen),
            milliseconds(forward),
            forward / screen,
        ),
    ]
