"""What kind of token each id is, for the atlas: the classes of `tpe_core.token_sets`, told apart further.

A token of another script names the script; control characters and pieces of source code have kinds of their own.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from tpe_core.corpus.id_tokenizer import IdTokenizer
from tpe_core.printable import spellings_and_texts, text_bytes
from tpe_core.token_sets.token_classes import CLASSES, token_classes

__all__ = ["kind_of", "token_kinds"]

CODE = re.compile(r"_|[a-z][A-Z]|[(){}\[\];=<>\\/|&$@#%^*+~`]")
"""What a word of prose does not hold: underscores, humps, brackets and operators."""

WORDS = frozenset({"word-beginning", "word-continuation", "punctuation"})
HAN = "CJK"  # the first word of the names of Han characters
SHARED = frozenset({"MICRO", "MODIFIER", "MASCULINE", "FEMININE", ""})  # of letters that scripts share


def _script(text: str) -> str:
    """The script of the first letter that is not Latin, by its Unicode name."""
    for char in text:
        name = unicodedata.name(char, "").split(" ", 1)[0]
        if char.isalpha() and name != "LATIN":
            return "Han" if name == HAN else "Common" if name in SHARED else name.capitalize()
    return "other"


def kind_of(class_name: str, data: bytes | None) -> str:
    """The kind of a token of a class of `CLASSES` that adds these bytes to a text."""
    text = "" if data is None else data.decode(errors="ignore")
    if class_name in {"special", "byte-fallback", "unnamed", "digits"}:
        return class_name
    if text and all(unicodedata.category(char) in {"Cc", "Cf"} and char not in "\t\n\r\v\f" for char in text):
        return "control"
    if class_name == "other script":
        return f"script {_script(text)}"
    body = text.strip()
    if class_name in WORDS and CODE.search(body) and (len(body) > 1 or class_name != "punctuation"):
        return "code-like"
    return class_name


def token_kinds(tokenizer: Any, rows: int) -> list[str]:
    """[rows] the kind of each id.

    One of `tpe_core.token_sets.token_classes.CLASSES`, with ``control``, ``code-like`` and ``script NAME`` beside them.
    """
    classes = [CLASSES[at] for at in token_classes(tokenizer, rows).tolist()]
    if isinstance(tokenizer, IdTokenizer):
        return classes
    pairs = spellings_and_texts(tokenizer, rows)
    return [kind_of(name, text_bytes(*pair)) for name, pair in zip(classes, pairs, strict=True)]
