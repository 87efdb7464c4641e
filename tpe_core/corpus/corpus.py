"""Blocks of token ids from a text, for detection and evaluation: joined, cut, split and named by their content.

It never loads a tokenizer or a model, and it never reads more text than the wanted positions need.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tpe_core.corpus.id_tokenizer import IdTokenizer
from tpe_core.corpus.reading import Meter, TextRead, between
from tpe_core.corpus.sources import BuiltinCode, BuiltinSource, FileSource, StdinSource, TextSource, text_source
from tpe_core.corpus.text_source import Piece
from tpe_core.corpus.token_ids import Tokenizer, special_ends, texts_ids, vocabulary_rows
from tpe_core.errors import CorpusError
from tpe_core.json_text import json_text
from tpe_core.pauses import pause
from tpe_core.progress import Progress, Steps

__all__ = [
    "HELDOUT_SHARE",
    "STRETCHES",
    "BuiltinCode",
    "BuiltinSource",
    "Corpus",
    "FileSource",
    "Part",
    "StdinSource",
    "TextSource",
    "Tokenizer",
    "corpus_key",
    "opening_of",
    "read_corpus",
    "stretches_of",
    "text_source",
    "token_stream",
    "tokenizer_fingerprint",
]

Ints = NDArray[np.int64]

Part = Literal["detect", "heldout", "all"]
"""Which blocks: those the encoding is detected on, those kept for evaluation, or both."""

HELDOUT_SHARE = 0.25
STRETCHES = 8  # as many as a Hadamard matrix has rows: splits of them in halves are balanced against each other
PIECE = 65_536  # characters tokenised as one string: longer ones are slower per character
BATCH = 262_144  # characters tokenised in one call
SEARCH = 4096  # characters looked through for a blank to cut at


def _cut(text: str, size: int = PIECE) -> list[str]:
    """`text` in parts of at most `size` characters, cut before the last blank between two words.

    Byte-level tokenizers glue that blank to the word after it, so their tokens stay what they were; where no blank
    is near, the cut is at `size`.
    """
    parts = []
    start = 0
    while len(text) - start > size:
        near = range(start + size - 1, max(start, start + size - SEARCH), -1)
        cut = next((at for at in near if text[at].isspace() and not text[at + 1].isspace()), start + size)
        parts.append(text[start:cut])
        start = cut
    return [*parts, text[start:]] if text else []


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Corpus:
    """`n` blocks of `block_length` positions, each of which predicts the token after it.

    ``targets[i, j]`` follows ``blocks[i, j]`` in the text; the last target of a block is the first text token of the
    window after it. With `add_bos` every block begins with the special tokens that the tokenizer puts before a text
    (its beginning-of-sequence token), and their positions count too. `block_hash` is a uniform 64-bit key of each
    block's ids: the split uses it, and so can any sampling that must not depend on order. `stretch` cuts the text in
    `STRETCHES` parts of consecutive blocks, about as many each; a part of a corpus keeps the numbers of the whole.
    """

    blocks: Ints  # [n, L] token ids
    targets: Ints  # [n, L] the id that follows each
    block_hash: NDArray[np.uint64]  # [n]
    stretch: Ints  # [n] in range(STRETCHES)
    label: str
    fingerprint: str  # sha256 hex, equal to `corpus_key`
    part: Part
    add_bos: bool
    read: TextRead | None = None  # how much of the text that was

    @property
    def block_length(self) -> int:
        """L, positions in a block."""
        return int(self.blocks.shape[1])

    @property
    def positions(self) -> int:
        """How many next-token predictions there are: ``n * L``."""
        return int(self.blocks.size)


def stretches_of(blocks: int) -> Ints:
    """[blocks] the stretch of each of so many consecutive blocks, in ``range(STRETCHES)``."""
    return np.arange(blocks) * STRETCHES // blocks


def opening_of(tokenizer: Tokenizer, add_bos: bool | None = None) -> tuple[int, ...]:
    """The special tokens that every block of a causal model begins with: those that the tokenizer puts before a text.

    With `add_bos` its beginning-of-sequence token where it puts none, without it nothing.
    """
    before = () if add_bos is False else special_ends(tokenizer)[0]
    return before or ((int(tokenizer.bos_token_id),) if add_bos else ())


def tokenizer_fingerprint(tokenizer: Tokenizer) -> str:
    """sha256 (hex) of what the tokenizer does to text: its rules, vocabulary, and bos and eos ids."""
    if isinstance(tokenizer, IdTokenizer):
        return tokenizer.fingerprint
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        rules = json.dumps([type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())])
    else:
        # Truncation and padding come before the added tokens and change with every call: they are no part of it.
        whole = backend.to_str()
        rules = whole.partition('"added_tokens":')[2] or whole
    ends = [tokenizer.bos_token_id, tokenizer.eos_token_id]
    return hashlib.sha256(json.dumps([rules, ends], default=str).encode()).hexdigest()


def corpus_key(  # noqa: PLR0917 (the facts that name a corpus)
    source: TextSource,
    tokenizer_fp: str,
    block_length: int,
    positions: int,
    part: Part = "detect",
    heldout_share: float = HELDOUT_SHARE,
    add_bos: bool = False,
) -> str:
    """The fingerprint (sha256 hex) that `read_corpus` will give, without tokenising anything."""
    share = None if part == "all" else float(heldout_share)
    facts = ["corpus 1", source.fingerprint(), tokenizer_fp, block_length, positions, part, share, add_bos]
    return hashlib.sha256(json_text(facts).encode()).hexdigest()


def read_corpus(
    source: TextSource,
    tokenizer: Tokenizer,
    *,
    block_length: int,
    positions: int,
    part: Part = "detect",
    heldout_share: float = HELDOUT_SHARE,
    add_bos: bool | None = None,
    tokenizer_fingerprint: str,
) -> Steps[Corpus]:
    """The first ``ceil(positions / block_length)`` blocks of `part`, or as many as the text has; stops reading then.

    Documents are joined by the end-of-sequence token (else the beginning-of-sequence token, else nothing). A
    special token spelled out in the text is read as that token. A block is held out where its hash, as a share of
    the range, lies below `heldout_share`: the same block always falls in the same part. Blocks begin as `opening_of`
    says and never end in a special token. Raises `CorpusError` where the text has no such block.
    """
    if block_length < 2 or positions < 1:
        raise CorpusError(
            f"{positions} positions in blocks of {block_length} cannot be read: "
            "ask for at least 1, in blocks of at least 2."
        )
    if part not in get_args(Part) or (part != "all" and not 0 < heldout_share < 1):
        raise CorpusError(
            f"part {part!r} with a held-out share of {heldout_share:g} cannot be read: "
            f"choose one of {', '.join(get_args(Part))} and a share between 0 and 1."
        )
    text = source.fingerprint()
    source, meter = source.for_tokenizer(tokenizer), Meter()
    opening = opening_of(tokenizer, add_bos)
    wanted = math.ceil(positions / block_length)
    threshold = int(heldout_share * 2**64)
    step = block_length - len(opening)  # text tokens that a block holds
    if step < 1:
        raise CorpusError(
            f"blocks of {block_length} positions have no room for text beside the {len(opening)} special tokens that "
            "this tokenizer begins a text with: the model's context is too short."
        )
    windows: list[Ints] = []
    hashes: list[int] = []
    pending = np.empty(0, dtype=np.int64)
    tokens = blocks = used = 0
    yield Progress("reading text", 0, positions)
    for ids in token_stream(source, tokenizer, meter):
        tokens += len(ids)
        pending = np.concatenate([pending, ids])
        whole = max(0, (len(pending) - 1) // step)
        for start in range(0, whole * step, step):
            window = pending[start : start + step + 1]
            window = np.concatenate([np.array(opening, np.int64), window])
            digest = hashlib.blake2b(window[:-1].astype("<u4").tobytes(), digest_size=8, person=b"tpe-block").digest()
            key = int.from_bytes(digest, "big")
            blocks, used = blocks + 1, used + step
            if part == "all" or (key < threshold) == (part == "heldout"):
                windows.append(window.copy())
                hashes.append(key)
                if len(windows) == wanted:
                    break
        yield Progress("reading text", min(len(windows) * block_length, positions), positions)
        if len(windows) == wanted:
            break
        pending = pending[whole * step :]
    if not windows:
        raise _no_blocks(source, part, tokens, blocks, (block_length, step + 1))
    stacked = np.stack(windows)
    fingerprint = corpus_key(
        source,
        tokenizer_fingerprint,
        block_length,
        positions,
        part,
        heldout_share,
        bool(opening),
    )
    documents, share = meter.at(used)
    if len(windows) < wanted and share is not None:
        documents, share = meter.at(tokens)[0], 1.0  # all there is
    return Corpus(
        blocks=np.ascontiguousarray(stacked[:, :-1]),
        targets=np.ascontiguousarray(stacked[:, 1:]),
        block_hash=np.array(hashes, dtype=np.uint64),
        stretch=stretches_of(len(stacked)),
        label=source.label,
        fingerprint=fingerprint,
        part=part,
        add_bos=bool(opening),
        read=TextRead(
            label=source.label,
            fingerprint=text,
            positions=int(stacked[:, :-1].size),
            documents=documents or None,
            share=share if documents else None,
        ),
    )


def _parts(source: TextSource) -> Iterator[Piece]:
    """The text in parts that a tokenizer takes at once."""
    held = ""
    opens = True
    shared: float | None = 0.0  # of the source, read with the piece before
    for piece, begins, share in source.measured():
        if begins and held:
            yield Piece(held, opens, shared)
            held, opens = "", True
        ends = -len(held)  # where a part ends in the piece, in characters
        *whole, held = _cut(held + piece) or [""]
        for part in whole:
            ends += len(part)
            yield Piece(part, opens, between(shared, share, max(0, ends) / max(1, len(piece))))
            opens = False
        shared = share
    if held:
        yield Piece(held, opens, shared)


def token_stream(source: TextSource, tokenizer: Tokenizer, meter: Meter | None = None) -> Iterator[Ints]:
    """Token ids of the text, in arrays of about `BATCH` characters' worth, documents joined by a separator.

    `meter` is told of the last array's documents and of the share of the source that they are.
    """
    source = source.for_tokenizer(tokenizer)
    meter = Meter() if meter is None else meter
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.bos_token_id
    ids = source.token_ids(vocabulary_rows(tokenizer), end, getattr(tokenizer, "pad_token_id", None))
    if ids is not None:
        yield from ids
        return
    if isinstance(tokenizer, IdTokenizer):
        raise CorpusError(
            f"the model has no tokenizer and cannot read text ({source.label}): name a file of token ids (.npy, .bin)."
        )
    separator = [] if end is None else [int(end)]
    batch: list[Piece] = []
    size = 0
    first = True
    for part in _parts(source):
        pause(Progress("characters", size, BATCH))
        batch.append(part)
        size += len(part.text)
        if size >= BATCH:
            yield _encode(tokenizer, batch, separator, first, meter)
            batch, size, first = [], 0, False
    if batch:
        yield _encode(tokenizer, batch, separator, first, meter)


def _encode(tokenizer: Tokenizer, batch: list[Piece], separator: list[int], first: bool, meter: Meter) -> Ints:
    """The ids of a batch, each document's behind a separator, but for the `first` one's."""
    joined: list[int] = []
    meter.forget()
    for part, ids in zip(batch, texts_ids(tokenizer, [part.text for part in batch]), strict=True):
        before = [] if first or not part.begins else separator
        first = False
        joined += before
        joined += ids
        meter.add(len(before) + len(ids), part.begins, part.share)
    return np.array(joined, dtype=np.int64)


def _no_blocks(source: TextSource, part: Part, tokens: int, blocks: int, sizes: tuple[int, int]) -> CorpusError:
    block_length, needed = sizes
    if blocks:
        problem = f"{blocks} blocks of {block_length} positions, none of them in the {part!r} part"
    else:
        problem = f"{tokens} tokens, but one block of {block_length} positions needs {needed}"
    return CorpusError(f"the text ({source.label}) has {problem}: give more text.")
