"""Tiny random models of the architectures that can be written as GGUF files, with real tokenizers, as folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.helpers.tiny_models import CONTEXT, VOCAB, tiny_tokenizer

WIDTH, HEADS = 64, 4
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"tie_word_embeddings": True}),
    "llama-untied": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama3": ("llama", {"rope_parameters": LLAMA3}),
    "llama-linear": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0}}),
    "mistral": ("mistral", {"head_dim": 32, "sliding_window": None}),
    "smollm3": ("smollm3", {"tie_word_embeddings": True, "num_hidden_layers": 4}),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", {"head_dim": 32}),
    "olmo2": ("olmo2", {}),
    "gpt2": ("gpt2", {"tie_word_embeddings": True}),
    "gpt_neox": ("gpt_neox", {"use_parallel_residual": True, "hidden_act": "gelu_new"}),
    "gpt_neox-serial": ("gpt_neox", {"use_parallel_residual": False, "hidden_act": "gelu_new"}),
}
"""transformers' model_type and what is special, by name."""


def save_convertible(folder: Path, name: str, *, tokenizer: Any = None, padding: int = 4, **more: Any) -> Path:
    """Write a random model by its name in `KINDS`, all values in float16's reach, with `padding` rows of no token."""
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, special = KINDS[name]
    words = tiny_tokenizer() if tokenizer is None else tokenizer
    sizes = {
        "hidden_size": WIDTH, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": HEADS,
        "num_key_value_heads": 2, "max_position_embeddings": CONTEXT, "tie_word_embeddings": False,
    }  # fmt: skip
    if model_type == "gpt2":
        sizes = {"n_embd": WIDTH, "n_layer": 2, "n_head": HEADS, "n_positions": CONTEXT}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    rows = max(VOCAB if tokenizer is None else 0, len(words)) + padding
    torch.manual_seed(5)
    config = AutoConfig.for_model(model_type, **(sizes | ends | {"vocab_size": rows} | special | more))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
            parameter.copy_(parameter.half().float())
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
