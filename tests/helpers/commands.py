"""The commands of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tpe_tui.cli import main as cli


def commands() -> Iterator[tuple[str, Any]]:
    """(name, callback) of everything on the command line."""
    for command in cli.COMMANDS.values():
        yield command.name, command.function
