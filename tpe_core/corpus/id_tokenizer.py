"""Token ids in the place of a tokenizer, for models of sequences that are no language: proteins, music, events, code.

`IdTokenizer` has what the package asks of a transformers tokenizer. Its text is a list of ids, ``17 4 98``, or of the
entries of a vocabulary that a file names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tpe_core.errors import CorpusError
from tpe_core.json_text import parse_json
from tpe_core.printable import fit, printable_token

__all__ = ["IDS", "IdTokenizer", "id_tokenizer", "ids_of", "read_vocabulary"]

IDS = "ids"
"""In the place of a vocabulary's file: the ids themselves, without names."""

MASKS = ("<mask>", "[MASK]")
"""Entries of a vocabulary that are a masked model's mask, where its config names none."""

WIDE = 1 << 16  # with more ids, raw files hold 32-bit numbers
OFFERED = 4  # entries named in an error


class IdTokenizer:
    """A vocabulary of `rows` token ids, shown as ``#17`` or by `names`, which name the first of them in order.

    The special ids are a config's; one that is outside the vocabulary is none. Nothing is put around a sequence.
    """

    is_fast = False
    unk_token_id = None

    def __init__(
        self,
        rows: int,
        names: Sequence[str] = (),
        *,
        bos: int | None = None,
        eos: int | None = None,
        padding: int | None = None,
        mask: int | None = None,
        vocabulary: str = IDS,
    ) -> None:
        """`vocabulary` says where the names come from: a file, or ``ids``."""
        self.rows, self.vocabulary = rows, vocabulary
        self._names = [name or f"#{token_id}" for token_id, name in enumerate(names)]
        self._named: dict[str, list[int]] = {}
        for token_id, name in enumerate(names):
            if name:
                self._named.setdefault(name, []).append(token_id)
        if mask is None:
            mask = next((self._named[name][0] for name in MASKS if len(self._named.get(name, ())) == 1), None)
        self.bos_token_id, self.eos_token_id, self.pad_token_id, self.mask_token_id = (
            value if isinstance(value, int) and 0 <= value < rows else None for value in (bos, eos, padding, mask)
        )

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of how it reads ids. Names do not enter: they say nothing of what an id is to the model."""
        facts = [
            "token ids 1",
            self.bos_token_id,
            self.eos_token_id,
            self.pad_token_id,
            self.mask_token_id,
            self.rows > WIDE,
        ]
        return hashlib.sha256(json.dumps(facts, allow_nan=False).encode()).hexdigest()

    @property
    def mask_token(self) -> str | None:
        """How the mask is written in a prompt."""
        return None if self.mask_token_id is None else self._written(self.mask_token_id)

    @property
    def all_special_ids(self) -> list[int]:
        """The ids that the config names."""
        special = (self.bos_token_id, self.eos_token_id, self.pad_token_id, self.mask_token_id)
        return sorted({value for value in special if value is not None})

    @property
    def examples(self) -> tuple[str, str, str]:
        """Prompts to begin with, of ids from all over the vocabulary."""
        spread = [at for at in range(0, self.rows, max(1, self.rows // 7)) if at not in self.all_special_ids] or [0]
        first, second, third = (" ".join(map(self._written, ids)) for ids in (spread[1:5], spread[::-2], spread[::3]))
        return first or third, second, third

    def __len__(self) -> int:
        """How many ids there are."""
        return self.rows

    def __call__(self, text: str | Sequence[str], **_options: Any) -> dict[str, Any]:
        """``input_ids`` of one text or of several: ids as ``17 4 98`` or ``#17, #4``, or entries of the vocabulary.

        Raises `CorpusError` where a word is neither.
        """
        if isinstance(text, str):
            return {"input_ids": self._ids(text)}
        return {"input_ids": [self._ids(each) for each in text]}

    def get_vocab(self) -> dict[str, int]:
        """Every token's id. Of several tokens of one name the later ones are found by number."""
        vocabulary: dict[str, int] = {}
        for token_id in range(self.rows):
            name = self._name(token_id)
            vocabulary[f"#{token_id}" if name in vocabulary else name] = token_id
        return vocabulary

    def convert_ids_to_tokens(self, ids: Any) -> Any:
        """The name of an id, or of each of several."""
        return [self._name(int(each)) for each in ids] if isinstance(ids, Iterable) else self._name(int(ids))

    def decode(self, ids: Any, **_options: Any) -> str:
        """Names of ids with spaces between them. Special tokens are part of a sequence and stay."""
        return " ".join(self.convert_ids_to_tokens(list(ids)))

    def batch_decode(self, sequences: Any, **options: Any) -> list[str]:
        """`decode` of each sequence."""
        return [self.decode(ids, **options) for ids in sequences]

    def save_pretrained(self, _folder: Any) -> None:
        """Write nothing: a checkpoint without a tokenizer has no files of one."""

    def _name(self, token_id: int) -> str:
        return self._names[token_id] if token_id < len(self._names) else f"#{token_id}"

    def _written(self, token_id: int) -> str:
        """What names a token in a prompt, and no other one."""
        name = self._name(token_id)
        plain = name.split() == [name] and len(self._named.get(name, ())) == 1
        return name if plain else f"#{token_id}"

    def _ids(self, text: str) -> list[int]:
        found: list[int] = []
        for word in text.split():
            parts = [word] if word in self._named else [part for part in word.split(",") if part]
            found += map(self._id, parts)
        return found

    def _id(self, word: str) -> int:
        ids = self._named.get(word, ())
        if len(ids) == 1:
            return ids[0]
        if ids:
            raise CorpusError(f"{word!r} is the name of {len(ids)} tokens: name one as #{ids[0]} or #{ids[1]}.")
        digits = word.removeprefix("#")
        shown = fit(printable_token(word), 40)
        if not (digits.isascii() and digits.isdigit()):
            names = list(self._named)[:OFFERED]
            offered = f"an entry of the vocabulary, such as {', '.join(map(repr, names))}, or an id" if names else "ids"
            raise CorpusError(f"{shown!r} is no token: this model has no tokenizer; type {offered}, like 17 or #17.")
        if len(digits) > 18 or int(digits) >= self.rows:
            raise CorpusError(f"token id {shown} does not exist: this model's go from #0 to #{self.rows - 1}.")
        return int(digits)


def id_tokenizer(config: Any, vocabulary: str | None = None) -> IdTokenizer:
    """The ids of a model by its transformers config, named by a file (`vocabulary`), or not where that is ``ids``.

    A vocabulary that is shorter than the model's rows leaves the others unused. Raises `CorpusError` where the file
    cannot be read, or has more entries than the model has rows, or where nothing says how many there are.
    """
    text = config.get_text_config(decoder=True)
    rows = getattr(text, "vocab_size", None)
    if not isinstance(rows, int) or rows < 1:
        if vocabulary in {None, IDS}:
            raise CorpusError(
                "the model's config does not say how many tokens there are (vocab_size): name them with "
                "--vocabulary FILE."
            )
        rows = None
    special = {
        option: next((value for each in (text, config) if (value := getattr(each, name, None)) is not None), None)
        for option, name in (
            ("bos", "bos_token_id"), ("eos", "eos_token_id"), ("padding", "pad_token_id"), ("mask", "mask_token_id"),
        )
    }  # fmt: skip
    ends = special["eos"]
    special["eos"] = ends[0] if isinstance(ends, list | tuple) and ends else ends
    return ids_of(rows, vocabulary, **special)


def ids_of(rows: int | None, vocabulary: str | None = None, **special: int | None) -> IdTokenizer:
    """The ids of a head of so many rows (None: as many as `vocabulary` names), as `id_tokenizer`, with special ids."""
    names = [] if vocabulary in {None, IDS} else read_vocabulary(Path(str(vocabulary)).expanduser())
    if rows is not None and len(names) > rows:
        raise CorpusError(
            f"the vocabulary {vocabulary} has {len(names):,} entries and the model {rows:,} tokens: name the file "
            "that this model was trained with."
        )
    return IdTokenizer(len(names) or rows or 0, names, vocabulary=vocabulary or IDS, **special)


def read_vocabulary(path: Path) -> list[str]:
    """The names [V] of token ids 0 and up, empty where one has none: one a line, or JSON.

    JSON is a list of names, a mapping of names to ids, or one of ids to names. Raises `CorpusError` in one sentence.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"the vocabulary {path} is not UTF-8 (byte offset {error.start}): save it as a text of one token a line."
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CorpusError(f"the vocabulary {path} cannot be read ({reason}): check the path.") from error
    json_like = path.suffix.lower() == ".json" or text.lstrip()[:1] == "{"
    names = _json_names(path, text) if json_like else _line_names(text)
    if not any(names):
        raise CorpusError(f"the vocabulary {path} names no token: write one a line.")
    return names


def _line_names(text: str) -> list[str]:
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if not lines[-1] else lines


def _json_names(path: Path, text: str) -> list[str]:
    try:
        document = parse_json(text)
    except ValueError as error:
        raise CorpusError(f"the vocabulary {path} is not valid JSON ({error}): correct it.") from None
    if isinstance(document, list) and all(isinstance(name, str) for name in document):
        return list(document)
    if isinstance(document, dict):
        if all(isinstance(value, int) and not isinstance(value, bool) for value in document.values()):
            return _in_order(path, {value: name for name, value in document.items()}, document)
        if all(isinstance(value, str) for value in document.values()) and all(
            key.isascii() and key.isdigit() for key in document
        ):
            return _in_order(path, {int(key): name for key, name in document.items()}, document)
    raise CorpusError(
        f"the vocabulary {path} is neither a list of names nor a mapping between names and ids: write one of those."
    )


def _in_order(path: Path, names: Mapping[int, str], document: Mapping[str, Any]) -> list[str]:
    lowest, highest = min(names, default=0), max(names, default=-1)
    if lowest < 0 or highest > 10 * len(document) + 1000:
        wrong = lowest if lowest < 0 else highest
        raise CorpusError(f"the vocabulary {path} has {len(document):,} entries and the id {wrong}: correct it.")
    if len(names) < len(document):
        raise CorpusError(f"the vocabulary {path} gives one id to several names: give each its own.")
    return [names.get(token_id, "") for token_id in range(highest + 1)]
