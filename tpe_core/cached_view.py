"""What a front end shows of an analysis before its model is loaded: the last one's table, details and distribution.

It is kept in the cache under the options alone, as nothing of the model is known yet when it is read. So it may be of a
head or a text that is no longer there: whoever shows it says from when it is, and compares `CachedView.identity` with
that of the analysis once there is one. No torch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from tpe_core.edits.intervention import Intervention
from tpe_core.json_text import json_text, nulled
from tpe_core.lazy import Deferred
from tpe_core.options import DEMO, RunOptions
from tpe_core.snapshots import DimensionDetail, EncodingTable, ModelInfo, NextTokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tpe_core.store import Store

    Arrays = Mapping[str, NDArray[Any]]
else:
    np = Deferred("numpy")

__all__ = [
    "ENDS",
    "LARGEST_AND_SMALLEST",
    "CachedView",
    "keep_answer",
    "keep_view",
    "read_view",
    "view_identity",
]

SCHEMA = 1
LARGEST_AND_SMALLEST = 12  # tokens at either end of a dimension
ENDS = ("top_ids", "top_weights", "bottom_ids", "bottom_weights")  # [d, LARGEST_AND_SMALLEST] each
NOT_OF_THE_RESULT = ("cache", "refresh", "offline", "trust_remote_code", "threads")


@dataclass(frozen=True, kw_only=True)
class CachedView:
    """An analysis as it was at the time `made`, in seconds since 1970; `answer` is the last unedited distribution."""

    identity: str  # of the head and of what was read: `view_identity`
    head_sha256: str
    made: float
    table: EncodingTable
    card: Mapping[str, Any]
    default_prompt: str
    ends: Arrays  # the tokens at the ends of each dimension, by the names of `ENDS`
    answer: NextTokens | None = None

    def dimension(self, dim: int) -> DimensionDetail:
        """The details of one dimension."""
        top, bottom = (
            tuple(zip(*(self.ends[f"{end}_{what}"][dim].tolist() for what in ("ids", "weights")), strict=True))
            for end in ("top", "bottom")
        )
        return DimensionDetail.of(self.table, dim, top, bottom)


def view_identity(head_sha256: str, table: EncodingTable) -> str:
    """A hash of a head and of the figures that were measured of it."""
    digest = hashlib.sha256(head_sha256.encode())
    for values in (table.slope, table.surprisal):
        digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
    return digest.hexdigest()


def read_view(options: RunOptions, store: Store | None = None) -> CachedView | None:
    """What was kept of the last analysis under these options; None where nothing was, or it is not to be used."""
    key = _key(options)
    if key is None or options.refresh:
        return None
    store = _quiet(store)
    entry = store.load(key)
    view = None if entry is None else _view(*entry)
    if view is None:
        return None
    answered = store.load(f"{key}-prompt")
    return replace(view, answer=None if answered is None else _answer(view.identity, *answered))


def keep_view(options: RunOptions, view: CachedView, store: Store | None = None) -> None:
    """Keep a view for the next start under these options; without its `answer`."""
    key = _key(options)
    if key is None:
        return
    table = view.table
    values = {field.name: getattr(table, field.name) for field in fields(table)}
    arrays = {name: np.asarray(value) for name, value in values.items() if isinstance(value, float | np.ndarray)}
    arrays |= dict(view.ends)
    arrays["tokens"] = np.frombuffer("\n".join(table.tokens).encode("utf-8", "surrogatepass"), dtype=np.uint8)
    meta = {
        "schema": SCHEMA, "identity": view.identity, "head_sha256": view.head_sha256, "made": view.made,
        "info": asdict(table.info), "text": table.text, "positions": table.positions,
        "card": nulled(dict(view.card)), "default_prompt": view.default_prompt,
    }  # fmt: skip
    _quiet(store).save(key, arrays, meta, kind="view", of=options.model)


def keep_answer(options: RunOptions, identity: str, answer: NextTokens, store: Store | None = None) -> None:
    """Keep the unedited distribution after a prompt beside the view of the analysis `identity`."""
    key = _key(options)
    if key is None:
        return
    order = np.argsort(-answer.base, kind="stable")
    arrays = {"ids": answer.ids[order], "base": answer.base[order]}
    meta = {"schema": SCHEMA, "identity": identity, "prompt": answer.prompt} | {
        name: getattr(answer, name) for name in ("prompt_tokens", "truncated", "entropy_base", "milliseconds")
    }
    _quiet(store).save(f"{key}-prompt", arrays, meta, kind="last distribution", of=options.model)


def _quiet(store: Store | None) -> Store:
    """A store that says nothing: what is kept here only makes a start quicker."""
    from tpe_core.store import Store

    return Store(on_problem=lambda sentence: None) if store is None else store


def _key(options: RunOptions) -> str | None:
    """The entry's key: of everything that changes a figure; None where nothing is kept."""
    if not options.cache or "-" in options.text:
        return None
    asked = {name: value for name, value in asdict(options).items() if name not in NOT_OF_THE_RESULT}
    asked |= {"text": [_whole_path(name) for name in options.text], "view": SCHEMA}
    for name in ("model", "adapter", "vocabulary"):
        if asked[name] not in (None, DEMO):
            asked[name] = _whole_path(asked[name])
    return hashlib.sha256(json_text(asked).encode()).hexdigest()


def _whole_path(name: str) -> str:
    """The path from the root of what lies here; another name as it is."""
    path = os.path.expanduser(name)
    return os.path.abspath(path) if os.path.exists(path) else name


def _view(arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> CachedView | None:
    """The view of an entry; None where it is of another layout."""
    try:
        if meta["schema"] != SCHEMA:
            return None
        info = ModelInfo(**meta["info"])
        tokens = arrays.pop("tokens").tobytes().decode("utf-8", "surrogatepass").split("\n")
        ends = {name: arrays.pop(name) for name in ENDS}
        figures: dict[str, Any] = {name: array if array.ndim else array.item() for name, array in arrays.items()}
        table = EncodingTable(info=info, text=meta["text"], positions=meta["positions"], tokens=tokens, **figures)
        is_whole = (
            len(tokens) == len(table.surprisal) == len(table.predicted) == len(table.pc_scores) == info.vocab_rows
            and len(table.slope) == info.hidden_size
            and all(len(array) == info.hidden_size for array in ends.values())
        )
        view = CachedView(
            identity=meta["identity"],
            head_sha256=meta["head_sha256"],
            made=float(meta["made"]),
            table=table,
            card=dict(meta["card"]),
            default_prompt=meta["default_prompt"],
            ends=ends,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return view if is_whole else None


def _answer(identity: str, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> NextTokens | None:
    """The distribution of an entry; None where it is of another layout or of another analysis."""
    try:
        if meta["schema"] != SCHEMA or meta["identity"] != identity:
            return None
        ids, base = arrays["ids"], arrays["base"]
        return NextTokens(
            prompt=meta["prompt"],
            prompt_tokens=int(meta["prompt_tokens"]),
            truncated=int(meta["truncated"]),
            intervention=Intervention(),
            ids=ids,
            base=base,
            now=base,
            kl=0.0,
            js=0.0,
            top1_changed=False,
            entropy_base=float(meta["entropy_base"]),
            entropy_now=float(meta["entropy_base"]),
            milliseconds=float(meta["milliseconds"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
