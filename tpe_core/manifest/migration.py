"""Migration of older intervention documents to the current schema: one step for each earlier schema.

Steps only add what a later schema has beside; what an older file never said stays null, and nothing is measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tpe_core.manifest.schema import SCHEMA

__all__ = ["OLDEST", "migrated"]

Document = Mapping[str, Any]

OLDEST = 1


def _from_1(document: Document) -> dict[str, Any]:
    """Schema 2 also has what chose the edit, what it costs on texts, and a self-test."""
    raised = {"made_by": None, "self_test": None, **document}
    if isinstance(measured := document.get("measured"), dict):
        raised["measured"] = {"texts": [], **measured}
    return raised


STEPS: dict[int, Callable[[Document], dict[str, Any]]] = {1: _from_1}


def migrated(document: Document, schema: int) -> dict[str, Any]:
    """A document of `schema` as one of `SCHEMA`, unchecked. Raises KeyError where there is no such schema."""
    raised = dict(document)
    for version in range(schema, SCHEMA):
        raised = {**STEPS[version](raised), "schema": version + 1}
    return raised
