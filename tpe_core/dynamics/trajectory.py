"""How a model's frequency encoding and its parameters moved during training: one point for every checkpoint.

Plain values without torch: what `tpe_core.dynamics.plan` measures, what a training probe logs, what front ends draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tpe_core.shown import Shown

if TYPE_CHECKING:
    from tpe_core.tables import Table

__all__ = ["Point", "Skipped", "Trajectory", "log_steps"]


def log_steps(last: int) -> list[int]:
    """Steps from 0 to `last`, two per doubling: where a training run is looked at when nothing else is asked."""
    steps, half_power = {0, last}, 0
    while (step := round(2 ** (half_power / 2))) < last:
        steps.add(step)
        half_power += 1
    return sorted(steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One checkpoint. What was not measured is None (a figure) or empty (a mapping).

    The fit is -log frequency on the rows of the output embedding (Cho et al. 2025, section 5). By parameter group,
    ``convergence`` is |theta_t - theta_T| / |theta_0 - theta_T| (1 at the start, 0 at the end), ``change``
    |theta_t - theta_s| / |theta_s| with s the point before, ``travel`` |theta_t - theta_0| / |theta_0|.

    Example:
        >>> tpe.Point(name="step512", step=512, r2=0.5).to_dict()["r2"]
        0.5
    """

    name: str
    step: int
    r2: float | None = None
    r2_adjusted: float | None = None
    r2_heldout_vocab: float | None = None
    top_dims: tuple[int, ...] = ()  # by |slope|, largest first
    top_overlap: float | None = None  # share of `top_dims` that are among the last point's
    pc_correlations: tuple[float, ...] = ()  # of the first principal components' scores with -log frequency
    gini: float | None = None  # of |slope| sd
    participation_ratio: float | None = None  # of (slope sd)^2, in dimensions
    convergence: Mapping[str, float] = field(default_factory=dict)
    change: Mapping[str, float] = field(default_factory=dict)
    travel: Mapping[str, float] = field(default_factory=dict)
    loss: float | None = None  # nats a token: on the text given, held out by the run, or of a Trainer since it logged
    kl_unigram: float | None = None  # KL(unigram || mean prediction), nats
    duplicate_of: str | None = None  # the name of another checkpoint, with the same weights
    suspected: bool = False  # whether it may hold weights of another step: a warning says what tells it

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, names as documented."""
        return {**asdict(self), "top_dims": list(self.top_dims), "pc_correlations": list(self.pc_correlations)}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Point:
        """From `to_dict`; what an older file lacks stays unmeasured. Raises `KeyError` or `TypeError` where broken."""
        known = {name: values[name] for name in Point.__dataclass_fields__ if name in values}
        point = Point(**known)
        return replace(point, top_dims=tuple(point.top_dims), pc_correlations=tuple(point.pc_correlations))


@dataclass(frozen=True, slots=True)
class Skipped:
    """A checkpoint that is not in the trajectory, and why: missing, unreadable, or not of this model."""

    name: str
    step: int | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory(Shown):
    """The points of one source in order of steps, what was left out, and what the frequencies were counted on.

    Example:
        >>> points = (tpe.Point(name="step0", step=0, r2=0.1), tpe.Point(name="step8", step=8, r2=0.9))
        >>> trajectory = tpe.Trajectory(source="run", frequencies="9 tokens", tokens=9, unseen=0, points=points)
        >>> trajectory.points[-1].step
        8
    """

    source: str
    frequencies: str  # which text or counts file, and the smoothing, for people
    tokens: int  # counted
    unseen: int | None  # rows of the vocabulary that never occurred; None where the record does not say
    points: tuple[Point, ...]
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()

    def _tables(self) -> Mapping[str, Callable[[], Table]]:
        return {"dynamics": self._steps_table}

    def _steps_table(self) -> Table:
        """A row for each checkpoint, then one for each of its groups of parameters, which `layer` names.

        Duplicates of another checkpoint are left out, and what may hold weights of another step.
        """
        from tpe_core.tables import Table

        single = ("r2_adjusted", "r2", "r2_heldout_vocab", "top_overlap", "gini", "participation_ratio", "loss")
        rows: list[dict[str, Any]] = []
        for point in self.points:
            if point.duplicate_of is not None or point.suspected:
                continue
            moves = {name: getattr(point, name) for name in ("convergence", "change", "travel")}
            figures = {name: getattr(point, name) for name in (*single, "kl_unigram")}
            for group in dict.fromkeys(("all", *(name for values in moves.values() for name in values))):
                row = {"source": self.source, "layer": "" if group == "all" else group, "step": point.step}
                own = figures if group == "all" else {}
                rows.append({**row, **own, **{name: values.get(group) for name, values in moves.items()}})
        return Table.of(rows)

    def _subject(self) -> str:
        return self.source

    def _summary(self) -> Mapping[str, object]:
        halfway = self.halfway()
        fitted = [point for point in self.points if point.r2_adjusted is not None]
        return {
            "checkpoints": len(self.points),
            "frequencies": self.frequencies,
            "R², adjusted, at the last": fitted[-1].r2_adjusted if fitted else None,
            "step at half of R²": halfway["encoding"],
            "step at half of the parameters' way": halfway["parameters"],
        }

    def halfway(self) -> dict[str, int | None]:
        """The first steps at which adjusted R2 passes half its last value, and all parameters are half-way (or None).

        Duplicates of another checkpoint do not count, nor what may hold weights of another step.
        """
        distinct = [point for point in self.points if point.duplicate_of is None and not point.suspected]
        fitted = [point for point in distinct if point.r2_adjusted is not None]
        half = (fitted[-1].r2_adjusted or 0.0) / 2 if fitted else 0.0
        encoding = [point.step for point in fitted if half > 0 and (point.r2_adjusted or 0.0) >= half]
        parameters = [point.step for point in distinct if point.convergence.get("all", 1.0) <= 0.5]
        return {"encoding": encoding[0] if encoding else None, "parameters": parameters[0] if parameters else None}

    def to_dict(self) -> dict[str, Any]:
        """The document of `tpe dynamics`."""
        return {
            "schema": 1,
            "source": self.source,
            "frequencies": self.frequencies,
            "tokens": self.tokens,
            "unseen": self.unseen,
            "halfway_step": self.halfway(),
            "checkpoints": [point.to_dict() for point in self.points],
            "skipped": [asdict(entry) for entry in self.skipped],
            "warnings": list(self.warnings),
        }
