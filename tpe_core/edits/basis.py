"""The measured numbers that edits are made of, and an intervention resolved into them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tpe_core.detection.detection import Detection
from tpe_core.edits.directions import Directions
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.intervention import Intervention, Method
from tpe_core.edits.reconstruction import Reconstruction, reconstruct
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.errors import TpeError

__all__ = ["EditStatistics"]

Floats = NDArray[np.float64]


@dataclass(kw_only=True)
class EditStatistics:
    """What edits are made of, as measured: E[h] and the reconstruction for replacements, directions for steering.

    `given` directions, `given_fills` and a `given_rebuilt` (from a manifest) take precedence over the detection's: the
    directions whatever is pruned, the reconstruction where exactly its dimensions are. A refit can only be given.

    Example:
        >>> statistics = tpe.EditStatistics.of(analysis.encoding.slope, analysis.detection)
        >>> statistics.resolve(tpe.Intervention((3, 14), "mean")).constant.shape
        (2,)
    """

    slope: Floats  # [d]
    detection: Detection
    mean_hidden: Floats  # [d]
    given: Mapping[Method, Floats] = field(default_factory=dict)
    directions: Directions | None = None  # made of the slope and the detection where None
    given_fills: Mapping[str, Floats] = field(default_factory=dict)  # [d] by replacement
    given_rebuilt: Reconstruction | None = None
    _rebuilt: Reconstruction | None = None  # the last one made
    _fills: dict[Callable[[Floats], Floats], Floats] = field(default_factory=dict)  # by what made them

    @staticmethod
    def of(slope: Floats, detection: Detection) -> EditStatistics:
        """The basis that a detection and its fitted slopes imply."""
        return EditStatistics(slope=slope, detection=detection, mean_hidden=detection.mean_hidden)

    def direction(self, method: Method, pruned: tuple[int, ...] = ()) -> Floats | None:
        """[d] v of a method under `pruned` dimensions; None for ``bias``, which adds log r to the logit itself."""
        if method in self.given:
            return self.given[method]
        if self.directions is None:
            self.directions = Directions(self.slope, self.detection)
        return self.directions.of(method, pruned)

    def fill(self, replacement: str) -> Floats | None:
        """[d] the constants that stand in for dimensions, each where it is pruned; None where no constant does."""
        if (given := self.given_fills.get(replacement)) is not None:
            return given
        fill = REPLACEMENTS[replacement].fill
        if fill is None:
            return None
        if fill not in self._fills:  # asked at every toggle
            self._fills[fill] = fill(self.mean_hidden)
        return self._fills[fill]

    def reconstruction(self, pruned: tuple[int, ...], replacement: str = "least-squares") -> Reconstruction:
        """How the `pruned` dimensions, or under ``refit`` all, are guessed from the others.

        Raises `TpeError` for a refit of dimensions that this basis was not given one of.
        """
        given, refitted = self.given_rebuilt, REPLACEMENTS[replacement].is_fitted
        if given is not None and given.removed == pruned and given.is_refit == refitted:
            return given
        if refitted:
            raise TpeError(
                f"this mask of {len(pruned)} dimensions has no refit: fit one (LiveSession.refit, or tpe prune "
                "--replace refit --save), or replace by least-squares."
            )
        if self._rebuilt is None or self._rebuilt.removed != pruned:
            self._rebuilt = reconstruct(pruned, self.detection)
        return self._rebuilt

    def resolve(self, intervention: Intervention) -> ResolvedEdit:
        """The intervention with the numbers of this basis.

        Raises `TpeError` where it names a dimension that is not there, or a refit that this basis was not given.
        """
        d, pruned = len(self.mean_hidden), intervention.pruned
        intervention.check_fits(d, 1 << 31)
        constant, fold = np.zeros(len(pruned)), None
        if pruned and REPLACEMENTS[intervention.replacement].rebuilds:
            rebuilt = self.reconstruction(pruned, intervention.replacement)
            constant, fold = rebuilt.constant, rebuilt.fold
        elif (fill := self.fill(intervention.replacement)) is not None:
            constant = fill[list(pruned)]
        rows: dict[int, Floats] = {}
        biases: dict[int, float] = {}
        alike: dict[tuple[float, Method], Floats] = {}  # tokens that are steered alike share one array
        for entry in intervention.steering:
            direction = self.direction(entry.method, pruned)
            if direction is None:
                biases[entry.token_id] = math.log(entry.ratio)
                continue
            how = entry.ratio, entry.method
            if how not in alike:
                alike[how] = math.log(entry.ratio) * direction
            rows[entry.token_id] = alike[how]
        return ResolvedEdit(
            intervention=intervention, hidden_size=d, constant=constant, fold=fold, rows=rows, biases=biases
        )

    def overridden(
        self,
        directions: Mapping[Method, Floats],
        *,
        dims: tuple[int, ...] = (),
        values: Floats | None = None,
        replacement: str = "mean",
        rebuilt: Reconstruction | None = None,
    ) -> EditStatistics:
        """This basis with directions, `values` of `dims` under a replacement, and a reconstruction from a manifest."""
        given = dict(self.given_fills)
        if values is not None and (fill := self.fill(replacement)) is not None:
            given[replacement] = fill.copy()
            given[replacement][list(dims)] = values
        return EditStatistics(
            slope=self.slope,
            detection=self.detection,
            mean_hidden=self.mean_hidden,
            given=dict(directions),
            directions=self.directions,
            given_fills=given,
            given_rebuilt=rebuilt,
        )
