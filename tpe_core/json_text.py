"""Strict JSON: NaN and infinity, which JSON does not have, are written as null or refused.

And as strangers write it: whatever is wrong with a text is a `ValueError`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["json_text", "nulled", "parse_json"]


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


def parse_json(text: str | bytes, *, finite: bool = True) -> Any:
    """What a JSON text holds. Raises `ValueError`, also for nesting too deep and, if `finite`, for NaN and infinity."""
    refuse: dict[str, Any] = {"parse_constant": _refuse, "parse_float": _finite} if finite else {}
    try:
        return json.loads(text, **refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number that JSON has")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is too large")
    return value
