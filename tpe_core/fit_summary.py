"""The fit as a front end shows it: every figure about it as plain values, and the table of tokens as a CSV file.

No torch, and nothing is computed here that the analysis does not say.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tpe_core.errors import TpeError
from tpe_core.lazy import Deferred
from tpe_core.outputs import beginning, check_output, shown_path
from tpe_core.snapshots import EncodingTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tpe_core.analysis import Analysis
    from tpe_core.encoding.stability import Stability

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
else:
    np = Deferred("numpy")

__all__ = ["TOKEN_COLUMNS", "FitSummary", "check_tokens_file", "token_columns", "token_ranks", "write_tokens"]

NAMED = 6  # tokens of each kind that a summary names
TOKEN_COLUMNS = ("rank", "token", "id", "alpha", "surprisal", "predicted", "residual", "log_p")
"""The columns of the table of tokens, as its file names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSummary:
    """What `tpe analyze` says about the fit; natural logarithms throughout."""

    r2: float
    r2_adjusted: float
    r2_heldout_vocab: float
    r2_permuted: float
    r2_by_k: Mapping[int, float]
    f_statistic: float
    f_p: float
    rank: int
    degrees_of_freedom: int
    intercept: float
    condition_number: float
    cosine_to_mean_hidden: float
    jensen_correlation: float
    dimensions_90: int  # dimensions that 90 % of R2 takes
    gini: float
    participation_ratio: float
    common_drift: float
    stability: Stability | None
    rows: int  # tokens in use
    rows_excluded: int
    positions: int
    reference: str  # what the untrained rows are
    nearest: tuple[tuple[str, float], ...]  # (token, cosine distance to the untrained rows), nearest first
    worst_fitted: tuple[tuple[str, float], ...]  # (token, residual), largest first

    @classmethod
    def of(cls, analysis: Analysis) -> FitSummary:
        """The figures of an analysis; those that cost time are computed where nobody asked for them before."""
        fit, near, tokens = analysis.encoding, analysis.undertrained, analysis.tokens
        return cls(
            r2=fit.r2,
            r2_adjusted=fit.r2_adjusted,
            r2_heldout_vocab=fit.r2_heldout_vocab,
            r2_permuted=fit.r2_permuted,
            r2_by_k=fit.r2_by_k(),
            f_statistic=fit.f_statistic,
            f_p=fit.f_p,
            rank=fit.rank,
            degrees_of_freedom=fit.degrees_of_freedom,
            intercept=fit.intercept,
            condition_number=fit.condition_number,
            cosine_to_mean_hidden=fit.cosine_to_mean_hidden,
            jensen_correlation=fit.jensen_correlation,
            dimensions_90=fit.dimensions_for(0.9),
            gini=fit.gini,
            participation_ratio=fit.participation_ratio,
            common_drift=analysis.geometry.common_drift,
            stability=analysis.stability,
            rows=analysis.model.head.vocab_rows,
            rows_excluded=analysis.rows_excluded,
            positions=analysis.detection.positions,
            reference=near.untrained.reference,
            nearest=tuple((tokens[i], float(near.distance[i])) for i in near.nearest[:NAMED].tolist()),
            worst_fitted=tuple((tokens[i], float(near.residual[i])) for i in near.worst_fitted[:NAMED].tolist()),
        )


def token_ranks(table: EncodingTable) -> Ints:
    """[V] 1 for the token of largest alpha, ties by id."""
    ranks: Ints = np.empty(len(table.surprisal), dtype=np.int64)
    ranks[np.argsort(table.surprisal, kind="stable")] = np.arange(1, len(table.surprisal) + 1)
    return ranks


def token_columns(table: EncodingTable, log_p: Floats | None = None) -> dict[str, Floats]:
    """The numeric columns of `TOKEN_COLUMNS`, [V] each; `log_p` [V] is that of the prompt, NaN where there is none."""
    size = len(table.surprisal)
    return {
        "rank": token_ranks(table).astype(float),
        "id": np.arange(size, dtype=float),
        "alpha": np.exp(-table.surprisal),
        "surprisal": table.surprisal,
        "predicted": table.predicted,
        "residual": table.surprisal - table.predicted,
        "log_p": np.full(size, np.nan) if log_p is None else log_p,
    }


def check_tokens_file(path: Path, *, replace: bool) -> None:
    """Refuse a place for the table of tokens, as `check_output` does: only an earlier table is replaced."""
    if path.suffix.lower() != ".csv":
        raise TpeError(f"{shown_path(path)} does not end in .csv: the table of tokens is written as CSV.")
    check_output(path, "a table of tokens", _is_table, replace=replace)


def _is_table(path: Path) -> bool:
    return beginning(path).startswith(",".join(TOKEN_COLUMNS))


def write_tokens(path: Path, table: EncodingTable, log_p: Floats | None = None, *, replace: bool = True) -> Path:
    """Write the table of tokens as CSV, most probable first, atomically; the path written.

    A figure that does not exist is an empty cell. Raises `ExistsError` where an earlier table is not to be replaced,
    `TpeError` where the disk does not take it.
    """
    from tpe_core.store import write_file

    check_tokens_file(path, replace=replace)
    try:
        write_file(path, list(_csv_parts(table, log_p)))
    except OSError as error:
        raise TpeError(f"{shown_path(path)} could not be written ({error.strerror}): choose another place.") from error
    return path


def _csv_parts(table: EncodingTable, log_p: Floats | None) -> Iterator[bytes]:
    columns = token_columns(table, log_p)
    figures = {name: columns[name].tolist() for name in TOKEN_COLUMNS if name != "token"}
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(TOKEN_COLUMNS)
    for token_id in np.argsort(columns["rank"], kind="stable").tolist():
        cells: list[object] = []
        for name in TOKEN_COLUMNS:
            value = table.tokens[token_id] if name == "token" else figures[name][token_id]
            if name in ("rank", "id"):
                value = int(value)
            cells.append("" if isinstance(value, float) and value != value else value)  # noqa: PLR0124 - NaN
        writer.writerow(cells)
    yield stream.getvalue().encode("utf-8", "backslashreplace")
