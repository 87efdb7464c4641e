"""From an edit in a session to its manifest: what it was made on, what it costs where that was measured, its arrays.

Nothing is measured here: figures come from the sweep, search or study that already has them.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.manifest.schema import (
    DOMAIN_NAMES,
    Achieved,
    AchievedBySet,
    EditArrays,
    MadeOn,
    Manifest,
    Measured,
    MeasuredText,
    PostRecord,
    SelfTest,
    SteeredSet,
    SteeredToken,
)

if TYPE_CHECKING:
    from tpe_core.analysis import Analysis
    from tpe_core.edits.basis import EditStatistics
    from tpe_core.edits.intervention import Intervention
    from tpe_core.pruning.results import Cost, PruningResult
    from tpe_core.snapshots import NextTokens
    from tpe_core.steering.results import SteeringResult, TextsRead

__all__ = ["arrays_of", "costs_on_texts", "manifest_of", "steered_on_texts", "swept_on_texts"]

Texts = tuple[MeasuredText, ...]


def manifest_of(
    analysis: Analysis,
    shown: NextTokens,
    texts: Texts,
    self_test: SelfTest | None,
    made_by: str,
) -> Manifest:
    """The manifest of the edit that `shown` shows the effect of, after its prompt; `texts` are what it costs there."""
    head, edit = analysis.model.head, shown.intervention
    return Manifest(
        pruned=edit.pruned,
        replacement=edit.replacement,
        steering=tuple(
            SteeredToken(
                token_id=entry.token_id, token=analysis.tokens[entry.token_id], ratio=entry.ratio, method=entry.method
            )
            for entry in edit.singles
        ),
        sets=tuple(
            SteeredSet(
                name=each.label,
                definition=each.definition,
                token_ids=each.token_ids,
                ratio=edit.how(each).ratio,
                method=edit.how(each).method,
            )
            for each in edit.sets
        ),
        made_on=MadeOn(
            model=analysis.model.name,
            revision=analysis.model.revision,
            head_sha256=head.sha256,
            vocab_rows=head.vocab_rows,
            hidden_size=head.hidden_size,
            tokenizer_sha256=analysis.tokenizer_sha256,
            post=PostRecord(kind=head.post.kind, scale=head.post.scale, cap=head.post.cap),
            tied=head.tied,
            file_sha256=None if analysis.model.gguf is None else analysis.model.gguf.sha256,
        ),
        made_by=made_by,
        measured=Measured(
            text=analysis.text,
            corpus_fingerprint=analysis.corpus_fingerprint,
            positions=analysis.detection.positions,
            prompt=shown.prompt,
            kl=_finite(shown.kl),
            js=_finite(shown.js),
            texts=texts,
        ),
        self_test=self_test,
        versions=_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def arrays_of(edit: Intervention, basis: EditStatistics) -> dict[str, NDArray[np.float64]]:
    """What applying an edit needs beside its manifest, by the names of `Manifest.needed_arrays`."""
    values, fold = None, None
    replacement = REPLACEMENTS[edit.replacement]
    if edit.pruned and replacement.rebuilds:
        rebuilt = basis.reconstruction(edit.pruned, edit.replacement)
        values, fold = rebuilt.constant, rebuilt.fold
    elif edit.pruned and replacement.is_measured and (fill := basis.fill(edit.replacement)) is not None:
        values = fill[list(edit.pruned)]
    methods = dict.fromkeys(entry.method for entry in edit.steering)
    directions = {method: basis.direction(method, edit.pruned) for method in methods}
    measured = {method: direction for method, direction in directions.items() if direction is not None}
    return EditArrays(values, fold, measured).named()


def costs_on_texts(
    texts: Mapping[str, str], positions: Mapping[str, int], costs: Mapping[str, Cost], base: Mapping[str, Cost]
) -> Texts:
    """A mask's costs and the unedited head's own, all by domain."""
    return tuple(
        MeasuredText(
            domain=domain,
            text=texts[domain],
            positions=positions[domain],
            kl=_finite(costs[domain].kl),
            js=_finite(costs[domain].js),
            top1=costs[domain].top1,
            perplexity=_finite(costs[domain].perplexity),
            entropy=_finite(costs[domain].entropy),
            base_perplexity=_finite(base[domain].perplexity),
            base_entropy=_finite(base[domain].entropy),
        )
        for domain in DOMAIN_NAMES
        if domain in costs
    )


def swept_on_texts(swept: PruningResult | None, edit: Intervention) -> Texts:
    """What the sweep of an inspector measured of exactly this mask; nothing where it did not, or not to its end."""
    if swept is None or not swept.complete or edit.steering or edit.origin or not edit.pruned:
        return ()
    count = len(edit.pruned)
    for curve in swept.curves:
        if curve.replace != edit.replacement or count not in curve.removed or curve.removed[0] != 0:
            continue
        if set(curve.dims[:count]) != set(edit.pruned):
            continue
        points = (curve.removed.index(count), 0)
        costs, base = ({name: curve.costs(name, at)[0] for name in curve.figures} for at in points)
        return costs_on_texts(swept.texts, curve.positions, costs, base)
    return ()


def steered_on_texts(read: TextsRead, results: Sequence[SteeringResult]) -> Texts:
    """What a study measured of one edit on the texts that it read: a result for each token that it steers."""
    edit = results[0]
    return tuple(
        MeasuredText(
            domain=domain,
            text=read.texts[domain],
            positions=read.positions[domain],
            kl=_finite(edit.kl[domain]),
            js=_finite(edit.js[domain]),
            achieved=tuple(
                Achieved(token_id=one.token_id, ratio=_finite(one.achieved[domain]))
                for one in results
                if one.token_id is not None
            ),
            achieved_by_set=tuple(
                AchievedBySet(name=one.token_set.label, ratio=_finite(one.achieved[domain]))
                for one in results
                if one.token_set is not None
            ),
        )
        for domain in DOMAIN_NAMES
        if domain in read.positions
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _versions() -> dict[str, str]:
    packages = {"tpe": "tpe-tui", "torch": "torch", "transformers": "transformers"}
    installed = {name: importlib.metadata.version(package) for name, package in packages.items()}
    return {**installed, "python": platform.python_version()}
