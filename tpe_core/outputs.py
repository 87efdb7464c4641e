"""The rule for files written under a name the user gave: a file is replaced only if asked, and by its own kind only.

An existing file of the kind that is written is replaced where the caller says so; a file of another kind never is.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tpe_core.errors import ExistsError, TpeError

__all__ = ["HEAD_BYTES", "INTERVENTION", "beginning", "check_intervention", "check_output", "shown_path"]

INTERVENTION = "tpe.intervention"
"""What an intervention's file says that it is."""

HEAD_BYTES = 65_536
"""Of a file, enough to know its kind by."""


def check_output(
    path: Path, what: str, is_kind: Callable[[Path], bool], *, replace: bool, folder_is_made: bool = False
) -> None:
    """Refuse a place that nothing should be written to, in one sentence that names it.

    `what` is what is written ("an intervention"); `is_kind` says of an existing regular file whether it is one. Raises
    `ExistsError` where one is there and `replace` is False, `TpeError` where anything else is there, or where the
    folder is missing (unless `folder_is_made` by the writer) or cannot be written to.
    """
    shown = shown_path(path)
    try:
        status: os.stat_result | None = path.stat()
    except FileNotFoundError:
        status = None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TpeError(f"{what} cannot be written to {shown} ({reason}): choose another place.") from None
    folder = path.parent
    if status is None and folder_is_made and not os.path.lexists(folder):
        return
    if status is None and not folder.is_dir():
        missing = "is no folder" if os.path.lexists(folder) else "does not exist"
        raise TpeError(
            f"{what} cannot be written to {shown}: the folder {shown_path(folder)} {missing}; make it first."
        )
    if status is not None and stat.S_ISDIR(status.st_mode):
        raise TpeError(f"{shown} is a folder: choose a file name in it.")
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise TpeError(f"{shown} is no regular file: {what} cannot be written there; choose another name.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise TpeError(f"{what} cannot be written to {shown}: you may not write in {shown_path(folder)}.")
    if status is None:
        return
    try:
        alike = status.st_size == 0 or is_kind(path)
    except OSError as error:
        raise TpeError(f"{shown} exists and cannot be read ({error.strerror}): choose another name.") from None
    if not alike:
        raise TpeError(f"{shown} exists and is not {what}: it is left as it is; choose another name.")
    if not replace:
        raise ExistsError(f"{shown} exists: choose another name, or say that it is to be replaced.", path)


def check_intervention(path: Path, *, replace: bool) -> None:
    """`check_output` for an intervention."""
    check_output(path, "an intervention", _is_intervention, replace=replace)


def _is_intervention(path: Path) -> bool:
    """Whether a file says of itself, near its beginning, that it is an intervention."""
    text = beginning(path)
    return text.startswith("{") and re.search(rf'"kind"\s*:\s*"{re.escape(INTERVENTION)}"', text) is not None


def beginning(path: Path) -> str:
    """The first characters of a file, to know its kind by. Raises OSError."""
    with path.open("rb") as stream:
        return stream.read(HEAD_BYTES).decode("utf-8", "replace").lstrip("\ufeff \t\r\n")


def shown_path(path: Path) -> str:
    """Where a file lies, for a sentence: the whole path, with ``~`` for the user's own folder."""
    whole = Path(os.path.abspath(path))  # not resolved: the name that the user gave, links and all
    with suppress(RuntimeError, ValueError):
        return f"~{os.sep}{whole.relative_to(Path.home())}"
    return str(whole)
