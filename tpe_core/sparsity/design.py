"""Two-level designs: which combinations of the factors' levels are trained.

Training every combination of seven factors would take 128 runs. A fraction of them, chosen so that the factors stay
uncorrelated, estimates every factor's effect from all runs (Box and Hunter 1961; Plackett and Burman 1946).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpe_core.demo.recipe import Recipe
from tpe_core.errors import TpeError

__all__ = ["FACTORS", "RUNS", "Factor", "Plan", "Point", "parse_levels", "resolution", "two_level_design"]

Level = float | int | bool | str
Ints = NDArray[np.int64]

PLACKETT_BURMAN = "++-+++---+-"  # the first row of their design in 12 runs; the others are its rotations
RUNS = (8, 12, 16, 32)
"""Numbers of combinations that a design may have."""


@dataclass(frozen=True, slots=True)
class Factor:
    """One choice that the grid varies: its name in files, its title, and its two levels."""

    name: str
    title: str
    low: Level
    high: Level


FACTORS: tuple[Factor, ...] = (
    Factor("width", "width d", 32, 64),
    Factor("depth", "layers", 1, 3),
    Factor("vocabulary", "tokens V", 512, 2048),
    Factor("tied", "tied embeddings", False, True),
    Factor("norm", "norm", "LayerNorm", "RMSNorm"),
    Factor("decay", "weight decay", 0.0, 0.3),
    Factor("steps", "steps", 1000, 2000),
)
"""The factors with their levels in the shipped grid."""

ARCHITECTURE = {"LayerNorm": "stablelm", "RMSNorm": "llama"}


def two_level_design(runs: int, factors: int) -> Ints:
    """[runs, factors] of -1 and 1: an orthogonal design, each level in half of the runs.

    With 8, 16 or 32 runs the columns are those of a Hadamard matrix of Sylvester's order. Where there are at most half
    as many factors as runs, only columns whose number has an odd count of binary ones are taken: the product of two
    of those is none of them, so that no interaction of two factors is mistaken for a factor (resolution IV, Box and
    Hunter 1961). With 12 runs it is Plackett and Burman's (1946), in which a third of every such interaction is.
    Raises `TpeError` for other numbers.

    Example:
        >>> from tpe_core.sparsity.design import two_level_design
        >>> design = two_level_design(16, 7)
        >>> (design.T @ design == 16 * np.eye(7)).all()
        True
    """
    if runs not in RUNS:
        raise TpeError(f"a design has {', '.join(map(str, RUNS[:-1]))} or {RUNS[-1]} runs, not {runs}.")
    if not 1 <= factors < runs:
        raise TpeError(f"a design of {runs} runs has from 1 to {runs - 1} factors, not {factors}.")
    if runs == 12:
        row = np.array([1 if sign == "+" else -1 for sign in PLACKETT_BURMAN])
        rows = [np.roll(row, shift) for shift in range(11)]
        return np.stack([*rows, -np.ones(11, dtype=np.int64)])[:, :factors].astype(np.int64)
    from scipy.linalg import hadamard

    # First the columns that make all others by products, so that no combination comes twice; then those of odd count.
    order = sorted(range(1, runs), key=lambda number: (number.bit_count() % 2 == 0, number.bit_count() > 1, number))
    columns = order[:factors]
    return np.asarray(hadamard(runs))[:, sorted(columns)].astype(np.int64)


def resolution(runs: int, factors: int) -> str:
    """The resolution of `two_level_design` as it is written: III where interactions of two may pass for factors."""
    return "IV" if runs != 12 and factors <= runs // 2 else "III"


@dataclass(frozen=True, slots=True)
class Point:
    """One combination of levels: its number in the design, from 1, and the level of every factor by name."""

    number: int
    levels: Mapping[str, Level]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a grid trains: the factors, how many combinations of their levels, and how often each with another seed.

    `budget` is the KL in nats of the prunable share, `positions` how many positions the analyses average over,
    `documents` how many docstrings are trained on.
    """

    factors: tuple[Factor, ...] = FACTORS
    runs: int = 16
    seeds: int = 2
    budget: float = 0.1
    positions: int = 16384
    documents: int = 8000
    context: int = 64  # tokens
    batch_size: int = 4  # blocks a step

    def points(self) -> tuple[Point, ...]:
        """The combinations, in the order of the design."""
        signs = two_level_design(self.runs, len(self.factors))
        return tuple(
            Point(
                number,
                {
                    factor.name: factor.high if sign > 0 else factor.low
                    for factor, sign in zip(self.factors, row, strict=True)
                },
            )
            for number, row in enumerate(signs, 1)
        )

    def recipe(self, point: Point, seed: int) -> Recipe:
        """The recipe of one run; everything that no factor names is the same in all."""
        levels = point.levels
        width, steps = int(levels["width"]), int(levels["steps"])
        return Recipe(
            vocab_size=int(levels["vocabulary"]),
            hidden_size=width,
            n_layer=int(levels["depth"]),
            n_head=width // 16 or 1,
            context=self.context,
            batch_size=self.batch_size,
            steps=steps,
            warmup_steps=min(100, steps // 4 or 1),
            weight_decay=float(levels["decay"]),
            documents=self.documents,
            architecture=ARCHITECTURE[str(levels["norm"])],
            tied=bool(levels["tied"]),
            optimizer="adamw",
            seed=seed,
        )

    def check(self) -> None:
        """Raise `TpeError` where a level cannot be trained, or both levels of a factor are the same."""
        if self.seeds < 1:
            raise TpeError(f"a grid has at least 1 seed, not {self.seeds}.")
        for factor in self.factors:
            if factor.low == factor.high:
                raise TpeError(f"both levels of {factor.title} are {factor.low}: give two.")
            for level in (factor.low, factor.high):
                if (sentence := _refused(factor.name, level)) is not None:
                    raise TpeError(f"{factor.title} {level} cannot be trained: {sentence}.")
        two_level_design(self.runs, len(self.factors))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, names as documented."""
        return {
            "factors": {
                factor.name: {"title": factor.title, "low": factor.low, "high": factor.high} for factor in self.factors
            },
            **{name: getattr(self, name) for name in ("runs", "seeds", *TEXT_FIELDS)},
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Plan:
        """From `to_dict`. Raises `KeyError` or `TypeError` where it is broken."""
        factors = tuple(
            Factor(name, entry["title"], entry["low"], entry["high"]) for name, entry in values["factors"].items()
        )
        return Plan(factors=factors, **{name: values[name] for name in ("runs", "seeds", *TEXT_FIELDS)})


def parse_levels(texts: Iterable[str], factors: Sequence[Factor] = FACTORS) -> tuple[Factor, ...]:
    """Factors with other levels, written as ``width=32,64``. Raises `TpeError` where a text names no factor.

    Example:
        >>> from tpe_core.sparsity.design import parse_levels
        >>> parse_levels(["width=16,48"])[0].high
        48
    """
    by_name = {factor.name: factor for factor in factors}
    for text in texts:
        name, _, both = text.partition("=")
        factor, levels = by_name.get(name), both.split(",")
        if factor is None or isinstance(factor.low, bool | str):
            numbers = ", ".join(each.name for each in factors if not isinstance(each.low, bool | str))
            raise TpeError(f"{text} sets no factor's levels: write NAME=LOW,HIGH with one of {numbers}.")
        kind = float if isinstance(factor.low, float) else int
        try:
            low, high = map(kind, levels)
        except ValueError:
            raise TpeError(f"{text} has no two levels: write them as {name}={factor.low},{factor.high}.") from None
        by_name[name] = replace(factor, low=low, high=high)
    return tuple(by_name.values())


TEXT_FIELDS = ("budget", "positions", "documents", "context", "batch_size")


def _refused(name: str, level: Level) -> str | None:
    """Why a level of a factor is no size of a network or of a training."""
    if name == "width" and not (isinstance(level, int) and level >= 4 and level % (2 * (level // 16 or 1)) == 0):
        return "it must be even, and a multiple of 16 from 32 on"
    if name in {"depth", "steps"} and not (isinstance(level, int) and level >= 1):
        return "it must be a whole number from 1 on"
    if name == "vocabulary" and not (isinstance(level, int) and 257 <= level <= 65536):
        return "it must be from 257 (all bytes and the end of a text) to 65,536"
    if name == "decay" and not (isinstance(level, float | int) and 0 <= level < 100):
        return "it must be a number from 0 to 100"
    return None
