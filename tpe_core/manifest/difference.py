"""How two saved interventions differ: the edits themselves, what they were made on, and what each was measured to cost.

It compares what the files say; no model is loaded, and neither is called the better one.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpe_core.corpus.domains import DOMAINS
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.manifest.schema import Manifest, MeasuredText, SteeredSet, SteeredToken
from tpe_core.metrics import METRICS

__all__ = ["Difference", "Figure", "Pair", "SteeringPair", "difference"]

Value = float | int | str | bool | None


@dataclass(frozen=True, slots=True)
class Pair:
    """One fact as the first and as the second file have it."""

    name: str
    a: Value
    b: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class SteeringPair:
    """A token that either file steers: asked ratio (1 where it is not steered) and method in each."""

    token_id: int
    token: str
    a: float
    b: float
    method_a: str | None
    method_b: str | None

    @property
    def same(self) -> bool:
        """Whether ratio and method are the same in both."""
        return (self.a, self.method_a) == (self.b, self.method_b)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPair:
    """A token set, by its tokens, that either file steers as one; as `SteeringPair`."""

    name: str
    definition: str
    tokens: int
    a: float
    b: float
    method_a: str | None
    method_b: str | None

    @property
    def same(self) -> bool:
        """Whether ratio and method are the same in both."""
        return (self.a, self.method_a) == (self.b, self.method_b)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure on one text, null where a file has none; `same_text` tells whether both were read on the same."""

    where: str  # prompt, or a text's domain
    name: str
    a: float | None
    b: float | None
    same_text: bool


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What `difference` finds. Dimensions ascend."""

    same_width: bool
    only_a: tuple[int, ...]
    only_b: tuple[int, ...]
    both: tuple[int, ...]
    replacement: Pair
    steering: tuple[SteeringPair, ...]
    sets: tuple[SetPair, ...]
    same_steering: bool  # whether both steer the same tokens alike, in sets or not
    facts: tuple[Pair, ...]  # those that differ of what they were made on, by and with
    constant: float | None  # largest difference of what the shared dimensions become; None where not comparable
    rows: float | None  # largest difference of an entry of the moves of tokens that both steer alike
    figures: tuple[Figure, ...]
    next_tokens: tuple[Pair, ...]  # the most probable token after each prompt that both self-tests have

    @property
    def same_edit(self) -> bool:
        """Whether both edit alike, to the last number: on one head they would give the same logits."""
        alike = not self.only_a and not self.only_b and (not self.both or self.replacement.a == self.replacement.b)
        return self.same_width and alike and self.same_steering and not self.constant and not self.rows

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `tpe diff`, less the names of the files."""
        return {
            "same_edit": self.same_edit,
            "dimensions": {"only_a": list(self.only_a), "only_b": list(self.only_b), "both": list(self.both)},
            "replacement": {"a": self.replacement.a, "b": self.replacement.b},
            "steering": [asdict(pair) for pair in self.steering],
            **({"sets": [asdict(pair) for pair in self.sets]} if self.sets else {}),
            "facts": {pair.name: {"a": pair.a, "b": pair.b} for pair in self.facts},
            "largest_difference": {"replacement_values": self.constant, "rows": self.rows},
            "figures": [asdict(figure) for figure in self.figures],
            "next_tokens": [{"prompt": pair.name, "a": pair.a, "b": pair.b} for pair in self.next_tokens],
        }


def difference(first: tuple[Manifest, ResolvedEdit], second: tuple[Manifest, ResolvedEdit]) -> Difference:
    """Compare two interventions as `tpe_core.manifest.manifest.read_edit` gives them."""
    (document, edit), (other, another) = first, second
    a, b = set(document.pruned), set(other.pruned)
    return Difference(
        same_width=edit.hidden_size == another.hidden_size,
        only_a=tuple(sorted(a - b)),
        only_b=tuple(sorted(b - a)),
        both=tuple(sorted(a & b)),
        replacement=Pair("replacement", document.replacement, other.replacement),
        steering=_steering(document, other),
        sets=_sets(document, other),
        same_steering=edit.intervention.steering == another.intervention.steering,
        facts=_facts(document, other),
        constant=_constants(edit, another),
        rows=_rows(edit, another),
        figures=tuple(_figures(document, other)),
        next_tokens=_next_tokens(document, other),
    )


def _steering(one: Manifest, other: Manifest) -> tuple[SteeringPair, ...]:
    sides = [{entry.token_id: entry for entry in manifest.steering} for manifest in (one, other)]
    pairs = []
    for token_id in sorted(sides[0].keys() | sides[1].keys()):
        a, b = (side.get(token_id) for side in sides)
        text = next(entry.token for entry in (a, b) if entry is not None)
        pairs.append(SteeringPair(token_id=token_id, token=text, **_ratios_and_methods(a, b)))
    return tuple(pairs)


def _sets(one: Manifest, other: Manifest) -> tuple[SetPair, ...]:
    sides = [{each.token_ids: each for each in manifest.sets} for manifest in (one, other)]
    pairs = []
    for token_ids in dict.fromkeys((*sides[0], *sides[1])):
        a, b = (side.get(token_ids) for side in sides)
        first = next(each for each in (a, b) if each is not None)
        pairs.append(
            SetPair(
                name=first.name,
                definition=first.definition,
                tokens=len(token_ids),
                **_ratios_and_methods(a, b),
            )
        )
    return tuple(pairs)


def _ratios_and_methods(a: SteeredToken | SteeredSet | None, b: SteeredToken | SteeredSet | None) -> dict[str, Any]:
    """How either file steers a token or a set; None where it does not."""
    return {
        "a": 1.0 if a is None else a.ratio,
        "b": 1.0 if b is None else b.ratio,
        "method_a": None if a is None else a.method,
        "method_b": None if b is None else b.method,
    }


def _facts(one: Manifest, other: Manifest) -> tuple[Pair, ...]:
    a, b = _facts_of(one), _facts_of(other)
    pairs = (Pair(name, a.get(name), b.get(name)) for name in dict.fromkeys((*a, *b)))
    return tuple(pair for pair in pairs if pair.a != pair.b)


def _facts_of(manifest: Manifest) -> dict[str, Value]:
    made, measured = manifest.made_on, manifest.measured
    facts: dict[str, Value] = {
        "model": made.model,
        "revision": made.revision,
        "head": made.head_sha256,
        "rows": made.vocab_rows,
        "dimensions": made.hidden_size,
        "tokenizer": made.tokenizer_sha256,
        "file": made.file_sha256,
        "tied": made.tied,
        "post": f"{made.post.kind}, scale {made.post.scale}, cap {made.post.cap}",
    }
    if measured is not None:
        facts |= {"text": measured.text, "corpus": measured.corpus_fingerprint, "positions": measured.positions}
    facts |= {"made by": manifest.made_by, "created": manifest.created}
    return facts | {f"version of {name}": version for name, version in manifest.versions.items()}


def _constants(edit: ResolvedEdit, another: ResolvedEdit) -> float | None:
    """Over the dimensions that both prune, where both replace them alike; the matrices too where both have one."""
    replaced = edit.intervention.replacement
    shared = set(edit.written) & set(another.written)
    if not shared or replaced != another.intervention.replacement:
        return None
    if REPLACEMENTS[replaced].rebuilds and edit.removed != another.removed:
        return None  # what is guessed from other dimensions has another constant
    constants = [side.constant[[dim in shared for dim in side.written]] for side in (edit, another)]
    difference = _largest(*constants)
    if edit.fold is not None and another.fold is not None and edit.fold.shape == another.fold.shape:
        difference = max(difference, _largest(edit.fold, another.fold))
    return difference


def _rows(edit: ResolvedEdit, another: ResolvedEdit) -> float | None:
    """Over tokens of one ratio and method, so that only the measured direction can differ."""
    wanted = {entry.token_id: entry for entry in edit.intervention.steering}
    alike = [entry.token_id for entry in another.intervention.steering if wanted.get(entry.token_id) == entry]
    if edit.hidden_size != another.hidden_size:
        return None
    differences = [_largest(edit.rows[i], another.rows[i]) for i in alike if i in edit.rows]
    return max(differences, default=None)


def _largest(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    with np.errstate(over="ignore"):
        largest = float(np.abs(a - b).max(initial=0.0))
    return min(largest, sys.float_info.max)  # never infinite, whatever a file holds: JSON could not say it


def _figures(one: Manifest, other: Manifest) -> list[Figure]:
    a, b = one.measured, other.measured
    same = a is not None and b is not None and a.prompt == b.prompt
    figures = [
        Figure(where="prompt", name=name, a=getattr(a, name, None), b=getattr(b, name, None), same_text=same)
        for name in ("kl", "js")
    ]
    sides: list[dict[str, MeasuredText]] = [
        {} if side is None else {text.domain: text for text in side.texts} for side in (a, b)
    ]
    for domain in (name for name in DOMAINS if name in sides[0] or name in sides[1]):
        texts = [side.get(domain) for side in sides]
        same = _same_text(texts[0], texts[1])
        for name in METRICS:
            values = [getattr(text, name, None) for text in texts]
            figures.append(Figure(where=domain, name=name, a=values[0], b=values[1], same_text=same))
        achieved = [{each.token_id: each.ratio for each in text.achieved} if text else {} for text in texts]
        for token_id in sorted(achieved[0].keys() | achieved[1].keys()):
            values = [each.get(token_id) for each in achieved]
            figures.append(Figure(where=domain, name=f"ratio of #{token_id}", a=values[0], b=values[1], same_text=same))
        by_set = [{each.name: each.ratio for each in text.achieved_by_set} if text else {} for text in texts]
        for name in dict.fromkeys((*by_set[0], *by_set[1])):
            values = [each.get(name) for each in by_set]
            figures.append(Figure(where=domain, name=f"ratio of {name}", a=values[0], b=values[1], same_text=same))
    return [figure for figure in figures if figure.a is not None or figure.b is not None]


def _same_text(a: MeasuredText | None, b: MeasuredText | None) -> bool:
    """Whether nothing tells them apart: name, positions, and the unedited model's perplexity where both have it."""
    if a is None or b is None or (a.text, a.positions) != (b.text, b.positions):
        return False
    return None in (a.base_perplexity, b.base_perplexity) or a.base_perplexity == b.base_perplexity


def _next_tokens(one: Manifest, other: Manifest) -> tuple[Pair, ...]:
    if one.self_test is None or other.self_test is None:
        return ()
    sides = [{test.prompt: test.top[0].token for test in side.prompts} for side in (one.self_test, other.self_test)]
    return tuple(Pair(prompt, token, sides[1][prompt]) for prompt, token in sides[0].items() if prompt in sides[1])
