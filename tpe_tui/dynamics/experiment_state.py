"""What the page of an experiment shows: its runs, their figures over seeds, and how they are looked at.

No widgets and no engine: the page reads this, keys change it, what is read of the folder feeds it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tpe_core.continued_training.folder import RunState, Stamp, read_experiment, run_states, stamp
from tpe_core.continued_training.options import UNEDITED, VARIANTS
from tpe_core.continued_training.results import Band, ContinuedTraining, Key, RunRecord
from tpe_core.errors import TpeError

__all__ = [
    "MARKS",
    "ExperimentRead",
    "ExperimentState",
    "Measure",
    "Row",
    "check_folder",
    "measure_of",
    "read_folder",
]

Group = tuple[str, str, str]
"""Scenario, mask and variant."""

Row = Group | Key
"""A row of the table: a variant over seeds, or one of its runs."""

MARKS = {"kept": ("●", "curve0"), "free": ("▲", "curve2"), "random": ("■", "curve3"), UNEDITED: ("◇", "curve4")}
"""(mark, role) of a variant's curve; a variant beyond these has a cross."""

DOMAINS = {"heldout": "held-out text", "ood": "another domain", "instructions": "chats"}
KINDS = {"gap": "gap to unedited", "kl": "KL to unedited", "loss": "loss"}
NAMED = {
    "training_loss": "training loss", "r2_adjusted": "adjusted R²", "r2": "R²", "r2_heldout_vocab": "held-out R²",
    "gini": "Gini of slopes", "participation_ratio": "participation ratio", "slope_cosine": "cosine with the start",
    "cost_kl": "KL that the mask costs", "cost_loss": "loss that the mask costs", "own_kl": "KL of the mask of now",
    "overlap": "mask chosen again", "spread": "spread of the mask's dims", "column_spread": "spread of their columns",
}  # fmt: skip
SHARES = frozenset({"r2_adjusted", "r2", "r2_heldout_vocab", "gini", "slope_cosine", "overlap"})
NATS = frozenset({"training_loss", "cost_kl", "cost_loss", "own_kl"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A figure by its name in tables: what it is called, in few cells too, and whether it is on an axis from 0 to 1."""

    key: str
    label: str
    short: str
    unit: str = ""
    is_share: bool = False


def measure_of(key: str) -> Measure:
    """The measure of a name of `StepFigures.flat`."""
    kind, _, part = key.partition(".")
    if kind in KINDS:
        text, name = DOMAINS.get(part, part), "KL" if kind == "kl" else kind
        return Measure(key=key, label=f"{KINDS[kind]}, {text}", short=f"{name}, {text}", unit="nats")
    if kind == "steered":
        return Measure(key=key, label=f"token {part}, times the unedited run's", short=f"token {part}, times")
    name = NAMED.get(key, key)
    return Measure(key=key, label=name, short=name, unit="nats" if key in NATS else "", is_share=key in SHARES)


def _order(key: str) -> tuple[int, int, str]:
    """The gap, the divergence and the loss first, held-out text before others; then in the order of `NAMED`."""
    kind, _, part = key.partition(".")
    if kind in KINDS:
        return [*DOMAINS].index(part) if part in DOMAINS else len(DOMAINS), [*KINDS].index(kind), part
    if kind == "steered":
        return 100, 0, part
    return 50, [*NAMED].index(key) if key in NAMED else len(NAMED), key


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentRead:
    """What is read of a folder: the runs, the bands of every figure over seeds by step, and when it was written."""

    stamp: Stamp
    result: ContinuedTraining
    states: Mapping[Key, RunState]
    bands: Mapping[Group, Mapping[str, Mapping[int, Band]]]

    @property
    def written(self) -> float | None:
        """When a run last wrote something, in seconds since 1970; None where none did."""
        times = [each[0] for each in self.stamp[1:] if each is not None]
        return max(times) / 1e9 if times else None


def read_folder(folder: Path, known: Stamp | None) -> ExperimentRead | None:
    """What a folder holds by now; None where nothing was written since `known`. Raises `TpeError` where it is none."""
    now = stamp(folder)
    if now == known:
        return None
    result = read_experiment(folder)
    bands: dict[Group, dict[str, dict[int, Band]]] = {}
    for record in result.bands():
        group = record["scenario"], record["mask"], record["variant"]
        band = Band(record["mean"], record["low"], record["high"], record["seeds"])
        bands.setdefault(group, {}).setdefault(record["figure"], {})[record["step"]] = band
    return ExperimentRead(stamp=now, result=result, states=run_states(result), bands=bands)


@dataclass(kw_only=True)
class ExperimentState:
    """One folder, the scenario, mask and figure that are looked at, and two cursors: over rows and over steps."""

    folder: Path | None = None
    read: ExperimentRead | None = None
    problem: str = ""  # why it cannot be read, a sentence
    scenario: str = ""
    mask: str = ""
    figure: str = "gap.heldout"
    row: Row | None = None  # under the cursor
    hidden: frozenset[str] = frozenset()  # variants
    step: int | None = None  # under the cursor; None: the last one, whichever that is
    log: bool = False

    # what there is

    def open(self, folder: Path) -> None:
        """Another folder: nothing of the one before is shown."""
        self.folder, self.read, self.problem, self.row, self.step = folder, None, "", None, None
        self.scenario = self.mask = ""
        self.hidden = frozenset()

    def take(self, read: ExperimentRead) -> None:
        """What the folder holds by now."""
        is_first = self.read is None
        self.read, self.problem = read, ""
        if self.scenario not in self.scenarios or self.mask not in self.masks:
            self.scenario = self.scenarios[0] if self.scenarios else ""
            self.mask = self.masks[0] if self.masks else ""
        if is_first:
            self.go_to_running()
        if is_first or self.row not in self.rows:
            self.row = next(iter(self.rows), None)
        if self.figure not in self.figures and self.figures and not self.figure.startswith(("gap.", "kl.")):
            self.figure = self.figures[0]

    @property
    def plan(self) -> tuple[Key, ...]:
        """Every run that is planned."""
        return () if self.read is None else self.read.result.plan

    @property
    def scenarios(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(dict.fromkeys(scenario for scenario, *_ in self.plan))

    @property
    def masks(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(dict.fromkeys(mask for _, mask, *_ in self.plan if mask))

    @property
    def variants(self) -> tuple[str, ...]:
        """Those of the scenario and mask; the unedited one, which serves every mask, last."""
        here = {variant for scenario, mask, variant, _ in self.plan if scenario == self.scenario and mask == self.mask}
        return tuple(name for name in (*VARIANTS, *sorted(here - set(VARIANTS)), UNEDITED) if name in {*here, UNEDITED})

    def runs_of(self, variant: str) -> tuple[Key, ...]:
        """The planned runs of a variant in the scenario, with the mask."""
        mask = "" if variant == UNEDITED else self.mask
        return tuple(key for key in self.plan if key[:3] == (self.scenario, mask, variant))

    @property
    def rows(self) -> tuple[Row, ...]:
        """The table's: every variant with its runs below it."""
        rows: list[Row] = []
        for variant in self.variants:
            rows += [self.group(variant), *self.runs_of(variant)]
        return tuple(rows)

    def group(self, variant: str) -> Group:
        """The key of a variant's bands."""
        return self.scenario, self.mask, variant

    def run(self, key: Key) -> RunRecord | None:
        """A run as far as it got; None where nothing of it is saved."""
        runs = () if self.read is None else self.read.result.runs
        return next((run for run in runs if run.key == key), None)

    def state_of(self, key: Key) -> RunState:
        """How far a run is."""
        return "waiting" if self.read is None else self.read.states.get(key, "waiting")

    @property
    def last_step(self) -> int:
        """The step at which every run ends."""
        return 0 if self.read is None else int(self.read.result.settings.get("steps", 0))

    @property
    def figures(self) -> tuple[str, ...]:
        """The names of everything measured in the scenario with the mask, in the order of the keys that choose."""
        bands = {} if self.read is None else self.read.bands
        names = {name for variant in self.variants for name in bands.get(self.group(variant), {})}
        return tuple(sorted(names, key=_order))

    @property
    def measure(self) -> Measure:
        """The one that is drawn."""
        return measure_of(self.figure)

    @property
    def beside(self) -> str:
        """The figure of a second plot: the divergence beside all others, the gap beside the divergence."""
        return "gap.heldout" if self.figure == "kl.heldout" else "kl.heldout"

    def curve(self, variant: str, figure: str) -> Mapping[int, Band]:
        """A variant's bands by step."""
        return {} if self.read is None else self.read.bands.get(self.group(variant), {}).get(figure, {})

    @property
    def steps(self) -> tuple[int, ...]:
        """Every step at which a drawn variant was measured."""
        runs = [self.run(key) for variant in self.variants for key in self.runs_of(variant)]
        return tuple(sorted({point.step for run in runs if run is not None for point in run.points}))

    @property
    def at(self) -> int | None:
        """The step under the cursor; None where there is none."""
        steps = self.steps
        if not steps or self.step is None:
            return steps[-1] if steps else None
        return min(steps, key=lambda step: abs(step - (self.step or 0)))

    def band_at(self, variant: str, figure: str) -> tuple[Band | None, bool]:
        """(The band at the cursor's step or the latest before it, whether it is of that very step)."""
        curve, at = self.curve(variant, figure), self.at
        before = [step for step in curve if at is not None and step <= at]
        return (curve[max(before)], max(before) == at) if before else (None, False)

    def value_at(self, key: Key, figure: str) -> tuple[float, bool]:
        """(A run's figure at the cursor's step or the latest before it, whether it is of that step); NaN for none."""
        run, at = self.run(key), self.at
        points = [point for point in (run.points if run is not None else ()) if at is not None and point.step <= at]
        if not points:
            return math.nan, False
        return points[-1].flat(self.mask).get(figure, math.nan), points[-1].step == at

    # what keys do

    def move_row(self, rows: int) -> None:
        """Another row; the ends are the ends."""
        there = self.rows
        if there:
            at = there.index(self.row) if self.row in there else 0
            self.row = there[max(0, min(at + rows, len(there) - 1))]

    @property
    def variant(self) -> str:
        """That of the row under the cursor."""
        return "" if self.row is None else self.row[2]

    def move(self, steps: int) -> None:
        """Move the cursor over the steps; at the last one it stays with the last one."""
        grid, at = self.steps, self.at
        if at is not None:
            index = max(0, min(grid.index(at) + steps, len(grid) - 1))
            self.step = None if index == len(grid) - 1 else grid[index]

    def go(self, step: int) -> None:
        """Put the cursor on a step, or on the one next to it."""
        self.step = step
        self.step = None if self.steps and self.at == self.steps[-1] else self.at

    def turn_scenario(self, by: int) -> None:
        """Another scenario, round and round."""
        self._look(_turned(self.scenarios, self.scenario, by), self.mask)

    def turn_mask(self, by: int) -> None:
        """Another mask, round and round."""
        self._look(self.scenario, _turned(self.masks, self.mask, by))

    def _look(self, scenario: str, mask: str) -> None:
        variant, seed = self.variant, self.row[3] if self.row is not None and len(self.row) == 4 else None
        self.scenario, self.mask = scenario, mask
        same = [row for row in self.rows if row[2] == variant and (row[3] if len(row) == 4 else None) == seed]
        self.row = same[0] if same else next(iter(self.rows), None)

    def turn_figure(self, by: int) -> None:
        """Another figure, round and round."""
        self.figure = _turned(self.figures, self.figure, by)

    def hide(self) -> bool:
        """Hide or draw the variant under the cursor; whether it is drawn now."""
        self.hidden ^= {self.variant}
        return self.variant not in self.hidden

    def go_to_running(self) -> Key | None:
        """Put the cursor on the run under way; None where every run has ended."""
        key = next((key for key in self.plan if self.state_of(key) == "running"), None)
        if key is not None:
            self.scenario, self.mask = key[0], key[1] or self.mask or (self.masks[0] if self.masks else "")
            self.row = key
        return key

    def counts(self) -> dict[RunState, int]:
        """How many runs are in each state."""
        states = [self.state_of(key) for key in self.plan]
        kinds: Sequence[RunState] = ("done", "running", "waiting", "stopped")
        return {kind: states.count(kind) for kind in kinds}


def _turned(names: Sequence[str], name: str, by: int) -> str:
    if not names:
        return name
    return names[((names.index(name) if name in names else -min(by, 0)) + by) % len(names)]


def check_folder(folder: Path) -> str | None:
    """Why a folder cannot be followed, a sentence; None where it can."""
    try:
        stamp(folder)
    except TpeError as error:
        return str(error)
    return None
