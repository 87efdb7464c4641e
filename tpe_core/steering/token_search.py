"""From what somebody types to a token: by its text, by its id, or the candidates that were perhaps meant.

A text names a token only if it is that token's whole text; nothing is guessed where it is several or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tpe_core.corpus.token_ids import text_ids
from tpe_core.errors import TpeError
from tpe_core.printable import fit, printable_token

__all__ = ["Candidate", "How", "TokenIndex"]

How = Literal["id", "exact", "space", "case", "part"]
"""Why a token is offered: its number, its text, its text after a space, another case of either, or a part of it."""

OFFERED = 6  # candidates named in an error


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that a query may mean; `text` is printable."""

    token_id: int
    text: str
    how: How


class TokenIndex:
    """The printable texts [V] of a vocabulary's rows in use, searchable; `tokenizer` says what a text becomes."""

    def __init__(self, texts: Sequence[str], tokenizer: Any = None) -> None:
        self.texts, self._tokenizer = texts, tokenizer
        self._ids: dict[str, list[int]] = {}
        self._folded: dict[str, list[int]] = {}
        for token_id, text in enumerate(texts):
            self._ids.setdefault(text, []).append(token_id)
            self._folded.setdefault(text.casefold(), []).append(token_id)

    def search(self, query: str, limit: int = 50) -> list[Candidate]:
        """At most `limit` tokens that a query may mean, likeliest first; shorter texts first among those that hold it.

        `query` is a text as typed or as tables show it (``·the`` is `` the``), or ``#123`` for an id.
        """
        candidates: dict[int, Candidate] = {}

        def add(ids: Sequence[int], how: How) -> None:
            for token_id in ids:
                candidates.setdefault(token_id, Candidate(token_id, self.texts[token_id], how))

        if not query:
            return []
        number = self._number(query)
        add([] if number is None or number >= len(self.texts) else [number], "id")
        spellings = self._spellings(query)
        for text in spellings:
            add(self._ids.get(text, []), "exact")
        spaced = [printable_token(" " + query), *(f"·{text}" for text in spellings)]
        for text in spaced:
            add(self._ids.get(text, []), "space")
        for text in (*spellings, *spaced):
            add(self._folded.get(text.casefold(), []), "case")
        if len(candidates) < limit:
            parts = {text.casefold() for text in (query, *spellings)}
            holding = [ids for text, ids in self._folded.items() if any(part in text for part in parts)]
            add(sorted((i for ids in holding for i in ids), key=lambda i: (len(self.texts[i]), i)), "part")
        return list(candidates.values())[:limit]

    def resolve(self, query: str) -> int:
        """The id of the token that `query` is. Raises `TpeError` where it is several tokens, none, or ambiguous."""
        if not query:
            raise TpeError("an empty text is no token: give a token's text, or its number as #123.")
        number = self._number(query)
        if number is not None:
            if number >= len(self.texts):
                raise TpeError(f"token id {number} does not exist: this model's go from #0 to #{len(self.texts) - 1}.")
            return number
        ids = next((self._ids[text] for text in self._spellings(query) if text in self._ids), [])
        if len(ids) == 1:
            return ids[0]
        shown = fit(printable_token(query), 40)
        if ids:
            raise TpeError(f"{shown!r} is the text of {len(ids)} tokens: name one as {self._listed(ids)}.")
        raise TpeError(f"{shown!r} is {self._became(query)}: {self._offer(query)}.")

    @staticmethod
    def _number(query: str) -> int | None:
        digits = query.removeprefix("#")
        return int(digits) if query.startswith("#") and digits.isascii() and digits.isdigit() else None

    @staticmethod
    def _spellings(query: str) -> list[str]:
        """What tables show for a text: itself made printable, as if copied from a table, or a number without its #."""
        numbered = [f"#{query}"] if query.isascii() and query.isdigit() else []
        return list(dict.fromkeys([printable_token(query), query, *numbered]))

    def _became(self, query: str) -> str:
        ids = [] if self._tokenizer is None else text_ids(self._tokenizer, query)
        if len(ids) > 1:
            return f"{len(ids)} tokens here ({self._listed(ids)})"
        return f"no token here (it becomes {self._listed(ids)})" if ids else "no token here"

    def _offer(self, query: str) -> str:
        token_ids = [candidate.token_id for candidate in self.search(query, OFFERED)]
        if not token_ids:
            return "no token contains it, so choose another text"
        return f"choose one token, such as {self._listed(token_ids)}"

    def _listed(self, ids: Sequence[int]) -> str:
        names = [f"#{i} {fit(self.texts[i], 24)!r}" if i < len(self.texts) else f"#{i}" for i in ids[:OFFERED]]
        return ", ".join(names) + (", ..." if len(ids) > OFFERED else "")
