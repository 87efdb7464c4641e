"""Whether a model has a row for a token id: in the embedding that reads it, and in the head that predicts it.

A tokenizer may have tokens that were added without resizing the model. Without this check such an id is an IndexError,
or on a GPU a failure that no later call of the process survives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from tpe_core.corpus.token_ids import vocabulary_rows
from tpe_core.errors import ModelError
from tpe_core.printable import fit, printable_token

__all__ = ["check_ids", "check_inputs", "input_rows", "rowless_tokens"]


def input_rows(hf: Any) -> int | None:
    """Rows of a transformers model's input embedding; None where it has no plain one."""
    embedding = hf.get_input_embeddings()
    rows = getattr(embedding, "num_embeddings", None)
    return int(rows) + int(getattr(embedding, "num_additional_embeddings", 0)) if isinstance(rows, int) else None


def check_ids(ids: Any, rows: int | None, part: str, name: str, tokenizer: Any) -> None:
    """Raise `ModelError` where one of some token ids (an array or tensor) has none of the `rows` of a model's `part`.

    `name` is the model's. Nothing is checked where `rows` is None.
    """
    values = ids.detach().cpu().numpy() if isinstance(ids, Tensor) else np.asarray(ids)
    if rows is None or not values.size or (values.min() >= 0 and values.max() < rows):
        return
    wrong = int(values.max() if values.max() >= rows else values.min())
    raise ModelError(
        f"{_named(wrong, tokenizer)} has no row in the {part} of {name}, which has {rows:,} (ids 0 to {rows - 1}): "
        "leave it out of the text, name the model that this tokenizer belongs to, or resize this one to its tokenizer "
        "with resize_token_embeddings() and save it again."
    )


def rowless_tokens(hf: Any, head_rows: int, tokenizer: Any, name: str) -> str:
    """A sentence about a tokenizer's tokens that a model cannot read or predict; empty where there are none."""
    known = input_rows(hf)
    rows = head_rows if known is None else min(known, head_rows)
    beyond = sorted(i for i in tokenizer.get_vocab().values() if i >= rows)
    if not beyond:
        return ""
    tokens = "1 token" if len(beyond) == 1 else f"{len(beyond):,} tokens"
    part = "input embedding" if known is not None and known < head_rows else "head"
    return (
        f"the tokenizer has {tokens} beyond the {rows:,} rows of the {part} of {name} (the first is "
        f"{_named(beyond[0], tokenizer)}), added without resizing the model: a text that holds one cannot be read."
    )


def check_inputs(inputs: Mapping[str, Tensor], hf: Any, name: str, tokenizer: Any) -> None:
    """`check_ids` of every id that a model is to read."""
    if "input_ids" in inputs:
        check_ids(inputs["input_ids"], input_rows(hf), "input embedding", name, tokenizer)
    if "decoder_input_ids" in inputs:
        check_ids(inputs["decoder_input_ids"], _decoder_rows(hf), "decoder's embedding", name, tokenizer)


def _decoder_rows(hf: Any) -> int | None:
    """Rows of an encoder-decoder model's decoder embedding, which can have a vocabulary of its own."""
    decoder = hf.get_decoder() if hasattr(hf, "get_decoder") else None
    if decoder is None or decoder is hf or not hasattr(decoder, "get_input_embeddings"):
        return None
    return input_rows(decoder)


def _named(token_id: int, tokenizer: Any) -> str:
    """``token '<|im_start|>' (id 50257)``, or the id alone where no token has it."""
    known = tokenizer is not None and 0 <= token_id < vocabulary_rows(tokenizer)
    spelling = tokenizer.convert_ids_to_tokens(token_id) if known else None
    shown = "" if spelling is None else f"{fit(printable_token(str(spelling)), 40)!r} "
    return f"token {shown}(id {token_id})"
