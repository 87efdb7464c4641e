"""A Hugging Face model as a GGUF file with a head of its own: hyperparameters, tokenizer, and every tensor by its name.

Names come from the package gguf. A matrix is stored in the shortest of float16, bfloat16 and float32 that holds its
values as they are, so that nothing but the head is rounded; a tensor is on its way at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.errors import TpeError, reason_of
from tpe_core.export.gguf_architectures import ARCHITECTURES, Architecture, unwritable
from tpe_core.export.gguf_copy import EncodedHead, announce_head
from tpe_core.export.gguf_vocabulary import gguf_vocabulary
from tpe_core.models.model import LanguageModel
from tpe_core.progress import Progress, Steps, size_text

__all__ = ["convert_with_head", "converted_bytes", "not_convertible", "shortest_type"]

FILE_TYPES = {"F32": 0, "F16": 1, "BF16": 32}  # gguf.LlamaFileType of a file that is mostly so


@dataclass(frozen=True, slots=True)
class _Planned:
    """A parameter under ggml's name, and the type that holds it."""

    name: str
    source: str
    tensor: Tensor
    kind: str


def not_convertible(model: LanguageModel) -> str:
    """Why no GGUF file can be written of a Hugging Face model, as a clause; empty where one can."""
    config = model.hf.config
    if config.model_type not in ARCHITECTURES:
        return unwritable(model.name, config.model_type)
    architecture = ARCHITECTURES[config.model_type]
    if why := architecture.why_not(config):
        return why
    rows = model.hf.get_input_embeddings().weight.shape[0]
    if model.site.head is None or model.site.head.out_features != rows:
        return f"its head and its input embedding ({rows:,} rows) differ in rows, and a GGUF file has one vocabulary"
    vocabulary = gguf_vocabulary(model.tokenizer, rows)
    if isinstance(vocabulary, str):
        return f"{vocabulary}; convert the unedited folder with llama.cpp's convert_hf_to_gguf.py and edit that file"
    names = _names(architecture, model)
    unknown = next((name for name in _parameters(model) if _ggml_name(names, name) is None), None)
    return "" if unknown is None else f"its tensor {unknown} has no place in llama.cpp's {architecture.gguf}"


def converted_bytes(model: LanguageModel, head: EncodedHead) -> int:
    """What the file takes at most, without its metadata."""
    body: int = sum(4 * tensor.numel() for tensor in _parameters(model).values())
    return body + int(head.values.nbytes)


def convert_with_head(model: LanguageModel, target: Path, head: EncodedHead, added: Mapping[str, str]) -> Steps[bool]:
    """Write `target`: the model with this head as ``output.weight``, and `added` texts in the metadata: a job.

    Returns whether the model's own head is its token embedding, so that the file unties it. Raises `TpeError` where
    the package gguf refuses; `not_convertible` is asked before.
    """
    import gguf

    architecture = ARCHITECTURES[model.hf.config.model_type]
    yield Progress("convert the tokenizer", 0)
    embedding = model.hf.get_input_embeddings().weight
    vocabulary = gguf_vocabulary(model.tokenizer, embedding.shape[0])
    if isinstance(vocabulary, str):
        raise TpeError(f"{model.name} cannot be written as a GGUF file: {vocabulary}.")
    writer = gguf.GGUFWriter(target, architecture.gguf)
    try:
        writer.add_name(model.name.rstrip("/").rpartition("/")[2] or model.name)
        architecture.describe(writer, model.hf.config)
        vocabulary.write(writer)
        planned = list(_planned(model, architecture))
        common = Counter(each.kind for each in planned if each.tensor.dim() > 1).most_common(1)
        writer.add_file_type(FILE_TYPES[common[0][0]])
        for name, text in added.items():
            writer.add_string(name, text)
        sizes: list[int] = []
        for each in planned:
            yield Progress("plan the file", len(sizes), len(planned), amount=each.name)
            values, kind = _stored(_reordered(model, architecture, each), each.kind)
            writer.add_tensor_info(each.name, values.shape, values.dtype, values.nbytes, kind)
            sizes.append(values.nbytes)
        announce_head(writer, head)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        done, total = 0, sum(sizes) + head.values.nbytes
        for each in planned:
            yield Progress("write the file", done, total, amount=f"{size_text(done)} of {size_text(total)}")
            values, _ = _stored(_reordered(model, architecture, each), each.kind)
            writer.write_tensor_data(values)
            done += values.nbytes
        yield Progress("write the file", done, total, amount=f"{size_text(done)} of {size_text(total)}")
        writer.write_tensor_data(head.values)
    except (ValueError, TypeError, AssertionError) as error:
        raise TpeError(
            f"{model.name} cannot be written as a GGUF file ({reason_of(error)}): convert the unedited folder with "
            "llama.cpp's convert_hf_to_gguf.py and edit that file."
        ) from error
    finally:
        writer.close()
    head_module = model.site.head
    return head_module is not None and head_module.weight is embedding


def _names(architecture: Architecture, model: LanguageModel) -> Any:
    import gguf

    known = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture.gguf)
    return gguf.get_tensor_name_map(known, model.hf.config.num_hidden_layers)


def _ggml_name(names: Any, name: str) -> str | None:
    ggml_name: str | None = names.get_name(name, try_suffixes=(".weight", ".bias"))
    return ggml_name


def _parameters(model: LanguageModel) -> dict[str, Tensor]:
    """Every parameter by its name, but for the head's matrix."""
    head = model.site.head
    own = None if head is None else head.weight
    embedding = model.hf.get_input_embeddings().weight
    return {name: p.detach() for name, p in model.hf.named_parameters() if p is not own or p is embedding}


def _planned(model: LanguageModel, architecture: Architecture) -> Iterator[_Planned]:
    names = _names(architecture, model)
    for source, tensor in _parameters(model).items():
        name = _ggml_name(names, source) or source
        flat = tensor.dim() == 1 or name.startswith("position_embd")  # which llama.cpp adds as float32
        yield _Planned(name, source, tensor, "F32" if flat else shortest_type(tensor))
    for name, tensor in architecture.more(model.hf):
        yield _Planned(name, name, tensor, "F32")


def shortest_type(tensor: Tensor) -> str:
    """The shortest of ggml's float types that holds every value of a tensor."""
    for kind, dtype in (("F16", torch.float16), ("BF16", torch.bfloat16)):
        if tensor.dtype == dtype or bool((tensor.to(dtype).to(tensor.dtype) == tensor).all()):
            return kind
    return "F32"


def _reordered(model: LanguageModel, architecture: Architecture, planned: _Planned) -> Tensor:
    return architecture.reorder(model.hf.config, planned.source, planned.tensor)


def _stored(tensor: Tensor, kind: str) -> tuple[NDArray[Any], Any]:
    import gguf

    type_id = gguf.GGMLQuantizationType[kind]
    values = tensor.float().cpu().contiguous().numpy()
    if kind == "F32":
        return values, type_id
    return (values.astype(np.float16) if kind == "F16" else gguf.quants.quantize(values, type_id)), type_id
