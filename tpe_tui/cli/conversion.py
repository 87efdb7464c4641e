"""Only what was given on the command line, and is not text already, is converted.

Typer 0.29 has pydantic convert every option of a command, given or not: importing pydantic and making some thirty
converters takes a fifth of a second, and the inspector's first frame waits for that. Text and plain numbers, most of
what is given, need no pydantic; whatever else there is, and all that is wrong, is typer's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

__all__ = ["LeanCommand", "convert_when_needed"]

SCALARS = (bool, int, float, Path)
NUMBERS = {int: re.compile(r"-?[0-9]{1,15}"), float: re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")}


class LeanCommand(TyperCommand):
    """A command that converts what was given."""

    def get_params(self, ctx: Any) -> list[Any]:
        """All parameters, those that typer adds as well."""
        return convert_when_needed(super().get_params(ctx))


def convert_when_needed(parameters: Iterable[Any]) -> list[Any]:
    """The parameters, which make a converter when there is something to convert; an older typer's make none at all."""
    parameters = list(parameters)
    for parameter in parameters:
        make = getattr(parameter, "get_runtime_param", None)
        if make is not None and not isinstance(make, _Conversion):
            parameter.get_runtime_param = _Conversion(make)
    return parameters


@dataclass(frozen=True)
class _Conversion:
    make: Callable[[], Any]

    def __call__(self) -> _Conversion:
        return self

    def coerce(self, value: Any, *, param: Any, ctx: Any) -> Any:
        """Typer's hook: the value of a parameter, converted and checked."""
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        declared = param.type_descriptor
        if declared.parameter_info.parser is None:
            if not several and isinstance(value, SCALARS):  # a default: what a command line gives is text
                return value
            if several and declared.annotation == list[str] and all(isinstance(each, str) for each in value):
                return list(value)
            plain = _plain(value, declared) if not several and isinstance(value, str) else None
            if plain is not None:
                return plain
        return self.make().coerce(value, param=param, ctx=ctx)


def _plain(text: str, declared: Any) -> str | int | float | None:
    """The value of a text that any converter would read in the same way; None where there may be more to it."""
    wanted, info = declared.annotation, declared.parameter_info
    if wanted is str:
        return text
    if wanted not in NUMBERS or not NUMBERS[wanted].fullmatch(text):
        return None
    number: int | float = wanted(text)
    is_within = (info.min is None or number >= info.min) and (info.max is None or number <= info.max)
    return number if is_within else None
