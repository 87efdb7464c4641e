"""Tokens that a file lists: words or ``#ids``, one a line; or ids and words of a JSON list, or ids of a ``.npy``."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tpe_core.errors import TpeError
from tpe_core.json_text import parse_json
from tpe_core.outputs import shown_path

__all__ = ["listed_tokens"]

LARGEST = 64 * 2**20  # bytes of a list


def listed_tokens(place: str, by_text: Mapping[str, Sequence[int]], rows: int) -> tuple[list[int], list[str]]:
    """(ids, words that are no single token) of a file.

    A word names the tokens that add exactly it to a text, alone or after a space. A JSON object has its ids under
    ``token_ids``, as a file of `tpe vocabulary` does. Raises `TpeError` where it cannot be read or names an id that is
    not there.
    """
    path = Path(place).expanduser()
    try:
        if path.stat().st_size > LARGEST:
            raise TpeError(f"{shown_path(path)} is larger than {LARGEST >> 20} MiB: give a list of words or ids.")
        data = path.read_bytes()
    except OSError as error:
        raise TpeError(
            f"{shown_path(path)} cannot be read ({error.strerror or error}): name a file of words or #ids, one a line."
        ) from error
    entries = _entries(path, data)
    ids: set[int] = set()
    unknown: list[str] = []
    for entry in entries:
        if isinstance(entry, int):
            if not 0 <= entry < rows:
                raise TpeError(
                    f"{shown_path(path)} names token id {entry}, but this model's go from 0 to {rows - 1}: "
                    "give a list that was made for its vocabulary."
                )
            ids.add(entry)
            continue
        found = [*by_text.get(entry, ()), *by_text.get(f" {entry}", ())]
        ids.update(found)
        if not found:
            unknown.append(entry)
    return sorted(ids), unknown


def _entries(path: Path, data: bytes) -> list[int | str]:
    if path.suffix == ".npy":
        return _array(path, data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TpeError(f"{shown_path(path)} is not UTF-8 text: save the list as UTF-8, or as .npy or JSON.") from error
    if path.suffix == ".json":
        return _json(path, text)
    lines = [line.rstrip("\r") for line in text.split("\n")]
    return [int(line[1:]) if _is_id(line) else line for line in lines if line.strip()]


def _is_id(line: str) -> bool:
    return line.startswith("#") and line[1:].isascii() and line[1:].isdigit()


def _array(path: Path, data: bytes) -> list[int | str]:
    try:
        ids: Any = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise TpeError(
            f"{shown_path(path)} is no array that NumPy reads ({error}): give ids of whole numbers."
        ) from error
    if not isinstance(ids, np.ndarray) or ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise TpeError(f"{shown_path(path)} is no list of whole numbers: give an array of ids with one axis.")
    return [int(each) for each in ids]


def _json(path: Path, text: str) -> list[int | str]:
    try:
        document = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise TpeError(f"{shown_path(path)} is no JSON ({error}): give a list of ids and words.") from error
    entries = document.get("token_ids") if isinstance(document, dict) else document
    if not isinstance(entries, list) or not all(type(each) in {int, str} for each in entries):
        raise TpeError(f"{shown_path(path)} holds no list of ids and words: give one, or an object with token_ids.")
    return list(entries)
