"""The file of an intervention: a JSON document anyone can read, and the arrays it needs in a file beside it.

It never applies anything and never trusts a file: every field, hash and shape is checked before it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from tpe_core.errors import ManifestError
from tpe_core.manifest_schema import (
    KIND,
    SCHEMA,
    ArraysFile,
    MadeOn,
    Manifest,
    Measured,
    PostRecord,
    SteeredToken,
)
from tpe_core.store import stage, sync_folder
from tpe_core.text import fit, printable_token

__all__ = [
    "KIND",
    "SCHEMA",
    "ArraysFile",
    "MadeOn",
    "Manifest",
    "Measured",
    "PostRecord",
    "SteeredToken",
    "check_fits",
    "read_manifest",
    "write_manifest",
]

MAX_BYTES = 64 * 1024 * 1024
"""More than any intervention needs: a larger file is not one."""

Floats = NDArray[np.float64]


def write_manifest(path: Path, manifest: Manifest, arrays: Mapping[str, NDArray[Any]]) -> Path:
    """Write the JSON at `path` and, where `needed_arrays` names some, a ``.safetensors`` file of the same stem.

    `arrays` holds exactly the needed ones, finite float64. Both files are complete on disk before either takes
    its name, and a failure leaves the earlier ones as they were. Raises `ManifestError`.
    """
    needed = manifest.needed_arrays()
    _check_arrays(arrays, needed, "the arrays to write")
    if unknown := sorted(arrays.keys() - needed.keys()):
        raise ManifestError(f"this intervention needs no array {unknown[0]!r}: leave it out.")
    if path.suffix == ".safetensors":
        raise ManifestError(f"an intervention is JSON, not {path.name}: choose a name that ends in .json.")
    if path.is_dir():
        raise ManifestError(f"{path} is a folder: choose a file name in it that ends in .json.")
    beside = path.with_suffix(".safetensors") if path.suffix == ".json" else path.with_name(path.name + ".safetensors")
    try:
        ours = not beside.exists() or _is_ours(beside)
        if needed and not ours:
            raise ManifestError(f"{beside} exists and is no file of tpe's: choose another name for the intervention.")
        files: dict[Path, bytes] = {}
        record = None
        if needed:
            files[beside] = _serialize(arrays)
            record = ArraysFile(file=beside.name, sha256=hashlib.sha256(files[beside]).hexdigest())
        files[path] = manifest.model_copy(update={"arrays": record}).model_dump_json(indent=2).encode() + b"\n"
        _write_all(files)
        if not needed and ours:
            beside.unlink(missing_ok=True)
    except ValidationError:
        name = fit(printable_token(beside.name), 60)
        raise ManifestError(f"{name} cannot stand in an intervention's file: choose a plain file name.") from None
    except OSError as error:
        raise ManifestError(
            f"the intervention cannot be written to {path} ({error.strerror or error}): choose another place."
        ) from error
    sync_folder(path.parent)
    return path


def _write_all(files: Mapping[Path, bytes]) -> None:
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


def _serialize(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    from safetensors.numpy import save as serialize

    plain = {name: np.asarray(array, dtype=np.float64, order="C") for name, array in arrays.items()}
    return serialize(plain, metadata={"kind": KIND})


def _is_ours(path: Path) -> bool:
    """Whether a safetensors file says that an intervention's arrays are in it."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        try:
            header = json.loads(stream.read(min(length, MAX_BYTES)))
            return bool(header["__metadata__"]["kind"] == KIND)
        except (ValueError, KeyError, TypeError, RecursionError):
            return False


def read_manifest(path: Path) -> tuple[Manifest, dict[str, Floats]]:
    """An intervention's manifest and the arrays it needs, all checked. Raises `ManifestError`, one sentence."""
    data = _read(path, "the intervention")
    document = _parse(path, data)
    kind, schema = document.get("kind"), document.get("schema")
    if kind != KIND:
        raise ManifestError(f"{path} is no intervention: its kind is {_brief(kind)}, not {KIND!r}.")
    if schema is None:
        raise ManifestError(f"{path} lacks the field schema: export the intervention again.")
    if isinstance(schema, int) and schema > SCHEMA:
        raise ManifestError(
            f"{path} was made by a newer tpe (schema {_brief(schema)}, this one reads {SCHEMA}): update tpe."
        )
    try:
        manifest = Manifest.model_validate_json(data.removeprefix(b"\xef\xbb\xbf"), by_name=False)
    except ValidationError as error:
        raise ManifestError(_invalid(path, error)) from None
    needed = manifest.needed_arrays()
    if not needed:
        return manifest, {}
    if manifest.arrays is None:
        raise ManifestError(f"{path} needs {', '.join(needed)} but names no arrays file: export it again.")
    return manifest, _read_arrays(path.with_name(manifest.arrays.file), manifest.arrays.sha256, needed)


def _read(path: Path, what: str) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ManifestError(f"{path} is a folder: name the file of {what} in it.")
        if not stat.S_ISREG(status.st_mode):
            raise ManifestError(f"{path} is not a regular file: copy {what} to one first.")
        if status.st_size > MAX_BYTES:
            raise ManifestError(f"{path} is too large for {what} ({status.st_size} bytes, at most {MAX_BYTES}).")
        return path.read_bytes()
    except FileNotFoundError:
        raise ManifestError(f"{what} at {path} does not exist: check the path.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ManifestError(f"{what} at {path} cannot be read ({reason}): check its permissions.") from error


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise ManifestError(f"{path} is not JSON ({error.msg} at line {error.lineno}, column {error.colno}).") from None
    except (ValueError, RecursionError) as error:
        raise ManifestError(
            f"{path} is not JSON that can be read ({fit(printable_token(str(error)[:200]), 100)})."
        ) from None
    if not isinstance(document, dict):
        raise ManifestError(f"{path} is no intervention: it holds {_brief(document)} where an object is expected.")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the field {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return record


def _invalid(path: Path, error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False)
    first = problems[0]
    if first["type"] == "json_invalid":
        return f"{path} is not JSON that can be read ({first['msg']})."
    field = fit(printable_token(".".join(str(part) for part in first["loc"])), 60)
    if first["type"] == "extra_forbidden":
        return f"{path} has the unknown field {field}: remove it, or update tpe."
    if first["type"] == "missing":
        return f"{path} lacks the field {field}: export the intervention again."
    reason = first["msg"].removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    return f"{path} is no valid intervention: {field} is {_brief(first['input'])} ({printable_token(reason)})."


def _brief(value: object) -> str:
    """A value as JSON, short enough for a sentence and safe for a terminal."""
    try:
        return fit(printable_token(json.dumps(value, ensure_ascii=False, default=str)[:200]), 40)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__}"


def _check_arrays(arrays: Mapping[str, NDArray[Any]], needed: Mapping[str, tuple[int, ...]], where: str) -> None:
    for name, shape in needed.items():
        if name not in arrays:
            raise ManifestError(f"{where} lack {name!r}: export the intervention again.")
        array = arrays[name]
        if array.shape != shape or array.dtype != np.float64:
            raise ManifestError(
                f"{name!r} in {where} is {array.dtype} {list(array.shape)}, not float64 {list(shape)}: "
                "export the intervention again."
            )
        if not np.isfinite(array).all():
            raise ManifestError(f"{name!r} in {where} holds NaN or infinity: export the intervention again.")


def _read_arrays(path: Path, sha256: str, needed: Mapping[str, tuple[int, ...]]) -> dict[str, Floats]:
    from safetensors import SafetensorError
    from safetensors.numpy import load as deserialize

    data = _read(path, "the arrays file")
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ManifestError(
            f"{path} is not the file that the intervention was saved with (sha256 {found[:12]}, not {sha256[:12]}): "
            "copy both files together, or export again."
        )
    try:
        arrays = deserialize(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"{path} is no safetensors file ({fit(printable_token(str(error)[:200]), 80)}).") from None
    _check_arrays(arrays, needed, f"the arrays of {path}")
    return {name: np.array(arrays[name], dtype=np.float64) for name in needed}


def check_fits(
    manifest: Manifest,
    *,
    head_sha256: str,
    vocab_rows: int,
    hidden_size: int,
    tokenizer_sha256: str,
    force: bool = False,
) -> None:
    """Raise `ManifestError`, naming both values, where the intervention was not made for this head.

    Width, then rows, then the head's hash, then the tokenizer's (where tokens are steered, since ids are its), then
    the dimensions and ids themselves. `force` skips the hashes: another head of the same shape.
    """
    made = manifest.made_on
    name = printable_token(made.model)
    if made.hidden_size != hidden_size:
        raise ManifestError(
            f"the intervention is for {made.hidden_size} dimensions ({name}), but this head has {hidden_size}."
        )
    if made.vocab_rows != vocab_rows:
        raise ManifestError(
            f"the intervention is for {made.vocab_rows} vocabulary rows ({name}), but this head has {vocab_rows}."
        )
    if not force and made.head_sha256 != head_sha256:
        raise ManifestError(
            f"the intervention was made for another head: {name} "
            f"(sha256 {made.head_sha256[:12]}, this one {head_sha256[:12]})."
        )
    if not force and manifest.steering and made.tokenizer_sha256 != tokenizer_sha256:
        raise ManifestError(
            f"the intervention steers tokens of another tokenizer (sha256 {made.tokenizer_sha256[:12]}, "
            f"this one {tokenizer_sha256[:12]})."
        )
    if manifest.pruned and manifest.pruned[-1] >= hidden_size:
        raise ManifestError(
            f"the intervention prunes dimension {manifest.pruned[-1]}, but this head has {hidden_size}."
        )
    highest = max((entry.token_id for entry in manifest.steering), default=-1)
    if highest >= vocab_rows:
        raise ManifestError(f"the intervention steers token id {highest}, but this head has {vocab_rows} rows.")
