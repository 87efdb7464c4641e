"""Which part of a network a parameter belongs to, by its name, and how far each part moved between two moments.

The same figures for checkpoints on disk and for a model that is training. Names are only read, never looked up.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from torch import Tensor

__all__ = ["distances", "groups_of", "lengths", "ratios"]

CHUNK_VALUES = 1 << 15  # widened to float64 at a time: what torch does on one thread, and fits a core's cache
NORM = re.compile(r"norm|(^|_)ln(_|\d|$)", re.IGNORECASE)
LAYER = re.compile(r"(?:^|\.)(?:h|layers?|blocks?|block)\.(\d+)\.")
KINDS = (
    ("head", re.compile(r"lm_head|embed_out|output_projection|predictions\.decoder|(^|\.)cls\.")),
    ("positions", re.compile(r"wpe|position")),
    ("embedding", re.compile(r"wte|embed|(^|\.)shared\.")),
    ("attention", re.compile(r"attn|attention")),
    ("mlp", re.compile(r"mlp|feed_forward|ffn|(^|\.)fc\d?\.|(^|\.)(wi|wo|wi_\d|up_proj|down_proj|gate_proj)\.|dense")),
)


def groups_of(name: str) -> tuple[str, ...]:
    """The groups a parameter counts in: ``all``, its kind (``norms`` or ``other`` where nothing says), its ``layer N``.

    What a module is called decides before what it lies in, so an attention's norm is a norm.
    """
    owner = name.rsplit(".", 2)[-2] if "." in name else name
    kind = "norms" if NORM.search(owner) else next((kind for kind, mark in KINDS if mark.search(name)), "other")
    layer = LAYER.search(name)
    return ("all", kind) if layer is None else ("all", kind, f"layer {layer[1]}")


def distances(pairs: Iterable[tuple[str, Tensor, Tensor]]) -> dict[str, float]:
    """Euclidean distance by group of (name, theta, theta') of equal shapes, summed in float64."""
    return _roots((name, a, b) for name, a, b in pairs)


def lengths(parameters: Iterable[tuple[str, Tensor]]) -> dict[str, float]:
    """Euclidean length by group of (name, theta), summed in float64."""
    return _roots((name, a, None) for name, a in parameters)


def ratios(above: Mapping[str, float], below: Mapping[str, float]) -> dict[str, float]:
    """``above / below`` for the groups of both whose `below` is not 0."""
    return {group: value / below[group] for group, value in above.items() if below.get(group, 0.0) > 0}


def _roots(terms: Iterable[tuple[str, Tensor, Tensor | None]]) -> dict[str, float]:
    totals: dict[str, float] = defaultdict(float)
    for name, a, b in terms:
        square = 0.0
        others = None if b is None else b.detach().reshape(-1).split(CHUNK_VALUES)
        for i, part in enumerate(a.detach().reshape(-1).split(CHUNK_VALUES)):
            value = part.double() if others is None else part.double() - others[i].double()
            square += float((value * value).sum())
        for group in groups_of(name):
            totals[group] += square
    return {group: total**0.5 for group, total in totals.items()}
