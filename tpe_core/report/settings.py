"""What a report's studies ask for: the tokens, ratios, orders and shares. Plain values without torch."""

from __future__ import annotations

from tpe_core.edits.intervention import Method
from tpe_core.pruning.results import PruningRequest

__all__ = ["CURVES", "DISTINCT", "FEW_SHOT_RATIO", "METHODS", "PROMPTS", "RATIOS", "REPEATED", "TEXTS", "TOKENS"]

TOKENS = 20  # of middle frequency, steered one at a time
RATIOS = (0.5, 2.0, 5.0, 10.0, 20.0)
METHODS: tuple[Method, ...] = ("min-norm", "least-squares")
"""The direction along the slopes, as in the paper, and the one that shifts logits most evenly."""
FEW_SHOT_RATIO = 2.0

CURVES = PruningRequest(
    orders=("slope", "random", "fisher"),
    replacements=("zero", "least-squares"),
    reference=False,
    draws=2,
    fractions=(0.1, 0.3, 0.5, 0.7),
)
"""What is pruned for the curves."""

TEXTS = PruningRequest(
    orders=("slope", "random"), replacements=("zero",), reference=False, draws=1, fractions=(0.3, 0.5)
)
"""The points at which text is sampled."""

PROMPTS = 128
"""That text is sampled after: below, MAUVE tells nothing."""

DISTINCT, REPEATED = 2, 4
"""Lengths of the n-grams whose variety and repetition are shown."""
