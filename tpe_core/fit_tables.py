"""An analysis as tables, one for each figure that is drawn of it: tokens, components, slopes, the best dimensions.

The figures are those of `EncodingTable`; no torch, and nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tpe_core.lazy import Deferred
from tpe_core.snapshots import EncodingTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tpe_core.tables import Table
else:
    np = Deferred("numpy")

__all__ = ["components_table", "fit_table", "pca_table", "r2_by_k_table", "slopes_table"]


def _by_rank(encoding: EncodingTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(Token ids, most probable first; their ranks from 1), ties by id."""
    ids: NDArray[np.int64] = np.argsort(encoding.surprisal, kind="stable")
    return ids, np.arange(1, len(ids) + 1)


def fit_table(encoding: EncodingTable) -> Table:
    """Every token in use, most probable first: alpha and the law's prediction of its -log, nats.

    A token that the model never predicts has no finite -log alpha, and no prediction.
    """
    from tpe_core.tables import Table

    ids, rank = _by_rank(encoding)
    surprisal, predicted = encoding.surprisal[ids], encoding.predicted[ids]
    return Table({
        "token_id": ids,
        "token": [encoding.tokens[index] for index in ids.tolist()],
        "rank": rank,
        "alpha": np.exp(-surprisal),
        "minus_log_alpha": surprisal,
        "predicted": predicted,
        "residual": surprisal - predicted,
    })  # fmt: skip


def pca_table(encoding: EncodingTable) -> Table:
    """Every fitted token's scores on the first two components of W; `percentile` is 0 for the most probable token."""
    from tpe_core.tables import Table

    ids, rank = _by_rank(encoding)
    fitted = np.isfinite(encoding.pc_scores[ids]).all(1)
    percentile = encoding.rank_percentile()
    ids, rank = ids[fitted], rank[fitted]
    return Table({
        "token_id": ids,
        "token": [encoding.tokens[index] for index in ids.tolist()],
        "rank": rank,
        "percentile": percentile[ids],
        "pc1": encoding.pc_scores[ids, 0].astype(np.float64),
        "pc2": encoding.pc_scores[ids, 1].astype(np.float64),
    })  # fmt: skip


def slopes_table(encoding: EncodingTable) -> Table:
    """Every dimension, largest |slope| first: slopes in nats per unit of weight, `slope_std` in nats."""
    from tpe_core.tables import Table

    dims = np.argsort(-np.abs(encoding.slope), kind="stable")
    return Table({
        "dim": dims,
        "rank": np.arange(1, len(dims) + 1),
        "slope": encoding.slope[dims],
        "std_error": encoding.stderr[dims],
        "slope_std": encoding.slope_std[dims],
        "r": encoding.r[dims],
        "mean_hidden": encoding.mean_hidden[dims],
    })  # fmt: skip


def components_table(encoding: EncodingTable) -> Table:
    """Every principal component of W, largest variance first.

    Scores of different components are uncorrelated, so R2 of the first ones together is the sum of their squared
    correlations.
    """
    from tpe_core.tables import Table

    correlations = encoding.pc_correlation
    return Table({
        "component": np.arange(1, len(correlations) + 1),
        "explained_variance": encoding.explained,
        "correlation": correlations,
        "r2_cumulative": np.cumsum(correlations**2),
    })  # fmt: skip


def r2_by_k_table(r2_by_k: Mapping[int, float]) -> Table:
    """R2 of the k dimensions with the largest |slope| sd(W)."""
    from tpe_core.tables import Table

    return Table({"k": list(r2_by_k), "r2": list(r2_by_k.values())})
