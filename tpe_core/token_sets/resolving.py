"""From a definition to a token set: which tokens of one vocabulary it names, and what of it names none."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import regex
from numpy.typing import NDArray

from tpe_core.clamping import at_least
from tpe_core.errors import TpeError
from tpe_core.printable import fit, printable_token, special_ids
from tpe_core.token_sets.definition import Combined, Definition, Kind, named_definition, parse_definition, written
from tpe_core.token_sets.listed_tokens import listed_tokens
from tpe_core.token_sets.scripts import begins_script, has_property
from tpe_core.token_sets.token_bytes import TokenContent, token_contents
from tpe_core.token_sets.token_classes import CLASSES, token_classes
from tpe_core.token_sets.token_set import TokenSet

if TYPE_CHECKING:
    from tpe_core.models.head import OutputHead

__all__ = ["NEVER_SEEN", "ResolvedSet", "VocabularyTokens", "class_names", "nearest_rows", "resolve_set"]

Mask = NDArray[np.bool_]

NEVER_SEEN = "never-seen"
SECONDS = 20.0  # a regular expression may take over a whole vocabulary
NEAR = 20  # rows where a definition gives no number


def class_names() -> tuple[str, ...]:
    """What ``class:`` takes: the token classes, a hyphen for a blank, and ``never-seen``."""
    return (*(name.replace(" ", "-") for name in CLASSES), NEVER_SEEN)


def nearest_rows(head: OutputHead, token_id: int, count: int) -> NDArray[np.int64]:
    """[count] ids of the rows in use that are nearest to a token's by cosine, itself first."""
    import torch

    columns = head.columns[:, : head.vocab_rows].float()
    own = columns[:, token_id]
    cosine = (own @ columns) / (columns.norm(dim=0) * own.norm()).clamp_min(1e-30)
    cosine[token_id] = math.inf
    nearest: NDArray[np.int64] = torch.topk(cosine, min(count, head.vocab_rows)).indices.cpu().numpy()
    return nearest


@dataclass(frozen=True, kw_only=True)
class VocabularyTokens:
    """The tokens of one model's rows in use, as definitions ask about them. What costs time is made on first use.

    `find` is the id of the token that a text names; it raises `TpeError` where that is none or several.
    """

    tokenizer: Any
    rows: int
    find: Callable[[str], int]
    head: OutputHead | None = None  # for ``near``
    counts: NDArray[np.int64] | None = None  # [V_all] how often each came in the text, for ``class:never-seen``
    marked: Collection[int] = ()

    @cached_property
    def contents(self) -> Sequence[TokenContent | None]:
        """[rows] what each token adds to a text; None for a special one, which is no text."""
        found = list(token_contents(self.tokenizer, self.rows))
        for token_id in special_ids(self.tokenizer, self.rows):
            found[token_id] = None
        return found

    @cached_property
    def by_text(self) -> dict[str, list[int]]:
        """Ids by the text that a token adds, of whole characters only."""
        ids: dict[str, list[int]] = {}
        for token_id, content in enumerate(self.contents):
            if content is not None and content.is_whole:
                ids.setdefault(content.text, []).append(token_id)
        return ids

    @cached_property
    def classes(self) -> NDArray[np.int64]:
        """[rows] the class of each token, as its place in `CLASSES`."""
        return token_classes(self.tokenizer, self.rows)

    @cached_property
    def predictable(self) -> Mask:
        """[rows] the tokens that the head can predict at all."""
        if self.head is None or self.head.bias is None:
            return np.ones(self.rows, dtype=np.bool_)
        return np.asarray(~self.head.bias[: self.rows].isneginf().cpu().numpy(), dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class ResolvedSet:
    """A token set, and a sentence for each part of its definition that names no token."""

    token_set: TokenSet
    notes: tuple[str, ...] = ()


def resolve_set(text: str, tokens: VocabularyTokens) -> ResolvedSet:
    """The set that ``DEFINITION`` or ``NAME = DEFINITION`` is in a vocabulary.

    Tokens that the head never predicts are left out. Raises `TpeError` where the definition cannot be read, names what
    does not exist, or has no token.
    """
    name, plain = named_definition(text)
    notes: list[str] = []
    definition = parse_definition(plain)
    ids = np.flatnonzero(_evaluate(definition, tokens, notes) & tokens.predictable)
    # What is marked is forgotten with the screen that marked it: a definition that is kept has the ids.
    kept = written(definition, tokens.marked) if "marked" in plain else plain
    if not len(ids):
        detail = f" ({'; '.join(note.rstrip('.') for note in notes)})" if notes else ""
        raise TpeError(
            f"no token of this vocabulary is in the set {_shown(kept)}{detail}: define it by what it has, as "
            "`tpe analyze` and the inspector's token list show it."
        )
    return ResolvedSet(TokenSet(kept, tuple(ids.tolist()), name), tuple(notes))


def _shown(text: str) -> str:
    return repr(fit(printable_token(text), 40))


def _evaluate(definition: Definition, tokens: VocabularyTokens, notes: list[str]) -> Mask:
    if isinstance(definition, Combined):
        left, right = (_evaluate(side, tokens, notes) for side in (definition.left, definition.right))
        return left | right if definition.operator == "+" else left & ~right
    found = TERMS[definition.kind](definition.argument, tokens, notes)
    if not found.any():
        notes.append(f"no token is in {_shown(written(definition))}.")
    return found


def _mask(tokens: VocabularyTokens, ids: Any) -> Mask:
    mask = np.zeros(tokens.rows, dtype=np.bool_)
    mask[np.asarray(ids, dtype=np.int64)] = True
    return mask


def _regex(argument: str, tokens: VocabularyTokens, notes: list[str]) -> Mask:
    try:
        pattern = regex.compile(argument)
    except (regex.error, RecursionError) as error:
        raise TpeError(f"{_shown(argument)} is no regular expression ({error}): correct it.") from error
    until = time.monotonic() + SECONDS

    def matches(text: str) -> bool:
        return pattern.search(text, timeout=at_least(0.01, until - time.monotonic())) is not None

    try:
        found = [each is not None and each.is_whole and matches(each.text) for each in tokens.contents]
    except TimeoutError:
        raise TpeError(
            f"the regular expression {_shown(argument)} takes more than {SECONDS:g} s on this vocabulary: simplify it."
        ) from None
    return np.array(found, dtype=np.bool_)


def _class(argument: str, tokens: VocabularyTokens, notes: list[str]) -> Mask:
    if argument not in class_names():
        raise TpeError(f"unknown token class {_shown(argument)}: choose one of {', '.join(class_names())}.")
    if argument == NEVER_SEEN:
        if tokens.counts is None:
            raise TpeError("class:never-seen is about the text that was read, and none was: analyze a text first.")
        return np.asarray(tokens.counts[: tokens.rows] == 0, dtype=np.bool_)
    return np.asarray(tokens.classes == class_names().index(argument), dtype=np.bool_)


def _near(argument: str, tokens: VocabularyTokens, notes: list[str]) -> Mask:
    text, colon, number = argument.rpartition(":")
    if not (colon and text and number.isascii() and number.isdigit()):
        text, number = argument, str(NEAR)
    if tokens.head is None:
        raise TpeError("near: compares rows of a head, and there is none: load a model first.")
    if not 0 < int(number) <= tokens.rows:
        raise TpeError(f"near: takes between 1 and {tokens.rows:,} rows of this head, not {number}.")
    return _mask(tokens, nearest_rows(tokens.head, tokens.find(text), int(number)))


def _token(argument: str, tokens: VocabularyTokens, notes: list[str]) -> Mask:
    return _mask(tokens, [tokens.find(argument)])


def _id(argument: str, tokens: VocabularyTokens, notes: list[str]) -> Mask:
    return _mask(tokens, [tokens.find(f"#{argument}")])


def _marked(argument: str, tokens: VocabularyTokens, notes: list[str]) -> Mask:
    if not tokens.marked:
        raise TpeError("no token is marked: mark some in the inspector's token list, or list them as #ids.")
    return _mask(tokens, sorted(tokens.marked))


def _file(argument: str, tokens: VocabularyTokens, notes: list[str]) -> Mask:
    ids, unknown = listed_tokens(argument, tokens.by_text, tokens.rows)
    if unknown:
        some = ", ".join(_shown(word) for word in unknown[:3])
        notes.append(f"{len(unknown):,} of the words in {_shown(argument)} are no single token ({some}).")
    return _mask(tokens, ids)


TERMS: dict[Kind, Callable[[str, VocabularyTokens, list[str]], Mask]] = {
    "regex": _regex,
    "script": lambda argument, tokens, notes: has_property(tokens.contents, "Script", argument),
    "block": lambda argument, tokens, notes: has_property(tokens.contents, "Block", argument),
    "lead-bytes": lambda argument, tokens, notes: begins_script(tokens.contents, argument),
    "file": _file,
    "class": _class,
    "near": _near,
    "token": _token,
    "id": _id,
    "marked": _marked,
}
