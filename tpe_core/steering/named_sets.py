"""Token sets of an analysed model, from their definitions."""

from __future__ import annotations

from collections.abc import Collection

from tpe_core.analysis import Analysis
from tpe_core.steering.token_search import TokenIndex
from tpe_core.token_sets.resolving import VocabularyTokens, resolve_set
from tpe_core.token_sets.summary import SetSummary, summarize_set
from tpe_core.token_sets.token_set import TokenSet

__all__ = ["summary_of", "token_set", "vocabulary_of"]


def vocabulary_of(
    analysis: Analysis, index: TokenIndex | None = None, marked: Collection[int] = ()
) -> VocabularyTokens:
    """The tokens of an analysed model, as definitions of sets ask about them; `index` finds a token by its text."""
    model = analysis.model

    def find(text: str) -> int:
        return (index or TokenIndex(analysis.tokens, model.tokenizer)).resolve(text)

    return VocabularyTokens(
        tokenizer=model.tokenizer,
        rows=model.head.vocab_rows,
        find=find,
        head=model.head,
        counts=analysis.detection.counts,
        marked=marked,
    )


def token_set(analysis: Analysis, definition: str) -> TokenSet:
    """The tokens that a definition names, such as ``script:Han`` or ``digits = class:digits - =7``.

    Args:
        analysis: The model, and the text by which ``class:never-seen`` goes.
        definition: Terms joined by + and -, perhaps after a name and =.

    Returns:
        The set. Raises `TpeError` where the definition cannot be read, or names no token.

    Example:
        >>> digits = tpe.token_set(analysis, "digits = class:digits")
        >>> edit = tpe.Intervention().steer_set(digits, 0.01)
        >>> edit.ratio(digits.token_ids[0])
        0.01
    """
    return resolve_set(definition, vocabulary_of(analysis)).token_set


def summary_of(analysis: Analysis, some: TokenSet) -> SetSummary:
    """How many tokens a set has, their mean probability on the detecting text, and the likeliest of them."""
    detection = analysis.detection
    return summarize_set(some, detection.log_alpha, detection.counts, detection.positions)
