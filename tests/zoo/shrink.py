"""Any transformers configuration made tiny, and random models of it whose logits are not degenerate.

Sizes are recognised by the field's name; what a name cannot tell stands in `OVERRIDES`, each with its reason.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from tpe_core.models.head import Task

__all__ = [
    "CONTEXT",
    "MAPS",
    "VOCAB",
    "WIDTH",
    "build",
    "inputs",
    "mapped_class",
    "shrink",
    "tiny_config",
    "tiny_model",
]

MAPS: dict[Task, dict[str, str]] = {
    "causal": dict(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    "masked": dict(modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
    "seq2seq": dict(modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
}
"""Class names by task and model type, as transformers maps them."""

VOCAB = 160
WIDTH = 32
LAYERS = 2
HEADS = 4
HEAD_DIM = WIDTH // HEADS
CONTEXT = 64
LARGEST = 8_000_000  # parameters

SIZES: dict[str, float] = {
    name: value
    for value, names in (
        (VOCAB, "vocab_size src_vocab_size tgt_vocab_size decoder_vocab_size n_words vocab_size_per_layer_input"),
        (VOCAB, "t2u_vocab_size char_vocab_size entity_vocab_size unpadded_vocab_size encoder_hash_byte_group_vocab"),
        (VOCAB, "ngram_vocab_size_base max_source_positions"),
        (WIDTH, "hidden_size d_model n_embd embedding_size dim emb_dim embed_dim word_embed_proj_dim hidden_dim"),
        (WIDTH, "input_embedding_size output_embedding_size attention_hidden_size lru_width output_dim projection_dim"),
        (WIDTH, "out_hidden_size true_hidden_size d_latents backbone_hidden_size output_proj_dims hidden_size_global"),
        (WIDTH, "pronunciation_embed_dim shape_embed_dim entity_emb_size adapter_in_dim adapter_out_dim"),
        (WIDTH, "adapter_input_size audio_hidden_size embedding_rank downsample_hidden_size hc_lowrank"),
        (2 * WIDTH, "intermediate_size ffn_dim d_ff dim_ff encoder_ffn_dim decoder_ffn_dim n_inner dff d_inner"),
        (2 * WIDTH, "ffn_hidden_size feed_forward_size shared_expert_intermediate_size shared_intermediate_size"),
        (2 * WIDTH, "dense_intermediate_size intermediate_size_mlp moe_intermediate_size expert_ffn_hidden_size"),
        (2 * WIDTH, "shared_experts_intermediate_size mlp_dim prompt_mid_dim mamba_d_ssm"),
        (LAYERS, "num_hidden_layers num_layers n_layer n_layers encoder_layers decoder_layers num_decoder_layers"),
        (LAYERS, "num_encoder_layers depth num_hidden_groups t2u_encoder_layers t2u_decoder_layers"),
        (LAYERS, "speech_encoder_layers num_layers_per_stack num_sparse_encoder_layers num_sparse_decoder_layers"),
        (HEADS, "num_attention_heads num_heads n_head n_heads encoder_attention_heads decoder_attention_heads"),
        (HEADS, "num_encoder_attention_heads num_decoder_attention_heads num_experts num_local_experts"),
        (HEADS, "n_routed_experts moe_num_experts linear_num_value_heads linear_num_key_heads index_n_heads"),
        (HEADS, "zero_expert_num mamba_n_heads laurel_rank rotary_dim"),
        (HEAD_DIM, "head_dim d_kv dim_head qk_nope_head_dim qk_rope_head_dim v_head_dim linear_key_head_dim"),
        (HEAD_DIM, "linear_value_head_dim attention_head_dim"),
        (2 * HEAD_DIM, "index_head_dim q_lora_rank kv_lora_rank o_lora_rank mamba_d_state state_size ssm_state_size"),
        (2 * HEAD_DIM, "index_topk mamba_d_head hidden_size_per_layer_input router_hidden_size"),
        (2, "num_experts_per_tok moe_k moe_top_k moe_topk top_k_experts n_shared_experts num_shared_experts"),
        (1, "n_group topk_group first_k_dense_replace"),
        (CONTEXT, "max_position_embeddings n_positions n_ctx max_target_positions context_length"),
        (CONTEXT, "max_encoder_position_embeddings max_decoder_position_embeddings max_seq_len"),
    )
    for name in names.split()
}

NEEDED = {"head_dim", "num_key_value_heads", "num_experts_per_tok", "n_routed_experts"}
"""Sizes that some classes leave at None and then cannot do without."""

SCALES = {"logits_scaling": 4.0, "logit_scale": 0.25, "lm_head_multiplier": 0.5}
"""Constants after the head whose default of 1 would show nothing."""

ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
MAMBA = {"mamba_n_heads": HEADS, "mamba_d_head": 2 * WIDTH // HEADS}
# What a configuration cannot even begin without, by model type.
STARTS: dict[str, dict[str, Any]] = {
    "gemma4_unified_assistant": {
        "text_config": {
            **{name: SIZES[name] for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")},
            **{name: SIZES[name] for name in ("num_attention_heads", "head_dim", "max_position_embeddings")},
            "model_type": "gemma4_unified_text",
            "num_key_value_heads": 2,
            "global_head_dim": HEAD_DIM,
            "layer_types": ["full_attention"] * LAYERS,
            "num_kv_shared_layers": 1,
        }
    },  # its own default shares layers of a type that none of its layers has
}

# What a name cannot tell, by model type.
OVERRIDES: dict[str, dict[str, Any]] = {
    "bamba": MAMBA,  # heads times head width must be expand * hidden_size
    "granitemoehybrid": MAMBA | {"layer_types": ["linear_attention", "full_attention"]},  # linear alone by default
    "mamba2": {"num_heads": 2 * HEADS, "head_dim": HEAD_DIM},  # as above
    "diffusion_gemma_text": {
        "num_experts": HEADS,
        "top_k_experts": 2,
        "moe_intermediate_size": WIDTH,
    },  # all None by default, and needed
    "xlm": {"asm_div_value": 4.0},  # asked for by its adaptive softmax, without a default
    "flaubert": {"asm_div_value": 4.0},
    # tokens by name: the image tokens among them are the ones it masks
    "chameleon": {"vocabulary_map": {"<image>": 1} | {f"IMGIMG{letter}Z": 100 + i for i, letter in enumerate("ABCDE")}},
    # channels come in groups of 32
    "chameleon_vqgan": {"base_channels": WIDTH, "channel_multiplier": [1, 1], "resolution": 16, "attn_resolutions": []},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},  # a run-length list of layers
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},  # has no default
    "cohere_compass_text": {"rope_parameters": {"full_attention": ROPE}, "logit_scale": 0.25},  # have no default
    "dbrx": {
        "rope_parameters": ROPE,
        "attn_config": {"rope_theta": 10_000.0, "clip_qkv": 8.0},
    },  # asked for, without a default
    "dots1": {"n_shared_experts": 1},  # None by default, and multiplied by
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 2 * HEAD_DIM,
        "indexer_budget": 4,
        "indexer_compress_ratio": 2,
    },  # None by default: an indexer that its layers need
    "neomme": {"head_dim": 2 * HEAD_DIM},  # a quarter of it is rotated, in two alternating pairs
    "vibevoice_acoustic_tokenizer_encoder": {"num_filters": 2, "depths": [1, 1, 1, 1, 1, 1, 1]},  # doubled six times
    "gemma3n_text": {"num_kv_shared_layers": 0},  # 15 of 35 layers by default
    "gemma4_text": {"global_head_dim": HEAD_DIM},  # a head width for full-attention layers alone
    "gemma4_unified_text": {"global_head_dim": HEAD_DIM},
    "reformer": {
        "attn_layers": ["local", "lsh"],
        "axial_pos_shape": (8, 8),
        "axial_pos_embds_dim": (8, WIDTH - 8),
        "attention_head_size": HEAD_DIM,
        "num_buckets": 2,
        "local_attn_chunk_length": 8,
        "lsh_attn_chunk_length": 8,
    },  # positions are a grid, lengths are multiples of chunks
    "xmod": {"default_language": "en_XX"},  # refuses to run without a language
    "esm": {"vocab_size": VOCAB, "mask_token_id": 4, "pad_token_id": 1},  # None by default
    "esmc": {"vocab_size": VOCAB},  # 64 by default, fewer than there are ids here
    "led": {"attention_window": 8},  # inputs are padded to a multiple of it: 512 by default
    "longformer": {"attention_window": 8},
}


def tiny_config(model_class: type[PreTrainedModel], config: type[PreTrainedConfig], **fixed: Any) -> PreTrainedConfig:
    """A tiny configuration that `model_class` takes: the text part where `config` also describes other modalities."""
    default = config(**STARTS.get(config.model_type, {}))
    wanted = model_class.config_class
    if wanted is not None and not isinstance(default, wanted):
        default = next((part for part in vars(default).values() if isinstance(part, wanted)), default)
    return shrink(default, **fixed)


def shrink(default: PreTrainedConfig, **fixed: Any) -> PreTrainedConfig:
    """A tiny configuration of the same class; `fixed` fields are taken as given."""
    fixed = STARTS.get(default.model_type, {}) | OVERRIDES.get(default.model_type, {}) | fixed
    values = vars(default)
    layers = getattr(default, "num_hidden_layers", None)
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(type(default)):
        if field.init and field.name in values and field.name not in fixed:
            old = values[field.name]
            new = _tiny(field.name, old, layers, values.get("num_attention_heads"))
            if new is not old:
                changed[field.name] = new
    return type(default)(**(changed | fixed))


def _tiny(name: str, old: Any, layers: int | None, heads: int | None) -> Any:
    if isinstance(old, PreTrainedConfig):
        return shrink(old)
    if name in SCALES and old is not None:
        return SCALES[name]
    if name in NEEDED and old is None:
        return SIZES.get(name, HEADS)
    if isinstance(old, bool) or old is None:
        return old
    if name.endswith(("token_id", "token_index", "token_ids")):
        return type(old)(i % VOCAB for i in old) if isinstance(old, list | tuple) else old % VOCAB
    if name in {"num_key_value_heads", "num_kv_heads", "num_query_groups"}:
        return HEADS if old == heads else 1 if old == 1 else 2
    if isinstance(old, int) and name in SIZES:
        return min(SIZES[name], old)
    if isinstance(old, list | tuple) and len(old) == layers and layers > LAYERS:
        return type(old)([old[0], old[-1]])
    return old


def build(model_class: type[PreTrainedModel], config: PreTrainedConfig, seed: int = 0) -> PreTrainedModel:
    """A random float32 model in eval mode. Raises `ValueError` where the configuration is not tiny after all."""
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in model_class(config).parameters())
    if size > LARGEST:
        raise ValueError(f"{model_class.__name__} has {size} parameters, more than {LARGEST}: it was not shrunk")
    torch.manual_seed(seed)
    model = model_class(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            _randomise(parameter)
        for name, buffer in model.named_buffers():
            if name.endswith("final_logits_bias"):
                buffer.normal_()
    return model


def _randomise(parameter: nn.Parameter) -> None:
    """Ordinary sizes (scaled by fan-in), norms and biases off their starting values, logits that a cap bends."""
    if not parameter.is_floating_point() or not parameter.numel():
        return
    if parameter.ndim < 2:
        parameter.nan_to_num_().add_(0.1 * torch.randn_like(parameter))
    else:
        boost = 4.0 if len(parameter) in range(VOCAB, VOCAB + 16) else 1.0
        parameter.normal_(std=boost * parameter[0].numel() ** -0.5)


def mapped_class(task: Task, model_type: str) -> type[PreTrainedModel]:
    """The class that transformers' auto-maps name for a task."""
    found: type[PreTrainedModel] = getattr(transformers, MAPS[task][model_type])
    return found


def tiny_model(task: Task, model_type: str, cls: str = "", **fixed: Any) -> PreTrainedModel:
    """A tiny random model by model type and task, of class `cls` where given."""
    kind = getattr(transformers, cls) if cls else mapped_class(task, model_type)
    config = CONFIG_MAPPING[model_type]
    if task == "causal" and any(field.name == "is_decoder" for field in dataclasses.fields(config)):
        fixed = {"is_decoder": True} | fixed
    return build(kind, tiny_config(kind, config, **fixed))


def inputs(model: PreTrainedModel, vocab: int, length: int, seed: int = 1) -> dict[str, Tensor]:
    """Random token ids [2, length] that the model takes, decoder ids too for an encoder-decoder model."""
    generator = torch.Generator().manual_seed(seed)

    def ids(count: int) -> Tensor:
        return torch.randint(8, vocab, (2, count), generator=generator)

    if model.config.is_encoder_decoder:
        return {"input_ids": ids(length + 3), "decoder_input_ids": ids(length)}
    return {"input_ids": ids(length)}
