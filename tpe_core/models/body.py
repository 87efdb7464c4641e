"""Incremental decoding: hidden states of growing texts, from the model's cache where that works, else anew each time.

It gives hidden states only; no V-wide product is paid for here, and nothing is drawn.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from tpe_core.errors import NotFiniteError
from tpe_core.models.capture import capture
from tpe_core.models.model import LanguageModel

__all__ = ["IncrementalDecoder", "cache_works"]

CACHE_ERROR = {torch.float32: 1e-3, torch.float64: 1e-3}  # of |h|: by rounding alone
CACHE_ERROR_NARROW = 0.05


class _Continuing(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """A model that goes on from what its cache has read."""

    def __init__(self, hf: Any, cache: Any = None) -> None:
        from transformers import DynamicCache

        super().__init__()
        self.hf = hf
        self.cache = DynamicCache(config=hf.config) if cache is None else cache

    def forward(self, input_ids: Tensor) -> Any:
        return self.hf(input_ids=input_ids, past_key_values=self.cache, use_cache=True)


class IncrementalDecoder:
    """Reads a batch of equally long texts, some tokens at a time."""

    def __init__(self, model: LanguageModel, cached: bool) -> None:
        """Begin with no text; `cached` is the answer of `cache_works`."""
        self._model, self._device = model, model.device
        self._continuing = _Continuing(model.hf) if cached else None
        self._read = torch.empty(0, dtype=torch.int64)
        self._before = 0  # ids read, where they are not kept

    def last(self, unread: Tensor) -> Tensor:
        """[B, d] h after the last of the ids [B, k] that were not read yet. No V-wide product.

        Raises `NotFiniteError` where it holds NaN or infinity.
        """
        before = self._before
        try:
            hidden = self._hidden(unread)
        except NotFiniteError as error:
            raise error.placed(f" at token {before + error.position + 1} of the text being generated") from None
        return hidden[:, -1]

    def _hidden(self, unread: Tensor) -> Tensor:
        if self._continuing is not None:
            self._model.check_inputs({"input_ids": unread})
            self._before += unread.shape[1]
            return capture(self._continuing, self._model.site, {"input_ids": unread.to(self._device)})[0]
        self._read = torch.cat([self._read, unread], 1) if self._read.numel() else unread
        return self._model.hidden(self._read)

    def fork(self) -> IncrementalDecoder:
        """A second decoder with the same text so far, independent from here on."""
        other = IncrementalDecoder(self._model, False)
        if self._continuing is not None:
            other._continuing = _Continuing(self._model.hf, copy.deepcopy(self._continuing.cache))
        other._read, other._before = self._read, self._before
        return other


def cache_works(model: LanguageModel) -> bool:
    """Whether reading on from the cache gives the h that reading all at once gives, on a short input.

    Recurrent and unusual models keep what they have read in ways of their own; they are read anew at each step.
    """
    if model.context < 2:
        return False
    ids = model.example_inputs()["input_ids"].cpu()
    with torch.inference_mode():
        wanted = model.hidden(ids)[:, -1].float()
        try:
            body = IncrementalDecoder(model, True)
            for part in ids.split([ids.shape[1] - 1, 1], 1):
                hidden = body.last(part)
        except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError):
            return False
    allowed = CACHE_ERROR.get(hidden.dtype, CACHE_ERROR_NARROW)
    return float((hidden.float() - wanted).norm()) <= allowed * float(wanted.norm())
