"""A copy of a GGUF file with another output head: every other tensor and all of the metadata stay as they are.

The package gguf reads and writes; a tensor is on its way at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.errors import TpeError, reason_of
from tpe_core.models.gguf_header import GgufHeader, read_header
from tpe_core.progress import Progress, Steps, size_text

__all__ = ["HEAD", "HEAD_TYPES", "EncodedHead", "HeadType", "announce_head", "copy_with_head", "encoded"]

HEAD = "output.weight"
"""What llama.cpp calls the matrix of the output head."""

HeadType = Literal["f16", "f32", "q8_0"]
HEAD_TYPES: dict[str, tuple[str, float]] = {"f16": ("float16", 2), "f32": ("float32", 4), "q8_0": ("Q8_0", 1.0625)}
"""How a head can be stored: in words, and the bytes that a value takes."""

OWN = "tpe."
"""What the names of tpe's own metadata begin with."""

BLOCK = 32  # values of a row that Q8_0 scales together
ROWS = 8192  # rows that are encoded at a time


@dataclass(frozen=True)
class EncodedHead:
    """W [V, d] as a GGUF file stores it: numbers, or for Q8_0 the bytes of its blocks."""

    values: NDArray[Any]
    kind: HeadType


def encoded(weight: Tensor, kind: str) -> EncodedHead:
    """Store a matrix [V, d] as one of `HEAD_TYPES`.

    Raises `TpeError` for an unknown type, where Q8_0 does not divide the rows, and where a value is too large.
    """
    if kind not in HEAD_TYPES:
        raise TpeError(f"unknown head type {kind!r}: choose one of {', '.join(HEAD_TYPES)}.")
    if kind == "q8_0":
        return EncodedHead(_q8_0(weight), "q8_0")
    values = weight.detach().to(torch.float16 if kind == "f16" else torch.float32).cpu().contiguous()
    if not bool(values.isfinite().all()):
        raise TpeError(f"the edited head holds values that {HEAD_TYPES[kind][0]} cannot: choose --head-type f32.")
    return EncodedHead(values.numpy(), "f16" if kind == "f16" else "f32")


def _q8_0(weight: Tensor) -> NDArray[np.uint8]:
    import gguf

    width = weight.shape[1]
    if width % BLOCK:
        raise TpeError(f"Q8_0 stores blocks of {BLOCK} values, and rows of the head have {width}: choose f16 or f32.")
    parts = (weight[first : first + ROWS].detach().float().cpu().numpy() for first in range(0, len(weight), ROWS))
    return np.concatenate([gguf.quants.quantize(part, gguf.GGMLQuantizationType.Q8_0) for part in parts])


def copy_with_head(source: Path, target: Path, head: EncodedHead, added: Mapping[str, str]) -> Steps[bool]:
    """Write `target`: the file `source` with this head, and with `added` texts in its metadata: a job.

    Returns whether the source had no head of its own, so that the copy unties it from the token embedding. Raises
    `TpeError` where the copy's metadata or tensors are not those of the source.
    """
    import gguf

    yield Progress("read the file", 0)
    reader: Any = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, str(reader.get_field("general.architecture").contents()))
    writer.data_alignment = reader.alignment
    try:
        _copy_metadata(reader, writer, added)
        has_head = any(tensor.name == HEAD for tensor in reader.tensors)
        for tensor in reader.tensors:
            if tensor.name == HEAD:
                announce_head(writer, head)
            else:
                data = tensor.data
                writer.add_tensor_info(tensor.name, data.shape, data.dtype, data.nbytes, tensor.tensor_type)
        if not has_head:
            announce_head(writer, head)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        parts = [head.values if tensor.name == HEAD else tensor.data for tensor in reader.tensors]
        done, total = 0, sum(part.nbytes for part in parts) + (0 if has_head else head.values.nbytes)
        for part in (*parts, *(() if has_head else (head.values,))):
            yield Progress("write the file", done, total, amount=f"{size_text(done)} of {size_text(total)}")
            writer.write_tensor_data(part)
            done += part.nbytes
    except (ValueError, TypeError, AssertionError) as error:
        raise TpeError(f"{source.name} cannot be copied ({reason_of(error)}): make it anew with llama.cpp.") from error
    finally:
        writer.close()
    yield Progress("compare the copy", 0)
    _check_copy(source, target)
    return not has_head


def announce_head(writer: Any, head: EncodedHead) -> None:
    """Add the head to the tensors that a `gguf.GGUFWriter` lists."""
    import gguf

    values = head.values
    kind = gguf.GGMLQuantizationType[head.kind.upper()]
    writer.add_tensor_info(HEAD, values.shape, values.dtype, values.nbytes, kind)


def _copy_metadata(reader: Any, writer: Any, added: Mapping[str, str]) -> None:
    import gguf

    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture" or field.name.startswith(OWN):
            continue  # the writer's own, and what tpe wrote of an earlier edit
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
    for name, text in added.items():
        writer.add_string(name, text)


def _check_copy(source: Path, target: Path) -> None:
    """Compare headers, and the bytes of the first and the last tensor that both have."""
    old, new = read_header(source), read_header(target)
    facts = [{k: v for k, v in header.metadata.items() if not k.startswith(OWN)} for header in (old, new)]
    tensors = [{t.name: (t.shape, t.type_id) for t in header.tensors if t.name != HEAD} for header in (old, new)]
    if facts[0] != facts[1] or tensors[0] != tensors[1]:
        raise TpeError(f"the copy of {source.name} is not what the file holds, so none was written: report it.")
    names = list(tensors[0])
    for name in {names[0], names[-1]}:
        if _bytes(source, old, name) != _bytes(target, new, name):
            raise TpeError(f"{name} in the copy of {source.name} is another, so none was written: report it.")


def _bytes(path: Path, header: GgufHeader, name: str, most: int = 1 << 16) -> bytes:
    at = {tensor.name: tensor.offset for tensor in header.tensors}
    ends = sorted([*at.values(), header.size - header.data_start])
    length = next(end for end in ends if end > at[name]) - at[name]
    with path.open("rb") as stream:
        stream.seek(header.data_start + at[name])
        return stream.read(min(length, most)).rstrip(b"\0")  # but for the padding
