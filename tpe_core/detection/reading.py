"""How a model reads a text: which blocks of it, of how many tokens, under which name in the cache."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tpe_core.corpus.corpus import Corpus, Part, TextSource, corpus_key, opening_of, read_corpus, tokenizer_fingerprint
from tpe_core.corpus.reading import TextRead
from tpe_core.models.model import LanguageModel
from tpe_core.progress import Steps
from tpe_core.store import Store

__all__ = ["CorpusSpec", "corpus_spec"]

BLOCK_LENGTH = 256  # tokens; shorter where the model's context is


@dataclass(frozen=True, kw_only=True)
class CorpusSpec:
    """Which text a model reads, in blocks of how many tokens, and the cache key that follows before it is tokenised."""

    source: TextSource
    model: LanguageModel
    tokenizer_sha256: str
    block_length: int  # tokens
    positions: int  # tokens of text in all
    add_bos: bool
    part: Part
    key: str  # the corpus's fingerprint

    def corpus(self) -> Steps[Corpus]:
        """Tokenise the text: a job.

        Raises `CorpusError` where it is too short, `ModelError` where a token of it has no row.
        """
        corpus = yield from read_corpus(
            self.source,
            self.model.tokenizer,
            block_length=self.block_length,
            positions=self.positions,
            part=self.part,
            add_bos=self.add_bos,
            tokenizer_fingerprint=self.tokenizer_sha256,
        )
        self.model.check_corpus(corpus)
        return corpus

    def keep_read(self, store: Store | None, read: TextRead | None) -> None:
        """Store beside a detection how much of the text was read for it."""
        if store is not None and read is not None:
            facts = {"documents": read.documents, "share": read.share}
            store.save(self._read_key, {}, facts, kind="text read", of=self.model.name)

    def read(self, store: Store | None, positions: int) -> TextRead:
        """How much of the text was read for so many predictions; what was not stored is not known."""
        entry = store.load(self._read_key) if store is not None else None
        known = entry[1] if entry is not None else {}
        documents, share = known.get("documents"), known.get("share")
        return TextRead(
            label=self.source.label,
            fingerprint=self.source.fingerprint(),
            positions=positions,
            documents=documents if isinstance(documents, int) else None,
            share=float(share) if isinstance(share, int | float) else None,
        )

    @property
    def _read_key(self) -> str:
        return f"{self.key}-read"


def corpus_spec(source: TextSource, model: LanguageModel, positions: int, part: Part = "detect") -> CorpusSpec:
    """Choose blocks of a text for a model, alike in every front end and process, so that they share one detection.

    `positions` counts predictions; a masked or encoder-decoder model makes fewer of them than it reads tokens.
    Such models put their own special tokens around a block, so only a causal one's blocks begin with one.
    """
    tokens, sampling = tokenizer_fingerprint(model.tokenizer), model.sampling
    length = min(BLOCK_LENGTH, sampling.room(model.context))
    bos = model.task == "causal" and bool(opening_of(model.tokenizer))
    blocks = math.ceil(positions / sampling.count(length))
    tokens_read = positions if model.task == "causal" else blocks * length
    key = corpus_key(
        source.for_tokenizer(model.tokenizer),
        tokens,
        block_length=length,
        positions=tokens_read,
        part=part,
        add_bos=bos,
    )
    return CorpusSpec(
        source=source,
        model=model,
        tokenizer_sha256=tokens,
        block_length=length,
        positions=tokens_read,
        add_bos=bos,
        part=part,
        key=key,
    )
