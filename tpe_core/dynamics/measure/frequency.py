"""How often every token of a vocabulary occurs: counted over a text of any size, or read from a file of counts.

Frequencies have add-one smoothing, so that a token that never occurred has one too. Text is streamed and counted
once: the counts are cached. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpe_core.corpus.corpus import TextSource, Tokenizer, token_stream, tokenizer_fingerprint
from tpe_core.corpus.text_source import Piece
from tpe_core.corpus.token_ids import vocabulary_rows
from tpe_core.errors import CorpusError, reason_of
from tpe_core.json_text import json_text, parse_json
from tpe_core.progress import Progress, Steps, size_text
from tpe_core.store import Store

__all__ = ["COUNTS", "Frequencies", "count_text", "read_counts"]

COUNTS = "counts.npy"  # the name under which a run leaves those of its training text beside its checkpoints
SMOOTHING = "add-one smoothing"
UNKNOWN_SHARE = 0.5  # of the tokens: the text is not in this tokenizer's script
SPARSE_SHARE = 0.5  # of the vocabulary: most frequencies are the smoothing's

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Frequencies:
    """Counts of every token, and the smoothed frequencies that follow: (count + 1) / (tokens + V).

    Example:
        >>> frequencies = tpe.Frequencies.of([5, 0, 3], "three tokens")
        >>> frequencies.tokens, frequencies.unseen
        (8, 1)
    """

    counts: Ints  # [V]
    label: str  # what was counted, for people

    @staticmethod
    def of(counts: Any, label: str) -> Frequencies:
        """Make them of one number for every token, in any array-like. Raises `CorpusError` where they are no counts."""
        array = np.asarray(counts)
        if array.ndim != 1 or array.dtype.kind not in "uif" or not len(array):
            raise CorpusError(f"{label} holds no counts: give one whole number for every token, in order of token ids.")
        with np.errstate(invalid="ignore"):
            wrong = np.flatnonzero(~((array >= 0) & (array < 2**62) & (array == np.floor(array))))
        if len(wrong):
            raise CorpusError(
                f"{label} gives token {wrong[0]} the count {array[wrong[0]]}: counts are whole numbers from 0 on."
            )
        if not array.any():
            raise CorpusError(f"{label} counts no token at all: give counts of a text that the model was trained on.")
        return Frequencies(array.astype(np.int64), label)

    @property
    def tokens(self) -> int:
        """How many tokens were counted."""
        return int(self.counts.sum())

    @property
    def unseen(self) -> int:
        """How many of the vocabulary's tokens never occurred."""
        return int((self.counts == 0).sum())

    @property
    def frequency(self) -> Floats:
        """[V] smoothed frequencies; they sum to 1."""
        result: Floats = (self.counts + 1) / (self.tokens + len(self.counts))
        return result

    @property
    def surprisal(self) -> Floats:
        """[V] -log of the smoothed frequencies, nats."""
        result: Floats = -np.log(self.frequency)
        return result

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the counts."""
        return hashlib.sha256(self.counts.astype("<i8").tobytes()).hexdigest()

    def __str__(self) -> str:
        return f"{self.tokens:,} tokens of {self.label}, {SMOOTHING}"

    def for_rows(self, head_rows: int, vocab_rows: int | None) -> Frequencies:
        """The frequencies of the rows in use of a head of `head_rows`, `vocab_rows` of which the tokenizer knows.

        Counts may cover either number of rows; those of padding rows are left out. Raises `CorpusError` for any other
        length, and where a padding row has a count.
        """
        known = min(head_rows, vocab_rows) if vocab_rows is not None else head_rows
        if len(self.counts) == known:
            return self
        sizes = f"{head_rows:,} rows" + (f" and its tokenizer {vocab_rows:,} tokens" if vocab_rows is not None else "")
        if len(self.counts) != head_rows:
            raise CorpusError(
                f"{self.label} has {len(self.counts):,} counts but the model's head has {sizes}: "
                "count with this model's tokenizer, one number for every token id."
            )
        if self.counts[known:].any():
            at = known + int(np.flatnonzero(self.counts[known:])[0])
            raise CorpusError(
                f"{self.label} counts token {at}, which the model's tokenizer does not have (the head has {sizes}): "
                "count with this model's tokenizer."
            )
        return Frequencies(self.counts[:known], self.label)

    def warnings(self) -> tuple[str, ...]:
        """What makes the frequencies doubtful, a sentence each."""
        if self.unseen <= SPARSE_SHARE * len(self.counts):
            return ()
        return (
            f"{self.unseen:,} of {len(self.counts):,} tokens never occur in {self.label}: their frequency is the "
            f"smoothing's alone; give more text, or text that is closer to the training data.",
        )


class _Read(TextSource):
    """A text that knows how many bytes of it were taken, and what share of the source that is."""

    def __init__(self, source: TextSource) -> None:
        self._source = source
        self.done = 0
        self.share: float | None = None

    @property
    def label(self) -> str:
        return self._source.label

    def fingerprint(self) -> str:
        return self._source.fingerprint()

    def pieces(self) -> Iterator[tuple[str, bool]]:
        return ((text, begins) for text, begins, _ in self.measured())

    def measured(self) -> Iterator[Piece]:
        for piece in self._source.measured():
            self.done += len(piece.text.encode())
            self.share = piece.share
            yield piece

    def token_ids(self, rows: int, end: int | None = None, padding: int | None = None) -> Iterator[Any] | None:
        arrays = self._source.token_ids(rows, end, padding)
        return None if arrays is None else map(self._noted, arrays)

    def _noted(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        self.done += ids.nbytes
        return ids


def count_text(
    source: TextSource, tokenizer: Tokenizer, head_rows: int, store: Store | None = None
) -> Steps[Frequencies]:
    """Count a text's tokens, streamed, or find the counts in `store`: a job. Counts cover the tokenizer's vocabulary.

    Documents are joined by the end-of-sequence token, which counts too. Raises `CorpusError` where the text is empty
    or cannot be read, or does not go with the tokenizer: ids beyond the head's rows, or mostly the unknown token.

    Returns:
        A job; `run` drives it to the `Frequencies`.

    Example:
        >>> written = Path("words.txt").write_text("Return the number of items. " * 500)
        >>> counted = tpe.run(tpe.count_text(tpe.text_source(["words.txt"]), model.tokenizer, model.head.total_rows))
        >>> counted.tokens > 500
        True
    """
    rows = min(vocabulary_rows(tokenizer), head_rows)
    yield Progress("count tokens", 0)
    source = source.for_tokenizer(tokenizer)
    facts = ["frequencies 1", source.fingerprint(), tokenizer_fingerprint(tokenizer), rows]
    key = hashlib.sha256(json_text(facts).encode()).hexdigest()
    stored = None if store is None else store.load(key)
    if stored is not None and stored[0]["counts"].shape == (rows,):
        return Frequencies.of(stored[0]["counts"], source.label)
    counts = np.zeros(rows, dtype=np.int64)
    read = _Read(source)
    for ids in token_stream(read, tokenizer):
        if len(ids) and int(ids.max()) >= rows:
            raise CorpusError(
                f"the tokenizer gives the text ({source.label}) token {int(ids.max())}, but the model's head has "
                f"{head_rows:,} rows: name the tokenizer that the model was trained with."
            )
        counts += np.bincount(ids, minlength=rows)
        amount, total = size_text(read.done), None
        if read.share:
            total = max(read.done, round(read.done / read.share))  # of text, as far as one can tell by now
            amount = f"{amount} of {size_text(total)}"
        yield Progress("count tokens", read.done, total, note=f"{int(counts.sum()):,} tokens", amount=amount)
    if not counts.any():
        raise CorpusError(f"the text ({source.label}) has no tokens to count: give more text.")
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is not None and unknown < rows and counts[unknown] > UNKNOWN_SHARE * counts.sum():
        raise CorpusError(
            f"{counts[unknown] / counts.sum():.0%} of the text ({source.label}) is unknown to the model's tokenizer: "
            "give text in the language that it was made for."
        )
    if store is not None:
        store.save(key, {"counts": counts}, {"label": source.label}, kind="token counts", of=source.label)
    return Frequencies.of(counts, source.label)


def read_counts(path: Path) -> Frequencies:
    """Counts from a file: a NumPy array (``.npy``), a JSON list (``.json``), or one number a line (``.txt``).

    One number for every token, in order of token ids. Raises `CorpusError` where the file cannot be read as that.

    Example:
        >>> written = Path("counts.json").write_text("[5, 0, 3]")
        >>> tpe.read_counts(Path("counts.json")).tokens
        8
    """
    kinds = {".npy": _npy, ".json": _json, ".txt": _lines}
    read = kinds.get(path.suffix.lower())
    if read is None:
        raise CorpusError(f"{path} is not a file of counts: its name must end in {', '.join(kinds)}.")
    try:
        values = read(path)
    except FileNotFoundError:
        raise CorpusError(f"there is no file of counts at {path}: check the path.") from None
    except OSError as error:
        raise CorpusError(f"the counts at {path} cannot be read ({error.strerror or error}).") from error
    except (ValueError, TypeError, EOFError, OverflowError) as error:  # what NumPy and JSON raise
        raise CorpusError(
            f"the counts at {path} cannot be read ({reason_of(error, 200)}): "
            "give one whole number for every token, in order of token ids."
        ) from error
    return Frequencies.of(values, path.name)


def _npy(path: Path) -> Any:
    return np.load(path, allow_pickle=False)


def _json(path: Path) -> Any:
    values = parse_json(path.read_text(encoding="utf-8"), finite=False)
    if not isinstance(values, list):
        raise ValueError("it is no JSON list")
    return np.array(values) if all(type(value) in (int, float) for value in values) else values


def _lines(path: Path) -> Any:
    return np.array([float(line) if "." in line else int(line) for line in path.read_text(encoding="utf-8").split()])
