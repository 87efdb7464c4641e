"""The prompts of a comparison, asked of llama.cpp by a loaded model's own token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tpe_core.errors import TpeError
from tpe_core.export.llama_cpp import ask_llama_cpp
from tpe_core.models.model import LanguageModel
from tpe_core.progress import Steps

__all__ = ["answers_of_file"]

Floats = NDArray[np.float64]


def answers_of_file(
    model: LanguageModel, path: Path, prompts: Sequence[str], biases: Mapping[int, float] | None = None
) -> Steps[tuple[str, list[Floats]]]:
    """(llama.cpp with its version, [V_all] probabilities after each prompt) by a GGUF file of `model`'s tokens: a job.

    Tokens that are not among the most probable ones have NaN. With `biases` by token id they are those after the
    server's ``logit_bias``. Raises `TpeError` where llama.cpp cannot run the file.
    """
    ids = [model.sampling.prompt(prompt, model.context)[0]["input_ids"][0].tolist() for prompt in prompts]
    version, answers = yield from ask_llama_cpp(
        path, ids, plain_id=_plain_token(model), threads=torch.get_num_threads(), biases=biases
    )
    dense = []
    for answer in answers:
        values = np.full(model.head.total_rows, np.nan)
        values[list(answer)] = list(answer.values())
        dense.append(values)
    return f"llama.cpp (xllamacpp {version})" if version else "llama.cpp", dense


def _plain_token(model: LanguageModel) -> int:
    """A token whose text is printable ASCII. Raises `TpeError` where there is none."""
    special = set(model.tokenizer.all_special_ids)
    for token_id in range(model.head.vocab_rows):
        text = model.tokenizer.decode([token_id])
        if text and text.isascii() and text.isprintable() and token_id not in special:
            return token_id
    raise TpeError(f"no token of {model.name} is plain text, so llama.cpp cannot be asked.")
