"""The folder of a report: which one may be written to, and its files, each there completely or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tpe_core.errors import ExistsError, TpeError
from tpe_core.json_text import json_text, nulled, parse_json
from tpe_core.outputs import shown_path
from tpe_core.store import write_file

__all__ = [
    "FIGURES",
    "KIND",
    "PAGE",
    "RECORD",
    "FolderError",
    "begin",
    "check_folder",
    "remove_others",
    "write_into",
    "write_record",
]


class FolderError(TpeError):
    """The disk did not take a file of a report; nothing half-written is left."""


KIND = "tpe.report"
"""What a report's record says that it is."""

PAGE, RECORD, FIGURES = "index.html", "report.json", "figures"
OWN = re.compile(r"[a-z0-9_]{1,60}\.(png|svg|csv)")


def check_folder(folder: Path, *, replace: bool) -> None:
    """Refuse a folder that no report should be written to, in one sentence that names it.

    One that is missing or empty is taken, and one with a report that was begun and not finished, which goes on. Raises
    `ExistsError` where a finished report is there and `replace` is False, `TpeError` where anything else is there or
    the folder cannot be written to.
    """
    shown = shown_path(folder)
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        _check_parent(folder)
        return
    except NotADirectoryError:
        raise TpeError(f"{shown} is no folder: a report is a folder; choose another name.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TpeError(f"a report cannot be written to {shown} ({reason}): choose another folder.") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise TpeError(f"a report cannot be written to {shown}: you may not write there; choose another folder.")
    if not names:
        return
    record = _record(folder)
    if record is None:
        raise TpeError(f"{shown} is not empty and holds no report: it is left as it is; choose another folder.")
    if record.get("complete") is not False and not replace:
        raise ExistsError(f"{shown} holds a report: choose another folder, or say that it is to be replaced.", folder)


def _check_parent(folder: Path) -> None:
    """Refuse a folder that could not be made, by the nearest one above it that there is."""
    above = Path(os.path.abspath(folder)).parent
    while not os.path.lexists(above) and above != above.parent:
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        reason = "you may not write there" if above.is_dir() else "it is no folder"
        raise TpeError(f"a report cannot be written to {shown_path(folder)}: {shown_path(above)}: {reason}.")


def _record(folder: Path) -> dict[str, Any] | None:
    """What the record of a report says; None where there is none."""
    with suppress(OSError, ValueError):
        record = parse_json((folder / RECORD).read_bytes())
        if isinstance(record, dict) and record.get("kind") == KIND:
            return record
    return None


def begin(folder: Path, model: str) -> None:
    """Make the folder, and say in it that a report is begun. Raises `TpeError` where that cannot be written."""
    try:
        (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot(folder, error) from None
    write_record(folder, {"kind": KIND, "schema": 1, "complete": False, "model": model})


def write_into(folder: Path, name: str, content: bytes | str) -> None:
    """Write one file of a report. Raises `TpeError` where the disk does not take it."""
    data = content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")
    path = folder / name
    try:
        write_file(path, [data])
    except OSError as error:
        raise _cannot(path, error) from None


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write the record of a report."""
    write_into(folder, RECORD, json_text(nulled(record), 1) + "\n")


def remove_others(folder: Path, names: Iterable[str]) -> None:
    """Remove figures that an earlier report left and this one has not; only what has a figure's name."""
    kept = set(names)
    with suppress(OSError):
        for path in (folder / FIGURES).iterdir():
            if OWN.fullmatch(path.name) and f"{FIGURES}/{path.name}" not in kept and not path.is_symlink():
                path.unlink()


def _cannot(path: Path, error: OSError) -> FolderError:
    return FolderError(
        f"{shown_path(path)} cannot be written ({error.strerror or error}): make room or choose another folder, and "
        f"run it "
        "again; what was measured is kept."
    )
