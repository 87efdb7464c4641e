"""The hidden states of whole prompts, each of one forward pass, with the token of every position."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from tpe_core.errors import TpeError

__all__ = ["NO_TOKEN", "PromptStates", "StatesCache"]

NO_TOKEN = -1  # in the place of a token that nothing predicts


@dataclass(frozen=True, kw_only=True)
class PromptStates:
    """h at every token of a prompt, as the model is given it, special tokens included.

    Of an encoder-decoder model the tokens are the decoder's, from its start token on. A causal model and a decoder
    predict the token after each (`is_next`); a masked model predicts the token in each place, of which it has read all
    that is not a mask.
    """

    hidden: Tensor  # [n, d] in the model's dtype
    ids: tuple[int, ...]  # n tokens
    asked: int  # the position where the prompt asks for a token
    used: int  # tokens of the prompt; of an encoder-decoder model the source's, too
    dropped: int  # leading tokens dropped to fit the context
    is_next: bool
    mask_id: int | None = None

    @property
    def targets(self) -> tuple[int, ...]:
        """n tokens that really stand where each position predicts one; `NO_TOKEN` where none does."""
        if self.is_next:
            return (*self.ids[1:], NO_TOKEN)
        return tuple(NO_TOKEN if token == self.mask_id else token for token in self.ids)

    def at(self, position: int | None) -> Tensor:
        """[d] float32 h at a position, or where the prompt asks. Raises `TpeError` where there is no such position."""
        if position is None:
            position = self.asked
        if not 0 <= position < len(self.ids):
            raise TpeError(f"the prompt has positions 0 to {len(self.ids) - 1}, not {position}: choose one of them.")
        return self.hidden[position].float().clone()


class StatesCache:
    """The hidden states of the prompts read last, within `limit` bytes; the last one stays whatever it takes."""

    def __init__(self, read: Callable[[str], PromptStates], limit: int) -> None:
        self._read, self._limit = read, limit
        self._kept: OrderedDict[str, PromptStates] = OrderedDict()

    def __call__(self, prompt: str) -> PromptStates:
        """Those of a prompt; the model runs where they are not kept. Raises as `read` does."""
        if prompt not in self._kept:
            self._kept[prompt] = self._read(prompt)
            while len(self._kept) > 1 and self.bytes > self._limit:
                self._kept.popitem(last=False)
        self._kept.move_to_end(prompt)
        return self._kept[prompt]

    @property
    def bytes(self) -> int:
        """What the kept states take."""
        return sum(states.hidden.nbytes for states in self._kept.values())
