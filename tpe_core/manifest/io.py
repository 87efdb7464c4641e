"""Bytes of an intervention's files, to and from a disk: written together or not at all, read with a limit.

What the bytes mean is `manifest`'s business; every failure is one sentence.
"""

from __future__ import annotations

import json
import os
import stat
import textwrap
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tpe_core.errors import ManifestError
from tpe_core.printable import fit, printable_token
from tpe_core.store import stage

__all__ = ["brief", "format_document", "parse_document", "read_bytes", "write_all"]

LINE = 100  # characters: what takes more is broken over several lines


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write every file under a temporary name, then rename them in order; a failure puts back those renamed before."""
    staged: dict[Path, Path] = {}
    backups: dict[Path, Path] = {}
    renamed: list[Path] = []
    try:
        for target, data in files.items():
            staged[target] = stage(target, [data])
        for target in list(files)[:-1]:
            if target.exists():
                backups[target] = stage(target, [target.read_bytes()])
        for target, temporary in staged.items():
            os.replace(temporary, target)
            renamed.append(target)
    except BaseException:
        for target in renamed:
            with suppress(OSError):
                backups[target].replace(target) if target in backups else target.unlink()
        raise
    finally:
        for leftover in (*staged.values(), *backups.values()):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)


def read_bytes(path: Path, what: str, most: int) -> bytes:
    """A regular file of at most `most` bytes. Raises `ManifestError`."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ManifestError(f"{path} is a folder: name the file of {what} in it.")
        if not stat.S_ISREG(status.st_mode):
            raise ManifestError(f"{path} is not a regular file: copy {what} to one first.")
        if status.st_size > most:
            raise ManifestError(f"{path} is too large for {what} ({status.st_size} bytes, at most {most}).")
        with path.open("rb") as stream:
            return stream.read(most + 1)[:most]  # never more than that, even of a file that grows
    except FileNotFoundError:
        raise ManifestError(f"{what} at {path} does not exist: check the path.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ManifestError(f"{what} at {path} cannot be read ({reason}): check its permissions.") from error


def parse_document(path: Path, data: bytes) -> dict[str, Any]:
    """The JSON object in `data`, in which no name occurs twice. Raises `ManifestError`, naming `path`."""
    try:
        document = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        what = error.msg.removesuffix(" at")  # some of json's own messages end so
        raise ManifestError(f"{path} is not JSON ({what} at line {error.lineno}, column {error.colno}).") from None
    except (ValueError, RecursionError) as error:
        reason = fit(printable_token(str(error)[:200]), 100)
        raise ManifestError(f"{path} is not JSON that can be read ({reason}).") from None
    if not isinstance(document, dict):
        raise ManifestError(f"{path} is no intervention: it holds {brief(document)} where an object is expected.")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise ValueError(f"the field {next(name for name in counts if counts[name] > 1)!r} occurs twice")
    return record


def brief(value: object) -> str:
    """A value as JSON, short enough for a sentence and safe for a terminal."""
    try:
        return fit(printable_token(json.dumps(value, ensure_ascii=False, default=str)[:200]), 40)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__}"


def format_document(document: Mapping[str, Any]) -> bytes:
    """A document as JSON that people read and compare line by line: what fits in a line is one, nothing is invisible.

    Raises ValueError for NaN and infinity.
    """
    text = _written(document, "")
    shown = "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)
    return f"{shown}\n".encode()


def _written(value: Any, indent: str) -> str:
    """JSON of a value that stands at `indent`."""
    if not isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    inner = f"{indent}  "
    parts = list(value.values() if isinstance(value, Mapping) else value)
    if not any(isinstance(part, Mapping | list) for part in parts):
        flat = json.dumps(value, ensure_ascii=False, allow_nan=False)
        if len(indent) + len(flat) <= LINE:
            return flat
        if isinstance(value, list) and all(isinstance(part, int | float) for part in parts):
            return f"[\n{textwrap.fill(flat[1:-1], LINE, initial_indent=inner, subsequent_indent=inner)}\n{indent}]"
    written = [_written(part, inner) for part in parts]
    if isinstance(value, Mapping):
        named = [f"{json.dumps(name, ensure_ascii=False)}: {part}" for name, part in zip(value, written, strict=True)]
        return "{\n" + ",\n".join(inner + entry for entry in named) + f"\n{indent}}}"
    return "[\n" + ",\n".join(inner + part for part in written) + f"\n{indent}]"
