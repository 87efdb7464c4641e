"""Which tokens an edit makes unreachable: the question of the atlas, asked while one works in the inspector.

A token lies inside the hull of the others the sooner, the nearer its row is to the middle of all rows. So tokens are
looked at in that order, a few at a time, and what was seen so far is an answer.
"""

from __future__ import annotations

from collections.abc import MutableMapping

import numpy as np
from numpy.typing import NDArray

from tpe_core.atlas.head_rows import HeadRows
from tpe_core.atlas.reachability import reachability
from tpe_core.atlas.region import Arena, arena
from tpe_core.progress import Progress, Steps, relayed
from tpe_core.snapshots import LostTokens

__all__ = ["lost_tokens"]

SLICE = 64  # tokens between two answers

Ints = NDArray[np.int64]


def lost_tokens(
    before: HeadRows,
    after: HeadRows,
    surprisal: NDArray[np.float64],
    *,
    known: MutableMapping[int, bool] | None = None,
) -> Steps[LostTokens]:
    """Find the tokens that can be the top token before an edit and not after it: a job.

    Any vector counts as a hidden state (`tpe_core.atlas.region`). Every step's progress has what is known by then as
    its `partial`. A token that is never predicted after the edit (one that is barred) is not lost in this sense.

    Args:
        before: The rows of the head as it is.
        after: The rows under the edit.
        surprisal: [V] -log alpha, the order of the answer.
        known: Whether tokens are reachable before the edit, by id; what is learned is added.

    Returns:
        A job; `tpe_core.run` drives it to a `LostTokens`.
    """
    known = {} if known is None else known
    none = np.empty((0, len(after.kept)), np.float32)
    vocab = after.vocab_rows
    yield Progress("tokens that stay reachable", 0, vocab)
    space = arena(after, "any", none)
    order = np.argsort(space.rows.square().sum(0).numpy()[:vocab], kind="stable")
    lost: list[int] = []
    unedited: Arena | None = None
    for first in range(0, vocab, SLICE):
        answer = LostTokens(ids=_frequent_first(lost, surprisal), checked=first, vocab_rows=vocab)
        far = Progress("tokens that stay reachable", first, vocab, partial=answer)
        yield far
        unreachable = yield from _unreachable(after, space, order[first : first + SLICE], far)
        unsettled = np.array([each for each in unreachable.tolist() if each not in known], dtype=np.int64)
        if len(unsettled):
            unedited = unedited or arena(before, "any", np.empty((0, len(before.kept)), np.float32))
            already = set((yield from _unreachable(before, unedited, unsettled, far)).tolist())
            known.update((each, each not in already) for each in unsettled.tolist())
        lost += [each for each in unreachable.tolist() if known[each]]
    return LostTokens(ids=_frequent_first(lost, surprisal), checked=vocab, vocab_rows=vocab)


def _frequent_first(ids: list[int], surprisal: NDArray[np.float64]) -> tuple[int, ...]:
    return tuple(sorted(ids, key=lambda each: (float(surprisal[each]), each)))


def _unreachable(rows: HeadRows, space: Arena, ids: Ints, far: Progress) -> Steps[Ints]:
    """The unreachable ones of some tokens; `far` is the progress of their steps."""
    result = yield from relayed(reachability(rows, ids=ids, space=space), lambda _: far)
    return result.of("unreachable")
