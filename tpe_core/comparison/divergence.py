"""Exact divergence of two models of one tokenizer over a text, with one model in memory at a time.

Two passes: the base's hidden states and its head are kept, then the other model reads the same token ids, and both
heads' logits are compared a chunk of positions at a time.
"""

from __future__ import annotations

import dataclasses
import gc
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.comparison.measures import KEPT, apart, flips, retained
from tpe_core.comparison.states import BaseStates, ModelFacts, check_states, read_states, states_of, vocabulary_of
from tpe_core.corpus.kinds import are_ids
from tpe_core.corpus.sources import text_source
from tpe_core.detection.hidden import blocks_per_forward, hidden_batch
from tpe_core.errors import ModelError, NumericalError
from tpe_core.models.loading import load_steps
from tpe_core.models.model import LanguageModel
from tpe_core.options import RunOptions
from tpe_core.pauses import pause
from tpe_core.printable import fit, printable_token
from tpe_core.progress import Progress, Steps
from tpe_core.token_sets.token_classes import CLASSES, token_classes

__all__ = ["ModelComparison", "TokenGroup", "WorstPosition", "compare_models"]

Floats = NDArray[np.float64]

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
DECILES = 10
LOGITS = 2**24  # float32 logits of each head that are computed at a time
TERMS = 2**20  # float64 terms that are compared at a time
BEFORE, AFTER = 24, 8  # tokens of text that are shown around a position


@dataclass(frozen=True, kw_only=True)
class TokenGroup:
    """Some of the vocabulary's tokens, and what falls on them, as shares of all."""

    name: str
    tokens: int
    kl: float  # share of KL's terms p log(p / q) - p + q; NaN where KL is 0 or infinite
    probability: float  # share of the base's probability


@dataclass(frozen=True, kw_only=True)
class WorstPosition:
    """The position with the largest KL, and the text around it.

    The text is empty where a model does not read from left to right.
    """

    kl: float
    block: int  # counted from 1
    position: int  # in the block, counted from 1
    before: str
    next: str  # the token that really followed
    after: str
    base: str  # the base's most probable token
    other: str  # the other's


@dataclass(frozen=True, kw_only=True)
class ModelComparison:
    """How far a model's next-token distributions Q lie from a base's P, over a text. Divergences are in nats.

    The probabilities are over all rows of the heads, padding included, where both have as many; else both are
    normalised over the `rows` in use.

    Example:
        >>> written = Path("some.txt").write_text("Return the number of items. " * 99)
        >>> options = tpe.RunOptions("demo", text=("some.txt",), positions=256)
        >>> result = tpe.run(tpe.compare_models(options, options))
        >>> result.positions, float(result.kl.max()), result.kept[5]
        (256, 0.0, 1.0)
    """

    base: ModelFacts
    other: ModelFacts
    text: str
    text_fingerprint: str
    blocks: int
    rows: int  # over which the probabilities are normalised
    padding_rows: int  # of these
    kl: Floats  # [n] KL(P || Q)
    kl_reverse: Floats  # [n] KL(Q || P)
    js: Floats  # [n]
    flipped: NDArray[np.bool_]  # [n] whether the base's most probable token is not the other's
    kept: dict[int, float]  # by k: mean share of the base's k most probable tokens that are among the other's k
    nll: Floats  # [2, n] of the tokens that really followed, under P and under Q
    worst: WorstPosition
    classes: tuple[TokenGroup, ...]
    deciles: tuple[TokenGroup, ...]  # from the rarest tenth of the tokens by the base's alpha to the most frequent
    state_bytes: int
    logit_bytes: int
    warnings: tuple[str, ...] = ()

    @property
    def positions(self) -> int:
        """How many predictions were compared."""
        return len(self.kl)

    @property
    def kl_stderr(self) -> float:
        """Standard error of the mean KL, over the text's blocks; NaN of a single one."""
        if self.blocks < 2:
            return math.nan
        means = self.kl.reshape(self.blocks, -1).mean(1)
        return float(means.std(ddof=1) / math.sqrt(self.blocks))

    @property
    def perplexities(self) -> tuple[float, float]:
        """Of the base and of the other model on the text; infinite where a token that followed is never predicted."""
        base, other = (math.inf if mean > 700 else math.exp(mean) for mean in self.nll.mean(1).tolist())
        return base, other

    @property
    def perplexity_ratio(self) -> float:
        """The other's perplexity divided by the base's."""
        mean = float((self.nll[1] - self.nll[0]).mean())
        return math.inf if mean > 700 else math.exp(mean)

    @property
    def percentiles(self) -> dict[str, float]:
        """KL(P || Q) by percentile of the positions, and its maximum."""
        values = np.percentile(self.kl, PERCENTILES).tolist()
        named = {f"{each:g}": value for each, value in zip(PERCENTILES, values, strict=True)}
        return {**named, "max": float(self.kl.max())}

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `tpe kl`."""
        base, other = self.perplexities
        return {
            "schema": 1,
            "base": dataclasses.asdict(self.base),
            "other": dataclasses.asdict(self.other),
            "text": self.text,
            "text_fingerprint": self.text_fingerprint,
            "positions": self.positions,
            "blocks": self.blocks,
            "normalised_over": {"rows": self.rows, "padding_rows": self.padding_rows},
            "kl": float(self.kl.mean()),
            "kl_stderr": self.kl_stderr,
            "kl_reverse": float(self.kl_reverse.mean()),
            "js": float(self.js.mean()),
            "top1": 1 - float(self.flipped.mean()),
            "top1_flips": int(self.flipped.sum()),
            "top_k_kept": {str(k): share for k, share in self.kept.items()},
            "perplexity": {"base": base, "other": other, "ratio": self.perplexity_ratio},
            "kl_percentiles": self.percentiles,
            "worst": dataclasses.asdict(self.worst),
            "kl_by_class": [dataclasses.asdict(group) for group in self.classes],
            "kl_by_alpha_decile": [dataclasses.asdict(group) for group in self.deciles],
            "bytes": {"hidden_states_and_head": self.state_bytes, "float32_logits": self.logit_bytes},
            "warnings": list(self.warnings),
        }


def compare_models(
    base: RunOptions | Path,
    other: RunOptions,
    *,
    save: Path | None = None,
    replace: bool = False,
    stdin: BinaryIO | None = None,
) -> Steps[ModelComparison]:
    """Compare two models of one tokenizer over a text, exactly and position by position: a job.

    Only one of the two is in memory at a time. The text is that of `base`: as many of its `positions` as it has, in
    whole blocks, read as token ids by the base's tokenizer. Raises `TpeError` subclasses in one sentence: where the
    tokenizers differ it names the first difference.

    Args:
        base: The model P and the text; or a file that an earlier call wrote to `save`, and then no base is loaded.
        other: The model Q; what it says of a text is not used.
        save: Where to keep the base's hidden states, its head and the text's token ids (safetensors).
        replace: Whether an earlier such file may be replaced.
        stdin: What ``-`` in the base's text reads.

    Returns:
        A job; `run` drives it to a `ModelComparison`.

    Example:
        >>> written = Path("some.txt").write_text("Return the number of items. " * 99)
        >>> options = tpe.RunOptions("demo", text=("some.txt",), positions=256)
        >>> states = Path("demo-states.safetensors")
        >>> result = tpe.run(tpe.compare_models(options, options, save=states))
        >>> again = tpe.run(tpe.compare_models(states, options))
        >>> result.positions, bool((result.kl == again.kl).all())
        (256, True)
    """
    if save is not None:
        check_states(save, replace=replace)
    if isinstance(base, Path):
        states = read_states(base)
        warnings: list[str] = []
        reads_text = states.facts.has_tokenizer
    else:
        source = text_source(base.text, stdin, text_field=base.text_field, offline=base.offline)
        reads_text = base.vocabulary is None and not are_ids(base.text)
        model = yield from load_steps(base)
        warnings = list(model.warnings)
        states = yield from states_of(model, source, base.positions)
        del model
        gc.collect()  # a module and its hooks may hold one another
        if len(states.hidden) < base.positions:
            warnings.append(f"the text has only {len(states.hidden):,} of the {base.positions:,} positions asked for.")
        if save is not None:
            yield Progress("write hidden states", 0)
            states.write(save)
    loaded = yield from load_steps(other, reads_text=reads_text)
    warnings += [each for each in loaded.warnings if each not in warnings]
    warnings += _check_alike(states, loaded)
    return (yield from _compared(states, loaded, tuple(warnings)))


def _check_alike(states: BaseStates, model: LanguageModel) -> list[str]:
    """Raise `ModelError` where a model cannot be compared with a base; sentences of what else differs."""
    ours, theirs = states.facts, ModelFacts.of(model)
    if ours.task != theirs.task:
        raise ModelError(f"{ours.shown} is a {ours.task} model and {theirs.shown} a {theirs.task} one: add --task.")
    if ours.has_tokenizer != theirs.has_tokenizer:
        named = (ours, theirs) if ours.has_tokenizer else (theirs, ours)
        raise ModelError(f"{named[0].shown} has a tokenizer and {named[1].shown} none: an exact KL needs one of both.")
    if problem := _difference(states, model) if ours.has_tokenizer else "":
        raise ModelError(f"{problem}: an exact KL needs models of one tokenizer.")
    if states.head.vocab_rows != model.head.vocab_rows:
        raise ModelError(
            f"the head of {ours.shown} has rows for {states.head.vocab_rows:,} tokens and that of {theirs.shown} for "
            f"{model.head.vocab_rows:,}: an exact KL needs models of one vocabulary."
        )
    if states.corpus.block_length > (room := model.sampling.room(model.context)):
        raise ModelError(
            f"{theirs.shown} reads {room} tokens at a time, and {ours.shown} was given blocks of "
            f"{states.corpus.block_length}: make it the base."
        )
    model.check_corpus(states.corpus)
    if ours.tokenizer_sha256 != theirs.tokenizer_sha256:
        return [
            "the tokenizers have the same tokens, but cut text by different rules or end it differently: the text is "
            "read as the base's cuts it."
        ]
    return []


def _difference(states: BaseStates, model: LanguageModel) -> str:
    """The first id whose token differs between two tokenizers, in words; empty where there is none."""
    ours, theirs = states.vocabulary, vocabulary_of(model.tokenizer)
    for token_id in range(max(len(ours), len(theirs))):
        pair = [_shown(tokens[token_id]) if token_id < len(tokens) else "not there" for tokens in (ours, theirs)]
        if pair[0] != pair[1]:
            return (
                f"the tokenizers differ: id {token_id} is {pair[0]} in {states.facts.shown} and {pair[1]} in "
                f"{ModelFacts.of(model).shown}"
            )
    return ""


def _shown(token: str | None) -> str:
    return "no token" if token is None else f"'{fit(printable_token(token), 40)}'"


def _compared(states: BaseStates, model: LanguageModel, warnings: tuple[str, ...]) -> Steps[ModelComparison]:
    """The second pass: a job."""
    head, corpus = model.head, states.corpus
    base = _moved(states, head.columns.device)
    padded = base.total_rows == head.total_rows
    rows = head.total_rows if padded else head.vocab_rows
    sums = _Sums(rows)
    size = blocks_per_forward(model, corpus.block_length)
    at = seen = 0
    while at < len(corpus.blocks):
        yield Progress("compare", at, len(corpus.blocks))
        hidden, asked, count = hidden_batch(model, corpus, at, size)
        flat = hidden.flatten(0, 1)
        part = slice(seen, seen + len(flat))
        following = np.asarray(asked.targets, dtype=np.int64).reshape(-1)
        if not np.array_equal(following, states.next_ids[part]):
            raise ModelError(f"{model.name} is asked for other tokens of the text than {states.facts.shown}.")
        ours = states.hidden[part].to(flat.device)
        targets = torch.from_numpy(following).to(head.columns.device)
        with torch.inference_mode():
            for chunk in _slices(len(flat), max(1, LOGITS // max(base.total_rows, head.total_rows))):
                pause()
                p, q = base.logits(ours[chunk])[:, :rows], head.logits(flat[chunk])[:, :rows]
                for some in _slices(len(p), max(1, TERMS // rows)):
                    pause()
                    sums.add(p[some], q[some], targets[chunk][some])
        size, at, seen = min(size, count), at + count, seen + len(flat)
    yield Progress("compare", at, len(corpus.blocks))
    kl = sums.joined("kl")
    if np.isnan(kl).any():
        raise NumericalError(
            f"the logits of {states.facts.shown} or {model.name} hold NaN: try --dtype float32, or check the files."
        )
    by_token, alpha = sums.by_token.cpu().numpy(), sums.p.cpu().numpy() / len(kl)
    classes = np.full(rows, len(CLASSES), dtype=np.int64)
    classes[: head.vocab_rows] = token_classes(model.tokenizer, head.vocab_rows)
    used = np.argsort(alpha[: head.vocab_rows], kind="stable")
    deciles = np.full(rows, DECILES, dtype=np.int64)
    deciles[used] = np.arange(len(used)) * DECILES // len(used)
    kept = np.concatenate([each.cpu().numpy() for each in sums.kept])
    return ModelComparison(
        base=states.facts,
        other=ModelFacts.of(model),
        text=corpus.label,
        text_fingerprint=corpus.fingerprint,
        blocks=len(corpus.blocks),
        rows=rows,
        padding_rows=rows - head.vocab_rows,
        kl=kl,
        kl_reverse=sums.joined("kl_reverse"),
        js=sums.joined("js"),
        flipped=np.concatenate([each.cpu().numpy() for each in sums.flipped]),
        kept=dict(zip(KEPT, kept.mean(0).tolist(), strict=True)),
        nll=sums.joined("nll"),
        worst=_worst(model, states, kl, np.concatenate([each.cpu().numpy() for each in sums.tops])),
        classes=_groups((*CLASSES, "padding"), classes, by_token, alpha),
        deciles=_groups(tuple(str(each + 1) for each in range(DECILES)), deciles, by_token, alpha),
        state_bytes=states.state_bytes,
        logit_bytes=states.logit_bytes,
        warnings=warnings,
    )


class _Sums:
    """What is kept of the chunks of positions that were compared so far."""

    def __init__(self, rows: int) -> None:
        self._parts: dict[str, list[Tensor]] = {"kl": [], "kl_reverse": [], "js": [], "nll": []}
        self.flipped: list[Tensor] = []
        self.kept: list[Tensor] = []  # [n, len(KEPT)]
        self.tops: list[Tensor] = []  # [n, 2] the most probable token of P and of Q
        self.by_token = torch.zeros(rows, dtype=torch.float64)
        self.p = torch.zeros(rows, dtype=torch.float64)

    def add(self, base: Tensor, other: Tensor, targets: Tensor) -> None:
        """Compare final logits [m, V]."""
        found = apart(base, other, targets)
        for name, parts in self._parts.items():
            parts.append(getattr(found, name))
        self.flipped.append(flips(base, other))
        self.kept.append(retained(base, other))
        self.tops.append(torch.stack([base.argmax(1), other.argmax(1)], 1))
        self.by_token = self.by_token.to(found.p.device) + found.by_token
        self.p = self.p.to(found.p.device) + found.p

    def joined(self, name: str) -> Floats:
        """[..., n] one divergence over all positions."""
        return np.concatenate([each.cpu().numpy() for each in self._parts[name]], axis=-1)


def _moved(states: BaseStates, device: torch.device) -> Any:
    """The base's head on a device."""
    head = states.head
    bias = None if head.bias is None else head.bias.to(device)
    return dataclasses.replace(head, columns=head.columns.to(device), bias=bias)


def _slices(length: int, step: int) -> Iterator[slice]:
    for first in range(0, length, step):
        yield slice(first, first + step)


def _groups(
    names: tuple[str, ...], places: NDArray[np.int64], by_token: Floats, alpha: Floats
) -> tuple[TokenGroup, ...]:
    """The groups that have tokens; `places` [V] says which is whose."""
    size = len(names) + 1
    tokens = np.bincount(places, minlength=size)
    total = float(by_token.sum())
    kl = np.bincount(places, weights=np.nan_to_num(by_token, posinf=0.0), minlength=size)
    probability = np.bincount(places, weights=alpha, minlength=size) / alpha.sum()
    has_share = 0 < total < math.inf
    return tuple(
        TokenGroup(
            name=name,
            tokens=int(tokens[at]),
            kl=float(kl[at]) / total if has_share else math.nan,
            probability=float(probability[at]),
        )
        for at, name in enumerate(names)
        if tokens[at]
    )


def _worst(model: LanguageModel, states: BaseStates, kl: Floats, tops: NDArray[np.int64]) -> WorstPosition:
    """The position with the largest KL; `tops` [n, 2] are both models' most probable tokens."""
    at = int(kl.argmax())
    corpus = states.corpus
    block, place = divmod(at, len(kl) // len(corpus.blocks))
    before: list[int] = []
    after: list[int] = []
    if states.facts.task == "causal":
        before = corpus.blocks[block, max(0, place + 1 - BEFORE) : place + 1].tolist()
        after = corpus.targets[block, place + 1 : place + 1 + AFTER].tolist()

    def text(ids: list[int]) -> str:
        known = [each for each in ids if each < model.head.vocab_rows]
        return str(model.tokenizer.decode(known)) if known else ""

    return WorstPosition(
        kl=float(kl[at]),
        block=block + 1,
        position=place + 1,
        before=text(before),
        next=text([int(states.next_ids[at])]),
        after=text(after),
        base=text([int(tops[at, 0])]),
        other=text([int(tops[at, 1])]),
    )
