"""Tiny quantised checkpoints, written as each method's own library writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.helpers.tiny_models import CONTEXT, VOCAB, tiny_tokenizer

GROUP = 32  # weights that share a scale
ACTIVATION_SCALE = 0.08  # of a static one: 127 steps reach beyond every h of the tiny model


def plain(folder: Path, quantization_config: Mapping[str, Any] | None = None) -> Path:
    """A tiny float model with an untied head, its config perhaps naming a quantisation."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(8 if "embed" in name or "lm_head" in name else 2).add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    if quantization_config is not None:
        path = folder / "config.json"
        document = json.loads(path.read_text()) | {"quantization_config": dict(quantization_config)}
        path.write_text(json.dumps(document))
    return folder


def torchao(folder: Path, kind: str, head: bool) -> Path:
    """A checkpoint of torchao: `kind` is the name of its config's class without ``Config``."""
    from torchao import quantization
    from transformers import TorchAoConfig

    source = plain(folder.with_name(f"{folder.name}-plain"))
    scheme = TorchAoConfig(getattr(quantization, f"{kind}Config")(), modules_to_not_convert=[] if head else ["lm_head"])
    LlamaForCausalLM.from_pretrained(source, quantization_config=scheme).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def compressed(folder: Path, form: str, scheme: Mapping[str, Any], head: bool) -> Path:
    """A checkpoint of compressed-tensors, scales fitted to each row's or group's range."""
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
    from compressed_tensors.quantization.utils import calculate_qparams

    model = LlamaForCausalLM.from_pretrained(plain(folder.with_name(f"{folder.name}-plain")))
    document = QuantizationConfig(
        config_groups={"all": {"targets": ["Linear"], **scheme}},
        format=form,
        quantization_status="frozen",
        ignore=[] if head else ["lm_head"],
    )
    apply_quantization_config(model, document)
    for module in model.modules():
        told = getattr(module, "quantization_scheme", None)
        if told is None:
            continue
        rows = module.weight.unflatten(1, (-1, told.weights.group_size or module.weight.shape[1]))
        scale, zero = calculate_qparams(rows.amin(-1), rows.amax(-1), told.weights)
        module.weight_scale.data.copy_(scale.reshape(module.weight_scale.shape))
        if hasattr(module, "weight_zero_point"):
            module.weight_zero_point.data.copy_(zero.reshape(module.weight_zero_point.shape))
        if hasattr(module, "input_scale"):
            module.input_scale.data.fill_(ACTIVATION_SCALE)
    compressor = ModelCompressor(quantization_config=document)
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(str(folder))
    tiny_tokenizer().save_pretrained(folder)
    return folder


def values(bits: int, kind: str = "int", **more: Any) -> dict[str, Any]:
    """How compressed-tensors packs a tensor."""
    return {"num_bits": bits, "type": kind, "strategy": "channel", "symmetric": True, **more}
