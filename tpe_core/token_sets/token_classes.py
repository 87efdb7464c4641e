"""What kind of token each id is: digits, punctuation, the beginning of a word, a part of a character, and so on."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpe_core.corpus.id_tokenizer import IdTokenizer
from tpe_core.printable import BYTE_TOKEN, special_ids, spellings_and_texts

__all__ = ["CLASSES", "class_of", "token_classes"]

CLASSES = (
    "special",
    "byte-fallback",
    "whitespace",
    "digits",
    "punctuation",
    "word-beginning",
    "word-continuation",
    "other script",
    "unnamed",
)
"""Names of the classes, in the order of tables.

``byte-fallback`` are single bytes and other tokens that are no whole characters; ``punctuation`` is all that has
neither letter nor digit; ``other script`` has a letter that is not Latin; ``unnamed`` are rows without a token, and
all but the special ones of a model that has no tokenizer.
"""

WORD_MARKS = ("▁", "Ġ", " ")  # of SentencePiece, of byte-level BPE, and of a tokenizer that keeps the blank


@lru_cache(maxsize=65536)
def _is_latin(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith("LATIN")


def class_of(spelling: str | None, text: str, marks_continuation: bool = False) -> str:
    """The class of a token by its spelling in the vocabulary and the text that it decodes to; special ones aside.

    With `marks_continuation` the vocabulary is WordPiece's: ``##`` before what continues a word.
    """
    if spelling is None:
        return "unnamed"
    if (BYTE_TOKEN.fullmatch(spelling) and text != spelling) or "\ufffd" in text:
        return "byte-fallback"
    continues = marks_continuation and spelling.startswith("##")
    body = (text.removeprefix("##") if continues else text).replace("▁", " ").strip()
    if not body:
        return "whitespace" if text or spelling.strip("▁") == "" else "unnamed"
    letters = [char for char in body if char.isalpha()]
    if any(not _is_latin(letter) for letter in letters):
        return "other script"
    if not letters:
        return "digits" if any(char.isnumeric() for char in body) else "punctuation"
    begins = not continues if marks_continuation else spelling.startswith(WORD_MARKS) or text.startswith(" ")
    return "word-beginning" if begins else "word-continuation"


def token_classes(tokenizer: Any, rows: int) -> NDArray[np.int64]:
    """[rows] the class of each id, as its place in `CLASSES`."""
    special = set(special_ids(tokenizer, rows))
    if isinstance(tokenizer, IdTokenizer):
        names = ["special" if each in special else "unnamed" for each in range(rows)]
    else:
        pairs = spellings_and_texts(tokenizer, rows)
        spelled = [str(spelling) for spelling, _ in pairs if spelling is not None]
        wordpiece = any(each.startswith("##") and each[2:].isalpha() for each in spelled) and not any(
            each.startswith(("▁", "Ġ")) for each in spelled
        )
        names = [
            "special"
            if token_id in special
            else class_of(None if spelling is None else str(spelling), text or "", wordpiece)
            for token_id, (spelling, text) in enumerate(pairs)
        ]
    place = {name: at for at, name in enumerate(CLASSES)}
    return np.array([place[name] for name in names], dtype=np.int64)
