"""What a grid came to: its runs, real models beside them, and its file. Plain values without torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpe_core.encoding_comparison import FIGURES, ComparedModel
from tpe_core.errors import TpeError
from tpe_core.json_text import parse_json
from tpe_core.outputs import shown_path
from tpe_core.shown import Shown
from tpe_core.sparsity.design import Level, Plan, resolution
from tpe_core.sparsity.effects import Effect, fit_effects
from tpe_core.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["GRID", "RESPONSES", "GridRun", "SparsityGrid", "kept_of", "read_grid", "shipped_grid"]

KIND = "tpe.sparsity"
GRID = "grid.json"
DIGITS = 6  # significant, of the numbers in a grid's file
KEPT = (
    "schema", "model", "vocab_rows", "hidden_size", "head", "positions", "loss", "encoding", "components",
    "static_bias", "outlier_dimensions", "geometry", "sparsity", "stability", "prunable", "recipe", "training",
)  # fmt: skip
RESPONSES = (
    "loss", "r2_adjusted", "r2_1", "r2_8", "dimensions_90", "gini", "participation_ratio", "participation_share",
    "prunable_share", "outlier_overlap",
)  # fmt: skip
"""The figures whose effects are fitted, by their keys in `tpe_core.encoding_comparison.FIGURES`."""

BY_KEY = {figure.key: figure for figure in FIGURES}


def kept_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a run's analysis that a grid's file holds, numbers to six digits. Raises `KeyError` where broken."""
    kept = {name: document[name] for name in KEPT if name in document}
    for name in ("encoding", "sparsity", "components", "outlier_dimensions", "training"):
        kept[name]
    rounded: dict[str, Any] = _rounded(kept)
    return rounded


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else value
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class GridRun:
    """One run: the number of its combination, its seed, its levels, and what `tpe analyze` says of its model."""

    point: int
    seed: int
    levels: Mapping[str, Level]
    document: Mapping[str, Any]

    def figures(self) -> dict[str, Any]:
        """Every figure of `tpe compare`, by key; None where the model has none."""
        return {key: figure.read(self.document) for key, figure in BY_KEY.items()}


@dataclass(frozen=True, kw_only=True)
class SparsityGrid(Shown):
    """A grid's runs and what each factor did to them; `models` are others that stand beside it.

    Example:
        >>> grid = tpe.shipped_grid()
        >>> len({run.point for run in grid.runs}) == grid.plan.runs
        True
        >>> gini = {effect.factor: effect.effect for effect in grid.effects if effect.figure == "gini"}
        >>> sorted(gini) == sorted(factor.name for factor in grid.plan.factors)
        True
    """

    plan: Plan
    runs: tuple[GridRun, ...]
    models: tuple[ComparedModel, ...] = ()
    problems: tuple[str, ...] = ()
    shipped: str = ""  # when the shipped grid was trained; empty for any other

    @cached_property
    def effects(self) -> tuple[Effect, ...]:
        """What each factor did to each figure of `RESPONSES`: see `tpe_core.sparsity.effects.fit_effects`."""
        rows = [(run.point, run.levels, run.figures()) for run in self.runs]
        return fit_effects(self.plan.factors, rows, RESPONSES)

    def beside(self, models: Sequence[ComparedModel], problems: Iterable[str] = ()) -> SparsityGrid:
        """The same grid with models beside it."""
        return replace(self, models=tuple(models), problems=tuple(problems))

    def table(self) -> Table:
        """A row for each run, then one for each model beside them."""
        return Table.of(self._rows())

    def effects_table(self) -> Table:
        """A row for each figure and factor."""
        return Table.of(effect.to_dict() for effect in self.effects)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `tpe sparsity`."""
        return {
            "kind": KIND,
            "schema": 1,
            "shipped": self.shipped or None,
            "plan": self.plan.to_dict(),
            "resolution": resolution(self.plan.runs, len(self.plan.factors)),
            "runs": self._rows(),
            "effects": [effect.to_dict() for effect in self.effects],
            "problems": list(self.problems),
        }

    def to_file(self) -> dict[str, Any]:
        """What a grid's file holds: its plan, and the analysis of every run."""
        return {
            "kind": KIND,
            "schema": 1,
            "plan": self.plan.to_dict(),
            "runs": [
                {"point": run.point, "seed": run.seed, "levels": dict(run.levels), "analysis": run.document}
                for run in self.runs
            ],
        }

    def _rows(self) -> list[dict[str, Any]]:
        empty: dict[str, Any] = {factor.name: None for factor in self.plan.factors}
        rows = [
            {
                "name": f"{run.point:02}-{run.seed}", "point": run.point, "seed": run.seed, **run.levels,
                **run.figures(), "r2_by_k": run.document["sparsity"]["r2_by_k"], **run.document["training"],
            }
            for run in self.runs
        ]  # fmt: skip
        rows += [
            {
                "name": model.name, "point": None, "seed": None, **empty,
                **{key: model.value(figure) for key, figure in BY_KEY.items()},
                "r2_by_k": model.document["sparsity"]["r2_by_k"],
            }
            for model in self.models
        ]  # fmt: skip
        return rows

    def _tables(self) -> Mapping[str, Callable[[], Table]]:
        return {"sparsity_grid": self.table, "sparsity_effects": self.effects_table}

    def _subject(self) -> str:
        return f"{len(self.runs)} runs of a grid"

    def _summary(self) -> Mapping[str, object]:
        clear = [effect for effect in self.effects if effect.is_clear]
        return {
            "runs": len(self.runs),
            "factors": ", ".join(factor.title for factor in self.plan.factors),
            **{
                f"of {BY_KEY[key].title.strip()}": ", ".join(each.factor for each in clear if each.figure == key)
                or "none"
                for key in RESPONSES
            },
        }


def read_grid(path: Path) -> SparsityGrid:
    """The grid of a file that `train_grid` wrote. Raises `TpeError` where it cannot be read or holds something else."""
    shown = shown_path(path)
    try:
        values = parse_json(path.read_bytes())
        if values["kind"] != KIND:
            raise ValueError(values["kind"])
        runs = tuple(
            GridRun(point=one["point"], seed=one["seed"], levels=one["levels"], document=one["analysis"])
            for one in values["runs"]
        )
        grid = SparsityGrid(plan=Plan.from_dict(values["plan"]), runs=runs, shipped=str(values.get("trained", "")))
        for run in runs:
            run.figures()
    except OSError as error:
        raise TpeError(f"{shown} cannot be read ({error.strerror or error}): name the grid.json of a grid.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TpeError(f"{shown} holds no grid: name the grid.json that tpe sparsity --out wrote.") from None
    return grid


def shipped_grid() -> SparsityGrid:
    """The grid that is part of this package: the analyses of its runs, without weights.

    Example:
        >>> tpe.shipped_grid().plan.seeds
        2
    """
    return read_grid(Path(__file__).with_name("shipped.json"))
