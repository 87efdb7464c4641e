"""What pruning orders are made from; `tpe_core.pruning.saliency.gather_evidence` gathers it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tpe_core.errors import TpeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tpe_core.analysis import Analysis
    from tpe_core.pruning.fisher import Fisher

    Floats = NDArray[np.float64]
    Dims = NDArray[np.int64]

__all__ = ["Evidence"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What an order is made from; `fisher`, `surgery` and `refitted` are None where no order asked for needs them."""

    analysis: Analysis
    fisher: Fisher | None = None
    surgery: Dims | None = None  # [d] the order of `fisher-obs`
    refitted: Dims | None = None  # [d] that of `fisher-refit`
    replacement: str = "zero"  # what the removed dimensions will be replaced by
    seed: int = 0
    draw: int = 0  # of an order that is drawn at random

    @property
    def gates(self) -> Floats:
        """[d, d] M of the replacement, nats. Raises `TpeError` where the Fisher information was not gathered."""
        return self.gathered(self.fisher).gates(self.replacement)

    def gathered(self, value: T | None) -> T:
        """A field that an order needs. Raises `TpeError` where it was not gathered."""
        if value is None:
            raise TpeError("this order needs the Fisher information: gather the evidence for it first.")
        return value
