"""What is wrong with the files of a model's folder, seen before a library stumbles over them without their names.

It reads a few bytes of each file. What a clean folder holds beyond that is for the library to find out.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tpe_core.errors import ModelError
from tpe_core.json_text import json_text, parse_json

__all__ = ["ADAPTER", "POINTER_BYTES", "adapter_of", "check_files", "check_shapes", "is_pointer", "tokenizer_files"]

POINTER = b"version https://git-lfs.github.com/spec/"
POINTER_BYTES = 1024  # a pointer is smaller
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt",
    "merges.txt", "sentencepiece.bpe.model", "source.spm", "vocab.bpe", "bpe.codes", "tekken.json",
)  # fmt: skip
ADAPTER = "adapter_config.json"
AGAIN = "copy or fetch it again"


def is_pointer(data: bytes) -> bool:
    """Whether a file that begins with `data` is what Git LFS leaves in place of a large file it did not fetch."""
    return data.startswith(POINTER)


def check_files(folder: Path, weights: Iterable[str], name: str) -> None:
    """Raise `ModelError`, naming the file, where one of a model's files is a Git LFS pointer, empty, cut or broken.

    `weights` are the names of those that hold tensors.
    """
    tensors = set(weights)
    for path in sorted(folder.iterdir()):
        wanted = path.name in tensors or path.name in TOKENIZER_FILES or path.name == "config.json"
        if not wanted or not path.is_file():
            continue
        size = path.stat().st_size
        with path.open("rb") as stream:
            begin = stream.read(POINTER_BYTES)
        if not size:
            raise ModelError(f"{path.name} of {name} is empty: {AGAIN}.")
        if is_pointer(begin):
            raise ModelError(
                f"{path.name} of {name} is a Git LFS pointer of {size} bytes and not the file itself: "
                "run `git lfs pull` in the repository it came from, or download it."
            )
        if path.name in tensors:
            _check_weights(path, size, name)


def _check_weights(path: Path, size: int, name: str) -> None:
    if path.suffix == ".safetensors":
        problem = _safetensors_problem(path, size)
    else:
        zipped = path.open("rb").read(2) == b"PK"
        problem = "it is cut: the end of the archive is missing" if zipped and not zipfile.is_zipfile(path) else ""
    if problem:
        raise ModelError(f"{path.name} of {name} is not whole ({problem}): {AGAIN}.")


def _safetensors_problem(path: Path, size: int) -> str:
    """What is wrong with the header of a safetensors file, or with where it says its tensors lie; empty for nothing."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            return f"its header would be {length:,} bytes long and the file has {size:,}"
        try:
            entries = dict(parse_json(stream.read(length)))
            entries.pop("__metadata__", None)
            ends = {tensor: 8 + length + int(entry["data_offsets"][1]) for tensor, entry in entries.items()}
        except (ValueError, KeyError, TypeError, LookupError):
            return "its header is no description of tensors"
    beyond = {tensor: end for tensor, end in ends.items() if end > size}
    if not beyond:
        return ""
    first = min(beyond, key=beyond.__getitem__)
    return f"it has {size:,} of {max(ends.values()):,} bytes, and {first} ends at byte {beyond[first]:,}"


def check_shapes(mismatched: Iterable[Any], folder: Path | None, weights: Iterable[str], name: str) -> None:
    """Raise `ModelError` where tensors of a checkpoint have other shapes than its config gives them.

    `mismatched` are (tensor, its shape in the file, its shape by the config), as transformers tells them; `folder` is
    None for a GGUF file, whose header is the config.
    """
    wrong = sorted((str(tensor), tuple(saved), tuple(wanted)) for tensor, saved, wanted in mismatched)
    if not wrong:
        return
    tensor, saved, wanted = wrong[0]
    if folder is None:
        raise ModelError(
            f"the weights of {name} do not go with its header, as transformers reads it: {tensor} is {_shape(saved)} "
            f"in the file and {_shape(wanted)} by the header: convert it again, or name its Hugging Face folder."
        )
    files = list(weights)
    file = next((each for each in files if _holds(folder / each, tensor)), files[0] if len(files) == 1 else "a file")
    more = f", and {len(wrong) - 1} more do not fit" if len(wrong) > 1 else ""
    raise ModelError(
        f"the weights of {name} do not go with its config.json: {tensor} is {_shape(saved)} in {file} and "
        f"{_shape(wanted)} by the config{more}: put the config.json beside them that they were saved with."
    )


def _shape(sizes: tuple[int, ...]) -> str:
    return "×".join(str(size) for size in sizes) or "a single number"


def _holds(path: Path, tensor: str) -> bool:
    """Whether a safetensors file has a tensor of this name."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    with path.open("rb") as stream:
        return json_text(tensor).encode() in stream.read(int.from_bytes(stream.read(8), "little"))


def tokenizer_files(folder: Path) -> bool:
    """Whether a folder holds any file of a tokenizer."""
    return any((folder / name).is_file() for name in TOKENIZER_FILES) or any(folder.glob("*.tiktoken"))


def adapter_of(folder: Path) -> str | None:
    """The base model that an adapter in `folder` is for (``another model`` where it does not say); None without one."""
    if not (folder / ADAPTER).is_file():
        return None
    try:
        base = parse_json((folder / ADAPTER).read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, LookupError, TypeError):
        base = None
    return base if isinstance(base, str) and base else "another model"
