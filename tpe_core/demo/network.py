"""The networks that a recipe trains, and their optimisers.

Three architectures of transformers. GPT-2 is the bundled model's. StableLM and Llama differ in their norm alone as they
are configured here (LayerNorm with a bias, RMSNorm), so that a comparison of the two compares the norms.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn

from tpe_core.demo.prepare import END_ID
from tpe_core.demo.recipe import Recipe
from tpe_core.errors import TpeError

__all__ = ["ARCHITECTURES", "new_model", "optimizers_of"]

ARCHITECTURES = ("gpt2", "stablelm", "llama")
BLOCKS = (".h.", ".layers.")  # in the names of the blocks' parameters: of GPT-2, of the others


def new_model(recipe: Recipe) -> nn.Module:
    """A causal model of transformers with random weights, drawn from the recipe's seed.

    Raises `TpeError` for an architecture that is none of `ARCHITECTURES`.
    """
    if recipe.architecture not in ARCHITECTURES:
        raise TpeError(f"unknown architecture {recipe.architecture!r}: choose one of {', '.join(ARCHITECTURES)}.")
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(recipe.seed)
    common: dict[str, Any] = {
        "vocab_size": recipe.vocab_size,
        "bos_token_id": END_ID,
        "eos_token_id": END_ID,
        "tie_word_embeddings": recipe.tied,
    }
    if recipe.architecture == "gpt2":
        config = transformers.GPT2Config(
            n_positions=recipe.context,
            n_embd=recipe.hidden_size,
            n_layer=recipe.n_layer,
            n_head=recipe.n_head,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **common,
        )
        return transformers.GPT2LMHeadModel(config)
    common |= {
        "hidden_size": recipe.hidden_size,
        "intermediate_size": 8 * recipe.hidden_size // 3,  # three matrices of it hold what GPT-2's two do
        "num_hidden_layers": recipe.n_layer,
        "num_attention_heads": recipe.n_head,
        "num_key_value_heads": recipe.n_head,
        "max_position_embeddings": recipe.context,
    }
    if recipe.architecture == "llama":
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(rms_norm_eps=1e-5, **common))
    whole_heads = 1.0  # the share of a head's dimensions that is rotated by position, as in Llama
    config = transformers.StableLmConfig(layer_norm_eps=1e-5, partial_rotary_factor=whole_heads, **common)
    return transformers.StableLmForCausalLM(config)


def optimizers_of(recipe: Recipe, model: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices and AdamW for the rest, or AdamW for everything.

    Muon orthogonalises each matrix update. On the bundled model and its text it was ahead of AdamW (learning rate
    0.002 for everything) from the start: training loss 5.01 against 5.63 nats at step 150 of a 250-step try of each.
    GPT-2 stores its matrices as Conv1D weights, which are 2-D like any other. torch computes Muon in bfloat16, which
    costs several times the rest of a small model's step on a CPU without it.
    """
    in_blocks = [(any(part in name for part in BLOCKS), parameter) for name, parameter in model.named_parameters()]
    matrices = [parameter for inside, parameter in in_blocks if inside and parameter.ndim == 2]
    embeddings = [parameter for inside, parameter in in_blocks if not inside and parameter.ndim == 2]
    vectors = [parameter for _, parameter in in_blocks if parameter.ndim < 2]
    by_adamw = embeddings if recipe.optimizer == "muon" else [*embeddings, *matrices]
    adamw = torch.optim.AdamW(
        [{"params": by_adamw, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=recipe.other_lr,
        betas=(0.9, 0.95),
        fused=recipe.optimizer == "adamw",  # a fifth of a small model's step; not in the bundled model's run
    )
    if recipe.optimizer == "adamw":
        return [adamw]
    if recipe.optimizer != "muon":
        raise TpeError(f"unknown optimizer {recipe.optimizer!r}: choose muon or adamw.")
    muon = torch.optim.Muon(
        matrices, lr=recipe.matrix_lr, weight_decay=recipe.weight_decay, momentum=0.95, adjust_lr_fn="original"
    )
    return [muon, adamw]
