"""What the dynamics screen shows: trajectories that may still grow, and how they are looked at. It outlives the screen.

No widgets and no engine: the screen reads this, keys change it, the messages of the reading job feed it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tpe_core.dynamics.trajectory import Point, Trajectory
from tpe_core.dynamics.trajectory_file import figures

__all__ = ["FAMILIES", "SHAPES", "DynamicsState", "Family", "Quantity", "Source", "Status", "quantity"]

Status = Literal["waiting", "reading", "following", "done", "failed", "cancelled"]
Mark = tuple[str, str]
"""(glyph, role)."""

SHAPES = ("●○", "▲△", "■□", "◆◇", "▼▽", "★☆")
"""Of every source: its mark for the encoding, and the hollow one for the parameters."""

ROLES = ("curve0", "curve2", "curve3", "curve4", "curve5", "curve1")

SPARE = "abcdefghijklmnpqrstuvwyzABCDEFGHIJKLMNPQRSTUVWYZ0123456789"  # no o, O, x: they look like marks


@dataclass(frozen=True, slots=True)
class Family:
    """Quantities that are measured alike. Those of one `scale` can share a plot."""

    key: str
    title: str
    scale: str
    short: str = ""  # before a group's name in the table


FAMILIES = {
    family.key: family
    for family in (
        Family("encoding", "R² of -log frequency", "share"),
        Family("convergence", "distance to the final weights", "share", "distance"),
        Family("travel", "distance from the first weights", "travel", "travel"),
        Family("change", "change since the checkpoint before", "change", "change"),
        Family("sparsity", "where the encoding lies", "share"),
        Family("text", "nats a token", "text"),
        Family("dims", "dimensions", "dims"),
    )
}

NAMED = {
    "r2_adjusted": ("adj R²", "encoding"),
    "r2": ("R²", "encoding"),
    "r2_heldout_vocab": ("held-out R²", "encoding"),
    "top_overlap": ("top dims kept", "sparsity"),
    "gini": ("Gini of slopes", "sparsity"),
    "participation_ratio": ("participation", "dims"),
    "loss": ("loss", "text"),
    "kl_unigram": ("KL of unigram", "text"),
}
MAIN = {"r2_adjusted": 0, "convergence.all": 1}
"""What has a source's own two marks."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A row of the table: what it is called, and the family that it is drawn with."""

    key: str
    label: str
    family: Family


def quantity(key: str) -> Quantity:
    """The quantity of a name of `tpe_core.dynamics.trajectory_file.figures`."""
    if key in NAMED:
        label, family = NAMED[key]
        return Quantity(key, label, FAMILIES[family])
    kind, _, group = key.partition(".")
    if kind == "pc_correlation":
        return Quantity(key, f"r of component {group}", FAMILIES["sparsity"])
    family_ = FAMILIES[kind]
    return Quantity(key, f"{family_.short} {group}", family_)


def _order(quantity: Quantity) -> tuple[object, ...]:
    """By family; in it the whole before its parts, and layer 2 before layer 10."""
    families = [*FAMILIES]
    named = [*NAMED].index(quantity.key) if quantity.key in NAMED else len(NAMED)
    group = quantity.key.partition(".")[2]
    parts = tuple((part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", group))
    return (families.index(quantity.family.key), named, group != "all", any(part[0] for part in parts), parts)


@dataclass(kw_only=True)
class Source:
    """A source by the name it was given, and how far reading it has come."""

    name: str
    trajectory: Trajectory | None = None
    status: Status = "waiting"
    problem: str = ""  # why it failed, a sentence
    budget: str = ""  # what reading it costs, where it says so before it begins
    values: tuple[dict[str, float], ...] = ()  # `figures` of every point

    @property
    def points(self) -> tuple[Point, ...]:
        """The checkpoints read so far."""
        return self.trajectory.points if self.trajectory is not None else ()

    @property
    def pending(self) -> bool:
        """Whether it is to be read yet, or read on."""
        return self.status in ("waiting", "reading", "following")

    def grow(self, trajectory: Trajectory) -> bool:
        """The trajectory so far; whether it is another one than before."""
        if trajectory == self.trajectory:
            return False
        self.trajectory, self.values = trajectory, tuple(figures(point) for point in trajectory.points)
        return True

    def index_at(self, step: int) -> int | None:
        """Which point is the latest at or before a step."""
        before = [at for at, point in enumerate(self.points) if point.step <= step]
        return before[-1] if before else None

    def halfway(self) -> dict[str, int | None]:
        """The half-way steps of what was read so far."""
        return self.trajectory.halfway() if self.trajectory is not None else {"encoding": None, "parameters": None}


@dataclass(kw_only=True)
class DynamicsState:
    """Several sources, the step under the cursor, and what is drawn. `job` is the number of the reading job."""

    sources: list[Source] = field(default_factory=list)
    selected: int = 0  # of `sources`
    row: str = "r2_adjusted"  # the quantity under the cursor
    chosen: frozenset[str] | None = None  # what is drawn; None: the two that the question is about
    hidden: frozenset[str] = frozenset()  # names of sources
    step: int | None = None  # under the cursor; None: the last one, whichever that is
    log: bool = True
    job: int | None = None
    looked: str = "encoding"  # the family of the last drawn quantity that the cursor was on
    other: str = "convergence"  # the last one that was not the encoding

    # what there is

    def short(self, source: Source) -> str:
        """A source's name without the folders that are not needed to tell it from the others."""
        parts = source.name.rstrip("/").split("/")
        others = [other.name.rstrip("/").split("/") for other in self.sources if other is not source]
        for length in range(1, len(parts)):
            if all(other[-length:] != parts[-length:] for other in others):
                return "/".join(parts[-length:])
        return source.name

    @property
    def source(self) -> Source | None:
        """The selected one."""
        return self.sources[self.selected] if self.sources else None

    @property
    def shown(self) -> list[Source]:
        """The sources that are drawn and have points."""
        return [source for source in self.sources if source.name not in self.hidden and source.points]

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Everything that any source measured, in the order of the table."""
        keys = {key for source in self.sources for values in source.values for key in values}
        return tuple(sorted(map(quantity, keys), key=_order))

    @property
    def drawn(self) -> frozenset[str]:
        """The quantities that are drawn. A run that has not ended has no final weights: then how far it has come."""
        if self.chosen is not None:
            return self.chosen
        keys = {found.key for found in self.quantities}
        parameters = "convergence.all" if "convergence.all" in keys else "travel.all"
        return frozenset({"r2_adjusted", parameters} & keys)

    @property
    def focus(self) -> str:
        """The family whose scale a single plot has."""
        return self._drawn_family(self.looked)

    @property
    def beside(self) -> str:
        """The family that is drawn beside the encoding, where two plots fit."""
        return self._drawn_family(self.other)

    def _drawn_family(self, wanted: str) -> str:
        """`wanted`, or where nothing of it is drawn the first that has something, the encoding last."""
        there = {quantity(key).family.key for key in self.drawn}
        others = [key for key in FAMILIES if key in there and key != "encoding"]
        return wanted if wanted in there or not there else (*others, "encoding")[0]

    @property
    def steps(self) -> tuple[int, ...]:
        """Every step that a drawn source has a checkpoint at."""
        return tuple(sorted({point.step for source in self.shown for point in source.points}))

    @property
    def at(self) -> int | None:
        """The step under the cursor; None where there is none."""
        steps = self.steps
        if not steps:
            return None
        if self.step is None:
            return steps[-1]
        return min(steps, key=lambda step: abs(step - (self.step or 0)))

    def value(self, source: Source, key: str) -> float:
        """A figure of the latest checkpoint at or before the cursor; NaN where it is not measured."""
        at = self.at
        index = None if at is None else source.index_at(at)
        return math.nan if index is None else source.values[index].get(key, math.nan)

    def last(self, source: Source, key: str) -> float:
        """The last measured value; NaN where there is none."""
        return next((values[key] for values in reversed(source.values) if key in values), math.nan)

    def marks(self) -> dict[tuple[str, str], Mark]:
        """The mark and role of every drawn (source, quantity): no two are alike, whatever their colour.

        Each source has a shape, full for the encoding and hollow for the parameters; anything else gets a letter of its
        own name that is still free.
        """
        marks: dict[tuple[str, str], Mark] = {}
        free = list(SPARE)
        keys = [each.key for each in self.quantities if each.key in self.drawn]
        for number, source in enumerate(self.sources):
            role = ROLES[number % len(SHAPES)]
            for key in keys:
                if key in MAIN:
                    marks[source.name, key] = (SHAPES[number % len(SHAPES)][MAIN[key]], role)
                    continue
                if not any(key in values for values in source.values):
                    continue
                if key == "travel.all" and "convergence.all" not in keys:
                    marks[source.name, key] = (SHAPES[number % len(SHAPES)][1], role)
                    continue
                word = NAMED[key][0] if key in NAMED else key.partition(".")[2].split()[-1]
                wish = next((each for each in (word[0], word[0].swapcase(), *word[1:]) if each in free), free[0])
                free.remove(wish)
                marks[source.name, key] = (wish, role)
        return marks

    # what keys do

    def move_row(self, rows: int) -> None:
        """Another quantity, round and round."""
        keys = [found.key for found in self.quantities]
        if not keys:
            return
        at = keys.index(self.row) if self.row in keys else 0
        self.pick(keys[(at + rows) % len(keys)])

    def pick(self, key: str) -> None:
        """Put the cursor on a quantity; where it is drawn, its family is what one looks at."""
        self.row = key
        self._look()

    def _look(self) -> None:
        family = quantity(self.row).family.key
        if any(quantity(key).family.key == family for key in self.drawn):
            self.looked = family
            self.other = family if family != "encoding" else self.other

    def move(self, steps: int) -> None:
        """Move the cursor over the steps; at the last one it stays with the last one."""
        grid, at = self.steps, self.at
        if at is None:
            return
        index = max(0, min(grid.index(at) + steps, len(grid) - 1))
        self.step = None if index == len(grid) - 1 else grid[index]

    def go(self, step: int) -> None:
        """Put the cursor on a step, or on the one next to it."""
        self.step = step
        self.step = None if self.steps and self.at == self.steps[-1] else self.at

    def turn(self, sources: int) -> None:
        """Another source, round and round."""
        if self.sources:
            self.selected = (self.selected + sources) % len(self.sources)

    def toggle(self) -> bool:
        """Draw the quantity under the cursor, or hide it; False where there is no mark left for it."""
        return self._choose(self.drawn ^ {self.row})

    def toggle_family(self) -> bool:
        """Draw all of the family under the cursor, or, where all of it is drawn, none; False as for `toggle`."""
        family = quantity(self.row).family
        keys = {found.key for found in self.quantities if found.family == family}
        return self._choose(self.drawn - keys if keys <= self.drawn else self.drawn | keys)

    def _choose(self, keys: frozenset[str]) -> bool:
        if len(keys - {*MAIN}) * len(self.sources) > len(SPARE):
            return False
        self.chosen = keys
        self._look()
        return True

    def hide(self) -> bool:
        """Hide or draw the selected source; whether it is drawn now."""
        if self.source is None:
            return False
        self.hidden ^= {self.source.name}
        return self.source.name not in self.hidden

    def next_halfway(self) -> str:
        """Move to the next half-way step of the selected source, cyclically; its name, empty where there is none."""
        source, at = self.source, self.at
        if source is None or at is None:
            return ""
        known = sorted((step, name) for name, step in source.halfway().items() if step is not None)
        if not known:
            return ""
        step, name = next((each for each in known if each[0] > at), known[0])
        self.step = step
        return f"{name} half-way at step {step:,}"

    # what sources there are

    def add(self, names: Iterable[str]) -> list[Source]:
        """The sources of these names, new ones waiting; one that is there already is read again. The last is selected.

        There are as many sources as shapes to tell them by: what is beyond is left out.
        """
        added = []
        for name in names:
            source = next((each for each in self.sources if each.name == name), None)
            if source is None and len(self.sources) < len(SHAPES):
                source = Source(name=name)
                self.sources.append(source)
            if source is not None:
                source.status, source.problem = "waiting", ""
                self.selected = self.sources.index(source)
                added.append(source)
        return added

    @property
    def full(self) -> bool:
        """Whether no other source fits."""
        return len(self.sources) >= len(SHAPES)

    def drop(self) -> Source | None:
        """Remove the selected source and return it."""
        source = self.source
        if source is not None:
            self.sources.remove(source)
            self.selected = max(0, min(self.selected, len(self.sources) - 1))
            self.hidden -= {source.name}
        return source

    def find(self, name: str) -> Source | None:
        """A source by name."""
        return next((source for source in self.sources if source.name == name), None)

    def trajectories(self) -> Sequence[Trajectory]:
        """What was read of all sources, hidden ones too."""
        return [source.trajectory for source in self.sources if source.trajectory is not None]
