"""What an experiment of continued training came to: figures by step of every run, and their bands over seeds.

Plain values without torch, which are written to one JSON document and read from it again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tpe_core.continued_training.options import UNEDITED
from tpe_core.json_text import nulled
from tpe_core.shown import Shown

if TYPE_CHECKING:
    from tpe_core.tables import Table

__all__ = ["LEVEL", "UNCLEAR", "Band", "ContinuedTraining", "Key", "MaskFigures", "RunRecord", "StepFigures"]

LEVEL = 0.95
"""Of the t intervals over seeds."""

UNCLEAR = "not told apart"
"""The verdict on a kept mask that is neither clearly better nor clearly worse than random ones."""

Key = tuple[str, str, str, int]
"""Scenario, mask, variant and seed of a run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskFigures:
    """A mask on a run's bare head, on held-out text. What a mask without pruned dimensions has not is None.

    `overlap` is its share among as many dimensions of the smallest \\|slope\\| now; a random mask's is that share of d.
    `spread` is the root mean square of sd(h_i) sd(W_:i) over its dimensions relative to the other dimensions',
    `column_spread` that of sd(W_:i) alone: 0 where a dimension does nothing, 1 where it does as much as the others.
    """

    cost_kl: float  # KL(without || with the mask), nats
    cost_loss: float  # loss with the mask minus without, nats a token
    own_kl: float | None = None  # KL of the mask of its size that the slopes choose now
    overlap: float | None = None
    spread: float | None = None
    column_spread: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StepFigures:
    """A run at one step, as its model acts: with the edit in force where it is kept.

    `gap` is the loss minus the unedited run's of the same seed and step, `kl` the mean KL(unedited run || this run);
    both by text and in nats a token. `slope_cosine` compares the slopes with those at step 0. `steered` holds mean
    probabilities of steered tokens as multiples of the unedited run's.
    """

    step: int
    training_loss: float | None = None  # mean since the figures before, nats a token
    loss: Mapping[str, float]
    gap: Mapping[str, float] = field(default_factory=dict)
    kl: Mapping[str, float] = field(default_factory=dict)
    r2: float
    r2_adjusted: float
    r2_heldout_vocab: float
    gini: float
    participation_ratio: float
    slope_cosine: float
    steered: Mapping[str, float] = field(default_factory=dict)
    masks: Mapping[str, MaskFigures] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> StepFigures:
        """From `to_dict`. Raises `KeyError` or `TypeError` where it is broken."""
        masks = {name: MaskFigures(**each) for name, each in values["masks"].items()}
        return StepFigures(**{**values, "masks": masks})

    def flat(self, mask: str) -> dict[str, float]:
        """Every figure by its name in tables, those of one mask among them."""
        named: dict[str, float | None] = {"training_loss": self.training_loss}
        for name in ("loss", "gap", "kl", "steered"):
            named |= {f"{name}.{key}": value for key, value in getattr(self, name).items()}
        for name in ("r2", "r2_adjusted", "r2_heldout_vocab", "gini", "participation_ratio", "slope_cosine"):
            named[name] = getattr(self, name)
        if (judged := self.masks.get(mask)) is not None:
            named |= asdict(judged)
        return {name: value for name, value in named.items() if value is not None and math.isfinite(value)}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """One run: what was trained, its figures so far, and why it ended early where it did.

    The unedited run serves every mask, so its `mask` is empty.
    """

    scenario: str
    mask: str
    variant: str
    seed: int
    points: tuple[StepFigures, ...] = ()
    stopped: str = ""  # a sentence; empty where it did not end early
    note: str = ""
    seconds: float = 0.0  # of training, measuring left out

    @property
    def key(self) -> Key:
        """What tells it from the other runs of its experiment."""
        return self.scenario, self.mask, self.variant, self.seed

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> RunRecord:
        """From `to_dict`. Raises `KeyError` or `TypeError` where it is broken."""
        return RunRecord(**{**values, "points": tuple(StepFigures.from_dict(each) for each in values["points"])})


@dataclass(frozen=True, slots=True)
class Band:
    """A figure over seeds: its mean and the t interval of `LEVEL` around it, which one seed does not have."""

    mean: float
    low: float | None
    high: float | None
    seeds: int

    @staticmethod
    def of(values: Iterable[float]) -> Band | None:
        """The band of one value a seed; None where there is none."""
        numbers = [float(value) for value in values]
        if not numbers:
            return None
        mean = math.fsum(numbers) / len(numbers)
        if len(numbers) == 1:
            return Band(mean, None, None, 1)
        from scipy.special import stdtrit

        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in numbers) / (len(numbers) - 1))
        half = float(stdtrit(len(numbers) - 1, 0.5 + LEVEL / 2)) * spread / math.sqrt(len(numbers))
        return Band(mean, mean - half, mean + half, len(numbers))


@dataclass(frozen=True, kw_only=True)
class ContinuedTraining(Shown):
    """All runs of an experiment, finished or under way.

    Example:
        >>> result = tpe.ContinuedTraining(model="demo", settings={}, runs=())
        >>> result.to_dict()["bands"]
        []
    """

    model: str
    settings: Mapping[str, Any]  # what was asked for
    runs: tuple[RunRecord, ...]
    planned: int = 0  # runs, done or not
    plan: tuple[Key, ...] = ()  # those runs, in the order in which they are trained
    warnings: tuple[str, ...] = ()

    @property
    def stopped(self) -> tuple[RunRecord, ...]:
        """The runs that ended early."""
        return tuple(run for run in self.runs if run.stopped)

    def _tables(self) -> Mapping[str, Callable[[], Table]]:
        return {"continued_training": self._bands_table, "runs": self._runs_table}

    def _subject(self) -> str:
        return self.model

    def _summary(self) -> Mapping[str, object]:
        return {"runs": len(self.runs), "planned": self.planned, "ended early": len(self.stopped)}

    def _bands_table(self) -> Table:
        from tpe_core.tables import Table

        return Table.of(self.bands())

    def _runs_table(self) -> Table:
        from tpe_core.tables import Table

        return Table.of(
            {"scenario": run.scenario, "mask": run.mask, "variant": run.variant, "seed": run.seed, "step": point.step,
             **point.flat(run.mask)}
            for run in self.runs for point in run.points
        )  # fmt: skip

    def _groups(self) -> Iterator[tuple[str, str, str, list[RunRecord]]]:
        """(scenario, mask, variant, its runs); the unedited run under every mask, which it serves."""
        masks = list(dict.fromkeys(run.mask for run in self.runs if run.mask))
        for scenario in dict.fromkeys(run.scenario for run in self.runs):
            here = [run for run in self.runs if run.scenario == scenario]
            for mask in masks:
                for variant in dict.fromkeys(run.variant for run in here):
                    wanted = "" if variant == UNEDITED else mask
                    if group := [run for run in here if run.variant == variant and run.mask == wanted]:
                        yield scenario, mask, variant, group

    def bands(self) -> list[dict[str, Any]]:
        """A record for each scenario, mask, variant, step and figure: the mean over seeds and its interval."""
        records = []
        for scenario, mask, variant, group in self._groups():
            steps = sorted({point.step for run in group for point in run.points})
            for step in steps:
                flat = [point.flat(mask) for run in group for point in run.points if point.step == step]
                for figure in dict.fromkeys(name for each in flat for name in each):
                    band = Band.of(each[figure] for each in flat if figure in each)
                    assert band is not None  # noqa: S101 - the figure was in one of them
                    key = {"scenario": scenario, "mask": mask, "variant": variant, "step": step, "figure": figure}
                    records.append({**key, **asdict(band)})
        return records

    def contrasts(self) -> list[dict[str, Any]]:
        """The kept mask against a random one of its size: differences at the last common step, paired by seed.

        A difference whose interval holds 0 tells nothing; below 0 the mask does less harm than a random one.
        """
        records = []
        for scenario, mask, variant, group in self._groups():
            if variant != "kept":
                continue
            drawn = {
                run.seed: run
                for run in self.runs
                if (run.scenario, run.mask, run.variant) == (scenario, mask, "random") and run.points
            }
            pairs = [(run.points[-1], drawn[run.seed].points[-1]) for run in group if run.points and run.seed in drawn]
            pairs = [(ours, theirs) for ours, theirs in pairs if ours.step == theirs.step]
            for figure in ("gap.heldout", "kl.heldout"):
                values = [
                    ours.flat(mask)[figure] - theirs.flat(mask)[figure]
                    for ours, theirs in pairs
                    if figure in ours.flat(mask) and figure in theirs.flat(mask)
                ]
                if (band := Band.of(values)) is not None:
                    records.append(
                        {"scenario": scenario, "mask": mask, "figure": figure, "step": pairs[0][0].step, **asdict(band),
                         "verdict": _verdict(band)}
                    )  # fmt: skip
        return records

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `tpe train-on`; ``level`` is that of the t intervals over seeds."""
        document = {
            "schema": 1,
            "model": self.model,
            "settings": dict(self.settings),
            "planned": self.planned,
            "level": LEVEL,
            "bands": self.bands(),
            "against_random": self.contrasts(),
            "runs": [run.to_dict() for run in self.runs],
            "warnings": list(self.warnings),
        }
        cleaned: dict[str, Any] = nulled(document)
        return cleaned


def _verdict(band: Band) -> str:
    if band.low is None or band.high is None:
        return "one seed"
    if band.low > 0:
        return "worse than random"
    return "better than random" if band.high < 0 else UNCLEAR
