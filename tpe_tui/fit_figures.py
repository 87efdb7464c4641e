"""The figures about the fit as the texts that `tpe analyze` prints and the fit screen shows."""

from __future__ import annotations

import math
from typing import NamedTuple

from tpe_core.fit_summary import FitSummary
from tpe_tui.cells import p_value, percent

__all__ = ["Figure", "fit_figures"]


class Figure(NamedTuple):
    """One figure: its name in `tpe_tui.glossary`, and its text."""

    name: str
    text: str


def fit_figures(fit: FitSummary) -> tuple[Figure, ...]:
    """Every figure in the order of `tpe analyze`."""
    singular = not math.isfinite(fit.condition_number)
    texts = {
        "R²": f"{fit.r2:z.4f}",
        "adjusted": f"{fit.r2_adjusted:z.4f}",
        "held-out": f"{fit.r2_heldout_vocab:z.4f}",
        "permuted": f"{fit.r2_permuted:z.4f}",
        "F": f"{fit.f_statistic:z.1f}",
        "p": p_value(fit.f_p, 2),
        "intercept": f"{fit.intercept:z.3f}",
        "condition": f"infinite (rank {fit.rank})" if singular else f"{fit.condition_number:.3g}",
        "cosine": f"{fit.cosine_to_mean_hidden:z.3f}",
        "corr E[-log p]": f"{fit.jensen_correlation:z.3f}",
        "R² of k best": "  ".join(f"{k}: {value:z.3f}" for k, value in fit.r2_by_k.items()),
        "90 % of R²": f"{fit.dimensions_90}",
        "Gini": f"{fit.gini:z.3f}",
        "participation": f"{fit.participation_ratio:z.1f}",
        **_stability(fit),
        "drift": f"{fit.common_drift:z.3f}",
        "excluded": f"{fit.rows_excluded:,}",
        "untrained": "  ".join(f"{token} {distance:z.2f}" for token, distance in fit.nearest),
        "worst fitted": "  ".join(f"{token} {residual:+z.2f}" for token, residual in fit.worst_fitted),
    }
    return tuple(Figure(name, text) for name, text in texts.items())


def _stability(fit: FitSummary) -> dict[str, str]:
    found = fit.stability
    if found is None:
        return {"bottom shared": "not known", "rank corr.": "not known", "halves": "not known"}
    return {
        "bottom shared": percent(found.overlap[0.3]),
        "rank corr.": f"{found.spearman:z.2f}",
        "halves": f"{found.cosine:z.3f}",
    }
