"""Architectures whose Hugging Face weights can be written as a GGUF file: hyperparameters, and tensors as in ggml.

A new one is one entry of `ARCHITECTURES`. The names of tensors and of metadata are those of the package gguf; what
llama.cpp expects otherwise than transformers stores it is a function here. Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tpe_core.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ARCHITECTURES", "Architecture", "unwritable"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """One architecture.

    `describe` writes the hyperparameters of a configuration with a `gguf.GGUFWriter`; `reorder` gives a parameter by
    its name in transformers as llama.cpp reads it; `more` are tensors that are no parameters; `why_not` is a clause
    where llama.cpp has no such configuration, else empty.
    """

    name: str  # transformers' model_type
    gguf: str  # llama.cpp's name
    describe: Callable[[Any, Any], None]
    reorder: Callable[[Any, str, Tensor], Tensor] = lambda _config, _name, tensor: tensor
    more: Callable[[Any], Iterator[tuple[str, Tensor]]] = lambda _hf: iter(())
    why_not: Callable[[Any], str] = lambda _config: ""


def unwritable(model: str, model_type: str) -> str:
    """The clause that refuses an architecture which is none of `ARCHITECTURES`."""
    return (
        f"{model} is of the architecture {model_type}, and tpe writes {', '.join(ARCHITECTURES)}: convert the unedited "
        "folder with llama.cpp's convert_hf_to_gguf.py and edit that file"
    )


def _rope(config: Any) -> dict[str, Any]:
    """Parameters of the rotary embedding, as transformers 5 has them."""
    own = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return {"rope_theta": getattr(config, "rope_theta", None) or 10000.0, "rope_type": "default", **own}


def _head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _sizes(writer: Any, config: Any) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)


def _describe_llama(writer: Any, config: Any) -> None:
    """Llama and all that follow it: rotary embedding, root-mean-square norm, grouped queries."""
    import gguf

    _sizes(writer, config)
    writer.add_head_count_kv(config.num_key_value_heads or config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    size, rope = _head_size(config), _rope(config)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])


def _rotary_rows(config: Any, name: str, tensor: Tensor) -> Tensor:
    """Rows of queries and keys with the two halves of every head interleaved, as llama.cpp rotates a Llama's."""
    part = name.rpartition(".")[0].rpartition(".")[2]
    if part not in ("q_proj", "k_proj"):
        return tensor
    heads = config.num_attention_heads if part == "q_proj" else config.num_key_value_heads
    return tensor.reshape(heads, 2, -1, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


def _rope_factors(hf: Any) -> Iterator[tuple[str, Tensor]]:
    """What divides every frequency of the rotary embedding, where Llama 3 scales them apart."""
    import torch

    rope = _rope(hf.config)
    if rope["rope_type"] != "llama3":
        return
    size = _head_size(hf.config)
    plain = rope["rope_theta"] ** -(torch.arange(0, size, 2, dtype=torch.float64) / size)
    yield "rope_freqs.weight", (plain / hf.model.rotary_emb.inv_freq.double().cpu()).float()


def _why_not_llama(*ropes: str) -> Callable[[Any], str]:
    def why_not(config: Any) -> str:
        kind = _rope(config)["rope_type"]
        if kind not in ropes:
            return f"its rotary embedding is scaled as {kind!r}, and tpe writes {', '.join(ropes)}"
        if config.hidden_act not in ("silu", "swish"):
            return f"its activation is {config.hidden_act}, and llama.cpp computes silu"
        if getattr(config, "use_sliding_window", False):
            return "its attention is a sliding window, which llama.cpp has not for this architecture"
        return ""

    return why_not


def _why_not_smollm3(config: Any) -> str:
    rotated = [bool((layer + 1) % 4) for layer in range(config.num_hidden_layers)]
    if [bool(each) for each in config.no_rope_layers] != rotated:
        return "its layers without a rotary embedding are not every fourth, which llama.cpp takes them to be"
    return _why_not_llama("default", "linear")(config)


def _describe_gpt2(writer: Any, config: Any) -> None:
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)


def _transposed(_: Any, name: str, tensor: Tensor) -> Tensor:
    """GPT-2's matrices, which transformers keeps as [inputs, outputs]."""
    turned = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
    return tensor.T if turned else tensor


def _why_not_gpt2(config: Any) -> str:
    if config.activation_function not in ("gelu_new", "gelu", "gelu_pytorch_tanh"):
        return f"its activation is {config.activation_function}, and llama.cpp computes gelu"
    if not config.scale_attn_weights or config.scale_attn_by_inverse_layer_idx:
        return "its attention is scaled otherwise than llama.cpp does"
    return ""


def _describe_neox(writer: Any, config: Any) -> None:
    _sizes(writer, config)
    rope, size = _rope(config), _head_size(config)
    share = rope.get("partial_rotary_factor") or getattr(config, "rotary_pct", None) or 1.0
    writer.add_rope_dimension_count(int(share * size))
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_parallel_residual(config.use_parallel_residual)
    writer.add_layer_norm_eps(config.layer_norm_eps)


def _queries_first(config: Any, name: str, tensor: Tensor) -> Tensor:
    """GPT-NeoX's joint matrix with all queries, then all keys, then all values, where transformers has them by head."""
    if "query_key_value" not in name:
        return tensor
    heads = config.num_attention_heads
    return tensor.reshape(heads, 3, -1, *tensor.shape[1:]).transpose(0, 1).reshape(tensor.shape)


def _why_not_neox(config: Any) -> str:
    kind = _rope(config)["rope_type"]
    if kind != "default":
        return f"its rotary embedding is scaled as {kind!r}, and tpe writes default"
    if not config.hidden_act.startswith("gelu"):
        return f"its activation is {config.hidden_act}, and llama.cpp computes gelu"
    return ""


ARCHITECTURES: Registry[Architecture] = Registry(
    "architecture",
    Architecture(
        name="llama",
        gguf="llama",
        describe=_describe_llama,
        reorder=_rotary_rows,
        more=_rope_factors,
        why_not=_why_not_llama("default", "linear", "llama3"),
    ),
    Architecture(
        name="mistral",
        gguf="llama",
        describe=_describe_llama,
        reorder=_rotary_rows,
        why_not=_why_not_llama("default", "linear"),
    ),
    Architecture(
        name="smollm3",
        gguf="smollm3",
        describe=_describe_llama,
        reorder=_rotary_rows,
        why_not=_why_not_smollm3,
    ),
    Architecture(
        name="qwen2",
        gguf="qwen2",
        describe=_describe_llama,
        why_not=_why_not_llama("default", "linear"),
    ),
    Architecture(
        name="qwen3",
        gguf="qwen3",
        describe=_describe_llama,
        why_not=_why_not_llama("default", "linear"),
    ),
    Architecture(
        name="olmo2",
        gguf="olmo2",
        describe=_describe_llama,
        why_not=_why_not_llama("default", "linear"),
    ),
    Architecture(
        name="gpt2",
        gguf="gpt2",
        describe=_describe_gpt2,
        reorder=_transposed,
        why_not=_why_not_gpt2,
    ),
    Architecture(
        name="gpt_neox",
        gguf="gptneox",
        describe=_describe_neox,
        reorder=_queries_first,
        why_not=_why_not_neox,
    ),
)
"""By transformers' model_type."""
