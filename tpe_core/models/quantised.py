"""Quantised checkpoints: by which method and with how many bits, whether it runs here, and W of a quantised head.

A config's `quantization_config` names the method. `check_method` refuses one that cannot run before anything large is
read. A quantised head keeps its matrix packed: `candidates` gives W as its module multiplies it, in every form the
module offers, and `models.probe` takes the one whose logits are closest to the model's own.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tpe_core.clamping import at_least
from tpe_core.errors import ModelError, reason_of
from tpe_core.options import RunOptions

__all__ = [
    "ROUNDED_TOLERANCE",
    "HeadRounding",
    "Quantisation",
    "check_leftovers",
    "check_method",
    "dequantised",
    "inner_tensors",
    "is_plain",
    "loading_arguments",
    "prepare",
    "quantisation_of",
    "rounding",
    "silence",
    "without_idle",
]

ROUNDED_TOLERANCE = 4 * 2.0**-7
"""Largest share of the largest logit by which a head that rounds its input may differ from W h + b: what a bfloat16
head is allowed, four times the distance of 1 from the next bfloat16."""

PACKAGES: dict[str, tuple[tuple[str, str], ...]] = {
    "aqlm": (("aqlm", "aqlm[gpu,cpu]"),),
    "auto-round": (("auto_round", "auto-round"),),
    "awq": (("gptqmodel", "gptqmodel"),),
    "bitsandbytes": (("bitsandbytes", "bitsandbytes"),),
    "compressed-tensors": (("compressed_tensors", "compressed-tensors"),),
    "eetq": (("kernels", "kernels"),),
    "fbgemm_fp8": (("fbgemm_gpu", "fbgemm-gpu"),),
    "fouroversix": (("fouroversix", "fouroversix"),),
    "fp_quant": (("fp_quant", "fp_quant"),),
    "gptq": (("optimum.gptq", "optimum"), ("gptqmodel", "gptqmodel")),
    "higgs": (("flute", "flute-kernel"), ("fast_hadamard_transform", "fast_hadamard_transform")),
    "hqq": (("hqq", "hqq"),),
    "quanto": (("optimum.quanto", "optimum-quanto"),),
    "quark": (("quark", "amd-quark"),),
    "sinq": (("sinq", "sinq"),),
    "spqr": (("spqr_quant", "spqr_quant"),),
    "torchao": (("torchao", "torchao"),),
    "vptq": (("vptq", "vptq"),),
}
"""(module, package to install) of what runs each method; a method without an entry needs no package of its own."""

GPU_METHODS = frozenset({"eetq", "fbgemm_fp8", "fp_quant", "higgs", "spqr", "vptq"})
"""Methods that transformers runs on a GPU only."""

FIXED_BITS: dict[str, float] = {
    "bitnet": 1.58,
    "eetq": 8,
    "fbgemm_fp8": 8,
    "fouroversix": 4,
    "fp8": 8,
    "fp_quant": 4,
    "mxfp4": 4,
    "mxfp8": 8,
    "nvfp4": 4,
}
BIT_KEYS = ("bits", "nbits", "num_bits", "w_bit")
NAMED_BITS = re.compile(r"(?:int|float|fp|nf)_?(\d)", re.IGNORECASE)
ACTIVATION_BITS = re.compile(r"(?:int|float|fp)_?(\d)_?dynamic_?activation", re.IGNORECASE)
BARS = ("compressors.model_compressors.model_compressor", "quantization.lifecycle.apply", "offload.dispatch")
LEFTOVER = re.compile(r"scale|zero|absmax|packed|qweight|g_idx|quant|codebook|_data$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """How a checkpoint is quantised: the method, and bits per value where its config tells them.

    `activation_bits` is set where the layers round their inputs as well; `unpacked` where the weights are floats of
    the model's dtype once loaded, so that nothing is saved in memory.
    """

    method: str
    bits: float | None = None
    activation_bits: float | None = None
    unpacked: bool = False

    def __str__(self) -> str:
        parts = [self.method]
        if self.bits is not None:
            parts.append(f"{self.bits:g} bits")
        if self.activation_bits is not None:
            parts.append(f"activations in {self.activation_bits:g} bits")
        return parts[0] if len(parts) == 1 else f"{parts[0]} ({', '.join(parts[1:])})"

    def to_dict(self) -> dict[str, Any]:
        """The document under ``quantisation`` in the report card."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadRounding:
    """How far a head that rounds its input is from W h + b, on the probe's short input.

    `max_abs` is the largest difference of two logits, `share` that of the largest logit, `kl` the mean divergence
    KL(softmax of the model's own logits, softmax of W h + b) in nats.
    """

    max_abs: float
    share: float
    kl: float

    def sentence(self, name: str) -> str:
        """What the user must know of it."""
        return (
            f"the head of {name} rounds its input before the product: its own logits differ from W h + b by up to "
            f"{self.max_abs:.2g} (KL {self.kl:.2g} nats); every figure is of W h + b."
        )

    def to_dict(self) -> dict[str, float]:
        """The document under ``head_rounding`` in the report card."""
        return asdict(self)


def silence(method: str = "") -> None:
    """Keep libraries of quantisation from writing on the terminal: of torchao what transformers' import prints.

    torchao names the kernels it cannot load and registers enums in a way that torch warns of; compressed-tensors
    (`method`) draws a progress bar for each of its steps, the first forward included. Errors are still told.
    """
    logging.getLogger("torchao").setLevel(logging.ERROR)
    logging.getLogger("torch.utils._pytree").addFilter(_is_no_enum_notice)
    warnings.filterwarnings("ignore", module=r"torchao\.")
    if method != "compressed-tensors" or not _is_installed("compressed_tensors"):
        return
    from loguru import logger

    logger.disable("compressed_tensors")
    for name in BARS:
        module: Any = importlib.import_module(f"compressed_tensors.{name}")
        module.tqdm = _no_bar


def _no_bar(items: Iterable[Any], **_: Any) -> Iterable[Any]:
    """The place of a progress bar's iterator, without the bar."""
    return items


def _is_no_enum_notice(record: logging.LogRecord) -> bool:
    return "is an Enum subclass" not in record.getMessage()


def quantisation_of(config: Any) -> Quantisation | None:
    """The quantisation that a transformers config names (its own or its text part's); None where there is none."""
    document = _document(config)
    if document is None:
        return None
    method = _method(document)
    return Quantisation(
        method=method or "an unnamed method",
        bits=_bits(document, FIXED_BITS.get(method)),
        activation_bits=_activation_bits(document),
    )


def check_method(config: Any, options: RunOptions, device_map: Any = None) -> Quantisation | None:
    """The quantisation of a model, where it can be loaded here; None where it is not quantised.

    `device_map` is where its modules are to go.
    Raises `ModelError` that names the method, and the package or hardware that is missing. Nothing of the weights is
    read.
    """
    document = _document(config)
    told = quantisation_of(config)
    if document is None or told is None:
        return None
    from transformers.quantizers import auto

    name = options.model

    method = _method(document)
    known = set(auto.AUTO_QUANTIZATION_CONFIG_MAPPING)
    start = f"{name} is quantised with {told}"
    if options.quantize is not None:
        raise ModelError(f"{start} already: leave out --quantize {options.quantize}.")
    if not method:
        raise ModelError(
            f"{name} is quantised, and its config.json does not say how (quantization_config without quant_method): "
            "name a checkpoint that transformers wrote, or the unquantised model."
        )
    if method not in known and f"{method}_4bit" not in known:
        raise ModelError(
            f"{start}, a method that this transformers does not know: update it, or name the unquantised model."
        )
    if method == "gguf":
        raise ModelError(f"{start}, which is a file and not a folder's config: name the .gguf file itself.")
    missing = [package for module, package in PACKAGES.get(method, ()) if not _is_installed(module)]
    needs = [f"{package} (not installed: `pip install '{package}'`)" for package in missing]
    if method in GPU_METHODS and not _has_gpu():
        needs.append("a GPU (none is visible)")
    if needs:
        raise ModelError(f"{start}, which needs {' and '.join(needs)}; or name the unquantised model.")
    try:
        quantiser = auto.AutoHfQuantizer.from_config(dict(document), pre_quantized=True)
        quantiser.validate_environment(device_map=device_map, weights_only=True)
    except Exception as error:  # every method has its own ways to refuse
        raise ModelError(f"{start}, which cannot be loaded here: {reason_of(error)}") from error
    unpacked = method == "compressed-tensors" or bool(getattr(quantiser.quantization_config, "dequantize", False))
    return replace(told, unpacked=unpacked)


def loading_arguments(config: Any, told: Quantisation | None, device: torch.device | None) -> dict[str, Any]:
    """What `from_pretrained` is told of a quantised model besides its config, which may be changed here.

    The weights that transformers saves for quanto are floats, packed as they are loaded: only where the method comes
    as an argument. On a GPU the packed weights go there at once.
    """
    if told is None:
        return {}
    silence(told.method)
    if told.method == "quanto":
        import transformers

        document = _document(config) or {}
        for holder in (config, config.get_text_config(decoder=True)):
            if getattr(holder, "quantization_config", None) is not None:
                del holder.quantization_config
        arguments: dict[str, Any] = {"quantization_config": transformers.QuantoConfig.from_dict(document)}
    else:
        arguments = {}
    if device is not None and device.type != "cpu":
        arguments["device_map"] = {"": str(device)}
    return arguments


def prepare(model: Any, told: Quantisation | None) -> Any:
    """A loaded model, its packed layers made to run wherever the engine runs them.

    quanto unpacks values of fewer than 8 bits by making tensors of its own class, which torch refuses in inference
    mode: such layers leave it for their product.
    """
    if told is not None and told.method == "quanto":
        for module in model.modules():
            if hasattr(getattr(module, "weight", None), "__tensor_flatten__"):
                module.forward = _outside_inference_mode(module.forward)
    return model


def _outside_inference_mode(forward: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(forward)
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch.inference_mode(False), torch.no_grad():
            return forward(*args, **kwargs)

    return run


def check_leftovers(keys: Collection[str], model: nn.Module, told: Quantisation | None, name: str) -> None:
    """Raise `ModelError` where a checkpoint's scales or packed weights were left unread: its weights would be wrong.

    `keys` are the tensors that loading did not use.
    """
    modules = {prefix for prefix, _ in model.named_modules()}
    left = sorted(key for key in keys if _belongs(key, modules) and LEFTOVER.search(key.rpartition(".")[2]))
    if left:
        method = "no method is named in its config.json" if told is None else f"the method is {told}"
        raise ModelError(
            f"the checkpoint of {name} holds {len(left)} tensors of a quantisation that loading did not use "
            f"({method}; first: {left[0]}): its weights would be wrong; name the unquantised model."
        )


def _belongs(key: str, modules: Collection[str]) -> bool:
    """Whether a tensor's name is one of a module that the model has, or of a parameter's part."""
    holder = key.rpartition(".")[0]
    return bool(holder) and (holder in modules or holder.rpartition(".")[0] in modules)


def without_idle(keys: Collection[str], told: Quantisation | None) -> list[str]:
    """Missing tensors, less those that quantised layers have and do not use: scales of activations left as they are."""
    if told is None or told.method != "quanto" or told.activation_bits is not None:
        return sorted(keys)
    return sorted(key for key in keys if key.rpartition(".")[2] not in ("input_scale", "output_scale"))


def is_plain(head: nn.Module) -> bool:
    """Whether a head is an `nn.Linear` whose product is its float weight's and nothing else's."""
    return (
        type(head) is nn.Linear
        and type(head.weight) in (nn.Parameter, Tensor)
        and head.weight.is_floating_point()
        and head.weight.dtype.itemsize > 1
        and "forward" not in vars(head)
        and head.weight.device.type != "meta"
        and not (head._forward_hooks or head._forward_pre_hooks)
        and not hasattr(head, "_hf_hook")
    )


def dequantised(head: nn.Module, width: int) -> tuple[Tensor, Tensor | None] | None:
    """(W [V, d], b [V] or None) in float32 by the weight's own `dequantize()`, or as it stands where it is float.

    None where the module keeps its matrix in another way.
    """
    weight, bias = getattr(head, "weight", None), getattr(head, "bias", None)
    if not isinstance(weight, Tensor):
        return None
    try:
        unpacked = weight.dequantize() if type(weight) not in (nn.Parameter, Tensor) else weight
        if unpacked.dtype not in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
            return None
        matrix = unpacked.detach().float()
    except (RuntimeError, NotImplementedError, TypeError, AttributeError):
        return None
    if matrix.ndim != 2 or matrix.shape[1] != width or matrix.device.type == "meta":
        return None
    return matrix, None if not isinstance(bias, Tensor) else bias.detach().float()


def rounding(theirs: Tensor, ours: Tensor) -> HeadRounding:
    """How far logits W h + b [..., V] are from the model's own [..., V]; masked tokens hold the same in both."""
    finite = theirs.isfinite() & ours.isfinite()
    difference = (theirs - ours).masked_fill(~finite, 0.0).abs()
    largest = float(theirs.masked_fill(~finite, 0.0).abs().max())
    p, q = theirs.double().log_softmax(-1), ours.double().log_softmax(-1)
    kl = (p.exp() * (p - q)).masked_fill(~finite, 0.0).sum(-1).mean()
    worst = float(difference.max())
    return HeadRounding(max_abs=worst, share=worst / max(largest, 1e-30), kl=at_least(0.0, float(kl)))


def inner_tensors(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """(name, plain tensor) of a parameter: itself, or what a packed one holds (codes, scales, zero points)."""
    parts = getattr(tensor, "__tensor_flatten__", None)
    if parts is None or type(tensor) in (nn.Parameter, Tensor):
        yield name, tensor
        return
    for attribute in parts()[0]:
        inner = getattr(tensor, attribute)
        if isinstance(inner, Tensor):
            yield from inner_tensors(f"{name}.{attribute}", inner)


def _document(config: Any) -> dict[str, Any] | None:
    text = config.get_text_config(decoder=True)
    for holder in (config, text):
        found = getattr(holder, "quantization_config", None)
        if found is not None:
            return dict(found) if isinstance(found, Mapping) else dict(found.to_dict())
    return None


def _method(document: Mapping[str, Any]) -> str:
    """The name in config.json; older checkpoints of bitsandbytes do not have it."""
    if document.get("load_in_4bit") or document.get("load_in_8bit"):
        return "bitsandbytes"
    named = document.get("quant_method") or ""
    return str(getattr(named, "value", named))


def _bits(document: Mapping[str, Any], fixed: float | None) -> float | None:
    """Bits of a weight: told as a number, else in the name of a type, else those the method always has."""
    if document.get("load_in_4bit"):
        return 4
    if document.get("load_in_8bit"):
        return 8
    numbers = [value for key, value in _walk(document) if key in BIT_KEYS and isinstance(value, int | float)]
    if numbers:
        return float(max(numbers))
    names = [
        str(value)
        for key, value in _walk(document)
        if key in ("weights", "forward_dtype", "weight_dtype", "_type", "quant_type", "dtype")
        and isinstance(value, str)
    ]
    named = [float(found[-1]) for each in names if (found := NAMED_BITS.findall(each))]  # the weight's comes last
    return named[0] if named else fixed


def _activation_bits(document: Mapping[str, Any]) -> float | None:
    for key, value in _walk(document, skip=()):
        if key == "input_activations" and isinstance(value, Mapping):
            return float(value.get("num_bits", 8))
        if key == "activations" and isinstance(value, str) and (found := NAMED_BITS.findall(value)):
            return float(found[0])
        if key in ("_type", "quant_type") and isinstance(value, str) and (found := ACTIVATION_BITS.findall(value)):
            return float(found[0])
    return None


def _walk(
    document: Any, skip: tuple[str, ...] = ("input_activations", "output_activations", "kv_cache_scheme")
) -> Iterator[tuple[str, Any]]:
    """Every (key, value) in a config, however deep; what `skip` names is left out with all below it."""
    if isinstance(document, Mapping):
        for key, value in document.items():
            if key not in skip:
                yield str(key), value
                yield from _walk(value, skip)
    elif isinstance(document, list):
        for value in document:
            yield from _walk(value, skip)


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _has_gpu() -> bool:
    return torch.cuda.is_available() or (hasattr(torch, "xpu") and torch.xpu.is_available())
