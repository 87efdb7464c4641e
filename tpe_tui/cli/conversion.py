"""Only what was given on the command line, and is not text already, is converted.

Typer 0.29 has pydantic convert every option of a command, given or not: importing pydantic and making some thirty
converters takes a fifth of a second, and the inspector's first frame waits for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

__all__ = ["LeanCommand", "convert_when_needed"]

SCALARS = (bool, int, float, Path)


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
        if not several and declared.parameter_info.parser is None:
            if isinstance(value, SCALARS):  # a default: what a command line gives is text
                return value
            if declared.annotation is str and isinstance(value, str):
                return value
        return self.make().coerce(value, param=param, ctx=ctx)
