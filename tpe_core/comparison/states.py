"""Everything of a base model that a comparison needs: h of every position of a text, W, and the text's token ids.

Logits would take V numbers a position; h takes d, and W is stored once. Kept in a safetensors file, whose metadata says
what it is; a hash of the content is checked when it is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tpe_core.corpus.corpus import Corpus, tokenizer_fingerprint
from tpe_core.corpus.id_tokenizer import IdTokenizer
from tpe_core.corpus.sources import TextSource
from tpe_core.corpus.token_ids import vocabulary_rows
from tpe_core.detection.hidden import blocks_per_forward, hidden_batch
from tpe_core.detection.reading import corpus_spec
from tpe_core.errors import TpeError
from tpe_core.json_text import parse_json
from tpe_core.models.gguf_header import is_gguf
from tpe_core.models.head import OutputHead, Post, Task
from tpe_core.models.model import LanguageModel
from tpe_core.outputs import check_output, shown_path
from tpe_core.printable import fit, printable_token
from tpe_core.progress import Progress, Steps
from tpe_core.store import sync_folder

__all__ = [
    "BaseStates",
    "ModelFacts",
    "check_states",
    "is_states",
    "read_facts",
    "read_states",
    "states_of",
    "vocabulary_of",
]

T = TypeVar("T")

FORMAT = "tpe.hidden-states"
VERSION = "1"
HEADER = 2**16  # bytes of a file in which its metadata would begin


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a comparison says of a model."""

    model: str
    revision: str | None
    dtype: str  # of its hidden states
    task: Task
    hidden_size: int
    head_sha256: str
    tokenizer_sha256: str
    has_tokenizer: bool

    @staticmethod
    def of(model: LanguageModel) -> ModelFacts:
        """Those of a loaded model. Raises `HeadError` where its head is unsupported."""
        return ModelFacts(
            model=model.name,
            revision=model.revision,
            dtype=model.report.dtype,
            task=model.task,
            hidden_size=model.head.hidden_size,
            head_sha256=model.head.sha256,
            tokenizer_sha256=tokenizer_fingerprint(model.tokenizer),
            has_tokenizer=not isinstance(model.tokenizer, IdTokenizer),
        )

    @property
    def shown(self) -> str:
        """Its name, with the revision where it has one."""
        return self.model if self.revision is None else f"{self.model} @ {self.revision}"


@dataclass(frozen=True, kw_only=True)
class BaseStates:
    """A base model's hidden states over a text, its head, and the text as token ids."""

    facts: ModelFacts
    head: OutputHead
    hidden: Tensor  # [n, d] in the model's dtype, in main memory
    next_ids: NDArray[np.int64]  # [n] the tokens that really followed
    corpus: Corpus
    vocabulary: tuple[str | None, ...]  # the token of each id

    @property
    def state_bytes(self) -> int:
        """Bytes of h, W and b."""
        bias = 0 if self.head.bias is None else self.head.bias.nbytes
        return int(self.hidden.nbytes + self.head.columns.nbytes + bias)

    @property
    def logit_bytes(self) -> int:
        """Bytes that the float32 logits of these positions would take."""
        return 4 * len(self.hidden) * self.head.total_rows

    def write(self, path: Path) -> None:
        """Write all of it to a safetensors file, whole or not at all. Raises `TpeError`, OSError."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        head, corpus = self.head, self.corpus
        tensors = {
            "hidden": self.hidden,
            "columns": head.columns.detach().cpu(),
            "next": torch.from_numpy(self.next_ids),
            "blocks": torch.from_numpy(corpus.blocks),
            "targets": torch.from_numpy(corpus.targets),
            "block_hash": torch.from_numpy(corpus.block_hash.view(np.int64)),
            "vocabulary": torch.from_numpy(
                np.frombuffer(json.dumps(self.vocabulary, allow_nan=False).encode(), np.uint8).copy()
            ),
        }
        if head.bias is not None:
            tensors["bias"] = head.bias.detach().cpu()
        facts = json.dumps(
            {
                "base": asdict(self.facts),
                "head": {
                    "post": asdict(head.post), "vocab_rows": head.vocab_rows, "tied": head.tied, "module": head.module,
                },
                "text": {"label": corpus.label, "fingerprint": corpus.fingerprint, "bos": corpus.add_bos},
            },
            allow_nan=False,
        )  # fmt: skip
        metadata = {"format": FORMAT, "version": VERSION, "facts": facts, "sha256": _content(facts, tensors)}
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        try:
            save_file({name: each.contiguous() for name, each in tensors.items()}, temporary, metadata)
            os.replace(temporary, path)
        except SafetensorError as error:
            reason = fit(printable_token(str(error)[:200]), 100)
            raise TpeError(f"hidden states cannot be written to {shown_path(path)} ({reason}).") from None
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def vocabulary_of(tokenizer: Any) -> tuple[str | None, ...]:
    """The token of each id of a tokenizer; None for an id that none has."""
    tokens: list[str | None] = [None] * vocabulary_rows(tokenizer)
    for token, token_id in tokenizer.get_vocab().items():
        tokens[token_id] = token if isinstance(token, str) else repr(token)
    return tuple(tokens)


def states_of(model: LanguageModel, source: TextSource, positions: int) -> Steps[BaseStates]:
    """The hidden states of the first `positions` predictions of a text, in whole blocks: a job.

    Raises `CorpusError` where the text is too short for one block, `NotFiniteError` where h is not finite.
    """
    facts = ModelFacts.of(model)
    spec = corpus_spec(source, model, positions, "all")
    corpus = yield from spec.corpus()
    batch, at = blocks_per_forward(model, corpus.block_length), 0
    parts, following = [], []
    while at < len(corpus.blocks):
        yield Progress("base: hidden states", at, len(corpus.blocks))
        hidden, asked, count = hidden_batch(model, corpus, at, batch)
        parts.append(hidden.flatten(0, 1).cpu())
        following.append(np.asarray(asked.targets, dtype=np.int64).reshape(-1))
        batch, at = min(batch, count), at + count
    yield Progress("base: hidden states", at, len(corpus.blocks))
    return BaseStates(
        facts=facts,
        head=model.head,
        hidden=torch.cat(parts),
        next_ids=np.concatenate(following),
        corpus=corpus,
        vocabulary=vocabulary_of(model.tokenizer),
    )


def is_states(path: Path) -> bool:
    """Whether a path is to be read as a file of hidden states: a file that is no GGUF model."""
    return path.is_file() and not is_gguf(path)


def check_states(path: Path, *, replace: bool) -> None:
    """Refuse a place where no hidden states can be written, as `tpe_core.outputs.check_output` does."""
    check_output(path, "a file of hidden states", _begins_as_states, replace=replace)


def _begins_as_states(path: Path) -> bool:
    with path.open("rb") as stream:
        return f'"{FORMAT}"'.encode() in stream.read(HEADER)


def read_facts(path: Path) -> ModelFacts:
    """Which model a file of hidden states is of. Raises `TpeError` where it is no such file, or cut."""
    with _opened(path) as file:
        return _parsed(path, lambda: ModelFacts(**parse_json(_metadata(path, file)["facts"])["base"]))


def read_states(path: Path) -> BaseStates:
    """What `BaseStates.write` wrote. Raises `TpeError` in one sentence where that is not what is there, whole."""
    with _opened(path) as file:
        metadata = _metadata(path, file)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    facts = metadata.get("facts", "")
    if metadata.get("sha256") != _content(facts, tensors):
        raise TpeError(f"{shown_path(path)} does not hold what was written to it (its hash differs): save it again.")
    return _parsed(path, lambda: _states(parse_json(facts), tensors))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A safetensors file. Raises `TpeError` where it is none, is cut or cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        reason = getattr(error, "strerror", None) or fit(printable_token(str(error)[:200]), 80)
        raise TpeError(
            f"{shown_path(path)} cannot be read as hidden states that tpe kl --save wrote ({reason}): it is cut or of "
            "another kind; save it again, or name a model."
        ) from None


def _metadata(path: Path, file: Any) -> dict[str, str]:
    metadata: dict[str, str] = file.metadata() or {}
    if metadata.get("format") != FORMAT:
        raise TpeError(
            f"{shown_path(path)} is a safetensors file, but not hidden states that tpe kl --save wrote: name that file "
            "or the folder of a model."
        )
    if (version := metadata.get("version")) != VERSION:
        raise TpeError(
            f"{shown_path(path)} holds hidden states of version {version}, and this program reads {VERSION}: save them "
            "again."
        )
    return metadata


def _parsed(path: Path, parse: Callable[[], T]) -> T:
    try:
        return parse()
    except (KeyError, TypeError, ValueError) as error:
        reason = fit(printable_token(str(error)), 60)
        raise TpeError(
            f"{shown_path(path)} holds no hidden states that can be read ({reason}): save it again."
        ) from None


def _states(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> BaseStates:
    head, text = facts["head"], facts["text"]
    blocks = tensors["blocks"].numpy()
    return BaseStates(
        facts=ModelFacts(**facts["base"]),
        head=OutputHead(
            columns=tensors["columns"],
            bias=tensors.get("bias"),
            post=Post(**head["post"]),
            vocab_rows=head["vocab_rows"],
            tied=head["tied"],
            module=head["module"],
        ),
        hidden=tensors["hidden"],
        next_ids=tensors["next"].numpy(),
        corpus=Corpus(
            blocks=blocks,
            targets=tensors["targets"].numpy(),
            block_hash=tensors["block_hash"].numpy().view(np.uint64),
            stretch=np.zeros(len(blocks), np.int64),
            label=text["label"],
            fingerprint=text["fingerprint"],
            part="all",
            add_bos=text["bos"],
        ),
        vocabulary=tuple(parse_json(tensors["vocabulary"].numpy().tobytes())),
    )


def _content(facts: str, tensors: Mapping[str, Tensor]) -> str:
    """sha256 (hex) of the facts and of every tensor's type, shape and bytes."""
    digest = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        for part in _parts(tensor):
            digest.update(part)
    return digest.hexdigest()


def _parts(tensor: Tensor) -> Iterator[Any]:
    """The bytes of a tensor, some rows at a time."""
    for rows in tensor.split(64):
        yield rows.contiguous().view(torch.uint8).numpy().reshape(-1).data
