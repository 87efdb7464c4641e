"""The edit in a baked folder, an adapter's folder or a GGUF file: its manifest, and what was written down beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpe_core.checkpoint.folder import RECORD
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.errors import ManifestError
from tpe_core.export.plan import MADE_BY, MANIFEST_FILE
from tpe_core.json_text import parse_json
from tpe_core.manifest.in_gguf import ARRAYS_KEY, json_in_gguf
from tpe_core.manifest.manifest import parse_manifest, read_edit
from tpe_core.manifest.schema import Manifest
from tpe_core.models.gguf_header import is_gguf
from tpe_core.outputs import shown_path

__all__ = ["Artefact", "read_artefact", "read_artefact_edit"]


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A saved edit, wherever it was found.

    `file` is what `read_edit` reads it from, None where its arrays are not there (too large for a GGUF file).
    `kind` is the format of what holds it ("hf", "peft", "gguf"), empty for an intervention's own file; `form` and
    `checked` are clauses of the record that was written with it.
    """

    manifest: Manifest
    file: Path | None
    kind: str = ""
    form: str = ""
    checked: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The entry ``artefact`` of `tpe show --json`."""
        return {"format": self.kind, "form": self.form, "checked": self.checked}


def read_artefact(path: Path) -> Artefact:
    """The edit at `path`: an intervention's JSON, a folder that `tpe bake` wrote, or a GGUF file that it wrote.

    Raises `ManifestError`, one sentence.
    """
    if path.is_dir():
        return _folder(path)
    if is_gguf(path):
        return _gguf(path)
    return Artefact(manifest=read_edit(path)[0], file=path)


def read_artefact_edit(path: Path) -> tuple[Manifest, ResolvedEdit]:
    """The manifest and the edit at `path`, wherever `read_artefact` finds it. Raises `ManifestError`, one sentence."""
    artefact = read_artefact(path)
    if artefact.file is None:
        raise ManifestError(f"{shown_path(path)} holds no arrays of its edit: name the saved file.")
    return read_edit(artefact.file)


def _folder(path: Path) -> Artefact:
    file = path / MANIFEST_FILE
    if not file.is_file():
        raise ManifestError(
            f"{shown_path(path)} holds no {MANIFEST_FILE}: name a folder that tpe bake made, or bake with manifest=."
        )
    manifest, _ = read_edit(file)
    try:
        record = parse_json((path / RECORD).read_bytes())
    except (OSError, ValueError):
        record = {}
    if not isinstance(record, dict):
        record = {}
    verdict, representation = (_mapping(record.get(name)) for name in ("verdict", "representation"))
    return Artefact(
        manifest=manifest,
        file=file,
        kind=str(record.get("format", "hf")),
        form=str(verdict.get("how") or representation.get("text") or ""),
        checked=str(record.get("checked", "")),
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _gguf(path: Path) -> Artefact:
    document, header = json_in_gguf(path)
    manifest = parse_manifest(path, document)
    form = f"the edited head as output.weight, written by tpe {header.metadata.get(MADE_BY, '')}".rstrip()
    whole = not manifest.needed_arrays() or ARRAYS_KEY in header.metadata
    if not whole:
        return Artefact(manifest=manifest, file=None, kind="gguf", form=f"{form}, without the edit's arrays")
    return Artefact(manifest=read_edit(path)[0], file=path, kind="gguf", form=f"{form}, with all numbers of the edit")
