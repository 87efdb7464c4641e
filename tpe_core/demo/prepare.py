"""A training run's text: docstrings written out once, a tokenizer trained on them, and their tokens.

Every part is a file in the run's folder, written whole and found again.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tpe_core.demo import corpus
from tpe_core.demo.recipe import Recipe
from tpe_core.json_text import json_text
from tpe_core.progress import Progress, Steps
from tpe_core.store import write_file

__all__ = ["END_ID", "END_OF_TEXT", "prepare", "write"]

END_OF_TEXT = "<|endoftext|>"
END_ID = 0  # the only special token, so the first


def prepare(
    folder: Path, recipe: Recipe, text: Iterator[str] | None = None, documents: Path | None = None
) -> Steps[tuple[Tokenizer, Any, Any]]:
    """The tokenizer, and the token ids (uint16) for training and of the held-out text; `text` replaces docstrings.

    The documents are kept in the folder `documents`, which several recipes may share, or in `folder`.
    """
    written = documents or folder
    tokenizer = yield from _tokenizer(folder, written, recipe, text)
    tokens, held_out = yield from _tokens(folder, written, recipe, tokenizer, text)
    return tokenizer, tokens, held_out


def write(path: Path, data: bytes) -> None:
    """A whole file or none."""
    write_file(path, [data])


def _documents(folder: Path, recipe: Recipe, part: str, text: Iterator[str] | None) -> Iterator[str]:
    path = folder / f"{part}.jsonl"
    if not path.exists():
        if text is None:
            source = corpus.training() if part == "train" else corpus.held_out()
            if recipe.documents is not None:
                source = itertools.islice(source, recipe.documents if part == "train" else recipe.documents // 10)
        else:
            documents = list(text)
            cut = max(1, len(documents) // 10)
            for name, some in (("held_out", documents[:cut]), ("train", documents[cut:])):
                write(folder / f"{name}.jsonl", "\n".join(map(json_text, some)).encode())
            source = None
        if source is not None:
            write(path, "\n".join(map(json_text, source)).encode())
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _tokenizer(folder: Path, written: Path, recipe: Recipe, text: Iterator[str] | None) -> Steps[Tokenizer]:
    path = folder / "tokenizer.json"
    yield Progress("read docstrings", 0)
    documents = _documents(written, recipe, "train", text)
    if not path.exists():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=recipe.vocab_size,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        yield Progress("train tokenizer", 0)
        tokenizer.train_from_iterator(documents, trainer)
        write(path, tokenizer.to_str().encode())
    return Tokenizer.from_file(str(path))


def _tokens(
    folder: Path, written: Path, recipe: Recipe, tokenizer: Tokenizer, text: Iterator[str] | None
) -> Steps[tuple[Any, Any]]:
    arrays = []
    for part in ("train", "held_out"):
        path = folder / f"{part}.npy"
        if not path.exists():
            ids: list[int] = []
            documents = _documents(written, recipe, part, text)
            while batch := list(itertools.islice(documents, 1000)):
                for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
                    ids += [END_ID, *encoding.ids]
                yield Progress(f"tokenise {part}", len(ids))
            buffer = io.BytesIO()
            np.save(buffer, np.array(ids, dtype=np.uint16))
            write(path, buffer.getvalue())
        arrays.append(np.load(path, mmap_mode="r"))
    return arrays[0], arrays[1]
