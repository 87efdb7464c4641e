"""Which positions of which inputs count: the bridge from blocks of text to what a model is asked to predict.

Causal models predict every next token. Masked models are asked at masked positions only. Encoder-decoder models are
asked at decoder positions: for missing spans where they know sentinels (T5), for the whole text from a masked
one where they know a mask (BART), else for the second half of a block after its first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.corpus.id_tokenizer import MASKS, IdTokenizer
from tpe_core.corpus.token_ids import special_ends, text_ids
from tpe_core.errors import ModelError
from tpe_core.models.head import Task

__all__ = [
    "SEPARATOR",
    "Batch",
    "Continue",
    "Denoise",
    "MaskedToken",
    "NextToken",
    "Sampling",
    "Spans",
    "decoder_start",
    "sampling_for",
]

Ints = NDArray[np.int64]

SEPARATOR = "|||"
"""Between the source and what the decoder has said so far, in the prompt of an encoder-decoder model."""

SENTENCE = "The capital of France is"
OF_IDS = "token ids like 17 4 98"

MASKED_SHARE = 0.15  # of a block's tokens: what masked models are trained with
DENOISED_SHARE = 0.3  # BART's
SPAN = 3  # tokens in a missing span: T5's mean


@dataclass(frozen=True)
class Batch:
    """Inputs of one forward pass and the positions of the head's input that count, with what is to be predicted."""

    inputs: dict[str, Tensor]
    at: Tensor | None  # [B, k] indices into the head's positions; None: all of them
    targets: Ints  # [B, k] the tokens that were really there

    def select(self, hidden: Tensor) -> Tensor:
        """[B, k, d] the positions of h [B, L, d] that count."""
        if self.at is None:
            return hidden
        at = self.at.to(hidden.device)
        return hidden.gather(1, at[..., None].expand(-1, -1, hidden.shape[-1]))


class Sampling(Protocol):
    """A way to turn blocks of text into predictions."""

    @property
    def example(self) -> str:
        """A prompt to begin with."""

    @property
    def hint(self) -> str:
        """What a prompt may hold beside text; empty where that is all."""

    @property
    def label(self) -> str:
        """Its name and settings: part of a detection's cache key."""

    def room(self, context: int) -> int:
        """Tokens of text that fit in a context, beside the special tokens around them."""

    def count(self, block_length: int) -> int:
        """Predictions in a block of so many tokens."""

    def batch(self, blocks: Ints, targets: Ints, hashes: NDArray[np.uint64]) -> Batch:
        """Inputs for `blocks` [B, L], whose next tokens are `targets` [B, L]; `hashes` [B] seed every choice."""

    def prompt(self, text: str, context: int) -> tuple[dict[str, Tensor], int, int, int]:
        """(inputs of one prompt, the position asked, tokens used, tokens dropped to fit the context)."""


def _choice(block_hash: int, high: int, count: int) -> Ints:
    """`count` sorted distinct numbers below `high`, the same for the same block."""
    rng = np.random.default_rng([int(block_hash), 0x5EED])
    return np.sort(rng.choice(high, size=count, replace=False)).astype(np.int64)


def _tensor(rows: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.int64))


def _around(prefix: tuple[int, ...], rows: Ints, suffix: tuple[int, ...]) -> Ints:
    """[B, p + L + s] rows with the same tokens before and after each."""
    return np.concatenate([np.tile(prefix, (len(rows), 1)), rows, np.tile(suffix, (len(rows), 1))], 1).astype(np.int64)


def _sentence(tokenizer: Any, end: str = "") -> str:
    """The beginning of an example prompt, closed by `end` where it is text: a sentence, or ids."""
    return tokenizer.examples[0] if isinstance(tokenizer, IdTokenizer) else f"{SENTENCE}{end}"


def _stop(tokenizer: Any) -> str:
    """What ends a sentence; nothing where there are only ids."""
    return "" if isinstance(tokenizer, IdTokenizer) else "."


def _hints(tokenizer: Any, hint: str = "") -> str:
    """What a prompt may hold, with that it is ids where there is no tokenizer."""
    of_ids = OF_IDS if isinstance(tokenizer, IdTokenizer) else ""
    return "; ".join(filter(None, (of_ids, hint)))


def _cut(ids: list[int], context: int) -> tuple[list[int], int]:
    """The last `context` ids and how many were dropped."""
    dropped = max(0, len(ids) - context)
    return ids[dropped:], dropped


@dataclass(frozen=True)
class NextToken:
    """Every position of a causal model predicts the token after it.

    A prompt begins with the special tokens that the tokenizer puts before a text (`prefix`). What it puts after one is
    left out: the model is to go on from the text, not from its end.
    """

    tokenizer: Any
    prefix: tuple[int, ...] = ()
    label: str = "next token"

    @property
    def hint(self) -> str:
        """Nothing beside text."""
        return _hints(self.tokenizer)

    @property
    def example(self) -> str:
        """An example prompt: the beginning of a sentence."""
        return _sentence(self.tokenizer)

    def room(self, context: int) -> int:
        """The whole context: a causal model needs no special tokens."""
        return context

    def count(self, block_length: int) -> int:
        """Every position of a block is predicted."""
        return block_length

    def batch(self, blocks: Ints, targets: Ints, hashes: NDArray[np.uint64]) -> Batch:
        """Inputs: the blocks as they are."""
        return Batch({"input_ids": _tensor(blocks)}, None, targets)

    def prompt(self, text: str, context: int) -> tuple[dict[str, Tensor], int, int, int]:
        """Ask at the last position; an empty prompt starts a text, and one too long loses its first text tokens.

        Raises `ModelError` where the prompt is empty and the tokenizer has no token that starts a text.
        """
        ids, dropped = _cut(text_ids(self.tokenizer, text), max(1, context - len(self.prefix)))
        ids = [*self.prefix, *ids]
        if not ids:
            start = next((i for i in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id) if i is not None), None)
            if start is None:
                raise ModelError(
                    "the prompt is empty and this tokenizer has no token that starts a text: type a prompt."
                )
            ids = [start]
        return {"input_ids": torch.tensor([ids])}, len(ids) - 1, len(ids), dropped


@dataclass(frozen=True, kw_only=True)
class MaskedToken:
    """A masked model is asked for `MASKED_SHARE` of every block's tokens, all of them replaced by the mask.

    (Training leaves a few of them visible or swaps them; a position that counts here never shows its answer.)
    """

    tokenizer: Any
    mask_id: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    label: str = f"masked token {MASKED_SHARE}"

    @property
    def hint(self) -> str:
        """How the mask is written."""
        return _hints(self.tokenizer, f"{self.tokenizer.mask_token} where the token is asked for (else at the end)")

    @property
    def example(self) -> str:
        """A sentence with a mask in it."""
        return f"{_sentence(self.tokenizer)} {self.tokenizer.mask_token}{_stop(self.tokenizer)}"

    def room(self, context: int) -> int:
        """Text tokens that fit beside the special tokens."""
        return context - len(self.prefix) - len(self.suffix)

    def count(self, block_length: int) -> int:
        """`MASKED_SHARE` of a block's tokens, at least one."""
        return max(1, round(MASKED_SHARE * block_length))

    def batch(self, blocks: Ints, targets: Ints, hashes: NDArray[np.uint64]) -> Batch:
        """Inputs: the blocks between their special tokens, masked."""
        length = blocks.shape[1]
        at = np.stack([_choice(value, length, self.count(length)) for value in hashes])
        answers = np.take_along_axis(blocks, at, 1)
        masked = blocks.copy()
        np.put_along_axis(masked, at, self.mask_id, 1)
        inputs = {"input_ids": _tensor(_around(self.prefix, masked, self.suffix))}
        return Batch(inputs, _tensor(at + len(self.prefix)), answers)

    def prompt(self, text: str, context: int) -> tuple[dict[str, Tensor], int, int, int]:
        """Ask at the first mask of the prompt; a prompt without one gets it at its end."""
        ids = text_ids(self.tokenizer, text)
        if self.mask_id not in ids:
            ids.append(self.mask_id)
        room = self.room(context)
        ids, dropped = _cut(ids, room)
        if self.mask_id not in ids:
            raise ModelError(f"the prompt's mask lies more than {room} tokens before its end: shorten the prompt.")
        ids = [*self.prefix, *ids, *self.suffix]
        return {"input_ids": torch.tensor([ids])}, ids.index(self.mask_id), len(ids), dropped


@dataclass(frozen=True)
class _Decoder:
    """What encoder-decoder models share: special tokens of the source, and what the decoder starts with."""

    tokenizer: Any
    start: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    @property
    def hint(self) -> str:
        """How source and decoder are told apart."""
        return _hints(self.tokenizer, f"source {SEPARATOR} what the decoder has said so far")

    def _inputs(self, source: Ints, spoken: Ints) -> dict[str, Tensor]:
        """Inputs whose decoder has said `start` and then `spoken` [B, T]."""
        return {
            "input_ids": _tensor(_around(self.prefix, source, self.suffix)),
            "decoder_input_ids": _tensor(_around((self.start,), spoken, ())),
        }

    def _opening(self) -> tuple[int, ...]:
        """What the decoder says before the text itself."""
        return ()

    def room(self, context: int) -> int:
        """Text tokens that fit beside the source's special tokens and the decoder's start."""
        return context - max(len(self.prefix) + len(self.suffix), 1 + len(self._opening()))

    def prompt(self, text: str, context: int) -> tuple[dict[str, Tensor], int, int, int]:
        """Ask at the decoder's next position. Text after `SEPARATOR` is the decoder's so far."""
        source, _, said = text.partition(SEPARATOR)
        source_ids, dropped = _cut(text_ids(self.tokenizer, source.strip()), self.room(context))
        spoken = [*self._opening(), *text_ids(self.tokenizer, said.strip())]
        spoken, more = _cut(spoken, context - 1)
        if not source_ids and not (self.prefix or self.suffix):
            raise ModelError("the source text is empty: type a prompt.")
        inputs = self._inputs(np.array([source_ids], np.int64), np.array([spoken], np.int64))
        return inputs, len(spoken), inputs["input_ids"].shape[1] + len(spoken) + 1, dropped + more


@dataclass(frozen=True)
class Spans(_Decoder):
    """T5's task: spans of the source are replaced by sentinels, and the decoder says each sentinel and its span.

    Only the spans' tokens count; sentinels are predicted too, but they are no text.
    """

    sentinels: tuple[int, ...] = ()
    label: str = f"missing spans {MASKED_SHARE} of {SPAN}"

    @property
    def example(self) -> str:
        """A sentence with a gap, of which the decoder has said the sentinel."""
        name = self.tokenizer.convert_ids_to_tokens(self.sentinels[0])
        return f"{_sentence(self.tokenizer)} {name}{_stop(self.tokenizer)} {SEPARATOR} {name}"

    def _spans(self, block_length: int) -> int:
        return max(1, min(len(self.sentinels), round(MASKED_SHARE * block_length / SPAN), block_length // (2 * SPAN)))

    def count(self, block_length: int) -> int:
        """Number of tokens in all spans."""
        return self._spans(block_length) * min(SPAN, block_length)

    def batch(self, blocks: Ints, targets: Ints, hashes: NDArray[np.uint64]) -> Batch:
        """Sources with sentinels, decoders that have said the sentinels and spans so far."""
        length = blocks.shape[1]
        spans, wide = self._spans(length), min(SPAN, length)
        sentinels = np.array(self.sentinels[:spans], np.int64)
        sources, spoken, answers = [], [], []
        for block, value in zip(blocks, hashes, strict=True):
            starts = _choice(value, length - spans * wide + 1, spans) + wide * np.arange(spans)
            missing = (starts[:, None] + np.arange(wide)).ravel()
            kept = block.copy()
            kept[starts] = sentinels
            gone = np.setdiff1d(missing, starts)
            sources.append(np.delete(kept, gone))
            masked = block[missing].reshape(spans, wide)
            spoken.append(np.concatenate([sentinels[:, None], masked], 1).ravel()[:-1])
            answers.append(masked.ravel())
        # [start] s0 a b c s1 d e f ...: the position of s_i predicts its span's first token.
        at = 1 + (np.arange(spans)[:, None] * (wide + 1) + np.arange(wide)).ravel()
        inputs = self._inputs(np.stack(sources), np.stack(spoken))
        return Batch(inputs, _tensor(np.tile(at, (len(blocks), 1))), np.stack(answers))


@dataclass(frozen=True)
class Denoise(_Decoder):
    """BART's task: the decoder says the whole text, of which the source has `DENOISED_SHARE` masked."""

    mask_id: int = 0
    label: str = f"denoise {DENOISED_SHARE}"

    @property
    def example(self) -> str:
        """A sentence with a mask, of which the decoder has said the beginning."""
        begin = _sentence(self.tokenizer)
        return f"{begin} {self.tokenizer.mask_token}{_stop(self.tokenizer)} {SEPARATOR} {begin}"

    def _opening(self) -> tuple[int, ...]:
        return self.prefix

    def count(self, block_length: int) -> int:
        """Every position of a block is predicted."""
        return block_length

    def batch(self, blocks: Ints, targets: Ints, hashes: NDArray[np.uint64]) -> Batch:
        """Masked sources; the decoder has said the source's opening and the text so far."""
        length = blocks.shape[1]
        hidden = np.stack([_choice(value, length, max(1, round(DENOISED_SHARE * length))) for value in hashes])
        masked = blocks.copy()
        np.put_along_axis(masked, hidden, self.mask_id, 1)
        inputs = self._inputs(masked, _around(self._opening(), blocks[:, :-1], ()))
        at = np.tile(len(self._opening()) + np.arange(length), (len(blocks), 1))
        return Batch(inputs, _tensor(at), blocks)


@dataclass(frozen=True)
class Continue(_Decoder):
    """Without sentinels or a mask: the source is a block's first half, and the decoder says the second."""

    label: str = "second half"

    @property
    def example(self) -> str:
        """A sentence that the decoder goes on from."""
        return f"{_sentence(self.tokenizer, ' Paris.')} {SEPARATOR}"

    def count(self, block_length: int) -> int:
        """Half of a block's tokens: the second half."""
        return block_length - block_length // 2

    def batch(self, blocks: Ints, targets: Ints, hashes: NDArray[np.uint64]) -> Batch:
        """Inputs: the blocks' first halves as sources."""
        half = blocks.shape[1] // 2
        return Batch(self._inputs(blocks[:, :half], blocks[:, half:-1]), None, blocks[:, half:])


def decoder_start(hf: Any) -> int | None:
    """The id that an encoder-decoder model's decoder begins with; None where nothing says so."""
    for source in (hf.config, getattr(hf, "generation_config", None)):
        for name in ("decoder_start_token_id", "bos_token_id", "pad_token_id"):
            if isinstance(value := getattr(source, name, None), int):
                return value
    return None


def sampling_for(task: Task, tokenizer: Any, decoder_start: int | None) -> Sampling:
    """How a model of this task and tokenizer is sampled.

    Raises `ModelError` where a masked model's tokenizer has no mask, or nothing says what a decoder starts with.
    """
    prefix, suffix = special_ends(tokenizer)
    if task == "causal":
        return NextToken(tokenizer, prefix)
    mask = getattr(tokenizer, "mask_token_id", None)
    if task == "masked":
        if mask is None:
            if isinstance(tokenizer, IdTokenizer):
                raise ModelError(
                    f"nothing says which id is the masked model's mask: give a --vocabulary with an entry {MASKS[0]} "
                    f"or {MASKS[1]}, or set mask_token_id in the model's config.json."
                )
            raise ModelError(
                "a masked model needs a tokenizer with a mask token, and this one has none: add it beside the model."
            )
        return MaskedToken(tokenizer=tokenizer, mask_id=int(mask), prefix=prefix, suffix=suffix)
    if decoder_start is None:
        raise ModelError("nothing says what the decoder starts with: set decoder_start_token_id in the model's config.")
    vocabulary = tokenizer.get_vocab()
    sentinels: list[int] = []
    while (name := f"<extra_id_{len(sentinels)}>") in vocabulary:
        sentinels.append(int(vocabulary[name]))
    if sentinels:
        return Spans(tokenizer, decoder_start, prefix, suffix, tuple(sentinels))
    if mask is not None:
        return Denoise(tokenizer, decoder_start, prefix, suffix, int(mask))
    return Continue(tokenizer, decoder_start, prefix, suffix)
