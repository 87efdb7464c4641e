"""What a pruning study runs along: the paths that orders and replacements ask for, and the coordinates of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from tpe_core.analysis import Analysis
from tpe_core.edits.replacements import REPLACEMENTS, ROTATE
from tpe_core.errors import TpeError
from tpe_core.pruning.coordinates import Coordinates, along, least_squares, rotated
from tpe_core.pruning.evidence import Evidence
from tpe_core.pruning.orders import ORDERS
from tpe_core.pruning.saliency import order_of

__all__ = ["Key", "coordinates_of", "path_of", "planned", "removal_order"]

Order = NDArray[np.int64]
Key = tuple[str, str, int]
"""(order, replacement, draw): a path."""


def planned(orders: Sequence[str], replacements: Sequence[str], draws: int = 1) -> list[Key]:
    """Every (order, replacement, draw) to measure, once: `rotate` has its own order, only `random` is drawn again.

    A fitted random order is drawn once: each of its points takes minutes. Raises `TpeError` for an unknown name, for
    fitting along components, or where nothing is left to measure.
    """
    for name in orders:
        ORDERS.choose(name)
    for name in replacements:
        REPLACEMENTS.choose(name)
    for replacement in REPLACEMENTS.fitted:
        if replacement in replacements and any(ORDERS[name].of_components for name in orders):
            raise TpeError(f"{replacement} keeps dimensions, not principal components: choose another order for it.")
    if draws < 1:
        raise TpeError(f"the order random needs at least one draw, not {draws}.")
    keys = [
        (name, replacement, draw)
        for replacement in replacements
        for name in (orders if replacement != ROTATE else [ROTATE])
        for draw in range(
            draws if replacement != ROTATE and not REPLACEMENTS[replacement].is_fitted and ORDERS[name].is_drawn else 1
        )
    ]
    if not keys:
        raise TpeError("nothing is asked for: name at least one order and one replacement.")
    return list(dict.fromkeys(keys))


def coordinates_of(analysis: Analysis, name: str, order: Order, replacement: str) -> Coordinates:
    """What a sweep of `order` [d], made by the order `name`, runs along. Raises `TpeError` for a wrong replacement."""
    head, detection = analysis.model.head, analysis.detection
    chosen = REPLACEMENTS.choose(replacement)
    if chosen.is_fitted:
        raise TpeError(f"{replacement} is fitted at every point, so that it has no path: choose another replacement.")
    components = analysis.components
    basis = components.directions
    if replacement == ROTATE:
        return rotated(head, (basis * components.explained_variance_ratio) @ basis.T, detection)
    if not chosen.rebuilds:
        centre = None if chosen.fill is None or not chosen.is_measured else chosen.fill(detection.mean_hidden)
        return along(head, order, centre, basis if ORDERS[name].of_components else None)
    if not ORDERS[name].of_components:
        return least_squares(head, order, detection)
    turn = torch.from_numpy(basis).to(head.columns.device).float()
    turned = least_squares(
        replace(head, columns=turn.T @ head.columns.float()),
        order,
        replace(detection, h_sum=basis.T @ detection.h_sum, hh_sum=basis.T @ detection.hh_sum @ basis),
    )
    return replace(turned, forward=turned.forward @ basis.T, centre=basis @ turned.centre)


def removal_order(evidence: Evidence, key: Key) -> Order:
    """[d] the dimensions (components) of a path in their order of removal."""
    order, replacement, draw = key
    ordered_for = "least-squares" if REPLACEMENTS[replacement].is_fitted else replacement
    return order_of(order, replace(evidence, replacement=ordered_for, draw=draw))


def path_of(evidence: Evidence, key: Key) -> tuple[Coordinates, tuple[int, ...]]:
    """(what to sweep along, the dimensions in their order of removal; none where they are not dimensions)."""
    order, replacement, _ = key
    if replacement == ROTATE:
        return coordinates_of(evidence.analysis, order, np.arange(evidence.analysis.model.head.hidden_size), ROTATE), ()
    chosen = removal_order(evidence, key)
    dims = () if ORDERS[order].of_components else tuple(chosen.tolist())
    return coordinates_of(evidence.analysis, order, chosen, replacement), dims
