"""The token atlas of an analysed model, and of its head under an edit: every token with what is odd about it.

Residuals, counts and the distance to untrained rows are of the model and its text; what can be reached and which rows
are nearest to each other are of the head, edited where an edit is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tpe_core.analysis import Analysis
from tpe_core.atlas.head_rows import head_rows
from tpe_core.atlas.kinds import token_kinds
from tpe_core.atlas.neighbours import Neighbours, nearest_rows
from tpe_core.atlas.reachability import Reachability, reachability
from tpe_core.atlas.region import REGIONS, Region
from tpe_core.atlas.sections import SECTIONS
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.json_text import nulled
from tpe_core.printable import spellings_and_texts, text_bytes
from tpe_core.progress import Steps

__all__ = ["TokenAtlas", "token_atlas"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TokenAtlas:
    """Every token in use with its figures; the lists that are made of them are `SECTIONS`.

    Example:
        >>> atlas = tpe.run(tpe.token_atlas(analysis))  # doctest: +SKIP
        >>> atlas.reach.of("unreachable")  # doctest: +SKIP
    """

    model: str
    revision: str | None
    text: str  # what was read, for people
    positions: int
    tokens: Sequence[str]  # [V] printable
    spellings: Sequence[str]  # [V] the bytes that each adds to a text, in hexadecimal; empty where it adds none
    kinds: Sequence[str]  # [V]
    counts: Ints  # [V] occurrences in the text
    surprisal: Floats  # [V] -log alpha, nats; inf where never predicted
    residual: Floats  # [V] -log alpha minus the law's, nats; NaN where not fitted
    untrained: Floats  # [V] cosine distance to the mean untrained row; NaN where there is no such direction
    reference: str  # which rows these were
    edited: bool
    reach: Reachability
    unedited: Reachability | None  # of the head as it is; None where no edit is given
    neighbours: Neighbours

    @property
    def lost(self) -> Ints:
        """Tokens that the edit makes unreachable: those that can be reached in the head as it is."""
        if self.unedited is None:
            return np.empty(0, dtype=np.int64)
        return np.setdiff1d(self.reach.of("unreachable"), self.unedited.of("unreachable"))

    def pair_order(self, by: Literal["cosine", "distance"]) -> Floats:
        """[V] the key by which pairs are listed, each under the token that is predicted less; NaN for the others."""
        near = self.neighbours
        other = near.by_cosine if by == "cosine" else near.by_distance
        key = -near.cosine if by == "cosine" else near.distance
        result = np.full(len(key), np.nan)
        for first, second in near.pairs(by, len(key)):
            own = first if other[first] == second else second
            result[own] = key[own]
        return result

    def entry(self, token_id: int) -> dict[str, Any]:
        """One token as `tpe atlas --json` has it."""
        near = self.neighbours
        cosine_id, distance_id = int(near.by_cosine[token_id]), int(near.by_distance[token_id])
        return {
            "token_id": token_id,
            "token": self.tokens[token_id],
            "bytes": self.spellings[token_id],
            "kind": self.kinds[token_id],
            "count": int(self.counts[token_id]),
            "surprisal": float(self.surprisal[token_id]),
            "residual": float(self.residual[token_id]),
            "untrained_distance": float(self.untrained[token_id]),
            "reach": self.reach.verdict(token_id),
            "proof": self.reach.proof(token_id),
            "nearest_by_cosine": None if cosine_id < 0 else self._other(cosine_id, "cosine", near.cosine[token_id]),
            "nearest_by_distance": (
                None if distance_id < 0 else self._other(distance_id, "distance", near.distance[token_id])
            ),
        }

    def _other(self, token_id: int, name: str, value: float) -> dict[str, Any]:
        return {"token_id": token_id, "token": self.tokens[token_id], name: float(value)}

    def columns(self) -> dict[str, list[Any]]:
        """Every token as columns of a table, a row each."""
        near, vocab = self.neighbours, len(self.tokens)
        return {
            "token_id": list(range(vocab)),
            "token": list(self.tokens),
            "bytes": list(self.spellings),
            "kind": list(self.kinds),
            "count": self.counts.tolist(),
            "surprisal": self.surprisal.tolist(),
            "residual": self.residual.tolist(),
            "untrained_distance": self.untrained.tolist(),
            "reach": [self.reach.verdict(each) for each in range(vocab)],
            "proof": [self.reach.proof(each) for each in range(vocab)],
            "cosine_token_id": near.by_cosine.tolist(),
            "cosine": near.cosine.tolist(),
            "distance_token_id": near.by_distance.tolist(),
            "distance": near.distance.tolist(),
        }

    def to_dict(self, top: int = 20, lists: Sequence[str] | None = None) -> dict[str, Any]:
        """The JSON document of `tpe atlas`: the first `top` tokens of every list, or of those that are named."""
        cleaned: dict[str, Any] = nulled(
            {
                "schema": 1,
                "model": self.model,
                "revision": self.revision,
                "text": self.text,
                "positions": self.positions,
                "vocab_rows": len(self.tokens),
                "edited": self.edited,
                "hidden": {"region": self.reach.region, "about": REGIONS[self.reach.region]},
                "untrained_reference": self.reference,
                "reach": self.reach.counts,
                "reach_unedited": None if self.unedited is None else self.unedited.counts,
                "lost": [self.entry(each) for each in self.lost[:top].tolist()],
                "lists": {
                    name: {"about": SECTIONS[name].about, "total": total, "tokens": [*map(self.entry, ids.tolist())]}
                    for name in (lists or SECTIONS)
                    for ids, total in (SECTIONS[name].first(self, top),)
                },
            }
        )
        return cleaned


def token_atlas(analysis: Analysis, edit: ResolvedEdit | None = None, *, region: Region = "any") -> Steps[TokenAtlas]:
    """Make the token atlas of an analysed model: a job.

    Args:
        analysis: The model on its text.
        edit: An edit of its head (`LiveSession.resolved`), for reach and neighbours; none where None.
        region: Which hidden states count for what is reachable: see `tpe_core.atlas.region.REGIONS`.

    Returns:
        A job; `run` drives it to a `TokenAtlas`.

    Example:
        >>> atlas = tpe.run(tpe.token_atlas(analysis))  # doctest: +SKIP
        >>> atlas.entry(int(atlas.reach.of("unreachable")[0]))["token"]  # doctest: +SKIP
    """
    model, head, edited = analysis.model, analysis.model.head, edit is not None and not edit.is_empty
    hidden = analysis.detection.sample.hidden
    unedited = None
    if edited:
        unedited = yield from reachability(head_rows(head), region, hidden)
    rows = head_rows(head, edit)
    reach = yield from reachability(rows, region, hidden[:, rows.kept])
    neighbours = yield from nearest_rows(rows)
    low = analysis.undertrained
    spelled = [text_bytes(*pair) for pair in spellings_and_texts(model.tokenizer, head.vocab_rows)]
    return TokenAtlas(
        model=model.name,
        revision=model.revision,
        text=analysis.text,
        positions=analysis.detection.positions,
        tokens=analysis.tokens,
        spellings=["" if data is None else data.hex(" ") for data in spelled],
        kinds=token_kinds(model.tokenizer, head.vocab_rows),
        counts=low.counts,
        surprisal=low.surprisal,
        residual=low.residual,
        untrained=low.distance,
        reference=low.untrained.reference,
        edited=edited,
        reach=reach,
        unedited=unedited,
        neighbours=neighbours,
    )
