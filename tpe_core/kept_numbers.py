"""The numbers of refits and of imported files, kept in the cache so that a later start has the edits made with them.

Where none are kept, an edit falls back to what is measured; whether they are is known without torch, and importing this
module costs nothing.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tpe_core.edits.basis import EditStatistics
    from tpe_core.edits.intervention import Method
    from tpe_core.store import Store

__all__ = ["KIND", "are_kept", "keep_numbers", "kept_numbers"]

KIND = "numbers of an edit"


def _key(head_sha256: str, origin: str) -> str:
    return hashlib.sha256(f"{KIND}\n{head_sha256}\n{origin}".encode()).hexdigest()


def are_kept(head_sha256: str, origin: str, store: Store | None = None) -> bool:
    """Whether the numbers that `Intervention.origin` names are in the cache, for a head."""
    from tpe_core.store import Store

    return (store or Store()).path(_key(head_sha256, origin)).exists()


def keep_numbers(store: Store, head_sha256: str, origin: str, basis: EditStatistics, *, of: str = "") -> bool:
    """Keep the numbers of `basis` that were given to it; False where the disk refuses, as `Store.save` says.

    `of` is the model's name, for the list of what the cache holds.
    """
    arrays = {f"direction {method}": values for method, values in basis.given.items()}
    arrays |= {f"fill {replacement}": values for replacement, values in basis.given_fills.items()}
    rebuilt = basis.given_rebuilt
    if rebuilt is not None:
        arrays |= {"fold": rebuilt.fold, "constant": rebuilt.constant}
    meta = {
        "origin": origin,
        "rebuilt": None
        if rebuilt is None
        else {"removed": list(rebuilt.removed), "kept": list(rebuilt.kept), "is_refit": rebuilt.is_refit},
    }
    return store.save(_key(head_sha256, origin), arrays, meta, kind=KIND, of=of)


def kept_numbers(store: Store, head_sha256: str, origin: str, measured: EditStatistics) -> EditStatistics | None:
    """`measured` with the numbers that were kept of an origin in their places; None where there are none of this head.

    A damaged entry is none, and its store says so.
    """
    from tpe_core.edits.basis import EditStatistics
    from tpe_core.edits.reconstruction import Reconstruction

    entry = store.load(_key(head_sha256, origin))
    if entry is None or entry[1].get("origin") != origin:
        return None
    arrays, meta = entry
    about, rebuilt = meta["rebuilt"], None
    if about is not None:
        rebuilt = Reconstruction(
            removed=tuple(about["removed"]),
            kept=tuple(about["kept"]),
            fold=arrays["fold"],
            constant=arrays["constant"],
            is_refit=about["is_refit"],
        )
    given: dict[Method, NDArray[np.float64]] = {}
    fills: dict[str, NDArray[np.float64]] = {}
    for key, values in arrays.items():
        what, _, name = key.partition(" ")
        if what == "direction":
            given[cast("Method", name)] = values
        elif what == "fill":
            fills[name] = values
    return EditStatistics(
        slope=measured.slope,
        detection=measured.detection,
        mean_hidden=measured.mean_hidden,
        given=given,
        directions=measured.directions,
        given_fills=fills,
        given_rebuilt=rebuilt,
    )
