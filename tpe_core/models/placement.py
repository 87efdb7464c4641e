"""Where a model's weights go and in what precision: one device, several, main memory, disk, or packed into few bits.

Says what to hand to `from_pretrained`, and finds the values of what went to disk.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tpe_core.errors import ModelError, reason_of
from tpe_core.json_text import parse_json
from tpe_core.models.quantised import inner_tensors
from tpe_core.options import RunOptions
from tpe_core.store import default_root, is_alive

__all__ = ["device_of", "dtype_of", "placement", "values"]

MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def device_of(options: RunOptions) -> torch.device | None:
    """The one device that a model goes to; None where `options.device_map` spreads it.

    Raises `ModelError` where the device cannot be used, or both were asked for.
    """
    if options.device_map is not None:
        if options.device is not None:
            raise ModelError(
                f"--device {options.device} and --device-map {options.device_map} contradict each other: give one."
            )
        return None
    name = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("mps"):
        raise ModelError("the device 'mps' cannot be used: it has no float64, which the sums need; use --device cpu.")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(f"the device {name!r} cannot be used: {reason_of(error)}; try --device cpu.") from error
    return device


def dtype_of(options: RunOptions, device: torch.device | None) -> torch.dtype | None:
    """The dtype asked for; else None for the checkpoint's own on a GPU, and float32 on a CPU (half is slow there).

    Raises `ModelError` for an unknown one.
    """
    if options.dtype is None:
        on_cpu = device.type == "cpu" if device is not None else not torch.cuda.is_available()
        return torch.float32 if on_cpu else None
    if options.dtype not in DTYPES:
        raise ModelError(f"unknown dtype {options.dtype!r}: choose one of {', '.join(DTYPES)}.")
    return DTYPES[options.dtype]


def placement(options: RunOptions, device: torch.device | None, dtype: torch.dtype | None) -> dict[str, Any]:
    """What `from_pretrained` is told about devices and precision; without an entry the model lands on the CPU.

    Raises `ModelError` where `options.device_map` or `options.quantize` cannot be followed.
    """
    arguments: dict[str, Any] = {"dtype": "auto" if dtype is None else dtype}
    if options.device_map is not None:
        arguments |= {"device_map": _device_map(options.device_map), "offload_folder": str(_offload_folder())}
    if options.quantize is not None:
        arguments["quantization_config"] = _quantizer(options.quantize, dtype)
        arguments.setdefault("device_map", {"": str(device)})
    return arguments


def _device_map(text: str) -> str | dict[str, Any]:
    if text in MAPS:
        return text
    try:
        chosen = parse_json(text)
        if not chosen or not all(isinstance(value, str | int) for value in chosen.values()):
            raise ValueError("a JSON object from module names to devices is needed")
    except (ValueError, AttributeError) as error:
        raise ModelError(
            f"the device map {text!r} cannot be used: give one of {', '.join(MAPS)}, or a JSON object from module "
            'names to devices like \'{"model": 0, "lm_head": "cpu"}\'.'
        ) from error
    return dict(chosen)


def _quantizer(bits: str, dtype: torch.dtype | None) -> Any:
    """The configuration of bitsandbytes; transformers leaves the head and what is tied to it unpacked."""
    import transformers

    if bits not in ("8bit", "4bit"):
        raise ModelError(f"unknown quantisation {bits!r}: choose 8bit or 4bit.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            f"--quantize {bits} needs bitsandbytes, which is not installed: `pip install 'tpe-tui[quantize]'`."
        )
    if bits == "8bit":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    compute = dtype or torch.bfloat16
    return transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)


def _offload_folder() -> Path:
    """A folder of this process for weights that go to disk in another form than the checkpoint's.

    It is removed when the process ends; those of processes that were killed are removed here.
    """
    root = default_root().parent / "offload"
    folder = root / str(os.getpid())
    if root.is_dir() and os.name == "posix":  # elsewhere nobody knows which processes live
        for old in root.iterdir():
            if old.name.isdigit() and old != folder and not is_alive(int(old.name)):
                shutil.rmtree(old, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def values(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer of a model by name, offloaded ones fetched for as long as each is looked at.

    Of a packed parameter, the tensors that hold it.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.device.type != "meta":
            yield from inner_tensors(name, tensor)
            continue
        from accelerate.utils import align_module_device

        prefix, _, attribute = name.rpartition(".")
        module = model.get_submodule(prefix)
        with align_module_device(module, execution_device="cpu"):
            yield name, getattr(module, attribute)
