"""Tiny GGUF files of a Llama with its tokenizer, beside a Hugging Face folder of the very same numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from tests.helpers.tiny_models import CONTEXT, VOCAB, tiny_tokenizer

WIDTH = 32  # a block of the quantised types is 32 values of a row
HEADS = 2
TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.layers": "blk",
}  # parts of transformers' names for a Llama's tensors, and what llama.cpp calls them


MADE_BY: dict[str, tuple[Any, Any]] = {"qwen2": (Qwen2Config, Qwen2ForCausalLM)}
"""Configuration and model by llama.cpp's name of the architecture; a Llama for any other."""


class GgufModel(NamedTuple):
    """A GGUF file, and the folder that holds what its tensors stand for."""

    file: Path
    folder: Path


def save_gguf(
    place: Path,
    kind: str = "F16",
    *,
    tied: bool = False,
    arch: str = "llama",
    template: str | None = None,
    tokenizer: bool = True,
    **facts: int,
) -> GgufModel:
    """Write ``model.gguf`` (a random Llama, or by `arch` Qwen2; matrices F32, F16, Q8_0 or Q4_0) and ``folder``.

    The folder's weights are the file's, dequantised by the package gguf. `facts` are whole numbers that are put into
    the file's metadata as they are, a dot written as ``__``.
    """
    import gguf

    place.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(3)
    make_config, make_model = MADE_BY.get(arch, (LlamaConfig, LlamaForCausalLM))
    config = make_config(
        vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=HEADS,
        num_key_value_heads=HEADS, max_position_embeddings=CONTEXT, bos_token_id=0, eos_token_id=0, pad_token_id=0,
        tie_word_embeddings=tied,
    )  # fmt: skip
    model = make_model(config)
    writer = gguf.GGUFWriter(place / "model.gguf", arch)
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_file_type({"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7}[kind])
    for name, value in facts.items():
        writer.add_uint32(name.replace("__", "."), value)
    words = tiny_tokenizer()
    if tokenizer:
        _add_tokenizer(writer, words, template)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
            stored, type_id = _stored(parameter.numpy(), kind)
            values = gguf.quants.dequantize(stored, type_id).astype(np.float32).reshape(tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(values))
            if arch != "qwen2" and name.endswith(
                ("q_proj.weight", "k_proj.weight")
            ):  # the converter of llama.cpp turns their rows round
                stored = stored.reshape(HEADS, 2, -1, stored.shape[-1]).swapaxes(1, 2).reshape(stored.shape)
            writer.add_tensor(_gguf_name(name), np.ascontiguousarray(stored), raw_dtype=type_id)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model.save_pretrained(place / "folder")
    words.chat_template = template
    words.save_pretrained(place / "folder")
    return GgufModel(place / "model.gguf", place / "folder")


def _stored(values: NDArray[np.float32], kind: str) -> tuple[NDArray[Any], Any]:
    import gguf

    type_id = gguf.GGMLQuantizationType[kind if values.ndim == 2 else "F32"]
    return gguf.quants.quantize(values, type_id), type_id


def _gguf_name(name: str) -> str:
    for theirs, ours in NAMES.items():
        name = name.replace(theirs, ours)
    return name


def _add_tokenizer(writer: Any, words: Any, template: str | None) -> None:
    vocabulary = words.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    merges = json.loads(words.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in words.all_special_tokens else 1 for token in tokens])
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    if template is not None:
        writer.add_chat_template(template)
