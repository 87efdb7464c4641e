"""Files of records, compressed or not: the tokens of the plain files, and one sentence where a file is broken."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from tests.helpers.tokenizers import byte_level
from tpe_core.corpus.corpus import text_source, token_stream
from tpe_core.corpus.sources import TextSource

DOCUMENTS = ["hello world", 'it\'s "two",\nlines', "été 日本 🙂", "a, b; c\td"] * 25
ROWS = [{"id": at, "text": text} for at, text in enumerate(DOCUMENTS)]


def json_lines(documents: list[str]) -> bytes:
    return "".join(json.dumps({"id": at, "text": text}) + "\n" for at, text in enumerate(documents)).encode()


def comma_separated(documents: list[str]) -> bytes:
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerows([["id", "body"], *([at, text] for at, text in enumerate(documents))])
    return out.getvalue().encode()


def table(documents: list[str]) -> Any:
    return pyarrow.table({"id": list(range(len(documents))), "text": documents})


def parquet(documents: list[str]) -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(table(documents), out, row_group_size=40)
    return out.getvalue()


def arrow(documents: list[str], new: Callable[..., Any] = pyarrow.ipc.new_stream) -> bytes:
    out, rows = io.BytesIO(), table(documents)
    with new(out, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=40)
    return out.getvalue()


def arrow_file(documents: list[str]) -> bytes:
    return arrow(documents, pyarrow.ipc.new_file)


FORMATS: dict[str, Callable[[list[str]], bytes]] = {
    "lines.jsonl": json_lines,
    "lines.json": json_lines,
    "array.json": lambda documents: json.dumps([{"text": text} for text in documents], indent=1).encode(),
    "strings.json": lambda documents: json.dumps(documents).encode(),
    "rows.csv": comma_separated,
    "table.parquet": parquet,
    "stream.arrow": arrow,
    "file.arrow": arrow_file,
}
COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


def tokens(source: TextSource) -> list[int]:
    return np.concatenate(list(token_stream(source, byte_level()))).tolist()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    """The tokens of the documents as plain files."""
    folder = tmp_path_factory.mktemp("plain")
    for at, text in enumerate(DOCUMENTS):
        (folder / f"{at:04}.txt").write_text(text)
    return tokens(text_source([folder]))


@pytest.mark.parametrize("ending", COMPRESSED)
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_compressed_or_not_gives_the_tokens_of_the_plain_files(
    tmp_path: Path, plain: list[int], name: str, ending: str
) -> None:
    path = tmp_path / (name + ending)
    path.write_bytes(COMPRESSED[ending](FORMATS[name](DOCUMENTS)))
    source = text_source([path])
    assert tokens(source) == plain
    assert list(source.documents()) == DOCUMENTS
    shares = [piece.share for piece in source.measured()]
    assert shares == sorted(shares)
    assert 0 < shares[0] <= shares[-1] <= 1
    assert shares[-1] > 0.9


@pytest.mark.parametrize("ending", COMPRESSED)
def test_plain_text_is_unpacked_too_whatever_it_is_called(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "notes"
    path.write_bytes(COMPRESSED[ending](("é" * 100_000).encode()))
    assert list(text_source([path]).documents()) == ["é" * 100_000]


def test_parts_joined_into_one_compressed_file_are_all_read(tmp_path: Path) -> None:
    data = json_lines(DOCUMENTS)
    path = tmp_path / "joined.jsonl.gz"
    path.write_bytes(gzip.compress(data[:1000]) + gzip.compress(data[1000:]) + b"\0" * 512)
    assert list(text_source([path]).documents()) == DOCUMENTS
