"""A pruning sweep of 20 fractions against a loop that reruns the model for each; a pruned head against the full one.

Both sides measure the same five figures on the same positions; the nested side pays for its own forward pass too.
Last, the nested sweep alone beside how it was measured before (`benchmarks.plain_sweep`), where V is large.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.models import gpt2_small, opened, random_corpus
from benchmarks.plain_sweep import plain_sweep
from benchmarks.report import Row, at_least
from benchmarks.timing import interleaved, median
from tpe_core.corpus.corpus import Corpus
from tpe_core.detection.detection import Detection, detect
from tpe_core.detection.hidden import HiddenSample
from tpe_core.detection.samples import gather
from tpe_core.models.head import OutputHead, Post
from tpe_core.models.loading import load_model
from tpe_core.models.model import LanguageModel
from tpe_core.options import RunOptions
from tpe_core.progress import run as finish
from tpe_core.pruning.coordinates import along
from tpe_core.pruning.pruned_head import fold
from tpe_core.pruning.results import FRACTIONS as TABLE
from tpe_core.pruning.sweep import Sweep, counts_of, sweep

__all__ = ["run"]

FRACTIONS = tuple(step / 20 for step in range(20))


def _figures(base: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
    """[5] sums of KL, JS, top-1, loss and entropy, as one would write them with torch."""
    log_p, log_q = torch.log_softmax(base, 1), torch.log_softmax(logits, 1)
    p, q = log_p.exp(), log_q.exp()
    log_m = ((p + q) / 2).clamp_min(1e-38).log()
    js = ((p * (log_p - log_m)).sum() + (q * (log_q - log_m)).sum()) / 2
    stays = (base.argmax(1) == logits.argmax(1)).sum()
    nll = -log_q.gather(1, targets[:, None]).sum()
    return torch.stack([(p * (log_p - log_q)).sum(), js, stays, nll, -(q * log_q).sum()])


def _loop(model: LanguageModel, corpus: Corpus, order: np.ndarray, counts: tuple[int, ...]) -> Tensor:
    """[F, 5] means by whole forwards: one of the model as it is, one for each fraction."""
    total = torch.zeros(len(counts), 5, dtype=torch.float64)
    gone: list[int] = []

    def mask(_: Any, arguments: tuple[Tensor, ...]) -> tuple[Tensor]:
        h = arguments[0].clone()
        h[..., gone] = 0
        return (h,)

    handle = model.hf.get_output_embeddings().register_forward_pre_hook(mask)
    try:
        for at in range(len(corpus.blocks)):
            ids, targets = (torch.from_numpy(some[at : at + 1].copy()) for some in (corpus.blocks, corpus.targets))
            gone[:] = []
            base = model.logits(ids)[0]
            with torch.inference_mode():
                for index, count in enumerate(counts):
                    gone[:] = order[:count].tolist()
                    total[index] += _figures(base, model.logits(ids)[0], targets[0]).double()
    finally:
        handle.remove()
    return total / corpus.positions


def _nested(model: LanguageModel, corpus: Corpus, order: np.ndarray, counts: tuple[int, ...]) -> Sweep[str]:
    sample = finish(gather(model, corpus, corpus.positions))
    return finish(sweep(model.head, {"zero": along(model.head, order)}, counts, sample))


def _seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    answer = work()
    return time.perf_counter() - started, answer


def _compare(name: str, model: LanguageModel, blocks: int, budget: float) -> list[Row]:
    width = model.head.hidden_size
    corpus, order = random_corpus(blocks, model.head.vocab_rows), np.random.default_rng(0).permutation(width)
    counts = counts_of(FRACTIONS, width)
    _nested(model, random_corpus(1, model.head.vocab_rows), order, counts)
    taken, found = _seconds(lambda: _nested(model, corpus, order, counts))
    baseline, known = _seconds(lambda: _loop(model, corpus, order, counts))
    costs = found.costs["zero"]
    apart = max(abs(cost.kl - float(row[0])) for cost, row in zip(costs, known, strict=True))
    return [
        at_least(f"sweep: {name}, 20 fractions of {corpus.positions} positions / model rerun", taken, baseline, budget),
        Row(f"sweep: {name}, largest difference of KL", f"{apart:.1e}", budget="<= 1e-05", met=apart <= 1e-5),
    ]


def _smaller(model: LanguageModel, detection: Detection) -> Row:
    head = model.head
    gone = np.arange(0, head.hidden_size, 2).tolist()
    small = fold(head, gone, "least-squares", detection)
    hidden = torch.from_numpy(detection.sample.hidden[:256])
    kept = hidden[:, small.kept]
    with torch.inference_mode():
        taken = interleaved({"small": lambda: small(kept), "full": lambda: head.logits(hidden)}, 10, warm_up=2)
    return at_least(
        "pruned head: half of 768 dimensions, 256 positions / full head",
        median(taken["small"]), median(taken["full"]), 1.5,
    )  # fmt: skip


def _beside_before(vocab: int, width: int, positions: int, repetitions: int, paths: int) -> list[Row]:
    """A random head and random hidden states: `TABLE` along several orders at once, the best repetition of either."""
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    columns = torch.randn(width, vocab, generator=generator).mul_((6 / width) ** 0.5)
    head = OutputHead(columns=columns, bias=None, post=Post(), vocab_rows=vocab, tied=False, module="Linear")
    hidden = torch.randn(positions, width, generator=generator).numpy()
    next_ids, priority = rng.integers(0, vocab, positions), np.arange(positions, dtype=np.uint64)
    sample = HiddenSample(positions, hidden, next_ids, priority)
    paths_by_name = {str(path): along(head, rng.permutation(width)) for path in range(paths)}
    counts = counts_of(TABLE, width)
    answers: dict[str, Any] = {}

    def after() -> None:
        answers["after"] = finish(sweep(head, paths_by_name, counts, sample)).costs

    def before() -> None:
        answers["before"] = plain_sweep(head, paths_by_name, counts, sample)

    taken = interleaved({"after": after, "before": before}, repetitions)
    apart = max(
        abs(cost.kl - float(row[0]))
        for name, costs in answers["after"].items()
        for cost, row in zip(costs, answers["before"][name], strict=True)
    )
    what = f"sweep: V = {vocab:,}, d = {width}, {paths} orders x {len(counts)} fractions, {positions} positions"
    return [
        at_least(f"{what} / as before", min(taken["after"]), min(taken["before"]), 2),
        Row(f"sweep: V = {vocab:,}, largest difference of KL", f"{apart:.1e}", budget="<= 1e-06", met=apart <= 1e-6),
    ]


def run(quick: bool) -> list[Row]:
    """The bundled model, one of GPT-2 small's shape, and heads of SmolLM2-135M's and of Gemma 3 270M's shape."""
    wide = opened(gpt2_small())
    rows = _compare("bundled model", load_model(RunOptions()), 4 if quick else 16, 5)
    rows += _compare("GPT-2 small's shape", wide, 1 if quick else 4, 10)
    corpus = random_corpus(2, wide.head.vocab_rows)
    rows.append(_smaller(wide, finish(detect(wide, corpus, sample_size=512))))
    repetitions, part = (1, 4) if quick else (3, 1)
    rows += _beside_before(49_152, 576, 240 // part, repetitions, 2)
    return [*rows, *_beside_before(262_144, 640, 96 // part, repetitions, 1)]
