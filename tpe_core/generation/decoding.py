"""Sampling parameters: length, seed, temperature, top-k, top-p. Plain values without torch."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

from tpe_core.errors import TpeError

__all__ = ["DEFAULT", "Decoding"]


@dataclass(frozen=True, slots=True)
class Decoding:
    """How text is drawn: at most `length` tokens, at a temperature (0: always the most probable token), from the
    `top_k` most probable tokens (0: all) and of those from the smallest set with a probability of `top_p`; with
    `stop`, up to an end token.

    Raises `TpeError` for values that cannot be.

    Example:
        >>> tpe.Decoding(20, seed=1, temperature=0.8, top_p=0.95).length
        20
    """

    length: int = 64
    _: KW_ONLY
    seed: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    stop: bool = True
    top_k: int = 0

    def __post_init__(self) -> None:
        if self.length < 1:
            raise TpeError(f"a sample has at least 1 token, not {self.length}.")
        if self.seed < 0:
            raise TpeError(f"a seed is a whole number of at least 0, not {self.seed}.")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise TpeError(f"a temperature is a finite number of at least 0, not {self.temperature}: 0 is greedy.")
        if not 0 < self.top_p <= 1:
            raise TpeError(f"top-p is a share above 0 and at most 1, not {self.top_p}: 1 leaves every token.")
        if self.top_k < 0:
            raise TpeError(f"top-k is a number of tokens, not {self.top_k}: 0 leaves every token.")


DEFAULT = Decoding()
