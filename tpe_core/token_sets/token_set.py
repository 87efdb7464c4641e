"""A set of tokens: its definition, its name, and the ids that it is in one vocabulary."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpe_core.errors import TpeError
from tpe_core.lazy import Deferred

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = Deferred("numpy")

__all__ = ["TokenSet"]


@dataclass(frozen=True, slots=True)
class TokenSet:
    """Tokens by id (sorted, unique) and the definition that they were found by.

    Raises `TpeError` where it has no token, or an id below 0.

    Args:
        definition: What was asked for, as `tpe_core.token_sets.definition` reads it.
        token_ids: The rows of the head, in any order.
        name: What to call it; the definition where none is given.

    Example:
        >>> digits = tpe.TokenSet("=1 + =2", (18, 17), "small")
        >>> digits.token_ids, digits.label, len(digits)
        ((17, 18), 'small', 2)
    """

    definition: str
    token_ids: tuple[int, ...]
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "token_ids", tuple(sorted({int(token_id) for token_id in self.token_ids})))
        if not self.token_ids:
            raise TpeError(f"the token set {self.label!r} has no token: define it by what this vocabulary has.")
        if self.token_ids[0] < 0:
            raise TpeError(f"a token id cannot be negative, got {self.token_ids[0]}.")

    @property
    def label(self) -> str:
        """The name, or the definition where it has none."""
        return self.name or self.definition

    @property
    def written(self) -> str:
        """``NAME = DEFINITION``, or the definition alone where it has no name."""
        return f"{self.name} = {self.definition}" if self.name else self.definition

    @property
    def ids(self) -> NDArray[np.int64]:
        """[k] the ids as an array, ascending."""
        return np.array(self.token_ids, dtype=np.int64)

    def without(self, token_ids: Iterable[int]) -> TokenSet | None:
        """The set less some of its tokens, its definition saying so; None where none is left."""
        gone = sorted(set(token_ids) & set(self.token_ids))
        left = tuple(sorted(set(self.token_ids) - set(gone)))
        if not left:
            return None
        return TokenSet(" - ".join([self.definition, *(f"#{each}" for each in gone)]), left, self.name)

    def less(self, other: TokenSet) -> TokenSet | None:
        """The set less the tokens of another; itself where they share none, None where none is left."""
        left = tuple(sorted(set(self.token_ids) - set(other.token_ids)))
        if len(left) == len(self):
            return self
        return TokenSet(f"{self.definition} - ({other.definition})", left, self.name) if left else None

    def __contains__(self, token_id: object) -> bool:
        at = bisect_left(self.token_ids, token_id) if isinstance(token_id, int) else len(self)
        return at < len(self) and self.token_ids[at] == token_id

    def __len__(self) -> int:
        return len(self.token_ids)
