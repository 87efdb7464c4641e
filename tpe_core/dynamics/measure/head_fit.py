"""How well an output embedding encodes given token frequencies: what a training trajectory says of one checkpoint.

One function for checkpoints on disk and for a model that is training, so that both give the same figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.encoding.components import principal_components
from tpe_core.encoding.design import Design
from tpe_core.encoding.encoding import fit_encoding
from tpe_core.errors import NumericalError
from tpe_core.progress import Progress, Steps, run

__all__ = ["TOP_COMPONENTS", "TOP_DIMS", "HeadFit", "fit_head", "fit_steps", "overlap"]

TOP_DIMS = 10
TOP_COMPONENTS = 10
SMALL = 10**10  # V d^2, the products of a Gram matrix: below it one core takes less than a second

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadFit:
    """The fit of -log frequency on the rows of W; the fields of `tpe_core.dynamics.trajectory.Point` by the same names.

    Example:
        >>> frequencies = tpe.Frequencies(analysis.detection.counts, "the detecting text")
        >>> fit = tpe.fit_head(model.head.weight, frequencies.surprisal)
        >>> len(fit.top_dims), bool(fit.r2 <= 1)
        (10, True)
    """

    r2: float
    r2_adjusted: float
    r2_heldout_vocab: float  # fitted on a random half of the rows, scored on the other
    top_dims: tuple[int, ...] = ()  # the first `TOP_DIMS` by |slope|, largest first
    pc_correlations: tuple[float, ...] = ()  # Pearson, of the first `TOP_COMPONENTS` components' scores
    gini: float = 0.0  # of |slope| sd: 0 where all dimensions count alike, towards 1 where one does
    participation_ratio: float = 0.0  # of (slope sd)^2, in dimensions

    def fields(self) -> dict[str, Any]:
        """The keyword arguments of a `Point`."""
        return asdict(self)


def fit_head(weight: Tensor, surprisal: Floats, seed: int = 0) -> HeadFit:
    """Regress -log frequency [V] (nats) on the first V rows of an output embedding [V_all, d] of any float dtype.

    Least squares with intercept (Cho et al. 2025, section 5); rows beyond V are padding. `seed` draws the half of
    the rows of the held-out fit. Rows that are all the same explain nothing: R2 is 0 then. A head's bias is no part
    of it: it is exact in a model's own log probabilities (`fit_encoding` takes it as an offset), while frequencies of
    a corpus are the same for every checkpoint, whatever the bias takes over from the embedding. Raises
    `NumericalError` where W holds NaN or infinity, has fewer rows than V, or V is too small for d slopes.

    Returns:
        The fit's R2, its largest dimensions and how sparse it is.

    Example:
        >>> frequencies = tpe.Frequencies(analysis.detection.counts, "the detecting text")
        >>> tpe.fit_head(model.head.weight, frequencies.surprisal).r2 < 1
        True
    """
    with _blas().limit(limits=1) if _is_small(weight) else nullcontext():
        return run(_fit(weight, surprisal, seed))


def fit_steps(weight: Tensor, surprisal: Floats, seed: int = 0) -> Steps[HeadFit]:
    """`fit_head` as a job; a small one has no steps."""
    return fit_head(weight, surprisal, seed) if _is_small(weight) else (yield from _fit(weight, surprisal, seed))


def _is_small(weight: Tensor) -> bool:
    """Whether one core is enough: others are busy while a model trains, and waiting for them costs more than the fit.

    With two threads on two cores that also train, 15 ms of fit have been seen to take 4 seconds.
    """
    return bool(weight.numel() * weight.shape[-1] < SMALL)


@cache
def _blas() -> Any:
    """Whatever SciPy and NumPy multiply matrices with."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def _fit(weight: Tensor, surprisal: Floats, seed: int) -> Steps[HeadFit]:
    if weight.ndim != 2 or len(weight) < len(surprisal):
        raise NumericalError(
            f"frequencies of {len(surprisal):,} tokens do not fit an output embedding of shape {tuple(weight.shape)}: "
            "count with this model's tokenizer."
        )
    columns = weight.detach()[: len(surprisal)].T.contiguous()  # picking half of strided ones is slow
    design = yield from Design.made(columns, seed=seed)
    if not float(np.diag(design.gram).max()) > 0:  # a head that starts at zero
        outside = surprisal[~design.half]
        error = float(np.sum((outside - surprisal[design.half].mean()) ** 2))
        return HeadFit(
            r2=0.0, r2_adjusted=0.0, r2_heldout_vocab=1 - error / float(np.sum((outside - outside.mean()) ** 2))
        )
    yield Progress("regression", 0)
    fit = fit_encoding(design, surprisal, seed=seed)
    order = np.argsort(-np.abs(fit.slope), kind="stable")
    yield Progress("components", 0)
    components = principal_components(design, fit.r)
    return HeadFit(
        r2=fit.r2,
        r2_adjusted=fit.r2_adjusted,
        r2_heldout_vocab=fit.r2_heldout_vocab,
        top_dims=tuple(int(dim) for dim in order[:TOP_DIMS]),
        pc_correlations=tuple(float(value) for value in components.correlations[:TOP_COMPONENTS]),
        gini=fit.gini,
        participation_ratio=fit.participation_ratio,
    )


def overlap(dims: Sequence[int], last: Sequence[int]) -> float | None:
    """Share of `dims` that are among `last`; None where there are none."""
    return len(set(dims) & set(last)) / len(dims) if dims else None
