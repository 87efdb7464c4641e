"""Whether one token can be the top token, exactly: a linear program whose answer carries its proof.

A token i is reachable in a region where a state h of it has z_i > z_j for every other j (Demeter et al. 2020; Grivas et
al. 2022, whose program this is). Over all of R^k it is unreachable if and only if its row, its offset below it, lies in
the convex hull of the others: Farkas' lemma gives the weights. Rows join the program as they are violated, so
that it stays small; the answer is that of the whole vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tpe_core.atlas.region import Arena
from tpe_core.clamping import at_least
from tpe_core.progress import Progress, Steps

__all__ = ["Combination", "Proof", "combination_gap", "same_row", "solve"]

FIRST, MORE = 96, 64  # rows that a program starts with, and that join it in each round
ROUNDS = 400
SMALLEST = 1e-7  # of a program's margin: below it lies what its solver does not resolve
GAP = 1e-6  # of a combination: what rounding may leave, as a share of the row's own length; in nats where bounded

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Combination:
    """A proof that a token is unreachable: a convex combination of other rows that is at least its logit everywhere.

    z_i <= sum_j weight_j z_j <= max_j z_j at every state of the region.
    """

    ids: NDArray[np.int64]  # [n] other tokens
    weights: Floats  # [n] above 0, their sum is 1
    gap: float  # what is left: see `combination_gap`


@dataclass(frozen=True)
class Proof:
    """What a program says of one token: a state that makes it the top token, a combination, or neither."""

    witness: Floats | None = None  # [k] h
    margin: float = float("nan")  # of the witness, nats
    combination: Combination | None = None


def combination_gap(arena: Arena, token_id: int, ids: NDArray[np.int64], weights: Floats) -> float:
    """How far a combination of rows falls short of a proof, in float64; at most `GAP` is rounding.

    Over all of R^k: the distance between the row and the combination, as a share of the row's distance from the mean
    row, or what the offsets lack, where that is more. In a bounded region: the most, in nats, by which z_i can exceed
    the combination anywhere in it; at most 0 is a proof without any rounding.
    """
    away = arena.exact(np.array([token_id]))[0] - weights @ arena.exact(ids)
    lacks = 0.0 if arena.offset is None else float(arena.offset[token_id] - weights @ arena.offset[ids])
    if arena.bounded:
        return float(np.abs(away).sum()) + lacks
    original = arena.head.row(token_id) - arena.mean
    left = original - weights @ (arena.head.columns[:, torch.from_numpy(ids)].double().numpy().T - arena.mean)
    scale = max(float(np.linalg.norm(original)), float(np.finfo(np.float32).tiny))
    return max(float(np.linalg.norm(left)) / scale, lacks, 0.0)


def same_row(arena: Arena, token_id: int) -> Combination | None:
    """Another row that is the same with an offset that is no less: then the token is never above it."""
    head = arena.head
    alike = (head.columns == head.columns[:, token_id, None]).all(0).numpy() & head.competes
    if head.offset is not None:
        alike &= head.offset >= head.offset[token_id]
    alike[token_id] = False
    if not alike.any():
        return None
    return Combination(np.flatnonzero(alike)[:1], np.ones(1), 0.0)


def _scores(arena: Arena, u: Floats, t: float) -> Floats:
    z: Floats = (torch.from_numpy(u).float() @ arena.rows).double().numpy()
    return z if arena.offset is None else z + t * np.where(np.isfinite(arena.offset), arena.offset, 0.0)


def _first_rows(arena: Arena, token_id: int, competes: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The rows nearest to the token's, and those that score highest in its direction."""
    own = arena.rows[:, token_id]
    products = own @ arena.rows
    distance = (arena.rows.square().sum(0) - 2 * products).double().numpy()
    distance[~competes], distance[token_id] = np.inf, np.inf
    count = min(FIRST // 2, int(competes.sum()) - 1)
    near = np.argpartition(distance, count - 1)[:count] if count > 0 else np.empty(0, dtype=np.int64)
    score = products.double().numpy()
    score[~competes], score[token_id] = -np.inf, -np.inf
    high = np.argpartition(-score, count - 1)[:count] if count > 0 else np.empty(0, dtype=np.int64)
    return np.unique(np.concatenate([near, high]))


def _optimum(arena: Arena, token_id: int, ids: NDArray[np.int64]) -> tuple[Floats, float, float, Floats]:
    """(u, t, margin, weights of the rows) of the program over some rows."""
    from scipy.optimize import linprog

    bounds: list[tuple[float | None, float | None]]
    away = arena.exact(np.array([token_id])) - arena.exact(ids)  # [n, m]
    lead = np.zeros(len(ids)) if arena.offset is None else arena.offset[token_id] - arena.offset[ids]
    n, m = away.shape
    if arena.bounded:
        scale = np.ones(n)
        matrix, bound = np.hstack([-away, np.ones((n, 1))]), lead
        bounds = [*[(-1.0, 1.0)] * m, (None, None)]
    else:  # both sides of a row may be scaled: what counts is the sign
        scale = np.sqrt((away**2).sum(1) + lead**2)
        scale[scale == 0] = 1.0
        matrix = np.hstack([-away / scale[:, None], -(lead / scale)[:, None], np.ones((n, 1))])
        bound = np.zeros(n)
        bounds = [*[(-1.0, 1.0)] * m, (0.0, 1.0 if arena.offset is not None else 0.0), (None, None)]
    cost = np.zeros(matrix.shape[1])
    cost[-1] = -1.0
    answer = linprog(cost, A_ub=matrix, b_ub=bound, bounds=bounds, method="highs")
    if answer.x is None:
        return np.zeros(m), 0.0, float("nan"), np.zeros(n)
    weights = np.maximum(-np.asarray(answer.ineqlin.marginals), 0.0) / scale
    t = 1.0 if arena.bounded else float(answer.x[m])
    return np.asarray(answer.x[:m]), t, float(answer.x[-1]), weights


def _polished(arena: Arena, token_id: int, ids: NDArray[np.int64], weights: Floats) -> Combination | None:
    """The program's weights as a proof, solved again for where the solver's tolerance is too coarse."""
    from scipy.optimize import nnls

    total = float(weights.sum())
    if total > 0:
        used = weights > 1e-12 * total
        best = Combination(ids[used], weights[used] / weights[used].sum(), 0.0)
        best = Combination(best.ids, best.weights, combination_gap(arena, token_id, best.ids, best.weights))
        if best.gap <= (0.0 if arena.bounded else GAP * 1e-3):
            return best
    else:
        best = None
    rows, own = arena.exact(ids), arena.exact(np.array([token_id]))[0]
    system = np.vstack([rows.T, np.ones((1, len(ids)))])
    wanted = np.append(own, 1.0)
    if arena.offset is not None and not arena.bounded:
        system = np.vstack([system, arena.offset[ids][None]])
        system = np.hstack([system, np.append(np.zeros(len(system) - 1), -1.0)[:, None]])
        wanted = np.append(wanted, arena.offset[token_id])
    try:
        solution = nnls(system, wanted)[0][: len(ids)]
    except RuntimeError:  # it did not converge
        solution = np.zeros(len(ids))
    used = solution > 0
    if used.any():
        again = solution[used] / solution[used].sum()
        gap = combination_gap(arena, token_id, ids[used], again)
        if best is None or gap < best.gap:
            best = Combination(ids[used], again, gap)
    return best if best is not None and best.gap <= GAP else None


def _witness(arena: Arena, token_id: int, u: Floats, t: float) -> Proof | None:
    """(u, t) as a hidden state, checked against every row in float64; None where it is none."""
    times = [t] if arena.bounded or t > SMALLEST else [1e-3, 1e-6, 1e-9]
    for each in times:  # a direction alone: far out along it offsets no longer count
        h = arena.state(u, 1.0 if arena.bounded else each if arena.offset is not None else 1.0)
        margin = arena.head.margin(h, token_id)
        if margin > 0:
            return Proof(h, margin)
    return None


def solve(arena: Arena, token_id: int) -> Steps[Proof]:
    """Decide one token: a job of one program after another, each with the rows that the last one violated."""
    competes = arena.head.competes
    if (alike := same_row(arena, token_id)) is not None:
        return Proof(combination=alike)
    ids = _first_rows(arena, token_id, competes)
    if not len(ids):
        return Proof(witness=arena.state(np.zeros(arena.basis.shape[1])), margin=float("inf"))
    for number in range(ROUNDS):
        yield Progress("linear programs", number)
        u, t, margin, weights = _optimum(arena, token_id, ids)
        if not margin > SMALLEST:
            if (proof := _polished(arena, token_id, ids, weights)) is not None:
                return Proof(combination=proof)
            if np.isnan(margin) or not margin > 0:
                return Proof()
        scores = _scores(arena, u, t)
        ahead = scores - scores[token_id]
        ahead[~competes], ahead[token_id], ahead[ids] = -np.inf, -np.inf, -np.inf
        if ahead.max() < 0 and (proved := _witness(arena, token_id, u, t)) is not None:
            return proved
        worst = np.argpartition(-ahead, min(MORE, len(ahead) - 1))[:MORE]
        fresh = worst[np.isfinite(ahead[worst]) & (ahead[worst] > -1e-4 * at_least(1.0, float(np.abs(scores).max())))]
        if not len(fresh):
            return _witness(arena, token_id, u, t) or Proof()
        ids = np.concatenate([ids, fresh])
    return Proof()
