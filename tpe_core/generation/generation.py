"""Sampling text from a model's body under its own or an edited head: one body, many heads, the same noise for each.

Every choice adds Gumbel noise that depends on nothing but the seed, the prompt's place, the step and the token, and
takes the largest. So two heads that agree say the same, and what differs between two samples is the edit's doing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.corpus.corpus import TextSource
from tpe_core.detection.reading import corpus_spec
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.edit_numbers import EditNumbers
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import ModelError, NumericalError, TpeError
from tpe_core.generation.decoding import DEFAULT, Decoding
from tpe_core.models.body import IncrementalDecoder, cache_works
from tpe_core.models.model import LanguageModel
from tpe_core.options import DEMO, several
from tpe_core.progress import Progress, Steps

__all__ = [
    "DEFAULT",
    "Decoding",
    "Generation",
    "Logits",
    "batches",
    "check_causal",
    "check_finite",
    "check_prompts",
    "choose",
    "continuations",
    "end_ids",
    "generate",
    "gumbel",
    "heldout_prompts",
    "logits_under",
    "noise_of",
    "starting_prompt",
    "text_prompts",
]

Floats = NDArray[np.float64]
Ids = tuple[int, ...]

Logits = Callable[[Tensor], Tensor]
"""A head: [..., V_all] logits of hidden states [..., d]."""

DEMO_PROMPT = "Returns the number of elements in the"

BATCH = 32  # prompts at a time: what their caches take stays small
BATCH_LOGITS = 2**23  # logits at a time


@dataclass(frozen=True, kw_only=True)
class Generation:
    """Continuations of prompts, in the prompts' order, and how they were drawn."""

    prompts: tuple[Ids, ...]
    tokens: tuple[Ids, ...]  # what was said after each, the end token included where there is one
    ended: tuple[bool, ...]  # whether an end token was reached
    decoding: Decoding
    cached: bool  # whether the model's cache was used; without it the same, only slower

    def texts(self, tokenizer: Any) -> list[str]:
        """Every continuation as text, special tokens left out."""
        return [tokenizer.decode(list(ids), skip_special_tokens=True) for ids in self.tokens]


def heldout_prompts(model: LanguageModel, source: TextSource, count: int, tokens: int) -> Steps[tuple[Ids, ...]]:
    """The first `tokens` ids of up to `count` blocks that detection on `source` never sees: a job.

    Fewer where the text has fewer held-out blocks. Raises `CorpusError` where it has none, `TpeError` where a block is
    shorter than that.
    """
    block = corpus_spec(source, model, 1).block_length
    if count < 1 or not 1 <= tokens <= block:
        raise TpeError(f"{count} prompts of {tokens} tokens cannot be cut: ask for at least 1, of 1 to {block} tokens.")
    corpus = yield from corpus_spec(source, model, count * block, "heldout").corpus()
    return tuple(tuple(row) for row in corpus.blocks[:count, :tokens].tolist())


def text_prompts(model: LanguageModel, texts: str | Sequence[str]) -> tuple[Ids, ...]:
    """Prompts of the user's own, as the model reads them, cut to its context.

    Raises `ModelError` for a model that is not causal, and for an empty prompt where no token starts a text.
    """
    check_causal(model)
    return tuple(
        tuple(model.sampling.prompt(text, model.context)[0]["input_ids"][0].tolist()) for text in several(texts)
    )


def starting_prompt(model: LanguageModel) -> str:
    """A prompt to begin with, one that suits the model."""
    return DEMO_PROMPT if model.name == DEMO else model.sampling.example


def end_ids(model: LanguageModel) -> frozenset[int]:
    """The tokens that end a text: the generation config's, else the tokenizer's."""
    ids = getattr(getattr(model.hf, "generation_config", None), "eos_token_id", None)
    ids = model.tokenizer.eos_token_id if ids is None else ids
    return frozenset() if ids is None else frozenset(ids if isinstance(ids, list | tuple) else [ids])


def logits_under(model: LanguageModel, intervention: Intervention, basis: EditStatistics | None = None) -> Logits:
    """The model's head under an intervention, which needs a `basis` unless it is empty.

    Raises `TpeError` where it has none, or names what the head does not have.
    """
    head = model.head
    intervention.check_fits(head.hidden_size, head.vocab_rows)
    if intervention.is_empty:
        return head.logits
    if basis is None:
        raise TpeError("an intervention needs the means and directions of a detection: give its EditStatistics.")
    numbers = EditNumbers(basis.resolve(intervention))
    return lambda h: numbers.logits(head, h)


def gumbel(seed: int, prompt: int, step: int, size: int) -> Floats:
    """[size] standard Gumbel noise of one choice; the argmax of logits plus noise is a sample of their softmax."""
    waits = np.random.default_rng([seed, prompt, step]).standard_exponential(size)
    noise: Floats = -np.log(np.maximum(waits, np.finfo(np.float64).tiny))
    return noise


def choose(
    logits: Tensor, noise: Tensor | None, temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0
) -> Tensor:
    """[B] one token for each row of logits [B, V_all] with noise [B, V_all]; the most probable one without noise.

    `top_k` above 0 leaves so many of the most probable tokens. `top_p` below 1 leaves the smallest set of the most
    probable of these that has at least that share of their probability at this temperature (nucleus sampling:
    Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration").
    """
    if noise is None:
        return logits.argmax(-1)
    scores = logits.to(noise.dtype)
    scores = (scores - scores.amax(-1, keepdim=True)) / temperature  # the largest stays finite at any temperature
    if top_p < 1 or 0 < top_k < scores.shape[-1]:
        ordered, order = scores.sort(dim=-1, descending=True, stable=True)
        beyond = torch.zeros_like(ordered, dtype=torch.bool)
        if top_k:
            beyond[..., top_k:] = True
        if top_p < 1:
            p = torch.softmax(ordered.masked_fill(beyond, -math.inf), -1)
            beyond |= p.cumsum(-1) - p >= top_p  # what stands before a token is enough already
        scores = scores.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), -math.inf)
    return (scores + noise).argmax(-1)


def generate(
    model: LanguageModel,
    intervention: Intervention,
    basis: EditStatistics | None,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding = DEFAULT,
    *,
    batch: int | None = None,
) -> Steps[Generation]:
    """Continuations of prompts (token ids) under an intervention: a job, as `continuations`."""
    head = logits_under(model, intervention, basis)
    return (yield from continuations(model, head, prompts, decoding, batch=batch))


def continuations(
    model: LanguageModel,
    logits: Logits,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding = DEFAULT,
    *,
    batch: int | None = None,
) -> Steps[Generation]:
    """What follows each prompt (token ids), sampled from the model's body under the head `logits`: a job.

    From the model's plain softmax, padding rows included: no penalties, no forced tokens. Prompts of one length run
    together, `batch` at a time, so nothing is ever padded. Raises `ModelError` for a model that is not causal,
    `TpeError` for prompts that cannot be continued, `NumericalError` for logits of NaN or infinity.
    """
    check_causal(model)
    given = tuple(tuple(int(token) for token in prompt) for prompt in prompts)
    check_prompts(model, given, decoding.length)
    ends, cached = end_ids(model) if decoding.stop else frozenset(), cache_works(model)
    drawn: list[list[int]] = [[] for _ in given]
    total, before = len(given) * decoding.length, 0
    for rows in batches(list(map(len, given)), batch or max(1, min(BATCH, BATCH_LOGITS // model.head.total_rows))):
        body, unread, unfinished = (
            IncrementalDecoder(model, cached),
            torch.tensor([given[row] for row in rows]),
            set(rows),
        )
        for step in range(decoding.length):
            yield Progress("generate", before + len(rows) * step, total)
            with torch.inference_mode():  # not around the yield: it would reach the caller
                chosen = _next(logits(body.last(unread)), rows, step, decoding)
            for row, token in zip(rows, chosen.tolist(), strict=True):
                if row in unfinished:
                    drawn[row].append(token)
                    if token in ends:
                        unfinished.remove(row)
            if not unfinished:
                break
            unread = chosen[:, None]
        before += len(rows) * decoding.length
    yield Progress("generate", total, total)
    ended = tuple(ids[-1] in ends for ids in drawn)
    return Generation(prompts=given, tokens=tuple(map(tuple, drawn)), ended=ended, decoding=decoding, cached=cached)


def check_causal(model: LanguageModel) -> None:
    """Raise `ModelError` for a model that continues no text."""
    if model.task != "causal":
        kind = {"masked": "a masked", "seq2seq": "an encoder-decoder"}[model.task]
        raise ModelError(f"{model.name} is {kind} model and continues no text: generate with a causal one.")


def check_prompts(model: LanguageModel, prompts: tuple[Ids, ...], length: int) -> None:
    """Raise `TpeError` where `length` tokens cannot follow prompts of token ids: empty ones, no such id, no room."""
    longest = max(map(len, prompts), default=0)
    if not prompts or not all(prompts):
        raise TpeError("a prompt is empty, or there is none: give each at least one token.")
    for prompt in prompts:
        model.check_inputs({"input_ids": torch.tensor(prompt)})
    if longest + length > model.context:
        raise TpeError(
            f"{length} tokens after a prompt of {longest} do not fit this model's {model.context} positions: "
            "ask for fewer tokens, or shorten the prompt."
        )


def batches(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Places in `lengths` that can run together: equal ones, at most `size` of them."""
    alike: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        alike.setdefault(length, []).append(row)
    return [rows[first : first + size] for rows in alike.values() for first in range(0, len(rows), size)]


def _next(z: Tensor, rows: list[int], step: int, decoding: Decoding) -> Tensor:
    """[B] the token after each of the prompts `rows`, whose logits are z [B, V_all]."""
    check_finite(z)
    return choose(z, noise_of(z, rows, step, decoding), decoding.temperature, decoding.top_p, decoding.top_k).cpu()


def check_finite(z: Tensor) -> None:
    """Raise `NumericalError` where logits [..., V_all] hold NaN, +infinity, or nothing that can be said."""
    if not torch.isfinite(z.amax(-1)).all():
        raise NumericalError("the logits hold NaN or infinity while generating: try --dtype float32 or bfloat16.")


def noise_of(z: Tensor, rows: list[int], step: int, decoding: Decoding) -> Tensor | None:
    """[B, V_all] the noise of one choice for each of the prompts `rows`, on z's device; None where it is greedy."""
    if decoding.temperature == 0:
        return None
    drawn = torch.from_numpy(np.stack([gumbel(decoding.seed, row, step, z.shape[-1]) for row in rows]))
    return drawn.to(torch.float32 if z.device.type == "mps" else torch.float64).to(z.device)
