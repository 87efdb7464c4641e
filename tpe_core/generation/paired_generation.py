"""Writing a pair: one prompt, two continuations, token by token, by the head as it is and by an edited one.

Both draw with the same Gumbel noise (it depends on the seed, the step and the token only), and while they agree one
pass of the body serves both; so the first difference is the edit's. The base's text never depends on the edit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from tpe_core.corpus.pieces import Pieces
from tpe_core.edits.basis import EditStatistics
from tpe_core.edits.distribution import Distribution
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.edit_numbers import EditNumbers
from tpe_core.edits.intervention import Intervention
from tpe_core.errors import TpeError
from tpe_core.generation.generation import (
    check_causal,
    check_finite,
    check_prompts,
    choose,
    end_ids,
    noise_of,
    text_prompts,
)
from tpe_core.generation.paired import Continuation, GeneratedToken, PairedGeneration, PairRequest
from tpe_core.models.body import IncrementalDecoder, cache_works
from tpe_core.models.model import LanguageModel
from tpe_core.progress import Progress, Steps

__all__ = ["fitting", "numbered", "pair_texts"]

SLICE = 0.025  # seconds slept between two looks at who else wants something


def pair_texts(
    model: LanguageModel,
    request: PairRequest,
    edit: Callable[[], ResolvedEdit],
    pace: Callable[[], float] = lambda: math.inf,
) -> Steps[PairedGeneration]:
    """The two continuations of a prompt: a job whose progress carries the `PairedGeneration` so far.

    `edit` is called once before each token and may answer differently each time, also for another thread's sake:
    what it says holds from that token on and changes nothing said before. `pace` is the most tokens a second.

    Raises `ModelError` for a model that is not causal, `TpeError` for a prompt that cannot be continued, an edit of
    another head or a pair to go on with that is another prompt's, `NumericalError` for logits of NaN or infinity.

    Args:
        model: A causal model.
        request: The prompt, and how tokens are drawn.
        edit: Gives the edit that is in force for the next token.
        pace: Gives the most tokens a second.

    Returns:
        A job; `run` drives it to a `PairedGeneration`.

    Example:
        >>> edit = live.resolved(tpe.Intervention((3, 14)))
        >>> pair = tpe.run(tpe.pair_texts(model, tpe.PairRequest("Return the", tpe.Decoding(3)), lambda: edit))
        >>> len(pair.base.tokens) <= 3
        True
    """
    check_causal(model)
    ids = text_prompts(model, [request.prompt])[0]
    check_prompts(model, (ids,), request.decoding.length)
    writer = _Writer(model, request, ids)
    length, drawn = request.decoding.length, -math.inf
    while True:
        pair = writer.pair()
        progress = Progress("generate", min(pair.steps, length), length, partial=pair)
        if pair.finished:
            pair = writer.whole()
            yield replace(progress, partial=pair)
            return pair
        yield progress
        for _ in _waits(drawn, pace):
            yield progress
        drawn = time.perf_counter()
        with torch.inference_mode():  # not around a yield: it would reach the caller
            writer.step(edit())


def fitting(model: LanguageModel, request: PairRequest) -> PairRequest:
    """The same request with no more tokens than the model has positions left after the prompt.

    Where there is not even one, as it was: `pair_texts` says so.
    """
    check_causal(model)
    room = model.context - len(text_prompts(model, [request.prompt])[0])
    decoding = request.decoding
    return replace(request, decoding=replace(decoding, length=max(1, min(decoding.length, room))))


def numbered(
    wanted: Callable[[], Intervention], basis: Callable[[Intervention], EditStatistics]
) -> Callable[[], ResolvedEdit]:
    """`edit` of `pair_texts` from interventions and the basis of each; numbers are made anew only where one changed."""
    last: list[tuple[Intervention, ResolvedEdit]] = []

    def edit() -> ResolvedEdit:
        intervention = wanted()
        if not last or last[0][0] != intervention:
            last[:] = [(intervention, basis(intervention).resolve(intervention))]
        return last[0][1]

    return edit


def _waits(drawn: float, pace: Callable[[], float]) -> Iterator[None]:
    """Sleep in short slices until the pace allows a token after that at `drawn`; a changed pace counts at once."""
    while (left := drawn + 1 / max(pace(), 1e-3) - time.perf_counter()) > 0:
        time.sleep(min(left, SLICE))
        yield


class _Text:
    """One continuation while it is generated."""

    def __init__(self, model: LanguageModel, ids: tuple[int, ...], before: Continuation) -> None:
        self._pieces = Pieces(model.tokenizer, ids)
        self.ended = before.ended
        self.said = [replace(said, text=self._pieces.add(said.token_id)) for said in before.tokens]

    def add(self, token_id: int, p: float, p_base: float, kl: float) -> None:
        self.said.append(GeneratedToken(token_id=token_id, text=self._pieces.add(token_id), p=p, p_base=p_base, kl=kl))

    def side(self) -> Continuation:
        return Continuation(tuple(self.said), self.ended)

    def whole(self) -> Continuation:
        """The continuation with the bytes of an incomplete character at its end."""
        tokens = list(self.said)
        if tokens and (rest := self._pieces.rest()):
            tokens[-1] = replace(tokens[-1], text=tokens[-1].text + rest)
        return Continuation(tuple(tokens), self.ended)


class _Writer:
    """Both sides, the bodies that read them and what is not read yet."""

    def __init__(self, model: LanguageModel, request: PairRequest, ids: tuple[int, ...]) -> None:
        after = request.after or PairedGeneration(prompt=request.prompt, prompt_ids=ids, decoding=request.decoding)
        if after.prompt_ids != ids:
            raise TpeError("a pair can only go on after its own prompt: start anew.")
        self.model, self.head, self.request, self.ids = model, model.head, request, ids
        self.ends = end_ids(model) if request.decoding.stop else frozenset()
        self.base, self.edited = (_Text(model, ids, side) for side in (after.base, after.edited))
        self.edits, self.seconds = list(after.edits), after.seconds
        self.numbers: EditNumbers | None = None  # of the edit in force
        cached = cache_works(model)
        self.base_body, self.base_unread = IncrementalDecoder(model, cached), self._unread(self.base)
        self.apart = after.first_difference is not None
        self.body = IncrementalDecoder(model, cached) if self.apart else self.base_body
        self.unread = self._unread(self.edited)

    def _unread(self, text: _Text) -> list[int]:
        return [*self.ids, *(said.token_id for said in text.said)]

    def pair(self) -> PairedGeneration:
        return self._pair(self.base.side(), self.edited.side())

    def whole(self) -> PairedGeneration:
        return self._pair(self.base.whole(), self.edited.whole())

    def _pair(self, base: Continuation, edited: Continuation) -> PairedGeneration:
        decoding = self.request.decoding
        return PairedGeneration(
            prompt=self.request.prompt,
            prompt_ids=self.ids,
            decoding=decoding,
            base=base,
            edited=edited,
            edits=tuple(self.edits),
            seconds=self.seconds,
        )

    def step(self, edit: ResolvedEdit) -> None:
        """One token more of each side that has not ended."""
        started, step = time.perf_counter(), max(len(self.base.said), len(self.edited.said))
        if not self.apart:
            h = self._last(self.base_body, self.base_unread)
            z = self._logits(h)
            ours = self._say_base(z, step)
            theirs = self._say_edited(edit, h, z, step)
            if ours != theirs:
                self.apart, self.body = True, self.base_body.fork()
        else:
            if not self.base.ended:
                self._say_base(self._logits(self._last(self.base_body, self.base_unread)), step)
            if not self.edited.ended:
                h = self._last(self.body, self.unread)
                self._say_edited(edit, h, self._logits(h), step)
        self.seconds += time.perf_counter() - started

    def _last(self, body: IncrementalDecoder, unread: list[int]) -> Tensor:
        """[d] h after everything said."""
        return body.last(torch.tensor([unread]))[0]

    def _logits(self, h: Tensor) -> Tensor:
        z = self.head.logits(h)
        check_finite(z)
        return z

    def _draw(self, z: Tensor, step: int) -> int:
        decoding = self.request.decoding
        noise = noise_of(z, [0], step, decoding)
        return int(choose(z[None], noise, decoding.temperature, decoding.top_p, decoding.top_k)[0])

    def _say_base(self, z: Tensor, step: int) -> int:
        token_id = self._draw(z, step)
        p = float(_precise(z).at(token_id))
        self.base.add(token_id, p, p, 0.0)
        self.base.ended = token_id in self.ends
        self.base_unread = [token_id]
        return token_id

    def _say_edited(self, edit: ResolvedEdit, h: Tensor, z: Tensor, step: int) -> int:
        if not self.edits or self.edits[-1][1] != edit.intervention:
            self.edits.append((step, edit.intervention))
        base = _precise(z)
        if edit.is_empty:  # the very same numbers, whatever a product would round
            edited, now = z, base
        else:
            if self.numbers is None or self.numbers.edit is not edit:
                self.numbers = EditNumbers(edit)
            edited = self.numbers.logits(self.head, h)
            check_finite(edited)
            now = _precise(edited)
        token_id = self._draw(edited, step)
        kl = 0.0 if edit.is_empty else base.kl(now)
        self.edited.add(token_id, float(now.at(token_id)), float(base.at(token_id)), kl)
        self.edited.ended = token_id in self.ends
        self.unread = [token_id]
        return token_id


def _precise(z: Tensor) -> Distribution:
    return Distribution(z if z.device.type == "mps" else z.double())
