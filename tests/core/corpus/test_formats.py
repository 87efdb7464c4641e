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
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.tokenizers import byte_level
from tpe_core.corpus import compression, formats
from tpe_core.corpus.corpus import text_source, token_stream
from tpe_core.corpus.sources import TextSource
from tpe_core.errors import CorpusError

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
    ".bz2": lambda data: bz2.compress(data, 1),
    ".xz": lambda data: lzma.compress(data, preset=0),
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


# Broken files


def refused(path: Path, data: bytes | None = None, **options: Any) -> str:
    """The one sentence that reading a file ends in, its folder left out."""
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(CorpusError) as failure:
        list(text_source([path], **options).documents())
    sentence = str(failure.value)
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    return sentence.replace(f"{path.parent}/", "")


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_a_cut_compressed_file_names_the_last_whole_record(tmp_path: Path, ending: str) -> None:
    rng = np.random.default_rng(0)  # incompressible, so that each library has given some of it before the cut
    documents = [rng.bytes(300).hex() for _ in range(1000)]
    whole = COMPRESSED[ending](json_lines(documents))
    sentence = refused(tmp_path / f"cut.jsonl{ending}", whole[: len(whole) // 2])
    number = int(sentence.split("after line ")[1].split(" ")[0])
    assert f"cut.jsonl{ending} is cut or broken after line {number} (its " in sentence
    assert "data is cut off): copy or fetch it again." in sentence
    assert 200 < number < 520


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_a_compressed_file_with_other_bytes_in_it_is_broken(tmp_path: Path, ending: str) -> None:
    whole = bytearray(COMPRESSED[ending](json_lines(DOCUMENTS)))
    for at in range(12, 40):
        whole[at] ^= 0x5A
    sentence = refused(tmp_path / f"odd.jsonl{ending}", bytes(whole))
    assert f"odd.jsonl{ending} is cut or broken at record 1 (its " in sentence or "is not JSON" in sentence


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.jsonl", b'{"text": "a"}\n\n{"text": "b"\n', "line 3 of a.jsonl is not JSON: Expecting ',' delimiter."),
        ("a.jsonl", b'{"text": "a"}\n{"body": "b"}\n', "line 2 of a.jsonl has no field text; it has: body (string)."),
        ("a.jsonl", b'{"text": "a"}\n{"text": 7}\n', "the field text in line 2 of a.jsonl holds no text but a number"),
        ("a.jsonl", b"[" * 100_000, "line 1 of a.jsonl is not JSON: it is nested too deeply."),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "a.jsonl is not UTF-8 (byte 0xff at offset 24)"),
        ("a.json", b'[{"text": "a"}, {"text": "b"', "record 2 of a.json is not JSON: Expecting ',' delimiter."),
        ("a.json", b'[{"text": "a"}, {"text": "b"}', "a.json breaks off after record 2: the array has no end."),
        ("a.json", b'[{"text": "a"} {"text": "b"}]', "record 2 of a.json is not JSON: there is no comma before it."),
        ("a.json", b'["a"] 7', "a.json goes on after the array that ends with record 1"),
        ("a.json", b"[7]", "record 1 of a.json holds no text but a number"),
        ("a.json", b"[" * 100_000, "record 1 of a.json is not JSON: it is nested too deeply."),
        ("a.csv", b'text,n\na,1\n"b\nb",2\nc\n', "line 5 of a.csv has 1 fields and its first line names 2"),
        ("a.csv", b'text,n\na,1\n"b,2\n', "line 3 of a.csv is not CSV: unexpected end of data."),
        ("a.csv", b"text,text\na,1\n", "line 1 of a.csv names the field text twice"),
        ("a.parquet", parquet(DOCUMENTS)[:-200], "a.parquet is cut or broken at record 1 ("),
        ("a.arrow", arrow(DOCUMENTS)[:-300], "a.arrow is cut or broken after record 80 ("),
        ("a.arrow", arrow_file(DOCUMENTS)[:-300], "a.arrow is cut or broken at record 1 ("),
    ],
)
def test_a_broken_record_is_one_sentence_with_its_number(tmp_path: Path, name: str, data: bytes, sentence: str) -> None:
    assert sentence in refused(tmp_path / name, data)


def test_bytes_that_are_no_text_are_placed_after_the_last_whole_record(tmp_path: Path) -> None:
    sentence = refused(tmp_path / "a.jsonl", json_lines(["a" * 500] * 100) + b"\xff")
    assert sentence.startswith("after line ")
    assert "a.jsonl is not UTF-8 (byte 0xff at offset " in sentence


def test_a_record_beyond_the_limit_is_refused_before_it_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "LARGEST", 10_000)
    documents = ["short", "x" * 40_000]
    assert "line 2 of a.jsonl has more than 10,000 characters" in refused(tmp_path / "a.jsonl", json_lines(documents))
    rest = json.dumps(documents).encode() + b" " * 40_000
    assert "record 2 of a.json is not JSON: no end of it in 10,000" in refused(tmp_path / "a.json", rest[:30_000])


# Which field


@pytest.mark.parametrize(
    ("record", "wanted", "text"),
    [
        ({"text": "a", "body": "b"}, None, "a"),
        ({"text": "a", "body": "b"}, "body", "b"),
        ({"n": 7, "body": "b", "tags": ["x"]}, None, "b"),
        ({"text": None, "body": "b"}, None, None),
        ({"text": "one\r\ntwo\rthree"}, None, "one\ntwo\nthree"),
        ({"text": "half \ud83d of a pair"}, None, "half \ufffd of a pair"),
        ({"text": "\ud83d\ude42"}, None, "🙂"),
    ],
)
def test_the_field_that_is_named_or_called_text_or_the_only_one_is_read(
    tmp_path: Path, record: dict[str, Any], wanted: str | None, text: str | None
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(record) + "\n")
    assert list(text_source([path], text_field=wanted).documents()) == ([] if text is None else [text])


def test_where_no_field_is_sure_the_sentence_lists_them(tmp_path: Path) -> None:
    two = b'{"title": "a", "body": "b", "n": 1}\n'
    asked = "name one with --text-field; it has: title (string), body (string), n (number)."
    assert refused(tmp_path / "a.jsonl", two).endswith(f"2 fields hold strings and none is called text: {asked}")
    assert "has no field other; it has: title (string)" in refused(tmp_path / "a.jsonl", two, text_field="other")
    assert "no field holds a string" in refused(tmp_path / "a.json", b'[{"n": 1}]')
    assert "2 fields hold strings" in refused(tmp_path / "a.csv", b"a;b\nx;y\n")
    columns = pyarrow.table({"a": ["x"], "b": ["y"], "n": [1]})
    pyarrow.parquet.write_table(columns, tmp_path / "a.parquet")
    assert "it has: a (string), b (string), n (int64)." in refused(tmp_path / "a.parquet")
    assert list(text_source([tmp_path / "a.parquet"], text_field="b").documents()) == ["y"]


def test_a_field_is_refused_where_there_are_no_records(tmp_path: Path) -> None:
    assert "a.txt is plain text and has no field body" in refused(tmp_path / "a.txt", b"words", text_field="body")
    for paths, what in (([], "the built-in text"), (["-"], "standard input")):
        with pytest.raises(CorpusError, match=f"{what} has no records"):
            text_source(paths, text_field="body")


# Encodings and line ends


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.csv"])
def test_a_byte_order_mark_and_wide_encodings_change_nothing(tmp_path: Path, name: str, encoding: str) -> None:
    text = {"a.txt": "été 🙂\r\nb", "a.csv": 'text\r\n"été 🙂\r\nb"\r\n'}.get(name) or '["été 🙂\\r\\nb"]'
    if name == "a.jsonl":
        text = text[1:-1] + "\r\n"
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    assert list(text_source([path]).documents()) == ["été 🙂\nb"]


def test_one_giant_line_is_read_in_pieces_and_cut_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "line.txt"
    path.write_bytes(b"abcdefg " * 500_000)
    pieces = list(text_source([path]).pieces())
    assert [begins for _, begins in pieces] == [True] + [False] * (len(pieces) - 1)
    assert max(len(text) for text, _ in pieces) <= 1 << 20
    assert "".join(text for text, _ in pieces) == "abcdefg " * 500_000


# Laziness


@pytest.mark.parametrize("name", ["lines.jsonl", "array.json", "rows.csv", "lines.jsonl.gz", "lines.jsonl.zst"])
def test_no_more_of_a_file_is_read_than_its_first_documents_need(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    documents = [rng.bytes(500).hex() for _ in range(3000)]
    format_name = next(each for each in FORMATS if name.startswith(each))
    data = COMPRESSED[name.removeprefix(format_name)](FORMATS[format_name](documents))
    path = tmp_path / name
    path.write_bytes(data)
    pieces = text_source([path]).measured()
    first = [next(pieces) for _ in range(30)]
    assert [piece.text for piece in first] == documents[:30]
    assert first[-1].share is not None
    assert 0.005 < first[-1].share < 0.15


# Folders, names, fingerprints


def test_a_folder_is_searched_for_every_kind_but_not_for_settings(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"name": "x", "version": "1"}')
    (tmp_path / "a.json").write_text(' ["a"]')
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'"b"\n'))
    (tmp_path / "c.csv").write_text("text\nc\n")
    (tmp_path / "d.txt").write_text("d")
    (tmp_path / "e.parquet").write_bytes(parquet(["e"]))
    (tmp_path / "f.log").write_text("f")
    assert list(text_source([tmp_path]).documents()) == ["a", "b", "c", "d", "e"]


def test_a_table_is_known_by_its_first_bytes_and_an_unknown_suffix_is_text(tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(parquet(["a"]))
    (tmp_path / "words.dat").write_text("b")
    assert list(text_source([tmp_path / "table", tmp_path / "words.dat"]).documents()) == ["a", "b"]
    assert "words.dat is a model in the GGUF format, not text" in refused(
        tmp_path / "words.dat", b"GGUF\x03\x00\x00\x00"
    )


def test_the_fingerprint_changes_with_text_field_and_order(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    found = set()
    for rows in (["a", "b"], ["b", "a"], ["a", "c"]):
        path.write_bytes(json_lines(rows))
        found.add(text_source([path]).fingerprint())
    found.add(text_source([path], text_field="text").fingerprint())
    found.add(text_source([path], text_field="id").fingerprint())
    assert len(found) == 5
    assert text_source([path]).fingerprint() in found


def test_a_file_is_hashed_once_as_long_as_it_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(json_lines(DOCUMENTS)))
    source = text_source([path])
    first = source.fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", lambda *_: pytest.fail("read again"))
        assert source.fingerprint() == first
    path.write_bytes(gzip.compress(json_lines(DOCUMENTS[1:])))
    assert source.fingerprint() != first


def test_a_missing_package_is_a_sentence_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "find_spec", lambda _: None)
    command = "pip install 'tpe-tui[texts]'."
    zst = COMPRESSED[".zst"](b"a")
    assert (
        refused(tmp_path / "a.txt.zst", zst)
        == f"a file compressed with zstandard needs the package zstandard: {command}"
    )
    assert refused(tmp_path / "a.parquet", parquet(["a"])) == f"a Parquet table needs the package pyarrow: {command}"
    assert refused(tmp_path / "a.arrow", arrow(["a"])) == f"an Arrow table needs the package pyarrow: {command}"
    with pytest.raises(CorpusError, match="a data set of the hub needs the package datasets"):
        text_source(["hf://datasets/some/words"])


# Round trips

TEXTS = st.lists(st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"]), min_size=1), max_size=6)


@given(documents=TEXTS, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
@settings(max_examples=40)
def test_json_gives_back_every_text(
    tmp_path_factory: pytest.TempPathFactory, documents: list[str], ascii_only: bool, indent: int | None
) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "round.json").write_text(json.dumps(documents, ensure_ascii=ascii_only, indent=indent))
    lines = "".join(json.dumps({"text": text}, ensure_ascii=ascii_only) + "\n" for text in documents)
    (folder / "round.jsonl").write_text(f"\n{lines}")
    for name in ("round.json", "round.jsonl"):
        assert list(text_source([folder / name]).documents()) == documents


@given(documents=TEXTS, quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), separator=st.sampled_from(",;\t"))
@settings(max_examples=40)
def test_csv_gives_back_every_text(
    tmp_path_factory: pytest.TempPathFactory, documents: list[str], quoting: Any, separator: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "round.csv"
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream, quoting=quoting, delimiter=separator)
        rows.writerows([["n", "text"], *([at, text] for at, text in enumerate(documents))])
    assert list(text_source([path]).documents()) == documents
