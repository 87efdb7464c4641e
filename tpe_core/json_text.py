"""JSON as every reader takes it: NaN and infinity, which JSON does not have, are null or refused, never written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["json_text", "nulled"]


def nulled(value: Any) -> Any:
    """The same document with null for every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: nulled(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [nulled(entry) for entry in value]
    return value


def json_text(document: Any, indent: int | None = None) -> str:
    """A document's JSON. Raises `ValueError` where it holds NaN or infinity: see `nulled`."""
    return json.dumps(document, indent=indent, allow_nan=False)
