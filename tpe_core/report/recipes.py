"""How the parts of a report are measured, and what their numbers say in one sentence.

A recipe says nothing that is not in what it measured, so that a part that was kept reads like a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tpe_core.json_text import nulled
from tpe_core.progress import Steps
from tpe_core.registry import Registry
from tpe_core.report.material import Material
from tpe_core.tables import Table

__all__ = ["RECIPES", "Measured", "Recipe"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a part measured: its tables by name, the numbers that its sentence is made of, and a small table to read."""

    tables: Mapping[str, Table]
    facts: Mapping[str, Any] = field(default_factory=dict)
    summary: Table | None = None

    def to_record(self) -> dict[str, Any]:
        """JSON-ready; numbers that are not finite are None."""
        document: dict[str, Any] = nulled({
            "tables": {name: dict(table.columns) for name, table in self.tables.items()},
            "facts": dict(self.facts),
            "summary": None if self.summary is None else dict(self.summary.columns),
        })  # fmt: skip
        return document

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> Measured:
        """What a record holds. Raises ValueError, KeyError, TypeError or AttributeError where it is none."""
        summary = record["summary"]
        return Measured(
            tables={str(name): Table(columns) for name, columns in record["tables"].items()},
            facts=dict(record["facts"]),
            summary=None if summary is None else Table(summary),
        )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the part of that name is made."""

    name: str
    command: Callable[[Material], str]  # gives the same numbers
    measure: Callable[[Material], Steps[Measured]]
    sentence: Callable[[Measured], str]  # what holds here and what does not
    is_kept: bool = False  # whether it takes long enough to be kept in the cache


RECIPES: Registry[Recipe] = Registry("part of a report")
"""One for every part, filled by the modules that `tpe_core.report.report` imports."""
