"""What an edit does at each token of a prompt: one forward of the model a prompt, one product with the head an edit."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.intervention import Intervention
from tpe_core.edits.row_costs import BaseRows, row_costs
from tpe_core.errors import CancelledError, TpeError
from tpe_core.models.model import LanguageModel
from tpe_core.models.prompt_states import NO_TOKEN, PromptStates, StatesCache
from tpe_core.pauses import pause
from tpe_core.printable import printable_token
from tpe_core.progress import Progress
from tpe_core.snapshots import PromptCost, PromptPositions

__all__ = ["PromptReader"]

STATES_BYTES = 64 * 2**20  # of hidden states that are kept
ENDS_BYTES = 64 * 2**20  # of the last hidden states of prompts


class PromptReader:
    """The prompts of one model, whose printable `tokens` are by id. Hidden states are kept within `STATES_BYTES`."""

    def __init__(self, model: LanguageModel, tokens: Sequence[str]) -> None:
        self._model, self._tokens = model, tokens
        self.states = StatesCache(model.prompt_states, STATES_BYTES)
        self._rows: tuple[str, BaseRows] | None = None  # the prompt that was asked about last, and its base logits
        self._ends: OrderedDict[str, tuple[Tensor, int, int]] = OrderedDict()  # what `last_hidden` said of prompts

    def positions(self, prompt: str, intervention: Intervention, basis: EditStatistics) -> PromptPositions:
        """What an edit does at every token of a prompt, with the numbers of a basis. Raises as `row_costs` does."""
        started = time.perf_counter()
        states = self.states(prompt)
        if self._rows is None or self._rows[0] != prompt:
            self._rows = prompt, BaseRows(self._model.head, states.hidden)
        costs = row_costs(self._rows[1], states.targets, basis.resolve(intervention))
        return PromptPositions(
            prompt=prompt,
            intervention=intervention,
            ids=np.array(states.ids, np.int64),
            texts=tuple(map(self._text, states.ids)),
            asked=states.asked,
            truncated=states.dropped,
            is_next=states.is_next,
            surprisal_base=_of_tokens(states, costs.surprisal_base),
            surprisal_now=_of_tokens(states, costs.surprisal_now),
            kl=costs.kl,
            top1_base=costs.top1_base,
            top1_now=costs.top1_now,
            milliseconds=(time.perf_counter() - started) * 1000,
        )

    def compare(
        self, prompts: Sequence[str], intervention: Intervention, basis: EditStatistics
    ) -> tuple[PromptCost, ...]:
        """What an edit does after each of several prompts, with the numbers of a basis: products for all of them.

        A prompt that cannot be asked has a sentence instead of figures. Raises as `row_costs` does.
        """
        ends, problems = {}, {}
        for at, prompt in enumerate(prompts):
            pause(Progress("reading prompts", at, len(prompts)))
            try:
                ends[prompt] = self._end(prompt)
            except CancelledError:
                raise
            except TpeError as error:
                problems[prompt] = str(error)
        found = {
            prompt: PromptCost(prompt=prompt, intervention=intervention, problem=problem)
            for prompt, problem in problems.items()
        }
        if ends:
            rows = BaseRows(self._model.head, torch.stack([hidden for hidden, _, _ in ends.values()]))
            costs = row_costs(rows, [NO_TOKEN] * len(ends), basis.resolve(intervention))
            for at, (prompt, (_, tokens, dropped)) in enumerate(ends.items()):
                found[prompt] = PromptCost(
                    prompt=prompt,
                    intervention=intervention,
                    tokens=tokens,
                    truncated=dropped,
                    kl=float(costs.kl[at]),
                    top1_base=int(costs.top1_base[at]),
                    top1_now=int(costs.top1_now[at]),
                )
        return tuple(found[prompt] for prompt in prompts)

    def _end(self, prompt: str) -> tuple[Tensor, int, int]:
        """What `LanguageModel.last_hidden` says of a prompt, kept for the prompts asked last."""
        if prompt not in self._ends:
            self._ends[prompt] = self._model.last_hidden(prompt)
            while len(self._ends) > max(1, ENDS_BYTES // (4 * self._model.head.hidden_size)):
                self._ends.popitem(last=False)
        self._ends.move_to_end(prompt)
        return self._ends[prompt]

    def _text(self, token_id: int) -> str:
        """A token's printable text; one that the head has no row for by the tokenizer's own name."""
        if token_id < len(self._tokens):
            return self._tokens[token_id]
        name = self._model.tokenizer.convert_ids_to_tokens(token_id)
        return printable_token(name if isinstance(name, str) else f"#{token_id}")


def _of_tokens(states: PromptStates, of_targets: np.ndarray) -> np.ndarray:
    """[n] the surprisal of each token, from that of what each position predicts."""
    return np.roll(of_targets, 1) if states.is_next else of_targets
