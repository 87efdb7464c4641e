"""The file of an intervention: a JSON document anyone can read, and the arrays it needs in a file beside it.

It never applies anything and never trusts a file: every field, hash and shape is checked before it is used.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from tpe_core.edits.edit import ResolvedEdit
from tpe_core.errors import ExistsError, ManifestError, TpeError
from tpe_core.manifest.in_gguf import arrays_in_gguf, json_in_gguf
from tpe_core.manifest.io import brief, format_document, parse_document, read_bytes, write_all
from tpe_core.manifest.migration import OLDEST, migrated
from tpe_core.manifest.schema import (
    KIND,
    SCHEMA,
    Achieved,
    ArraysFile,
    EditArrays,
    Expected,
    MadeOn,
    Manifest,
    Measured,
    MeasuredText,
    PostRecord,
    SelfTest,
    SteeredToken,
    TestPrompt,
    json_schema,
    published_schema,
)
from tpe_core.models.gguf_header import is_gguf
from tpe_core.outputs import check_intervention, shown_path
from tpe_core.printable import fit, printable_token
from tpe_core.store import sync_folder

if TYPE_CHECKING:
    from tpe_core.models.model import LanguageModel

__all__ = [
    "KIND",
    "SCHEMA",
    "Achieved",
    "ArraysFile",
    "Expected",
    "MadeOn",
    "Manifest",
    "Measured",
    "MeasuredText",
    "PostRecord",
    "SelfTest",
    "SteeredToken",
    "TestPrompt",
    "arrays_bytes",
    "check_destination",
    "check_fits",
    "check_model",
    "json_schema",
    "parse_manifest",
    "published_schema",
    "read_edit",
    "read_manifest",
    "write_manifest",
]

MAX_BYTES = 64 * 2**20
"""More than any intervention's JSON needs: a larger file is not one."""

MAX_ARRAYS = 2**30
"""Of the arrays' file: half of 16,384 dimensions rebuilt from the other half take 512 MiB."""

ELSEWHERE = "use it on the model it was made on."

HEADER = 2**20  # of a safetensors file, more than enough for three arrays' names

Floats = NDArray[np.float64]


def check_destination(path: Path, *, replace: bool = True) -> None:
    """Refuse a place where no intervention should be written, before anything is computed.

    See `check_output`: an earlier intervention is replaced where `replace` says so, and nothing else is. Raises
    `ManifestError` or `ExistsError`.
    """
    if path.suffix == ".safetensors":
        raise ManifestError(f"an intervention is JSON, not {path.name}: choose a name that ends in .json.")
    try:
        check_intervention(path, replace=replace)
    except ExistsError:
        raise
    except TpeError as error:
        raise ManifestError(str(error)) from None


def write_manifest(path: Path, manifest: Manifest, arrays: Mapping[str, NDArray[Any]], *, replace: bool = True) -> Path:
    """Write the JSON at `path` and, where `needed_arrays` names some, a ``.safetensors`` file of the same stem.

    `arrays` holds exactly the needed ones, finite float64. Both files are complete on disk before either takes
    its name, and a failure leaves the earlier ones as they were. An earlier intervention is replaced unless `replace`
    is False, a file of another kind never. Raises `ManifestError`, or `ExistsError`.
    """
    needed = manifest.needed_arrays()
    _check_arrays(arrays, needed, "the arrays to write")
    if unknown := sorted(arrays.keys() - needed.keys()):
        raise ManifestError(f"this intervention needs no array {unknown[0]!r}: leave it out.")
    if (size := _size(needed)) > MAX_ARRAYS:
        raise ManifestError(
            f"rebuilding {len(manifest.pruned)} dimensions takes {size} bytes, at most {MAX_ARRAYS} can be saved: "
            "choose mean or zero as the replacement."
        )
    check_destination(path, replace=replace)
    beside = path.with_suffix(".safetensors") if path.suffix == ".json" else path.with_name(path.name + ".safetensors")
    try:
        ours = os.path.lexists(beside) and _is_ours(beside)
        if needed and os.path.lexists(beside) and not (ours and path.exists()):
            whose = "belongs to no intervention of this name" if ours else "is no file of tpe's"
            raise ManifestError(f"{shown_path(beside)} exists and {whose}: choose another name for the intervention.")
        replaces = path.exists()
        files: dict[Path, bytes] = {}
        record = None
        if needed:
            files[beside] = _serialize(arrays)
            record = ArraysFile(file=beside.name, sha256=hashlib.sha256(files[beside]).hexdigest())
        whole = manifest.model_copy(update={"arrays": record})
        files[path] = format_document(whole.model_dump(mode="json", by_alias=True))
        write_all(files)
        if not needed and ours and replaces:
            beside.unlink(missing_ok=True)
    except ValidationError:
        name = fit(printable_token(beside.name), 60)
        raise ManifestError(f"{name} cannot stand in an intervention's file: choose a plain file name.") from None
    except OSError as error:
        raise ManifestError(
            f"the intervention cannot be written to {shown_path(path)} ({error.strerror or error}): "
            "choose another place."
        ) from error
    sync_folder(path.parent)
    return path


def _serialize(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    from safetensors.numpy import save as serialize

    plain = {name: np.asarray(array, dtype=np.float64, order="C") for name, array in arrays.items()}
    return serialize(plain, metadata={"kind": KIND})


def _size(needed: Mapping[str, tuple[int, ...]]) -> int:
    """Bytes that arrays of these shapes take."""
    return sum(8 * math.prod(shape) for shape in needed.values())


def _is_ours(path: Path) -> bool:
    """Whether a safetensors file says that an intervention's arrays are in it."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        try:
            header = json.loads(stream.read(min(length, HEADER)))
            return bool(header["__metadata__"]["kind"] == KIND)
        except (ValueError, KeyError, TypeError, RecursionError):
            return False


def read_manifest(path: Path) -> tuple[Manifest, dict[str, Floats]]:
    """An intervention's manifest and the arrays it needs, all checked; files of older schemas are raised to this one.

    `path` is its JSON, or a GGUF file that holds both. Raises `ManifestError`, one sentence.
    """
    inside = is_gguf(path)
    document = json_in_gguf(path)[0] if inside else read_bytes(path, "the intervention", MAX_BYTES)
    manifest = parse_manifest(path, document)
    needed = manifest.needed_arrays()
    if not needed:
        return manifest, {}
    if manifest.arrays is None:
        raise ManifestError(f"{path} needs {', '.join(needed)} but names no arrays file: export it again.")
    beside = path if inside else path.with_name(manifest.arrays.file)
    return manifest, _parse_arrays(beside, arrays_bytes(path, manifest), manifest.arrays.sha256, needed)


def arrays_bytes(path: Path, manifest: Manifest) -> bytes:
    """The content of the file of arrays that goes with the manifest at `path`; empty where it needs none.

    Raises `ManifestError` where it is not there.
    """
    needed = manifest.needed_arrays()
    if not needed or manifest.arrays is None:
        return b""
    if is_gguf(path):
        return arrays_in_gguf(path)
    most = min(MAX_ARRAYS, _size(needed)) + HEADER
    return read_bytes(path.with_name(manifest.arrays.file), "the arrays file", most)


def parse_manifest(path: Path, data: bytes) -> Manifest:
    """A manifest from its JSON, every field checked; the arrays it names are not looked for.

    `path` is where the JSON stood, for sentences. Raises `ManifestError`, one sentence.
    """
    document = parse_document(path, data)
    kind, schema = document.get("kind"), document.get("schema")
    if kind != KIND:
        raise ManifestError(f"{path} is no intervention: its kind is {brief(kind)}, not {KIND!r}.")
    if schema is None:
        raise ManifestError(f"{path} lacks the field schema: export the intervention again.")
    if type(schema) is not int or schema < OLDEST:
        raise ManifestError(f"{path} is no valid intervention: its schema is {brief(schema)}, not {SCHEMA}.")
    if schema > SCHEMA:
        raise ManifestError(
            f"{path} was made by a newer tpe (schema {brief(schema)}, this one reads {SCHEMA}): update tpe."
        )
    plain = data.removeprefix(b"\xef\xbb\xbf") if schema == SCHEMA else json.dumps(migrated(document, schema)).encode()
    try:
        return Manifest.model_validate_json(plain, by_name=False)
    except ValidationError as error:
        raise ManifestError(_invalid(path, error)) from None


def read_edit(path: Path) -> tuple[Manifest, ResolvedEdit]:
    """An intervention's manifest and the edit it describes, every number included; no model is needed.

    The edit's ``origin`` is its arrays' hash. Raises `ManifestError`, one sentence. `check_fits` says whether a head
    is the one it was made for.

    Returns:
        (the document, the edit with its numbers).

    Example:
        >>> path = live.export(Path("mask.json"), tpe.Intervention((3, 14), "mean"), "Return the")
        >>> manifest, edit = tpe.read_edit(path)
        >>> manifest.pruned, edit.constant.shape
        ((3, 14), (2,))
    """
    manifest, arrays = read_manifest(path)
    intervention, numbers = manifest.intervention(), EditArrays.read(arrays)
    rows: dict[int, NDArray[np.float64]] = {}
    biases: dict[int, float] = {}
    alike: dict[tuple[float, str], NDArray[np.float64]] = {}  # tokens that are steered alike share one array
    for entry in intervention.steering:
        step = math.log(entry.ratio)
        if entry.method == "bias":
            biases[entry.token_id] = step
            continue
        how = entry.ratio, entry.method
        if how not in alike:
            with np.errstate(over="ignore"):
                alike[how] = step * numbers.directions[entry.method]
            if not np.isfinite(alike[how]).all():
                raise ManifestError(f"{path} moves token id {entry.token_id} infinitely far: export it again.")
        rows[entry.token_id] = alike[how]
    edit = ResolvedEdit(
        intervention=dataclasses.replace(
            intervention, origin="" if manifest.arrays is None else manifest.arrays.sha256
        ),
        hidden_size=manifest.made_on.hidden_size,
        constant=np.zeros(len(intervention.pruned)) if numbers.values is None else numbers.values,
        fold=numbers.reconstruction,
        rows=rows,
        biases=biases,
    )
    return manifest, edit


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
    reason = printable_token(first["msg"].removeprefix("Value error, "))
    reason = reason[:1].lower() + reason[1:]
    if not first["loc"]:
        return f"{path} is no valid intervention: {reason}."
    return f"{path} is no valid intervention: {field} is {brief(first['input'])} ({reason})."


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


def _parse_arrays(path: Path, data: bytes, sha256: str, needed: Mapping[str, tuple[int, ...]]) -> dict[str, Floats]:
    """The needed arrays in the content of their file; `path` is where it stood, for sentences."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as deserialize

    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise ManifestError(
            f"{path} is not the file that the intervention was saved with (sha256 {digest[:12]}, not {sha256[:12]}): "
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

    Width, then rows, then the head's hash, then the tokenizer's (where tokens are steered, since ids are its).
    `force` skips the hashes: another head of the same shape.
    """
    made = manifest.made_on
    name = printable_token(made.model)
    if made.hidden_size != hidden_size:
        raise ManifestError(
            f"the intervention is for {made.hidden_size} dimensions ({name}), but this head has {hidden_size}: "
            f"{ELSEWHERE}"
        )
    if made.vocab_rows != vocab_rows:
        raise ManifestError(
            f"the intervention is for {made.vocab_rows} vocabulary rows ({name}), but this head has {vocab_rows}: "
            f"{ELSEWHERE}"
        )
    if not force and made.head_sha256 != head_sha256:
        raise ManifestError(
            f"the intervention was made for another head: {name} "
            f"(sha256 {made.head_sha256[:12]}, this one {head_sha256[:12]}): {ELSEWHERE}"
        )
    if not force and manifest.methods and made.tokenizer_sha256 != tokenizer_sha256:
        raise ManifestError(
            f"the intervention steers tokens of another tokenizer (sha256 {made.tokenizer_sha256[:12]}, "
            f"this one {tokenizer_sha256[:12]}): {ELSEWHERE}"
        )


def check_model(manifest: Manifest, model: LanguageModel) -> None:
    """`check_fits` with the head and the tokenizer of a loaded model."""
    from tpe_core.corpus.corpus import tokenizer_fingerprint

    check_fits(
        manifest,
        head_sha256=model.head.sha256,
        vocab_rows=model.head.vocab_rows,
        hidden_size=model.head.hidden_size,
        tokenizer_sha256=tokenizer_fingerprint(model.tokenizer),
    )
