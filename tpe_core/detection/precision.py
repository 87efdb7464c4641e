"""What it costs that a bfloat16 or float16 model computes its logits in its own dtype, against the float32 head.

Both are given the same hidden states h of a text: z = W h + b in float32 (what every figure of the engine is made of),
and the logits of the model's own forward. With p = softmax(z) and q = softmax(the model's own logits) over all rows:

- the cost is the mean of KL(p || q) over positions, and the share of positions whose most probable token is another;
- its part by the rounding of the output is the same with q = softmax(round(z)), z rounded to the dtype of h once: what
  is left is the rounding of the products' sums and of what follows the head;
- a dimension d carries KL(round(z)) - KL(round(z - W_d h_d) + W_d h_d): what is saved where its part of z is added in
  float32 behind the rounding. Large parts make large logits, and rounding grows with them. That is tried for the few
  dimensions with the largest root mean square of W_td h_d under p, and for all of them together;
- a token t carries E[p_t (e_t - sum_v p_v e_v)² / 2], e the error of the model's own logits: the terms of KL's second
  order in e (KL(p || softmax(z + e)) = Var_p(e) / 2 + O(e³)), which are never negative and sum to half a variance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tpe_core.corpus.corpus import Corpus
from tpe_core.corpus.sources import TextSource
from tpe_core.detection.reading import corpus_spec
from tpe_core.errors import NotFiniteError
from tpe_core.models.finite import advice
from tpe_core.models.head import CHUNK_ROWS, OutputHead
from tpe_core.models.model import LanguageModel
from tpe_core.printable import token_texts
from tpe_core.progress import Progress, Steps

__all__ = ["POSITIONS", "DimensionCost", "HeadPrecision", "TokenCost", "head_precision", "measure_precision"]

POSITIONS = 1024
"""Positions where no number is asked for."""

TRIED = 6  # dimensions
NAMED = 8  # tokens
VALUES = 2**22  # logits of a step, in float64 several times


@dataclass(frozen=True, slots=True, kw_only=True)
class DimensionCost:
    """A dimension of h: `rms` of its part of the logits under p, and the KL that is left with that part in float32."""

    dim: int
    rms: float
    kl_in_float32: float
    saved: float  # share of the KL by rounding the output that is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCost:
    """A token and its share of the second order of KL."""

    id: int
    token: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadPrecision:
    """What a model's logits in its own dtype cost, in nats and shares of positions; 0 of no position in float32."""

    dtype: str
    text: str = ""  # what was read
    positions: int = 0
    kl: float = 0.0  # KL(float32 head || the model's own logits), mean over positions
    kl_max: float = 0.0
    kl_rounding: float = 0.0  # of the float32 logits rounded to the dtype
    top1_flips: float = 0.0  # share of positions; of tied tokens the first counts
    tied_tops: float = 0.0  # share of positions where several tokens have the model's own largest logit
    largest_logit: float = 0.0  # by size, in float32
    dimensions: tuple[DimensionCost, ...] = ()  # by what is saved
    saved_together: float = 0.0  # with all of these dimensions in float32 at once
    half_variance: float = 0.0  # Var_p(e) / 2, mean over positions
    tokens: tuple[TokenCost, ...] = ()  # by share, the first few

    def to_dict(self) -> dict[str, Any]:
        """The document under ``precision`` in that of `tpe check --precision`."""
        return {
            **asdict(self),
            "dimensions": list(map(asdict, self.dimensions)),
            "tokens": list(map(asdict, self.tokens)),
        }


def head_precision(model: LanguageModel, source: TextSource, positions: int = POSITIONS) -> Steps[HeadPrecision]:
    """Measure it at the first `positions` predictions of a text: a job. A float32 model costs 0, and reads nothing.

    Raises `CorpusError` where the text is too short, `NotFiniteError` where the model's own logits overflow.
    """
    if _is_wide(model):
        return HeadPrecision(dtype=model.report.dtype)
    corpus = yield from corpus_spec(source, model, positions).corpus()
    return (yield from measure_precision(model, corpus, positions))


def measure_precision(model: LanguageModel, corpus: Corpus, positions: int = POSITIONS) -> Steps[HeadPrecision]:
    """The same at the first `positions` predictions of a corpus: a job."""
    if _is_wide(model):
        return HeadPrecision(dtype=model.report.dtype)
    sums, states, total = _Sums(model.head), [], len(corpus.blocks)
    kept, dtype = 0, torch.float32
    for at in range(total):
        if kept >= positions:
            break
        yield Progress("own logits", at, total, note="a forward")
        hidden, own = _own_logits(model, corpus, at)
        hidden, own = hidden[: positions - kept], own[: positions - kept]
        kept, dtype = kept + len(hidden), hidden.dtype
        states.append(hidden)
        for part in _parts(model.head, len(hidden)):
            yield Progress("own logits", at, total, note="against the float32 head")
            sums.add(hidden[part], own[part])
    h = torch.cat(states)
    tried, rms = sums.largest(TRIED)
    subsets = [[], *([dim] for dim in tried), tried]
    costs, done = torch.zeros(len(subsets), dtype=torch.float64), 0
    for part in _parts(model.head, len(h)):
        yield Progress("dimensions in float32", done, len(h))
        costs += rounding_costs(model.head, h[part], dtype, subsets) / len(h)
        done = part.stop
    rounding, *each, together = costs.tolist()
    saved = [1 - left / rounding if rounding > 0 else 0.0 for left in (*each, together)]
    dimensions = [
        DimensionCost(dim=dim, rms=size, kl_in_float32=left, saved=gone)
        for dim, size, left, gone in zip(tried, rms, each, saved, strict=False)
    ]
    return HeadPrecision(
        dtype=str(dtype).removeprefix("torch."),
        text=corpus.label,
        positions=len(h),
        kl=sums.kl / len(h),
        kl_max=sums.kl_max,
        kl_rounding=rounding,
        top1_flips=sums.flips / len(h),
        tied_tops=sums.ties / len(h),
        largest_logit=sums.largest_logit,
        dimensions=tuple(sorted(dimensions, key=lambda each: -each.saved)),
        saved_together=saved[-1],
        half_variance=float(sums.by_token.sum()) / len(h),
        tokens=_named(model, sums.by_token),
    )


def divergence(log_p: Tensor, logits: Tensor) -> Tensor:
    """[n] KL(p || softmax(logits)) in nats, of log p and logits [n, V]; a token that p never predicts counts 0."""
    terms = log_p.exp() * (log_p - logits.double().log_softmax(-1))
    return terms.masked_fill_(torch.isneginf(log_p), 0.0).sum(-1)


def rounding_costs(head: OutputHead, h: Tensor, dtype: torch.dtype, subsets: Sequence[Sequence[int]]) -> Tensor:
    """[len(subsets)] summed over h [n, d]: KL of the output rounded to `dtype`, the parts of some dimensions apart."""
    with torch.inference_mode():
        raw, costs = head.raw(h), []
        log_p = head.post(raw).double().log_softmax(-1)
        for dims in subsets:
            apart = h[:, list(dims)].float() @ head.columns[list(dims)].float()
            rounded = (raw - apart).to(dtype).float() + apart
            costs.append(divergence(log_p, head.post(rounded)).sum().cpu())
    return torch.stack(costs)


class _Sums:
    """Sums over positions of what the model's own logits cost."""

    def __init__(self, head: OutputHead) -> None:
        device = head.columns.device
        self.head = head
        self.positions = self.flips = self.ties = 0
        self.kl = self.kl_max = self.largest_logit = 0.0
        self.by_token = torch.zeros(head.total_rows, dtype=torch.float64, device=device)
        self.squares = torch.zeros(head.hidden_size, dtype=torch.float64, device=device)  # of h_d W_td under p

    def add(self, h: Tensor, own: Tensor) -> None:
        """Add positions: h [n, d] and the model's own logits [n, V_all]."""
        with torch.inference_mode():
            z = self.head.logits(h)
            own = own.to(z.device)
            log_p = z.double().log_softmax(-1)
            kl = divergence(log_p, own)
            seen = torch.isfinite(z)
            p, error = log_p.exp(), torch.where(seen, own.double() - z.double(), 0.0)
            error -= (p * error).sum(-1, keepdim=True)
            self.by_token += (p * error.square_()).sum(0) / 2
            self.squares += self._squares(h, p)
            self.kl += float(kl.sum())
            self.kl_max = max(self.kl_max, float(kl.max()))
            self.largest_logit = max(self.largest_logit, float(z.abs().masked_fill(~seen, 0.0).max()))
            self.flips += int((own.argmax(-1) != z.argmax(-1)).sum())
            self.ties += int(((own == own.amax(-1, keepdim=True)).sum(-1) > 1).sum())
            self.positions += len(h)

    def _squares(self, h: Tensor, p: Tensor) -> Tensor:
        """[d] sum over positions of h_d² E_p[W_td²]."""
        columns, p = self.head.columns, p.float()
        weighted = torch.zeros(len(columns), len(h), dtype=torch.float32, device=columns.device)
        for first in range(0, columns.shape[1], CHUNK_ROWS):
            part = slice(first, first + CHUNK_ROWS)
            weighted += columns[:, part].float().square() @ p[:, part].T
        return (weighted.T * h.to(columns.device).float().square()).sum(0, dtype=torch.float64)

    def largest(self, count: int) -> tuple[list[int], list[float]]:
        """The dimensions with the largest parts of the logits, and the root mean squares of these."""
        squares, dims = self.squares.topk(min(count, len(self.squares)))
        return dims.tolist(), (squares / self.positions).sqrt().tolist()


def _is_wide(model: LanguageModel) -> bool:
    return model.report.dtype in ("float32", "float64")


def _parts(head: OutputHead, count: int) -> Iterator[slice]:
    """`count` positions in parts whose logits take `VALUES` at most, or one position."""
    step = max(1, VALUES // head.total_rows)
    for first in range(0, count, step):
        yield slice(first, min(count, first + step))


def _own_logits(model: LanguageModel, corpus: Corpus, at: int) -> tuple[Tensor, Tensor]:
    """(h [n, d] in the model's dtype, its own logits [n, V_all]) where block `at` is asked, of one whole forward."""
    part = slice(at, at + 1)
    chosen = model.sampling.batch(corpus.blocks[part], corpus.targets[part], corpus.block_hash[part])
    try:
        hidden, logits = model.hidden_and_logits(chosen.inputs)
    except NotFiniteError as error:
        raise error.placed(
            f" at position {error.position + 1} of block {at + 1} of the text ({corpus.label})"
        ) from None
    hidden, logits = chosen.select(hidden)[0], chosen.select(logits)[0]
    wrong = (torch.isnan(logits) | torch.isposinf(logits)).any(-1)
    if bool(wrong.any()):
        position, dtype = int(wrong.nonzero()[0, 0]), str(hidden.dtype).removeprefix("torch.")
        place = f" at position {position + 1} of block {at + 1} of the text ({corpus.label})"
        raise NotFiniteError(f"own logits hold NaN or infinity in {dtype}", advice(dtype, None), 0, position, place)
    return hidden, logits


def _named(model: LanguageModel, by_token: Tensor) -> tuple[TokenCost, ...]:
    """The tokens with the largest shares; padding rows are no tokens."""
    total, rows = float(by_token.sum()), model.head.vocab_rows
    if not total > 0 or not math.isfinite(total):
        return ()
    values, ids = by_token[:rows].topk(min(NAMED, rows))
    texts = token_texts(model.tokenizer, rows)
    return tuple(
        TokenCost(id=i, token=texts[i], share=value / total)
        for i, value in zip(ids.tolist(), values.tolist(), strict=True)
        if value > 0
    )
