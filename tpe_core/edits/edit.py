"""An intervention with the arrays that applying it needs, independent of the session that made it.

`Intervention` says what is edited; what a pruned dimension becomes and where a steered row moves were measured
on one model's text. A `ResolvedEdit` holds those arrays: files, hooks, checkpoints and generation all apply this one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tpe_core.edits.intervention import Intervention
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.errors import TpeError

__all__ = ["ResolvedEdit"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ResolvedEdit:
    """``z = W h' + b + shift(h')`` before any cap, in units of the final logits (`tpe_core.models.head.OutputHead`).

    h' is h with the dimensions S replaced: ``h'_S = fold h_K + constant``, K the kept ones (``zero`` and ``mean`` have
    no fold). S are the removed dimensions, under ``refit`` all of them (`written`). A steered token's row moves by
    ``rows[token_id]``, so its logit gains ``rows[w] . h'``; ``bias`` adds ``biases[token_id]`` to it instead. Both
    float64 whatever the model's dtype. `EditStatistics.resolve` and `LiveSession.resolved` make one.

    Example:
        >>> edit = live.resolved(tpe.Intervention((3, 14), "mean"))
        >>> edit.removed, edit.constant.shape
        ((3, 14), (2,))
    """

    intervention: Intervention
    hidden_size: int
    constant: Floats  # [s]
    fold: Floats | None = None  # [s, k], under least-squares and refit
    rows: dict[int, Floats] = field(default_factory=dict)  # token id -> [d] log(ratio) * direction
    biases: dict[int, float] = field(default_factory=dict)  # token id -> log(ratio)

    def __post_init__(self) -> None:
        written, kept = len(self.written), self.hidden_size - len(self.removed)
        self.intervention.check_fits(self.hidden_size, 1 << 31)
        shapes: list[tuple[str, Floats, tuple[int, ...]]] = [("constant", self.constant, (written,))]
        shapes += [("fold", self.fold, (written, kept))] if self.fold is not None else []
        shapes += [(f"row {token_id}", row, (self.hidden_size,)) for token_id, row in self.rows.items()]
        for name, array, shape in shapes:
            if array.shape != shape:
                raise TpeError(
                    f"an edit's {name} has the shape {array.shape}, not {shape}: build it with EditStatistics.resolve."
                )
        steered = {entry.token_id for entry in self.intervention.steering}
        if steered != self.rows.keys() | self.biases.keys():
            raise TpeError(
                "an edit's rows and biases are not those of its steered tokens: build it with EditStatistics.resolve."
            )

    @property
    def removed(self) -> tuple[int, ...]:
        """The pruned dimensions in ascending order."""
        return self.intervention.pruned

    @property
    def written(self) -> tuple[int, ...]:
        """S, the dimensions of h' that are not those of h: the removed ones, and under ``refit`` the kept ones too."""
        whole = REPLACEMENTS[self.intervention.replacement].is_fitted and self.removed
        return tuple(range(self.hidden_size)) if whole else self.removed

    @property
    def kept(self) -> tuple[int, ...]:
        """K, the dimensions that are not pruned, in ascending order."""
        gone = set(self.removed)
        return tuple(dim for dim in range(self.hidden_size) if dim not in gone)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is edited."""
        return self.intervention.is_empty
