"""The shape of the output embedding: common drift, numerical rank, effective null space, lengths of its rows.

Everything is about the rows that were fitted. One pass over W, a chunk in float64 at a time; no second copy of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tpe_core.clamping import at_least
from tpe_core.detection.detection import Detection
from tpe_core.encoding.components import Components
from tpe_core.encoding.gram import rank_tolerance
from tpe_core.models.head import OutputHead

__all__ = ["Geometry", "geometry", "row_products"]

CHUNK_COLUMNS = 1024  # vocabulary rows in float64 at a time: few enough for the processor's cache
NULL_TOLERANCE = 0.1  # of the median of the singular values that are not 0: W hardly acts in directions below it

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """W's rows as a cloud of points. Singular values are those of the centred W.

    A shift of all rows changes no softmax, so only the centred W acts. Directions of h in which it hardly acts form
    the effective null space: what h has there moves no logit and acts through the final norm's length alone
    (Stolfo et al. 2024).
    """

    common_drift: float  # |mean W_w| / mean |W_w|: 1 where all rows are the same (Gao et al. 2019, Biś et al. 2021)
    rank: int  # singular values above `rank_tolerance` of the largest
    rank_tolerance: float  # what a Gram matrix in float64 resolves: sqrt(max(V, d) eps), 1e-6 at the least
    null_space: int  # singular values of 0, or below `NULL_TOLERANCE` of the median of the others
    null_space_hidden: float  # share of h's variance in the effective null space; null_space / d if h had no direction

    def to_dict(self) -> dict[str, Any]:
        """The object ``geometry`` of `tpe analyze`."""
        return {
            "common_drift": self.common_drift,
            "rank": self.rank,
            "rank_tolerance": self.rank_tolerance,
            "null_space": self.null_space,
            "null_space_tolerance": NULL_TOLERANCE,
            "null_space_hidden": self.null_space_hidden,
        }


def row_products(head: OutputHead, directions: Floats) -> tuple[Floats, Floats]:
    """(W @ directions [V, m], lengths of W's rows [V]) of the rows in use, for directions [d, m]; float64."""
    device = head.columns.device if head.columns.device.type in ("cpu", "cuda") else torch.device("cpu")
    wanted = torch.from_numpy(np.ascontiguousarray(directions.T)).to(device)
    ones = torch.ones(1, head.hidden_size, dtype=torch.float64, device=device)
    products, squares = np.empty((head.vocab_rows, len(wanted))), np.empty(head.vocab_rows)
    for first in range(0, head.vocab_rows, CHUNK_COLUMNS):
        where = slice(first, min(first + CHUNK_COLUMNS, head.vocab_rows))
        part = head.columns[:, where].to(device).double()
        products[where] = (wanted @ part).T.cpu().numpy()
        squares[where] = (ones @ part.square())[0].cpu().numpy()
    return products, np.sqrt(squares)


def geometry(lengths: Floats, mean_row: Floats, components: Components, detection: Detection) -> Geometry:
    """The geometry of fitted rows of these lengths [V], their mean row [d] and their principal components."""
    sizes = np.sqrt(components.explained_variance_ratio)  # singular values, in units of their root sum of squares
    tolerance = float(np.sqrt(rank_tolerance(len(lengths), len(sizes))))
    real = sizes > tolerance * sizes[0]
    # A median over those that are 0 too would be 0 where half of W's dimensions are, and nothing lies below that.
    null = ~real | (sizes < NULL_TOLERANCE * np.median(sizes[real]))
    basis = components.directions[:, null]
    variance = float(detection.variance_hidden.sum())
    inside = np.sum(basis * (detection.second_moment @ basis)) - np.sum((detection.mean_hidden @ basis) ** 2)
    return Geometry(
        common_drift=float(np.linalg.norm(mean_row) / lengths.mean()),
        rank=int(real.sum()),
        rank_tolerance=tolerance,
        null_space=int(null.sum()),
        null_space_hidden=at_least(0.0, float(inside)) / variance if variance else float("nan"),
    )
