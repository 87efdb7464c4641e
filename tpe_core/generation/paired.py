"""A prompt continued twice on the same random numbers, by the model as it is and under an edit: the dataclasses.

Without torch, so that a front end can show a pair while the engine writes it (`tpe_core.generation.paired_generation`).
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tpe_core.edits.intervention import Intervention
from tpe_core.errors import TpeError
from tpe_core.generation.decoding import DEFAULT, Decoding
from tpe_core.json_text import json_text
from tpe_core.outputs import beginning, check_output, shown_path

__all__ = [
    "Continuation",
    "Controls",
    "GeneratedToken",
    "Mailbox",
    "PairRequest",
    "PairedGeneration",
    "pair_files",
    "save_pair",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedToken:
    """One token of a continuation. Probabilities are the model's own: temperature 1, the whole vocabulary."""

    token_id: int
    text: str  # what it adds to the text; empty for a special token, or for part of a character
    p: float  # under its own side's head
    p_base: float  # under the unedited head after the same text
    kl: float  # KL(unedited || edited head) after the same text, nats; 0 on the base's side


@dataclass(frozen=True, slots=True)
class Continuation:
    """One continuation; `ended` where its last token is an end token."""

    tokens: tuple[GeneratedToken, ...] = ()
    ended: bool = False

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(said.text for said in self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedGeneration:
    """Both continuations so far. Steps count generated tokens from 0.

    `edits` are the interventions with the step from which each was in force, of those that drew a token. `seconds`
    is the engine's time, waiting for a slower pace not included.

    Example:
        >>> request = tpe.PairRequest("Return the", tpe.Decoding(4, stop=False))
        >>> pair = tpe.run(tpe.pair_texts(model, request, lambda: live.resolved(tpe.Intervention((3,)))))
        >>> len(pair.base.tokens), len(pair.edited.tokens)
        (4, 4)
    """

    prompt: str
    prompt_ids: tuple[int, ...]
    decoding: Decoding
    base: Continuation = Continuation()
    edited: Continuation = Continuation()
    edits: tuple[tuple[int, Intervention], ...] = ()
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        """Tokens of the longer side."""
        return max(len(self.base.tokens), len(self.edited.tokens))

    @property
    def first_difference(self) -> int | None:
        """The first step at which the two tokens differ; None while they agree."""
        both = zip(self.base.tokens, self.edited.tokens, strict=False)
        return next((step for step, (ours, theirs) in enumerate(both) if ours.token_id != theirs.token_id), None)

    @property
    def finished(self) -> bool:
        """Whether each continuation has ended or is as long as was asked."""
        return all(side.ended or len(side.tokens) >= self.decoding.length for side in (self.base, self.edited))

    @property
    def mean_kl(self) -> float:
        """Mean over the edited side's steps, nats per token; NaN before the first."""
        tokens = self.edited.tokens
        return sum(said.kl for said in tokens) / len(tokens) if tokens else math.nan

    def to_dict(self) -> dict[str, Any]:
        """The JSON document: `first_difference` and every `step` count generated tokens from 0."""
        drawn, mean = self.decoding, self.mean_kl
        return {
            "prompt": self.prompt,
            "prompt_ids": list(self.prompt_ids),
            "decoding": {
                "length": drawn.length, "seed": drawn.seed, "temperature": drawn.temperature,
                "top_k": drawn.top_k, "top_p": drawn.top_p, "stop": drawn.stop,
            },
            "first_difference": self.first_difference,
            "mean_kl": mean if math.isfinite(mean) else None,
            "edits": [{"step": step, **_edit_record(edit)} for step, edit in self.edits],
            "base": _side_record(self.base, edited=False),
            "edited": _side_record(self.edited, edited=True),
        }  # fmt: skip


def _side_record(side: Continuation, edited: bool) -> dict[str, Any]:
    tokens = []
    for token in side.tokens:
        record: dict[str, Any] = {"token_id": token.token_id, "text": token.text, "p": token.p}
        if edited:
            record |= {"p_base": token.p_base, "kl": token.kl if math.isfinite(token.kl) else None}
        tokens.append(record)
    return {"text": side.text, "ended": side.ended, "tokens": tokens}


def _edit_record(edit: Intervention) -> dict[str, Any]:
    steering = [{"token_id": one.token_id, "ratio": one.ratio, "method": one.method} for one in edit.singles]
    record = {"pruned": list(edit.pruned), "replacement": edit.replacement, "steering": steering}
    if edit.sets:
        record["sets"] = [
            {
                "name": each.label,
                "definition": each.definition,
                "token_ids": list(each.token_ids),
                "ratio": edit.how(each).ratio,
                "method": edit.how(each).method,
            }
            for each in edit.sets
        ]
    return record


@dataclass(frozen=True, slots=True)
class PairRequest:
    """What to continue, and how; `after` is a pair of the same prompt that is to go on where it stopped.

    Example:
        >>> tpe.PairRequest("Return the", tpe.Decoding(8)).decoding.length
        8
    """

    prompt: str
    decoding: Decoding = DEFAULT
    after: PairedGeneration | None = None


@dataclass(frozen=True, slots=True)
class Controls:
    """What can change while a pair is written: the edit, and at most so many tokens a second."""

    edit: Intervention = field(default_factory=Intervention)
    pace: float = math.inf


class Mailbox:
    """Controls for another thread: the last ones put in are those that are read, whole."""

    def __init__(self, controls: Controls | None = None) -> None:
        self._controls = controls or Controls()

    def put(self, controls: Controls) -> None:
        """Leave controls for the next step."""
        self._controls = controls  # one reference, so a reader sees either the old ones or the new

    def __call__(self) -> Controls:
        """The controls that were put in last."""
        return self._controls


def pair_files(path: Path, *, replace: bool = True) -> tuple[Path, Path]:
    """The files that `save_pair` writes.

    See `check_output`: earlier texts are replaced where `replace` says so, and nothing else is. A text file is known as
    one by the JSON beside it, which holds its hash. Raises `TpeError` where `path` names no file, or `ExistsError`.
    """
    stem = path.with_suffix("") if path.suffix in (".json", ".txt") else path
    if stem.name in ("", ".."):
        raise TpeError(f"{str(path)!r} names no file: give a name such as pair.json.")
    files = stem.with_name(stem.name + ".json"), stem.with_name(stem.name + ".txt")
    check_output(files[1], "a text of generate's", lambda file: _is_text_of(file, files[0]), replace=True)
    check_output(files[0], "a pair of generate's texts", _is_pair, replace=replace)
    check_output(files[1], "a text of generate's", lambda file: _is_text_of(file, files[0]), replace=replace)
    return files


def _is_pair(path: Path) -> bool:
    text = beginning(path)
    return text.startswith("{") and all(f'"{name}":' in text for name in ("schema", "model", "prompt_ids", "decoding"))


def _is_text_of(path: Path, beside: Path) -> bool:
    """Whether a file is the text that the JSON `beside` was written with, unchanged since."""
    if not beside.is_file() or not _is_pair(beside):
        return False
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f'"text_sha256": "{digest}"' in beginning(beside)


def save_pair(path: Path, document: dict[str, Any], lines: Sequence[str], *, replace: bool = True) -> tuple[Path, Path]:
    """Write a pair as ``NAME.json`` (`document`) and ``NAME.txt`` (`lines`), NAME with or without either ending.

    Both are complete on disk before either takes its name. Earlier texts are replaced unless `replace` is False, other
    files never. Raises `TpeError` where they cannot be written, `ExistsError` where they are to replace none.
    """
    from tpe_core.store import stage, sync_folder  # numpy: not at a front end's start

    json_file, text_file = pair_files(path, replace=replace)
    text = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
    whole = {"schema": document.get("schema", 1), "text_sha256": hashlib.sha256(text).hexdigest(), **document}
    data = {json_file: json_text(whole, 1).encode() + b"\n", text_file: text}
    staged: dict[Path, Path] = {}
    try:
        for target, content in data.items():
            staged[target] = stage(target, [content])
        for target, temporary in staged.items():
            os.replace(temporary, target)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TpeError(
            f"the texts cannot be written to {shown_path(json_file)} ({reason}): choose another place."
        ) from error
    finally:
        for leftover in staged.values():
            with suppress(OSError):
                leftover.unlink(missing_ok=True)
    sync_folder(json_file.parent)
    return json_file, text_file
