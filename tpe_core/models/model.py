"""A language model behind the things the engine needs: token ids, hidden states, its head, its fingerprint.

Causal, masked or encoder-decoder: `sampling` knows which inputs it takes and which positions count. The model
itself is never edited: edits act on hidden states and head outputs only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tpe_core.errors import HeadError, NotFiniteError
from tpe_core.models.capture import capture, forward, input_device, probe_inputs
from tpe_core.models.footprint import Footprint
from tpe_core.models.gguf_files import GgufFile
from tpe_core.models.head import HeadReport, OutputHead, Task
from tpe_core.models.head_sites import HeadSite, find_site
from tpe_core.models.placement import values
from tpe_core.models.prompt_states import PromptStates
from tpe_core.models.sampling import MaskedToken, Sampling, decoder_start, sampling_for
from tpe_core.models.token_rows import check_ids, check_inputs, input_rows, rowless_tokens

if TYPE_CHECKING:
    from tpe_core.corpus.corpus import Corpus
    from tpe_core.models.adapters import Adapter

__all__ = ["LanguageModel"]


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """A loaded model, its tokenizer, and its measured head (see `LanguageModel.head`).

    Example:
        >>> hidden, tokens, dropped = model.last_hidden("Return the")
        >>> model.head.logits(hidden).shape == (model.head.total_rows,)
        True
    """

    name: str
    revision: str | None
    hf: Any  # transformers.PreTrainedModel
    tokenizer: Any  # transformers.PreTrainedTokenizerBase
    context: int  # positions a forward pass may have
    report: HeadReport
    measured_head: OutputHead | None
    task: Task = "causal"
    memory: Footprint | None = None  # what it was estimated to need, before it was loaded
    gguf: GgufFile | None = None  # the file it was dequantised from
    notes: tuple[str, ...] = ()  # what is to be known of its files: whole sentences
    adapter: Adapter | None = None  # the one on it

    @property
    def head(self) -> OutputHead:
        """The output head. Raises `HeadError` with the report's reason where it is unsupported."""
        if self.measured_head is None:
            raise HeadError(f"{self.name} cannot be inspected: {self.report.reason}")
        return self.measured_head

    def card(self) -> dict[str, Any]:
        """The document of `tpe check`: the head's report, the estimated memory, adapter and GGUF file if any."""
        memory = None if self.memory is None else self.memory.to_dict()
        card = {**self.report.to_dict(), "memory": memory}
        card |= {} if self.adapter is None else {"adapter": self.adapter.to_dict()}
        return card if self.gguf is None else {**card, "gguf": self.gguf.to_dict()}

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What a user must know of how it was loaded: whole sentences."""
        beyond = (
            ""
            if self.measured_head is None
            else rowless_tokens(self.hf, self.measured_head.total_rows, self.tokenizer, self.name)
        )
        rounding = self.report.head_rounding if self.report.supported else None
        rounds = "" if rounding is None else rounding.sentence(self.name)
        return tuple(filter(None, (*self.notes, rounds, beyond)))

    @cached_property
    def site(self) -> HeadSite:
        """The module whose input is h, and how to capture it."""
        return find_site(self.hf)

    @cached_property
    def sampling(self) -> Sampling:
        """Its inputs, and the positions that count. Raises `ModelError` where it cannot be asked."""
        return sampling_for(self.task, self.tokenizer, decoder_start(self.hf))

    @property
    def device(self) -> torch.device:
        """The device of the model's inputs."""
        return input_device(self.hf)

    def hidden(self, inputs: Tensor | Mapping[str, Tensor]) -> Tensor:
        """[B, L, d] the head's input at every position, in the model's dtype; no V-wide product.

        `inputs` are token ids [B, L], or what the forward takes by name. Raises `NotFiniteError` where it holds NaN or
        infinity.
        """
        return capture(self.hf, self.site, self._inputs(inputs))[0]

    def logits(self, inputs: Tensor | Mapping[str, Tensor]) -> Tensor:
        """[B, L, V_all] the model's own logits, by a whole forward: the reference for everything else."""
        logits: Tensor = forward(self.hf, self._inputs(inputs)).logits
        return logits

    def hidden_and_logits(self, inputs: Tensor | Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(`hidden`, `logits`) of the same whole forward."""
        hidden, output = capture(self.hf, self.site, self._inputs(inputs), stop=False)
        return hidden, output.logits

    def _inputs(self, inputs: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        named = {"input_ids": inputs} if isinstance(inputs, Tensor) else inputs
        self.check_inputs(named)
        return {name: ids.to(self.device) for name, ids in named.items()}

    def check_inputs(self, inputs: Mapping[str, Tensor]) -> None:
        """Raise `ModelError` where a token id among a forward's inputs has no row in the input embedding."""
        check_inputs(inputs, self.hf, self.name, self.tokenizer)

    def check_corpus(self, corpus: Corpus) -> None:
        """Raise `ModelError` where the model cannot read a token of a corpus, or its head cannot predict one."""
        check_ids(corpus.blocks, input_rows(self.hf), "input embedding", self.name, self.tokenizer)
        predicted = corpus.targets if self.task == "causal" else corpus.blocks
        check_ids(predicted, self.head.total_rows, "head", self.name, self.tokenizer)

    def example_inputs(self) -> dict[str, Tensor]:
        """A short input with ids from all over the vocabulary that it can read, as the forward takes it."""
        start, rows = decoder_start(self.hf) or 0, self.head.vocab_rows
        rows = min(rows, input_rows(self.hf) or rows)
        return probe_inputs(self.task, rows, self.context, self.device, start)

    def last_hidden(self, prompt: str) -> tuple[Tensor, int, int]:
        """([d] float32 h where the prompt asks for a token, tokens used, tokens dropped to fit the context).

        That is after the last token, at the first mask, or at the decoder's next position (`tpe_core.models.sampling`).
        """
        states = self.prompt_states(prompt)
        return states.at(None), states.used, states.dropped

    def prompt_states(self, prompt: str) -> PromptStates:
        """h at every token of a prompt, by one forward. Raises as `hidden` does, and for a prompt that cannot be asked.

        Example:
            >>> states = model.prompt_states("Return the")
            >>> states.hidden.shape == (len(states.ids), model.head.hidden_size)
            True
        """
        inputs, asked, used, dropped = self.sampling.prompt(prompt, self.context)
        try:
            hidden = self.hidden(inputs)[0]
        except NotFiniteError as error:
            raise error.placed(f" at token {error.position + 1} of this prompt") from None
        mask_id = self.sampling.mask_id if isinstance(self.sampling, MaskedToken) else None
        return PromptStates(
            hidden=hidden,
            ids=tuple(inputs.get("decoder_input_ids", inputs["input_ids"])[0].tolist()),
            asked=asked,
            used=used,
            dropped=dropped,
            is_next=mask_id is None,
            mask_id=mask_id,
        )

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the config, the head's content and a spread of every parameter's and buffer's values.

        A spread (64 values a tensor), because hashing a 7 B body would cost more than detecting with it; any
        training step changes nearly all values. Of a GGUF file the hash of the whole file is part of it.
        """
        config = {
            name: value
            for name, value in self.hf.config.to_dict().items()
            if name not in ("_name_or_path", "transformers_version")
        }
        facts = [self.head.sha256, self.device.type, torch.__version__, config]
        if self.gguf is not None:
            facts.append(self.gguf.sha256)
        if self.adapter is not None:
            facts.append(self.adapter.sha256)
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
        for name, tensor in values(self.hf):
            flat = tensor.detach().reshape(-1)
            if tensor.device.type == "meta" or not flat.numel():
                continue
            picks = torch.linspace(0, flat.numel() - 1, 64, dtype=torch.float64, device="cpu").long().to(flat.device)
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(flat[picks].double().cpu().numpy().tobytes())
        return digest.hexdigest()
