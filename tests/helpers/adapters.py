"""Adapters of every kind on tiny models, of random numbers, saved as peft saves them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

__all__ = ["KINDS", "adapted", "matrix_of", "save_adapter"]

ATTENTION = ["q_proj", "v_proj"]

KINDS: dict[str, Callable[[], Any]] = {
    "lora": lambda: peft.LoraConfig(r=4, target_modules=ATTENTION),
    "dora": lambda: peft.LoraConfig(r=4, target_modules=[*ATTENTION, "lm_head"], use_dora=True),
    "ia3": lambda: peft.IA3Config(target_modules=["k_proj", "down_proj", "lm_head"], feedforward_modules=["down_proj"]),
    "lora-patterns": lambda: peft.LoraConfig(
        r=4, target_modules=ATTENTION, rank_pattern={"v_proj": 2}, alpha_pattern={"v_proj": 7}
    ),
    "lora-head": lambda: peft.LoraConfig(r=4, target_modules=["q_proj", "lm_head"]),
    "lora-embedding": lambda: peft.LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"]),
    "lora-both-ends": lambda: peft.LoraConfig(r=4, target_modules=["lm_head", "embed_tokens"]),
    "lora-both-ends-tied": lambda: peft.LoraConfig(
        r=4, target_modules=["lm_head", "embed_tokens"], ensure_weight_tying=True
    ),
    "saved-head": lambda: peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"]),
    "saved-ends": lambda: peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"]),
    "saved-norm": lambda: peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["norm"]),
    "new-tokens": lambda: peft.LoraConfig(r=4, target_modules=["q_proj"], trainable_token_indices=[3, 7, 200]),
    "adalora": lambda: peft.AdaLoraConfig(target_modules=["q_proj", "lm_head"], total_step=10),
    "loha": lambda: peft.LoHaConfig(r=4, target_modules=ATTENTION),
    "vera": lambda: peft.VeraConfig(r=4, target_modules=ATTENTION),
    "norms": lambda: peft.LNTuningConfig(target_modules=["input_layernorm"]),
    "head-bias": lambda: peft.LoraConfig(r=4, target_modules=["q_proj", "lm_head"], lora_bias=True),
}


def save_adapter(
    base: Path, folder: Path, config: Any, edit: Callable[[Any], None] | None = None, size: float = 0.1
) -> Path:
    """Write an adapter of random numbers of this size for the model in `base`; `edit` changes that model first."""
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hf = AutoModelForCausalLM.from_pretrained(base)
        if edit is not None:
            edit(hf)
        model: Any = peft.get_peft_model(hf, copy.deepcopy(config))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(size * torch.randn_like(parameter))
        model.save_pretrained(folder)
    return folder


def adapted(base: Path, folder: Path) -> Any:
    """The model of `base` with an adapter around it, as peft loads them: the oracle. It is never merged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folder)).eval()


def matrix_of(model: Any) -> tuple[Tensor, Tensor]:
    """(W [V, d], b [V]) that the head of an adapted model applies, read through the module."""
    head = model.get_base_model().get_output_embeddings()
    width = model.get_base_model().config.hidden_size
    with torch.inference_mode():
        bias = head(torch.zeros(1, width))[0]
        return (head(torch.eye(width)) - bias).T.contiguous(), bias
