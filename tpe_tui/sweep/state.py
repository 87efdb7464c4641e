"""What the sweep screen shows: a result that grows, and how it is looked at. It outlives the screen.

No widgets and no engine: the screen reads this, keys change it, job messages feed it.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from tpe_core.edits.replacements import REPLACEMENTS, ROTATE
from tpe_core.errors import TpeError
from tpe_core.metrics import METRICS, Metric
from tpe_core.pruning.orders import ORDERS
from tpe_core.pruning.results import PruningCurve, PruningRequest, PruningResult
from tpe_tui.cells import duration, four_decimals, number

__all__ = ["PLOTTED", "SWEEP", "SWEEP_SECONDS", "SweepState", "figure", "how_long"]

SWEEP = "pruning sweep"
"""The name of its job."""
SWEEP_SECONDS = "a sweep's time"
"""The kind of request that measures how long one should take."""


PLOTTED = tuple(metric for metric in METRICS.values() if metric.is_plotted)
"""The metrics that curves are drawn of."""


def figure(key: str, value: float) -> str:
    """A figure in at most seven cells; a dot where it is not measured yet."""
    if math.isnan(value):
        return "·"
    if key == "top1":
        return f"{100 * value:z.1f}%"
    return number(value) if key == "perplexity" else four_decimals(value)


def how_long(seconds: float | None) -> str:
    """How long a sweep should take, for people; None is not measured yet."""
    return "some time" if seconds is None else f"about {duration(max(10.0, seconds))}"


@dataclass(kw_only=True)
class SweepState:
    """The sweep of one session. `job` is the number of the running one, `ended` says why one stopped early."""

    request: PruningRequest = field(default_factory=PruningRequest)
    result: PruningResult | None = None
    outdated: bool = False  # the result is of an earlier detection
    fresh: bool = False  # the running job has brought curves
    job: int | None = None
    seconds: float | None = None  # that a run should take
    ended: str = ""
    selected: str = "slope"
    at: int = 6  # the point under the cursor: 30 % on the usual grid
    metric: Metric = PLOTTED[0]
    replacement: str = "zero"
    hidden: frozenset[str] = frozenset()
    log: bool = True
    domain: str = "heldout"  # the one that is drawn where only one fits

    @property
    def stale(self) -> bool:
        """Whether what is shown belongs to the past: another detection, or a run before the one under way."""
        return self.result is not None and (self.outdated or (self.job is not None and not self.fresh))

    @property
    def names(self) -> tuple[str, ...]:
        """The curves, in the order of the table."""
        return (*self.request.orders, ROTATE) if self.request.reference else self.request.orders

    @property
    def logarithmic(self) -> bool:
        """Whether the axis is logarithmic now."""
        return self.log and self.metric.has_log_axis

    def curve(self, name: str) -> PruningCurve | None:
        """A curve under the replacement shown, if it was begun."""
        return None if self.result is None else self.result.curve(name, self.replacement)

    def value(self, name: str, domain: str, metric: str, at: int | None = None) -> float:
        """A figure at a point (by default the cursor's), averaged over draws; NaN where it is not measured."""
        curve = self.curve(name)
        return math.nan if curve is None else float(curve.mean(domain, metric)[self.at if at is None else at])

    def spread(self, name: str, domain: str, metric: str) -> tuple[float, float, int]:
        """(least, most, draws) at the cursor; draws is 0 or 1 where there is no band."""
        curve = self.curve(name)
        values = [] if curve is None else curve.draws(domain, metric)[:, self.at].tolist()
        return (min(values), max(values), len(values)) if values else (math.nan, math.nan, 0)

    @property
    def removed(self) -> tuple[int, ...]:
        """Dimensions removed at every point."""
        return self.result.curves[0].removed if self.result is not None and self.result.curves else ()

    # what keys do

    def select(self, step: int) -> None:
        """The next or previous curve, round and round."""
        self.selected = self.names[(self.names.index(self.selected) + step) % len(self.names)]

    def move(self, points: int) -> None:
        """Move the cursor."""
        self.at = max(0, min(self.at + points, len(self.removed) - 1 if self.removed else self.at))

    def next_metric(self) -> None:
        """The next metric."""
        self.metric = PLOTTED[(PLOTTED.index(self.metric) + 1) % len(PLOTTED)]

    def next_replacement(self) -> None:
        """The next replacement."""
        names = self.request.replacements
        self.replacement = names[(names.index(self.replacement) + 1) % len(names)]

    def choose(self, orders: Collection[str]) -> tuple[str, ...]:
        """Compare these orders from now on; those that are not measured yet."""
        chosen = tuple(name for name in ORDERS if name in orders)
        self.request = replace(self.request, orders=chosen)
        self.selected = self.selected if self.selected in self.names else self.names[0]
        return tuple(name for name in chosen if self.result is None or self.curve(name) is None)

    def toggle(self) -> bool:
        """Hide or show the selected curve; whether it is drawn now."""
        self.hidden = self.hidden ^ {self.selected}
        return self.selected not in self.hidden

    def point(self) -> tuple[PruningCurve, tuple[int, ...]]:
        """The curve and the dimensions to prune at the cursor. Raises `TpeError` where no mask can say it."""
        curve = self.curve(self.selected)
        if curve is None:
            raise TpeError(f"{self.selected} is not measured with {self.replacement} yet: wait, or run the sweep.")
        if not curve.dims or not REPLACEMENTS[curve.replace].can_be_mask:
            what = f"{self.selected} removes directions and no dimensions"
            raise TpeError(f"{what}, so no mask can say it: choose another curve.")
        return curve, curve.dims[: curve.removed[self.at]]

    def said_of(self, pruned: int) -> str:
        """What pruning `pruned` dimensions as the point says costs, for people."""
        kl = figure("kl", self.value(self.selected, "heldout", "kl"))
        return f"pruned {pruned} by {self.selected}, {self.replacement}: KL {kl} held-out"

    # what jobs do

    def begin(self, job: int) -> None:
        """A job was queued; what is there stays until that one has brought something."""
        self.job, self.fresh = job, False

    def grow(self, found: object) -> bool:
        """A step, or the end, of a job; whether it brought curves."""
        if not isinstance(found, PruningResult) or not found.curves:
            return False
        self.result, self.fresh, self.outdated, self.ended = found, True, False, ""
        self.at = min(self.at, len(self.removed) - 1)
        return True

    def recall(self, result: PruningResult, outdated: bool) -> None:
        """Show curves that were measured before; `outdated` where another detection ranks the dimensions now."""
        self.choose({curve.order for curve in result.curves})
        self.result, self.outdated, self.fresh, self.ended = result, outdated, False, ""
        self.at = min(self.at, len(self.removed) - 1)

    def end(self, why: str = "") -> None:
        """The job is over: `why` where it did not finish."""
        self.job = None
        if self.fresh:
            self.ended = why
