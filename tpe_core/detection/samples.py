"""The texts an edit is judged on, as stored hidden states: local, held-out, and out of the text's domain.

`local` is the detecting text itself, `heldout` the quarter of its blocks that detection never sees, `ood` another
kind of text. Head edits never change h, so one forward pass over each serves every question after it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch

from tpe_core.corpus.corpus import BuiltinCode, Corpus, text_source
from tpe_core.corpus.domains import DOMAINS
from tpe_core.corpus.id_files import ShuffledIds
from tpe_core.corpus.id_tokenizer import IdTokenizer
from tpe_core.corpus.sources import TextSource
from tpe_core.detection.hidden import HiddenSample, SampleBuilder, blocks_per_forward, hidden_batch
from tpe_core.detection.reading import CorpusSpec, corpus_spec
from tpe_core.errors import CorpusError
from tpe_core.models.model import LanguageModel
from tpe_core.progress import Progress, Steps
from tpe_core.store import Store

__all__ = ["Samples", "gather", "read_sample", "read_samples"]

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Hidden states with the tokens that followed, by domain; `warnings` say what is shorter than asked."""

    local: HiddenSample
    heldout: HiddenSample
    ood: HiddenSample
    heldout_text: str  # what was read, for people
    ood_text: str
    warnings: tuple[str, ...] = ()

    def items(self) -> tuple[tuple[str, HiddenSample], ...]:
        """(domain, sample) in the order of `DOMAINS`."""
        return tuple((name, getattr(self, name)) for name in DOMAINS)


def gather(model: LanguageModel, corpus: Corpus, size: int, seed: int = 0) -> Steps[HiddenSample]:
    """h and the next token at `size` positions of a corpus, or at all it has: a job without any V-wide product."""
    batch, at = blocks_per_forward(model, corpus.block_length), 0
    builder = SampleBuilder(size, model.head.hidden_size, seed)
    while at < len(corpus.blocks):
        yield Progress("read hidden states", at, len(corpus.blocks))
        hidden, asked, count = hidden_batch(model, corpus, at, batch)
        next_ids = torch.from_numpy(np.ascontiguousarray(asked.targets, dtype=np.int64)).flatten()
        builder.add(hidden.flatten(0, 1), next_ids, corpus.block_hash[at : at + count])
        batch, at = min(batch, count), at + count
    return builder.sample()


def read_samples(
    model: LanguageModel,
    local: HiddenSample,
    source: TextSource,
    ood: tuple[str, ...] = (),
    *,
    size: int = 4096,
    seed: int = 0,
    store: Store | None = None,
) -> Steps[Samples]:
    """The three samples of a model whose detection over `source` kept `local`: a job, cached in `store`.

    `ood` names files or folders; empty means the built-in source code, or without a tokenizer the ids of `source` in
    shuffled order. A text with less than `size` positions is used
    as far as it goes, with a warning. Raises `CorpusError` where one has no block at all.
    """
    other: TextSource = text_source(ood) if ood else BuiltinCode()
    warnings: list[str] = []
    if not ood and isinstance(model.tokenizer, IdTokenizer):
        other = ShuffledIds(source)
        warnings.append(
            f"no ids are given for the out-of-domain figures (--ood): they are measured on {other.label}, "
            "with the same frequencies and no structure."
        )
    heldout = yield from read_sample(model, corpus_spec(source, model, size, "heldout"), size, seed, store)
    outside = yield from read_sample(model, corpus_spec(other, model, size, "all"), size, seed, store)
    for name, sample in (("local", local), ("held-out", heldout), ("out-of-domain", outside)):
        if len(sample) < size:
            warnings.append(
                f"the {name} text has only {len(sample):,} of the {size:,} positions wanted: figures are noisier."
            )
    return Samples(
        local=local,
        heldout=heldout,
        ood=outside,
        heldout_text=source.label,
        ood_text=other.label,
        warnings=tuple(warnings),
    )


def read_sample(
    model: LanguageModel, spec: CorpusSpec, size: int, seed: int, store: Store | None
) -> Steps[HiddenSample]:
    """h and the next token at `size` positions of one spec: a job, cached in `store`."""
    facts = f"sample {VERSION} {model.fingerprint} {spec.key} {model.sampling.label} {size} {seed}"
    key = hashlib.sha256(facts.encode()).hexdigest()
    entry = store.load(key) if store is not None else None
    if entry is not None:
        arrays, _ = entry
        whole = {"hidden", "next", "priority"} <= arrays.keys()
        if whole and arrays["hidden"].shape[1:] == (model.head.hidden_size,) and np.isfinite(arrays["hidden"]).all():
            return HiddenSample(size, arrays["hidden"], arrays["next"], arrays["priority"])
    corpus = yield from spec.corpus()
    sample = yield from gather(model, corpus, size, seed)
    if not len(sample):
        raise CorpusError(f"the text ({spec.source.label}) has no positions to measure on: give more text.")
    if store is not None:
        arrays = {"hidden": sample.hidden, "next": sample.next_ids, "priority": sample.priority}
        store.save(key, arrays, {}, kind="hidden states", of=model.name)
    return sample
