"""A draft vocabulary as a file: its ids as JSON or ``.npy``, or the arrays of EAGLE-style draft heads.

What a name ends in says what is written. A file appears whole or not at all, and replaces its like only.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpe_core.errors import TpeError
from tpe_core.json_text import json_text, parse_json
from tpe_core.outputs import beginning, check_output, shown_path
from tpe_core.registry import Registry

if TYPE_CHECKING:
    from tpe_core.vocabulary.coverage import DraftVocabulary

__all__ = ["FILES", "KIND", "VocabularyFile", "check_vocabulary_file", "write_vocabulary"]

KIND = "tpe.draft_vocabulary"
"""What a file says that it is, where it can."""

LONGEST_HEADER = 2**20  # bytes of a safetensors header of two arrays, more than enough


@dataclass(frozen=True, kw_only=True, slots=True)
class VocabularyFile:
    """One kind of file, by what its name ends in."""

    name: str  # the suffix
    about: str
    content: Callable[[DraftVocabulary], bytes]
    is_kind: Callable[[Path], bool]  # of an existing file


def _facts(draft: DraftVocabulary) -> dict[str, Any]:
    return {
        "kind": KIND,
        "schema": 1,
        "model": draft.model,
        "revision": draft.revision,
        "order": draft.order,
        "vocab_rows": draft.vocab_rows,
        "rows": draft.size,
        "special_rows": len(draft.special),
        "probability": draft.coverage(draft.size),
        "came": draft.came(draft.size),
    }


def _json(draft: DraftVocabulary) -> bytes:
    return (json_text({**_facts(draft), "token_ids": draft.token_ids.tolist()}) + "\n").encode()


def _is_json(path: Path) -> bool:
    return re.match(rf'\{{\s*"kind"\s*:\s*"{re.escape(KIND)}"', beginning(path)) is not None


def _npy(draft: DraftVocabulary) -> bytes:
    import numpy as np

    stream = io.BytesIO()
    np.save(stream, draft.token_ids.astype(np.int64), allow_pickle=False)
    return stream.getvalue()


def _is_npy(path: Path) -> bool:
    """Whether an array can be a list of kept ids: one axis, int64, ascending. A text's ids are not."""
    import numpy as np

    try:
        ids = np.load(path, allow_pickle=False)
    except (ValueError, EOFError):
        return False
    is_list = isinstance(ids, np.ndarray) and ids.ndim == 1 and ids.dtype == np.int64 and len(ids) > 0
    return bool(is_list and ids[0] >= 0 and (np.diff(ids) > 0).all())


def _safetensors(draft: DraftVocabulary) -> bytes:
    from safetensors.numpy import save

    arrays = {"d2t": draft.draft_to_target, "t2d": draft.target_to_draft}
    facts = {name: value if isinstance(value, str) else json_text(value) for name, value in _facts(draft).items()}
    content: bytes = save(arrays, metadata=facts)
    return content


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        try:
            header = parse_json(stream.read(min(length, LONGEST_HEADER)))
            return bool(header.keys() == {"d2t", "t2d", "__metadata__"} and header["__metadata__"]["kind"] == KIND)
        except (ValueError, KeyError, TypeError, AttributeError):
            return False


FILES: Registry[VocabularyFile] = Registry(
    "file of a draft vocabulary",
    VocabularyFile(name=".json", about="ids with what they hold", content=_json, is_kind=_is_json),
    VocabularyFile(name=".npy", about="ids, int64", content=_npy, is_kind=_is_npy),
    VocabularyFile(
        name=".safetensors",
        about="d2t and t2d of EAGLE-style draft heads",
        content=_safetensors,
        is_kind=_is_safetensors,
    ),
)


def check_vocabulary_file(path: Path, *, replace: bool) -> None:
    """Refuse a place where no draft vocabulary should be written. Raises `TpeError`, or `ExistsError`."""
    check_output(path, "a draft vocabulary", _kind(path).is_kind, replace=replace)


def write_vocabulary(path: Path, draft: DraftVocabulary, *, replace: bool = False) -> Path:
    """Write a draft vocabulary as what the name of `path` ends in says, whole or not at all.

    Ids are ascending: row i of the draft head is the token ``ids[i]``. Raises `TpeError` where nothing can be written,
    `ExistsError` where a draft vocabulary is there and `replace` is False.

    Args:
        path: ``.json`` or ``.npy`` for the ids, ``.safetensors`` for ``d2t`` [k] int64 and ``t2d`` [V_all] bool.
        draft: What to write.
        replace: Whether an earlier draft vocabulary there may go.

    Returns:
        `path`.

    Example:
        >>> from tpe_core.detection.samples import read_samples
        >>> steps = read_samples(model, analysis.detection.sample, analysis.source, size=64)
        >>> draft = tpe.run(tpe.draft_vocabulary(analysis, tpe.run(steps), keep=512))
        >>> path = tpe.write_vocabulary(Path("ids.npy"), draft)
        >>> np.load(path).shape
        (512,)
    """
    from tpe_core.store import write_file

    check_vocabulary_file(path, replace=replace)
    try:
        write_file(path, [_kind(path).content(draft)])
    except OSError as error:
        raise TpeError(
            f"the draft vocabulary cannot be written to {shown_path(path)} ({error.strerror or error}): "
            "choose another place."
        ) from error
    return path


def _kind(path: Path) -> VocabularyFile:
    if path.suffix not in FILES:
        endings = "; ".join(f"{each.name}: {each.about}" for each in FILES.values())
        raise TpeError(f"{shown_path(path)} does not say what to write: choose a name that ends in one of {endings}.")
    return FILES[path.suffix]
