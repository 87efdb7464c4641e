"""Tiny models of many architectures saved as real folders, edits of random numbers, and weights edited by hand."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from tests.zoo.shrink import CONTEXT, VOCAB, tiny_model
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.intervention import Intervention, Steering
from tpe_core.models.capture import forward
from tpe_core.models.head import Task
from tpe_core.models.head_sites import find_site
from tpe_core.models.loading import load_model
from tpe_core.models.model import LanguageModel
from tpe_core.options import RunOptions

__all__ = ["ROWS", "loaded", "logits_of", "random_edit", "save", "with_edited_weights", "word_tokenizer"]

ROWS = VOCAB - 10  # tokens of the tokenizer; the head's other rows are padding
SPECIAL = ["<unk>", "<mask>", "<pad>", "<end>", "<s>", "<sep>", "<cls>"]
HOLE = 140  # an id that no token has


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of whole words: `ROWS` ids, all but one of them in use."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = [*SPECIAL, "The", "capital", "of", "France", "is", "`x`"]
    words += [f"w{i}" for i in range(len(words), ROWS)]
    vocabulary = {word: i for i, word in enumerate(words) if i != HOLE}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = ("unk_token", "mask_token", "pad_token", "eos_token", "bos_token", "sep_token", "cls_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=CONTEXT, **dict(zip(names, SPECIAL, strict=True))
    )


def save(folder: Path, task: Task, model_type: str, **fixed: Any) -> Path:
    """Write a tiny random model by model type."""
    tiny_model(task, model_type, **fixed).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


def loaded(folder: Path, task: Task, model_type: str, dtype: str | None = None, **fixed: Any) -> LanguageModel:
    """The same, loaded and measured."""
    return load_model(RunOptions(model=str(save(folder, task, model_type, **fixed)), task=task, dtype=dtype))


def random_edit(
    width: int, replacement: str = "zero", dims: int = 5, *, bias: bool = False, seed: int = 0
) -> ResolvedEdit:
    """Some pruned dimensions and two steered tokens, one of them by ``bias`` where that is asked for."""
    rng = np.random.default_rng(seed)
    pruned = tuple(sorted(rng.choice(width, dims, replace=False).tolist()))
    second = Steering(21, 0.5, "bias" if bias else "min-norm")
    written = width if replacement == "refit" else dims
    return ResolvedEdit(
        intervention=Intervention(pruned, replacement, (Steering(12, 2.0), second)),
        hidden_size=width,
        constant=np.zeros(dims) if replacement == "zero" else rng.normal(size=written),
        fold=rng.normal(size=(written, width - dims)) / 5 if replacement in ("least-squares", "refit") else None,
        rows={entry: rng.normal(size=width) / 3 for entry in ((12,) if bias else (12, 21))},
        biases={21: math.log(0.5)} if bias else {},
    )


def with_edited_weights(model: LanguageModel, edit: ResolvedEdit) -> Any:
    """A copy of the transformers model with a matrix and a bias of its own as its head, made row by row in float64."""
    hf = copy.deepcopy(model.hf)
    head: Any = find_site(hf).head
    scale = model.head.post.scale
    weight = head.weight.detach().double().numpy().copy()
    bias = np.zeros(len(weight)) if head.bias is None else head.bias.detach().double().numpy().copy()
    kept = [dim for dim in range(edit.hidden_size) if dim not in edit.removed]
    refit = edit.intervention.replacement == "refit"
    gone = list(range(edit.hidden_size)) if refit else list(edit.removed)
    for row in range(len(weight)):
        moved = weight[row] + edit.rows.get(row, 0.0) / scale
        bias[row] += moved[gone] @ edit.constant + edit.biases.get(row, 0.0) / scale
        weight[row] = 0
        weight[row, kept] = (0 if refit else moved[kept]) + (0 if edit.fold is None else moved[gone] @ edit.fold)
    fresh = nn.Linear(*weight.T.shape, dtype=head.weight.dtype)
    with torch.no_grad():
        fresh.weight.copy_(torch.from_numpy(weight))
        fresh.bias.copy_(torch.from_numpy(bias))
    for parent in list(hf.modules()):  # not set_output_embeddings, which may tie the input to it again
        for name, child in parent.named_children():
            if child is head:
                setattr(parent, name, fresh)
    return hf


def logits_of(hf: Any, model: LanguageModel, seed: int = 3) -> Tensor:
    """[B, L, V] of a transformers model on random tokens that `model` takes."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {
        name: torch.randint(8, ROWS, ids.shape, generator=generator) for name, ids in model.example_inputs().items()
    }
    logits: Tensor = forward(hf, drawn).logits
    return logits.float()
