"""What generated token sequences look like by themselves: how varied, how repetitive, how long. Plain Python, no model.

Sequences are token ids, not words, so the figures need no detokenising and mean the same in every language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tpe_core.errors import TpeError

__all__ = ["ORDERS", "TextQuality", "distinct", "ngrams", "repetition", "text_quality"]

Tokens = Sequence[int]

ORDERS = (1, 2, 3, 4)
"""Lengths n of the n-grams that are reported."""


def ngrams(tokens: Tokens, n: int) -> list[tuple[int, ...]]:
    """The ``len(tokens) - n + 1`` runs of n tokens, in order; none where the sequence is shorter than n.

    Raises `TpeError` where n is below 1.
    """
    if n < 1:
        raise TpeError(f"an n-gram has at least 1 token, not {n}: choose n of 1 or more.")
    return [tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1)]


def distinct(samples: Sequence[Tokens], n: int) -> float | None:
    """distinct-n: different n-grams of all samples together, divided by n-grams. None where there is no n-gram.

    1 where none occurs twice. It falls as text is added, so compare it between samples of like size only.
    Source: Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models" (there for
    n = 1 and 2, over words).
    """
    grams = [gram for sample in samples for gram in ngrams(sample, n)]
    return len(set(grams)) / len(grams) if grams else None


def repetition(samples: Sequence[Tokens], n: int) -> float | None:
    """Share of a sample's n-grams that repeat an earlier one of the same sample, averaged over samples.

    ``1 - different n-grams / n-grams`` for each sample of at least n tokens; None where there is none.
    Source: "seq-rep-n" of Welleck et al. 2020, "Neural Text Generation with Unlikelihood Training" (there for n = 4).
    """
    shares = [1 - len(set(grams)) / len(grams) for sample in samples if (grams := ngrams(sample, n))]
    return sum(shares) / len(shares) if shares else None


@dataclass(frozen=True, kw_only=True)
class TextQuality:
    """Figures of one set of samples; distinct and repetition for n in `ORDERS`, None where no sample is n long."""

    samples: int
    tokens: int  # of all samples, end tokens included
    distinct: tuple[float | None, ...]
    repetition: tuple[float | None, ...]
    mean_length: float  # tokens to the end token, which counts; samples that never ended count with all they have
    ended: float  # share of samples that reached an end token

    def to_dict(self) -> dict[str, Any]:
        """The figures by name, n-gram ones as lists from n = 1."""
        return {
            "samples": self.samples,
            "tokens": self.tokens,
            "distinct": list(self.distinct),
            "repetition": list(self.repetition),
            "mean_length": self.mean_length,
            "ended": self.ended,
        }


def text_quality(samples: Sequence[Tokens], ended: Sequence[bool]) -> TextQuality:
    """The figures of samples, of which `ended` says whether each reached an end token.

    Raises `TpeError` where there is no sample, or not one flag for each.
    """
    if not samples or len(samples) != len(ended):
        raise TpeError(f"{len(samples)} samples with {len(ended)} end flags cannot be judged: give one flag for each.")
    tokens = sum(map(len, samples))
    return TextQuality(
        samples=len(samples),
        tokens=tokens,
        distinct=tuple(distinct(samples, n) for n in ORDERS),
        repetition=tuple(repetition(samples, n) for n in ORDERS),
        mean_length=tokens / len(samples),
        ended=sum(ended) / len(ended),
    )
