"""Models that come as one GGUF file: which file is meant, whether it can be loaded, what the report card says of it.

transformers does the loading and the dequantising. What it would stumble over (a cut file, a part of one, another
architecture, a missing package) is said before it is asked.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tpe_core.errors import ModelError
from tpe_core.models.gguf_header import GgufHeader, GgufProblem, is_gguf, read_header
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, Steps, size_text

__all__ = [
    "SUFFIX",
    "GgufFile",
    "check_header",
    "choose_gguf",
    "fit_config",
    "gguf_file",
    "gguf_names",
    "loading_options",
    "local_gguf",
    "make_plain",
]

SUFFIX = ".gguf"
LEARNED_POSITIONS = "position_embd.weight"  # llama.cpp's name
HEADS_OF_THEIR_SIZE = ("qwen3", "qwen3moe")  # whose heads are not as wide as the hidden state by their number
NAMED = 12  # files that a sentence lists
PIECE = 2**24  # bytes that are hashed in a step
INSTALL = "pip install 'tpe-tui[gguf]'"
AGAIN = "copy or fetch it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFile:
    """What the report card says of the GGUF file that a model was loaded from.

    `types` are the numbers of values by ggml type, `size` is in bytes, `dequantized_bytes` what the weights take in
    the dtype they were loaded in, `sha256` the hash (hex) of the whole file.
    """

    name: str
    architecture: str
    quantization: str
    types: dict[str, int]
    size: int
    dequantized_bytes: int
    sha256: str
    path: Path = Path()  # where it is, which is this machine's business

    def to_dict(self) -> dict[str, Any]:
        """The document under ``gguf`` in the report card."""
        return {name: value for name, value in asdict(self).items() if name != "path"}


def gguf_names(names: Iterable[str]) -> list[str]:
    """Those of `names` that are called like GGUF files, in order; without what goes with an image model."""
    return sorted(
        name for name in names if name.lower().endswith(SUFFIX) and not name.rpartition("/")[2].startswith("mmproj")
    )


def choose_gguf(names: Iterable[str], wanted: str | None, has_weights: bool, model: str) -> str | None:
    """Which GGUF file among `names` to load; None where the model's other weights are meant.

    `wanted` is the file's name as asked for (``--gguf-file``), `has_weights` whether transformers' own weights are
    there, which come first. Raises `ModelError` where `wanted` is not there, or none is asked for and there are
    several.
    """
    there = list(names)
    found = gguf_names(there)
    if wanted is not None:
        if wanted in there:
            return wanted
        listed = f"it has {_listed(found)}" if found else "it has none"
        raise ModelError(f"{model} has no file {wanted!r} (--gguf-file): {listed}.")
    if has_weights or not found:
        return None
    if len(found) > 1:
        raise ModelError(f"{model} holds {len(found)} GGUF files: choose one with --gguf-file ({_listed(found)}).")
    return found[0]


def local_gguf(path: Path, options: RunOptions, has_weights: bool) -> Path | None:
    """The GGUF file that a local path means: the file itself, or one in a folder; None for another folder, or nothing.

    `has_weights` says whether a folder holds transformers' own weights as well. Raises `ModelError` where a file is no
    GGUF file, and where an option does not go with it.
    """
    model = options.model
    if path.is_dir():
        names = [entry.name for entry in path.iterdir() if entry.is_file()]
        chosen = choose_gguf(names, options.gguf_file, has_weights, f"the folder {path}")
        if chosen is None:
            return None
        kind, path = "folder", path / chosen
    elif path.is_file():
        if not is_gguf(path) and path.suffix.lower() != SUFFIX:
            raise ModelError(
                f"{path} is a file and no GGUF file: name a GGUF file, the model's folder, or a hub id like gpt2."
            )
        if options.gguf_file is not None:
            raise ModelError(
                f"{path} is a file itself: leave out --gguf-file {options.gguf_file}, which chooses one of a folder."
            )
        kind = "file"
    elif path.suffix.lower() == SUFFIX:
        raise ModelError(f"there is no file {path}.")
    else:
        return None
    if options.revision is not None:
        raise ModelError(f"{model} is a {kind} and has no revision {options.revision!r}: name a hub id.")
    return path


def loading_options(header: GgufHeader, dtype: Any, options: RunOptions) -> dict[str, Any]:
    """What `from_pretrained` is told beside the file: to dequantise every weight, and into which dtype.

    `dtype` is the one asked for; None takes the file's own where it holds half-precision floats, else float32. Raises
    `ModelError` where the model was to be quantised again (``--quantize``).
    """
    import torch
    import transformers

    if options.quantize is not None:
        raise ModelError(
            f"--quantize {options.quantize} cannot be used on {options.model}, a GGUF file, which is dequantised when "
            "it is loaded: leave it out, or choose --dtype bfloat16 for half the memory."
        )
    most = next(iter(header.types))
    own = {"F16": torch.float16, "BF16": torch.bfloat16}.get(most, torch.float32)
    arguments: dict[str, Any] = {"dtype": own if dtype is None else dtype}
    if hasattr(transformers, "GgufConfig"):  # newer ones can leave the weights packed
        arguments["quantization_config"] = transformers.GgufConfig(dequantize=True)
    return arguments


def fit_config(config: Any, header: GgufHeader) -> None:
    """Set in a config what transformers does not take from a header: the file says it, and the weights are so.

    It takes GPT-2's ``context_length`` for ``n_ctx`` and leaves ``n_positions`` at 1,024, and Qwen 3's heads at 128
    dimensions whatever ``attention.key_length`` is.
    """
    for tensor in header.tensors:
        if tensor.name == LEARNED_POSITIONS and hasattr(config, "max_position_embeddings"):
            config.max_position_embeddings = tensor.shape[0]
    if header.architecture in HEADS_OF_THEIR_SIZE and hasattr(config, "head_dim"):
        config.head_dim = header.metadata.get(f"{header.architecture}.attention.key_length", config.head_dim)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def check_header(path: Path, name: str) -> GgufHeader:
    """Read a file's header and check that transformers can load it, whole. Raises `ModelError` in one sentence.

    `name` is what the sentence calls it.
    """
    try:
        header = read_header(path)
    except GgufProblem as problem:
        hint = AGAIN if is_gguf(path) else "name a GGUF file, a model's folder, or a hub id like gpt2"
        raise ModelError(f"{name} cannot be read as a GGUF file ({problem}): {hint}.") from None
    except OSError as error:
        raise ModelError(f"{name} cannot be read ({error.strerror or error}).") from None
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(
            f"{name} is a GGUF file, and the package gguf, which reads those, is not installed: `{INSTALL}`."
        )
    parts = header.metadata.get("split.count", 0)
    if isinstance(parts, int) and parts > 1:
        raise ModelError(
            f"{name} is one of {parts} parts of a model, and transformers reads whole files only: join them with "
            "llama.cpp's `llama-gguf-split --merge`, and name the result."
        )
    if not header.tensors:
        raise ModelError(f"{name} holds no weights (a vocabulary alone): name the file of the model.")
    lacking, tensor = header.missing_bytes()
    if lacking:
        raise ModelError(f"{name} is cut: it lacks {size_text(lacking)} ({tensor} is not whole): {AGAIN}.")
    _check_architecture(header, name)
    if not header.has_tokenizer:
        raise ModelError(f"{name} holds no tokenizer (tokenizer.ggml.tokens): convert the model with its vocabulary.")
    return header


def _check_architecture(header: GgufHeader, name: str) -> None:
    import transformers
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    if not header.architecture:
        raise ModelError(f"{name} does not say its architecture (general.architecture): convert the model again.")
    known = set(GGUF_SUPPORTED_ARCHITECTURES) - {"general", "tokenizer"}
    if importlib.util.find_spec("transformers.integrations.gguf") is not None:  # the newer of its two readers
        from transformers.integrations import gguf

        known |= set(getattr(gguf, "GGUF_CONFIG_ARCHS", ()))
    if _plain(header.architecture) not in {_plain(each) for each in known}:
        raise ModelError(
            f"{name} holds a model of the architecture {header.architecture!r}, which transformers "
            f"{transformers.__version__} cannot load from GGUF files (it can: {', '.join(sorted(known))}): name the "
            "model's Hugging Face folder or hub id instead."
        )


def _plain(architecture: str) -> str:
    """An architecture's name without the hyphens that GGUF writes and the underscores that transformers does."""
    return architecture.replace("-", "").replace("_", "").removesuffix("encoder")


def gguf_file(path: Path, header: GgufHeader, dequantized_bytes: int, cache: bool) -> Steps[GgufFile]:
    """The card's facts of a file that was checked: a job that hashes it once, and remembers the hash by size and time.

    With `cache` False the file is hashed whatever was remembered.
    """
    digest = yield from _sha256(path, cache)
    return GgufFile(
        name=path.name,
        architecture=header.architecture,
        quantization=header.quantization,
        types=header.types,
        size=header.size,
        dequantized_bytes=dequantized_bytes,
        sha256=digest,
        path=path,
    )


def _sha256(path: Path, cache: bool) -> Steps[str]:
    """sha256 (hex) of a file, read in pieces; from the store where path, size and times are those of before."""
    from tpe_core.store import Store

    status = path.stat()
    stamp = f"{path.resolve()} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
    store, key = Store(), hashlib.sha256(f"file hash 1 {stamp}".encode("utf-8", "replace")).hexdigest()
    entry = store.load(key) if cache else None
    if entry is not None and isinstance(known := entry[1].get("sha256"), str):
        return known
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while piece := stream.read(PIECE):
            digest.update(piece)
            done += len(piece)
            amount = f"{size_text(done)} of {size_text(status.st_size)}"
            yield Progress("hash the file", done, status.st_size, amount=amount)
    if cache:
        store.save(key, {}, {"sha256": digest.hexdigest()}, kind="file hash", of=path.name)
    return digest.hexdigest()


def make_plain(hf: Any) -> None:
    """Take the mark of a quantised model off one whose weights were dequantised, so that it is saved as it is."""
    if getattr(hf.config, "quantization_config", None) is not None:
        del hf.config.quantization_config
    hf.is_quantized = False
    hf.hf_quantizer = None
