"""An intervention in the metadata of a GGUF file: its JSON as a text, and the file of its arrays in base64.

A text is one entry for every reader of the format; an array of bytes would be as many objects as it has bytes.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from tpe_core.errors import ManifestError
from tpe_core.models.gguf_header import GgufHeader, GgufProblem, read_header
from tpe_core.outputs import shown_path

__all__ = ["ARRAYS_KEY", "MANIFEST_KEY", "MOST_ARRAYS", "arrays_in_gguf", "json_in_gguf", "metadata_entries"]

MANIFEST_KEY = "tpe.manifest"
"""The key of a GGUF file's metadata under which the manifest's JSON stands."""
ARRAYS_KEY = "tpe.arrays"
"""The key under which the bytes of its arrays' file stand, in base64."""

MOST_ARRAYS = 32 * 2**20
"""Bytes of arrays that are put into a GGUF file: programs read its metadata whole."""


def metadata_entries(document: bytes, arrays: bytes) -> dict[str, str]:
    """The metadata of an intervention; without its arrays where those are more than `MOST_ARRAYS`."""
    entries = {MANIFEST_KEY: document.decode()}
    if 0 < len(arrays) <= MOST_ARRAYS:
        entries[ARRAYS_KEY] = base64.b64encode(arrays).decode("ascii")
    return entries


def json_in_gguf(path: Path) -> tuple[bytes, GgufHeader]:
    """(the manifest's JSON, the header) of a GGUF file. Raises `ManifestError` where the file holds no edit."""
    header = _header(path, MANIFEST_KEY)
    text = header.metadata.get(MANIFEST_KEY)
    if not isinstance(text, str):
        raise ManifestError(f"{shown_path(path)} holds no edit: tpe bake writes one under {MANIFEST_KEY}.")
    return text.encode(), header


def arrays_in_gguf(path: Path) -> bytes:
    """The bytes of the arrays' file in a GGUF file. Raises `ManifestError` where it holds none."""
    text = _header(path, ARRAYS_KEY).metadata.get(ARRAYS_KEY)
    if not isinstance(text, str):
        raise ManifestError(
            f"{shown_path(path)} holds no arrays of its edit, which take more than {MOST_ARRAYS >> 20} MiB or were "
            "left out by an older tpe: name the saved file."
        )
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ManifestError(
            f"{shown_path(path)} holds arrays under {ARRAYS_KEY} that are no base64: copy the file again."
        ) from None


def _header(path: Path, key: str) -> GgufHeader:
    try:
        return read_header(path, whole={key})
    except (GgufProblem, OSError) as problem:
        raise ManifestError(f"{shown_path(path)} cannot be read as a GGUF file ({problem}): copy it again.") from None
