"""Which tokens no hidden state makes the top token (unargmaxable ones), for a whole vocabulary: cheap proofs first.

A token that is the top one at a hidden state of the text is reachable, and so is one that its own row's direction makes
the top one, or a short search from there. Only for the few that remain is a linear program solved (`program`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.atlas.head_rows import HeadRows
from tpe_core.atlas.program import GAP, Combination, combination_gap, solve
from tpe_core.atlas.region import Arena, Region, arena
from tpe_core.progress import Progress, Steps

__all__ = ["Reachability", "Verdict", "reachability"]

Verdict = Literal["reachable", "unreachable", "undecided", "never predicted", "not checked"]
VERDICTS: tuple[Verdict, ...] = ("not checked", "reachable", "unreachable", "undecided", "never predicted")
PROOFS = ("", "text", "direction", "search", "program")
"""What proved it: a hidden state of the text, the row's own direction, a search from there, a linear program."""

BATCH = 256  # tokens whose scores are made at a time
SEARCH_STEPS = 60
RIVALS = 16  # top rows that a step of the search moves away from
GUARD = 1e-4  # of the largest score: a smaller lead in float32 proves nothing

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Reachability:
    """The verdict on every token of `ids`, each with what proves it.

    Example:
        >>> rows = head_rows(model.head)  # doctest: +SKIP
        >>> tpe.run(reachability(rows)).of("unreachable")  # doctest: +SKIP
    """

    region: Region
    ids: Ints  # [n]
    verdicts: NDArray[np.int8]  # [n] places in `VERDICTS`
    proofs: NDArray[np.int8]  # [n] places in `PROOFS`
    combinations: Mapping[int, Combination]  # of unreachable tokens
    states: Mapping[int, Floats]  # [k] of tokens that a search or a program proved reachable
    at_text: Mapping[int, int]  # the sampled position at which a token is the top one
    arena: Arena
    observed: NDArray[np.float32]  # [n, k]

    def of(self, verdict: Verdict) -> Ints:
        """Token ids with a verdict, ascending."""
        return np.sort(self.ids[self.verdicts == VERDICTS.index(verdict)])

    def verdict(self, token_id: int) -> Verdict:
        """The verdict on one token; ``not checked`` where it is not among `ids`."""
        at = self._places.get(token_id)
        return "not checked" if at is None else VERDICTS[int(self.verdicts[at])]

    def proof(self, token_id: int) -> str:
        """What proves the verdict on one token: see `PROOFS`."""
        at = self._places.get(token_id)
        return "" if at is None else PROOFS[int(self.proofs[at])]

    @cached_property
    def _places(self) -> dict[int, int]:
        """Where each token stands in `ids`: looked up once for every token of a vocabulary."""
        return {token_id: at for at, token_id in enumerate(self.ids.tolist())}

    @property
    def counts(self) -> dict[str, int]:
        """How many tokens have each verdict; those that none has are left out."""
        totals = {name: int((self.verdicts == at).sum()) for at, name in enumerate(VERDICTS)}
        return {name: total for name, total in totals.items() if total}

    def witness(self, token_id: int) -> Floats | None:
        """[k] a hidden state that makes a reachable token the top one; None for another verdict."""
        if self.verdict(token_id) != "reachable":
            return None
        if token_id in self.states:
            return self.states[token_id]
        if token_id in self.at_text:
            state: Floats = self.observed[self.at_text[token_id]].astype(np.float64)
            return state
        for u in _directions(self.arena, np.array([token_id])):
            if (h := _far_enough(self.arena, token_id, u[0].double().numpy())) is not None:
                return h
        return None

    def holds(self, token_id: int) -> bool:
        """Check a verdict's proof against every row in float64; False where there is none."""
        if token_id in self.combinations:
            proof = self.combinations[token_id]
            positive = bool((proof.weights > 0).all()) and abs(float(proof.weights.sum()) - 1) < GAP
            return positive and combination_gap(self.arena, token_id, proof.ids, proof.weights) <= GAP
        h = self.witness(token_id)
        return h is not None and self.arena.head.margin(h, token_id) > 0


def _directions(space: Arena, ids: Ints) -> list[Tensor]:
    """[b, m] states that should favour each token most: the whitened row, in a bounded region at several lengths."""
    own = space.rows[:, torch.from_numpy(ids)].T
    if space.precision is None:
        return [own]
    towards = own @ space.precision
    largest = towards.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return [(towards / largest * reach).clamp(-1, 1) for reach in (1.0, 4.0, 16.0)] + [own.sign()]


def _far_enough(space: Arena, token_id: int, u: Floats) -> Floats | None:
    """[k] the hidden state in a direction, so far out that offsets no longer decide; None where it does not serve."""
    for length in (1.0,) if space.bounded or space.offset is None else (1.0, 1e3, 1e6):
        h = space.state(u * length)
        if space.head.margin(h, token_id) > 0:
            return h
    return None


class _Cascade:
    """The tokens that are still open, and what was proved of the others."""

    def __init__(self, space: Arena, ids: Ints, observed: NDArray[np.float32]) -> None:
        self.space, self.ids, self.observed = space, ids, observed
        self.verdicts = np.zeros(len(ids), dtype=np.int8)
        self.proofs = np.zeros(len(ids), dtype=np.int8)
        self.combinations: dict[int, Combination] = {}
        self.states: dict[int, Floats] = {}
        self.at_text: dict[int, int] = {}
        competes = space.head.competes
        self._barred = torch.from_numpy(~competes)
        self.verdicts[~competes[ids]] = VERDICTS.index("never predicted")
        offset = space.offset if space.bounded else None
        self._offset = None if offset is None else torch.from_numpy(np.where(competes, offset, 0.0)).float()

    @property
    def open(self) -> Ints:
        """Places in `ids` without a verdict."""
        return np.flatnonzero(self.verdicts == 0)

    def prove(self, at: int, verdict: Verdict, proof: str) -> None:
        self.verdicts[at], self.proofs[at] = VERDICTS.index(verdict), PROOFS.index(proof)

    def scores(self, u: Tensor) -> Tensor:
        """[b, V_all] scores at u [b, m]; over all of R^k without offsets, since u may go as far as it takes."""
        z = u @ self.space.rows
        if self._offset is not None:
            z += self._offset
        z[:, self._barred] = -torch.inf
        return z

    def wins(self, u: Tensor, ids: Ints) -> NDArray[np.bool_]:
        """[b] whether each state makes its token the top one, beyond what float32 may have got wrong."""
        z, own_ids = self.scores(u), torch.from_numpy(ids)[:, None]
        own = z.gather(1, own_ids)[:, 0].clone()
        z.scatter_(1, own_ids, -torch.inf)
        best = z.amax(1)
        result: NDArray[np.bool_] = (own - best > GUARD * torch.maximum(own.abs(), best.abs())).numpy()
        return result

    def text(self) -> Steps[None]:
        """The tokens that are the top one at a hidden state of the text."""
        head, place = self.space.head, {int(each): at for at, each in enumerate(self.ids)}
        for first in range(0, len(self.observed), BATCH):
            yield Progress("hidden states of the text", first, len(self.observed))
            h = torch.from_numpy(self.observed[first : first + BATCH])
            z = h @ head.columns
            if head.offset is not None:
                z += torch.from_numpy(head.offset).float()
            lead, top = z.topk(min(2, z.shape[1]), dim=1)
            clear = (lead[:, 0] - lead[:, -1] > GUARD * lead.abs().amax(1)) | torch.tensor(z.shape[1] == 1)
            for row, token_id in zip(torch.nonzero(clear)[:, 0].tolist(), top[clear, 0].tolist(), strict=True):
                at = place.get(token_id)
                if at is not None and self.verdicts[at] == 0:
                    self.prove(at, "reachable", "text")
                    self.at_text[token_id] = first + row

    def directions(self) -> Steps[None]:
        """The tokens that their own direction makes the top one; those nearest the middle of the rows first."""
        open_places = self.open
        size = self.space.rows.square().sum(0).numpy()[self.ids[open_places]]
        open_places = open_places[np.argsort(size, kind="stable")]
        for first in range(0, len(open_places), BATCH):
            yield Progress("directions of the rows", first, len(open_places))
            places = open_places[first : first + BATCH]
            ways = len(_directions(self.space, self.ids[places[:1]]))
            for way in range(ways):
                if not len(places):
                    break
                u = _directions(self.space, self.ids[places])[way]
                won = self.wins(u, self.ids[places])
                for at in places[won].tolist():
                    self.prove(at, "reachable", "direction")
                places = places[~won]

    def search(self) -> Steps[None]:
        """Those that a few steps away from their nearest rivals make the top one."""
        open_places = self.open
        for first in range(0, len(open_places), BATCH):
            places = open_places[first : first + BATCH]
            u = _directions(self.space, self.ids[places])[0]
            for step in range(SEARCH_STEPS):
                yield Progress("searches", first, len(open_places), note=f"step {step + 1} of {SEARCH_STEPS}")
                if not len(places):
                    break
                ids = torch.from_numpy(self.ids[places])
                z = self.scores(u)
                own = z.gather(1, ids[:, None])
                rivals = z.scatter(1, ids[:, None], -torch.inf).topk(min(RIVALS, z.shape[1] - 1), dim=1)
                won = (own[:, 0] > rivals.values[:, 0]).numpy()
                for row in np.flatnonzero(won).tolist():
                    token_id = int(ids[row])
                    h = _far_enough(self.space, token_id, u[row].double().numpy())
                    if h is not None:
                        self.prove(int(places[row]), "reachable", "search")
                        self.states[token_id] = h
                    else:
                        won[row] = False
                spread = (rivals.values[:, :1] - rivals.values[:, -1:]).clamp_min(1e-6)
                share = torch.softmax((rivals.values - rivals.values[:, :1]) * (4 / spread), 1)
                against = (self.space.rows.T[rivals.indices] * share[..., None]).sum(1)
                away = self.space.rows[:, ids].T - against
                away = away / away.norm(dim=1, keepdim=True).clamp_min(1e-12)
                size = u.norm(dim=1, keepdim=True)
                u = u + away * size * (0.5 / (1 + step) ** 0.5)
                if self.space.bounded:
                    u = u.clamp(-1, 1)
                keep = ~won
                places, u = places[keep], u[torch.from_numpy(keep)]

    def programs(self) -> Steps[None]:
        """The rest, exactly."""
        open_places = self.open
        for done, at in enumerate(open_places.tolist()):
            token_id = int(self.ids[at])
            steps = solve(self.space, token_id)
            try:
                while True:
                    try:
                        next(steps)
                    except StopIteration as stop:
                        proof = stop.value
                        break
                    yield Progress("linear programs", done, len(open_places))
            finally:
                steps.close()
            if proof.combination is not None:
                self.prove(at, "unreachable", "program")
                self.combinations[token_id] = proof.combination
            elif proof.witness is not None:
                self.prove(at, "reachable", "program")
                self.states[token_id] = proof.witness
            else:
                self.prove(at, "undecided", "program")


@dataclass
class _Clock:
    """Ends work after some seconds; never where they are None."""

    seconds: float | None
    clock: Callable[[], float]
    begun: float = field(init=False)

    def __post_init__(self) -> None:
        self.begun = self.clock()

    @property
    def is_over(self) -> bool:
        return self.seconds is not None and self.clock() - self.begun > self.seconds


def reachability(
    head: HeadRows,
    region: Region = "any",
    observed: NDArray[np.float32] | None = None,
    *,
    ids: Ints | None = None,
    space: Arena | None = None,
    seconds: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Steps[Reachability]:
    """Decide which tokens can be the top token somewhere in a region: a job.

    Ties count as unreachable: the token must be strictly above every other row, padding rows among them. A soft cap
    changes no order and is left out.

    Args:
        head: The rows, of an edit where one is made: `tpe_core.atlas.head_rows.head_rows`.
        region: Which hidden states count; see `tpe_core.atlas.region`.
        observed: [n, k] hidden states of a text, the kept dimensions; none where None.
        ids: The tokens asked about; all rows in use where None.
        space: What `arena` gave for the same rows, region and states; made where None.
        seconds: After so long the rest stays ``not checked``; none where None.
        clock: Seconds that never go back.

    Returns:
        A job; `tpe_core.run` drives it to a `Reachability`.
    """
    timer = _Clock(seconds, clock)
    wanted = np.arange(head.vocab_rows) if ids is None else np.asarray(ids, dtype=np.int64)
    seen = np.empty((0, len(head.kept)), np.float32) if observed is None else np.ascontiguousarray(observed)
    yield Progress("rows of the head", 0)
    space = space or arena(head, region, seen)
    cascade = _Cascade(space, wanted, seen)
    few = len(wanted) < BATCH  # then the hidden states of the text cost more than what they would settle
    for stage in (*(() if few else (cascade.text,)), cascade.directions, cascade.search, cascade.programs):
        steps = stage()
        try:
            for progress in steps:
                yield progress
                if timer.is_over:
                    break
        finally:
            steps.close()
        if timer.is_over:
            break
    return Reachability(
        region=region, ids=wanted, verdicts=cascade.verdicts, proofs=cascade.proofs, combinations=cascade.combinations,
        states=cascade.states, at_text=cascade.at_text, arena=space, observed=seen,
    )  # fmt: skip
