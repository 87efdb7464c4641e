"""Text sources, and blocks of token ids: what they hold, how they are split, named and refused."""

from __future__ import annotations

import codecs
import gzip
import io
import logging
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.tokenizers import byte_level, metaspace
from tpe_core.corpus import corpus as corpus_module
from tpe_core.corpus import files
from tpe_core.corpus.corpus import (
    BuiltinCode,
    BuiltinSource,
    Corpus,
    FileSource,
    StdinSource,
    TextSource,
    corpus_key,
    opening_of,
    read_corpus,
    text_source,
    tokenizer_fingerprint,
)
from tpe_core.corpus.decoding import decode
from tpe_core.demo import corpus as demo_corpus
from tpe_core.errors import CorpusError
from tpe_core.progress import run

WORDS = ["the", "cat", "and", "dog", "sat", "on", "mat", "then", "other", "ran", "to", "a", "barn"]


def prose(count: int, seed: int = 0) -> str:
    picks = np.random.default_rng(seed).integers(0, len(WORDS), count)
    return " ".join(WORDS[pick] for pick in picks)


@dataclass(frozen=True)
class Listed(TextSource):
    """Documents in memory that count how many were read."""

    texts: tuple[str, ...]
    read: list[int]

    @property
    def label(self) -> str:
        return "listed"

    def fingerprint(self) -> str:
        return "0" * 64

    def pieces(self) -> Iterator[tuple[str, bool]]:
        for index, text in enumerate(self.texts):
            self.read.append(index)
            yield text, True


def listed(*texts: str) -> Listed:
    return Listed(texts, [])


def build(source: TextSource, tokenizer: Any, **options: Any) -> Corpus:
    facts: dict[str, Any] = {"block_length": 8, "positions": 64, "part": "all", "tokenizer_fingerprint": "t"} | options
    return run(read_corpus(source, tokenizer, **facts))


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


# Sources


def test_files_and_folders_in_order_each_once(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    for name in ("b.txt", "a.md", "sub/c.rst", "d.py", "e.log", ".hidden.txt", ".git/f.txt"):
        (tmp_path / name).write_text(f"text of {name}")
    (tmp_path / "empty.txt").touch()
    source = text_source([tmp_path, tmp_path / "b.txt", str(tmp_path / "e.log")])
    assert isinstance(source, FileSource)
    assert [path.relative_to(tmp_path).as_posix() for path in source.files] == [
        "a.md",
        "b.txt",
        "d.py",
        "e.log",
        "sub/c.rst",
    ]
    assert list(source.documents())[1] == "text of b.txt"
    assert source.label == "5 files from a.md"
    assert text_source([tmp_path / "b.txt"]).label == "b.txt"


def test_a_files_fingerprint_is_its_content(tmp_path: Path) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("same")
    two.write_text("same")
    assert text_source([one]).fingerprint() == text_source([two]).fingerprint()
    two.write_text("other")
    assert text_source([one]).fingerprint() != text_source([two]).fingerprint()


def test_line_ends_and_byte_order_mark_are_normalised(tmp_path: Path) -> None:
    path = tmp_path / "windows.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree")
    assert list(text_source([path]).documents()) == ["one\ntwo\nthree"]


@given(text=st.text(max_size=60), size=st.integers(1, 9))
@settings(max_examples=60)
def test_reading_in_pieces_changes_nothing(text: str, size: int) -> None:
    stream = io.BytesIO(text.encode())
    try:
        read = "".join(decode(iter(lambda: stream.read(size), b""), "x"))
    except CorpusError as error:
        read = str(error)
    if "\0" in text:
        assert f"zero byte at offset {text.encode().index(0)})" in read
    else:
        assert read == text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")


def test_standard_input_is_read_once() -> None:
    source = text_source(["-"], stdin=io.BytesIO("été".encode()))
    assert isinstance(source, StdinSource)
    assert (list(source.documents()), list(source.documents()), source.label) == (["été"], ["été"], "standard input")
    assert len(source.fingerprint()) == 64


def test_nothing_named_is_the_built_in_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_corpus, "held_out_sample", lambda: iter(["doc one", "doc two"]))
    monkeypatch.setattr(demo_corpus, "source_code", lambda: iter(["import this"]))
    assert text_source([]) == BuiltinSource()
    assert list(text_source([]).documents()) == ["doc one", "doc two"]
    assert list(BuiltinCode().documents()) == ["import this"]
    assert BuiltinCode().fingerprint() != BuiltinSource().fingerprint()


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


def test_refusals_say_what_and_what_to_do(tmp_path: Path) -> None:
    def refused(*paths: str | Path, stdin: Any = None) -> str:
        with pytest.raises(CorpusError) as caught:
            list(text_source(paths, stdin=stdin).documents())
        return str(caught.value).replace(str(tmp_path), "DIR")

    def file(data: bytes) -> Path:
        path = tmp_path / "file.txt"
        path.write_bytes(data)
        return path

    assert refused(tmp_path / "no.txt") == "there is no text at DIR/no.txt: check the path."
    assert refused(file(b"")) == "the file DIR/file.txt is empty: name one that holds text."
    assert "holds only 1 empty files" in refused(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/x.bin").write_bytes(b"x")
    assert "holds no .arrow .csv .json .jsonl .md" in refused(tmp_path / "folder")
    assert "zero byte at offset 3" in refused(file(b"abc\0"))
    assert "byte 0xe9 at offset 4)" in refused(file(b"abc \xe9t"))
    assert "iconv" in refused(file(b"\xe9t"))
    assert "offset 3" in refused(file(b"abc\xe2\x80"))
    assert "UTF-16LE without a byte order mark" in refused(file("hello".encode("utf-16-le")))
    assert "neither a file nor a folder" in refused("/dev/null")
    assert "cannot be read" in refused("a\0b")
    assert "cannot be mixed" in refused("-", tmp_path)
    assert "is empty" in refused("-", stdin=io.BytesIO())
    assert "is a terminal" in refused("-", stdin=Terminal())
    gone = text_source([file(b"text")])
    (tmp_path / "file.txt").unlink()
    with pytest.raises(CorpusError, match=r"No such file"):
        list(gone.documents())
    with pytest.raises(CorpusError, match=r"No such file"):
        gone.fingerprint()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (codecs.BOM_UTF16_BE + b"\xd8\x00\x00a", "is not UTF-16 (byte 0xd8 at offset 2): convert"),
        ("a\0b".encode("utf-32"), "is binary, not text (a zero in its UTF-32)"),
        *(
            (
                f"no mark in {name}\n".encode(name),
                f"is {name.upper().replace('-LE', 'LE').replace('-BE', 'BE')} without a byte order mark, not",
            )
            for name in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
        ),
        (gzip.compress(b"%PDF-1.7\n", mtime=0), "is a PDF, not text"),
        (gzip.compress(b"PAR1\x15", mtime=0), "is a Parquet table, not text"),
        (b"PK\x03\x04rest", "is compressed (zip), not text: unpack it first with unzip"),
        (b"%PDF-1.7\n", "is a PDF, not text"),
        (pickle.dumps([1]), "is a pickle, not text"),
        (b"caf\xe9", "is not UTF-8 (byte 0xe9 at offset 3): convert it first, for example with iconv -f LATIN1"),
        (b"\x01\x02\x00\x03\x04\x05", "is binary, not text (a zero byte at offset 2)"),
        (b"a\0b\0c\0d\0\0\0\xff\xff" + bytes(range(256)), "is binary, not text (a zero byte at offset 1)"),
    ],
)
def test_what_a_file_is_instead_of_utf_8_is_named_as_what_it_is(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(data)
    with pytest.raises(CorpusError) as failure:
        list(text_source([path]).documents())
    assert f"{path} {reason}" in str(failure.value)


def test_a_long_files_bad_byte_is_found_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_bytes("é".encode() * 600_000 + b"\xff")
    with pytest.raises(CorpusError, match="offset 1200000"):
        list(text_source([path]).documents())


# Blocks


def test_blocks_are_the_text_and_targets_the_next_tokens() -> None:
    text = prose(200)
    ids = plain_ids(byte_level(), text)
    corpus = build(listed(text), byte_level(), positions=10_000)
    count = (len(ids) - 1) // 8
    assert corpus.blocks.shape == corpus.targets.shape == (count, 8)
    assert corpus.blocks.ravel().tolist() == ids[: count * 8]
    assert corpus.targets.ravel().tolist() == ids[1 : count * 8 + 1]
    assert (corpus.positions, corpus.block_length, corpus.add_bos) == (count * 8, 8, False)
    assert (corpus.blocks.dtype, corpus.block_hash.dtype) == (np.int64, np.uint64)


def test_a_tokenizer_that_begins_with_bos_begins_every_block() -> None:
    text = prose(200)
    ids = plain_ids(metaspace(), text)
    corpus = build(listed(text), metaspace(), positions=10_000)
    assert corpus.add_bos
    assert (corpus.blocks[:, 0] == 1).all()
    count = (len(ids) - 1) // 7
    assert corpus.blocks[:, 1:].ravel().tolist() == ids[: count * 7]
    assert (corpus.targets[:, :-1] == corpus.blocks[:, 1:]).all()
    assert corpus.targets[:-1, -1].tolist() == corpus.blocks[1:, 1].tolist()
    assert opening_of(metaspace()) == (1,)
    assert opening_of(byte_level()) == opening_of(metaspace(), add_bos=False) == ()


def test_documents_are_joined_by_the_end_token() -> None:
    tokenizer = byte_level()
    texts = [prose(30, seed) for seed in range(6)]
    corpus = build(listed(*texts), tokenizer, positions=10_000)
    expected: list[int] = []
    for index, text in enumerate(texts):
        expected += [tokenizer.eos_token_id] * (index > 0) + plain_ids(tokenizer, text)
    flat = corpus.blocks.ravel().tolist()
    assert flat == expected[: len(flat)]


def test_exactly_as_many_blocks_as_needed_and_no_more_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "BATCH", 500)
    source = listed(*(prose(50, seed) for seed in range(400)))
    corpus = build(source, byte_level(), positions=65)
    assert corpus.positions == 72  # nine blocks of eight
    assert len(source.read) < 10


@pytest.mark.parametrize("batch", [50, 700, 10**6])
def test_batches_do_not_change_the_blocks(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    source = listed(*(prose(40, seed) for seed in range(20)))
    whole = build(source, byte_level(), positions=500, part="detect")
    monkeypatch.setattr(corpus_module, "BATCH", batch)
    again = build(source, byte_level(), positions=500, part="detect")
    assert np.array_equal(whole.blocks, again.blocks)
    assert np.array_equal(whole.block_hash, again.block_hash)


@given(st.text("ab \n\té日", max_size=80), st.integers(2, 30))
def test_cutting_keeps_every_character_and_the_byte_level_tokens(text: str, size: int) -> None:
    parts = corpus_module._cut(text, size)
    assert "".join(parts) == text
    assert all(0 < len(part) <= size for part in parts)
    words = all(any(a.isspace() and not b.isspace() for a, b in pairwise(p)) for p in parts)
    if words and text:
        joined = [index for part in parts for index in plain_ids(byte_level(), part)]
        assert joined == plain_ids(byte_level(), text)


def test_a_long_document_is_cut_between_words_even_across_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "READ", 777)
    monkeypatch.setattr(corpus_module, "PIECE", 500)
    text = prose(3000)
    (tmp_path / "long.txt").write_text(text)
    corpus = build(text_source([tmp_path / "long.txt"]), byte_level(), positions=10**6)
    flat = corpus.blocks.ravel().tolist()
    assert len(flat) > 2900
    assert flat == plain_ids(byte_level(), text)[: len(flat)]


def test_the_parts_are_disjoint_complete_and_independent_of_order() -> None:
    texts = [prose(40, seed) for seed in range(120)]
    parts = {
        part: build(listed(*texts), byte_level(), positions=10**6, part=part) for part in ("detect", "heldout", "all")
    }
    keys = {part: set(corpus.block_hash.tolist()) for part, corpus in parts.items()}
    assert not keys["detect"] & keys["heldout"]
    assert keys["detect"] | keys["heldout"] == keys["all"]
    assert parts["detect"].positions + parts["heldout"].positions == parts["all"].positions
    assert max(keys["heldout"]) < 2**62 <= min(keys["detect"])
    assert 0.15 < len(keys["heldout"]) / len(keys["all"]) < 0.35
    fewer = build(listed(*texts), byte_level(), positions=80, part="heldout")
    assert np.array_equal(fewer.blocks, parts["heldout"].blocks[:10])


def test_the_key_names_every_choice_without_reading_the_text() -> None:
    source = listed(prose(300))
    facts: dict[str, Any] = {
        "tokenizer_fp": "t",
        "block_length": 8,
        "positions": 64,
        "part": "detect",
        "heldout_share": 0.25,
    }
    key = corpus_key(source, **facts)
    assert source.read == []
    assert build(source, byte_level(), part="detect").fingerprint == key
    others: list[dict[str, Any]] = [
        {"tokenizer_fp": "u"},
        {"block_length": 9},
        {"positions": 65},
        {"part": "heldout"},
        {"heldout_share": 0.3},
        {"add_bos": True},
    ]
    assert len({key, *(corpus_key(source, **(facts | other)) for other in others)}) == 7
    assert corpus_key(source, "t", 8, 64, "all", 0.1) == corpus_key(source, "t", 8, 64, "all", 0.2)
    with_bos = build(source, metaspace(), part="detect")
    assert with_bos.fingerprint == corpus_key(source, **facts, add_bos=True)


def test_the_built_in_key_reads_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden() -> Iterator[str]:
        raise AssertionError("the text was read")

    monkeypatch.setattr(demo_corpus, "held_out_sample", forbidden)
    monkeypatch.setattr(demo_corpus, "source_files", forbidden)
    assert len(corpus_key(BuiltinSource(), "t", 128, 1000)) == 64


def test_too_little_text_is_refused_with_the_counts() -> None:
    with pytest.raises(CorpusError, match=r"\(listed\) has 3 tokens, but one block of 8 positions needs 9: give more"):
        build(listed("the the the"), byte_level())
    texts = listed("the " * 9)
    only = build(texts, byte_level())
    missing = "detect" if int(only.block_hash[0]) < 2**62 else "heldout"
    with pytest.raises(CorpusError, match=f"1 blocks of 8 positions, none of them in the '{missing}' part"):
        build(texts, byte_level(), part=missing)
    assert build(listed(prose(30)), byte_level(), positions=10**9).positions < 300


@pytest.mark.parametrize(
    "wrong",
    [{"block_length": 1}, {"positions": 0}, {"part": "train"}, {"part": "detect", "heldout_share": 1.0}],
)
def test_impossible_requests(wrong: dict[str, Any]) -> None:
    with pytest.raises(CorpusError, match="cannot be read"):
        build(listed(prose(99)), byte_level(), **wrong)


def test_progress_counts_positions_and_can_be_left() -> None:
    steps = read_corpus(
        listed(prose(300)), byte_level(), block_length=8, positions=40, part="all", tokenizer_fingerprint="t"
    )
    events = [next(steps), next(steps)]
    assert [(event.done, event.total) for event in events] == [(0, 40), (40, 40)]
    steps.close()


def test_no_warning_about_the_models_context(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger("transformers").propagate = True
    try:
        build(listed(prose(500)), byte_level())
    finally:
        logging.getLogger("transformers").propagate = False
    assert "longer than" not in caplog.text + capfd.readouterr().err


def test_a_tokenizers_fingerprint_is_its_rules() -> None:
    tokenizer = byte_level()
    before = tokenizer_fingerprint(tokenizer)
    tokenizer.backend_tokenizer.enable_truncation(4)
    assert tokenizer_fingerprint(tokenizer) == before
    tokenizer.backend_tokenizer.no_truncation()
    assert tokenizer_fingerprint(metaspace()) != before

    class Slow:
        bos_token_id, eos_token_id = None, 0

        def __init__(self, vocabulary: dict[str, int]) -> None:
            self.vocabulary = vocabulary

        def __call__(self, text: Any, **options: Any) -> Any:
            return {"input_ids": [[0] for _ in text]}

        def get_vocab(self) -> dict[str, int]:
            return self.vocabulary

    assert tokenizer_fingerprint(Slow({"a": 0, "b": 1})) == tokenizer_fingerprint(Slow({"b": 1, "a": 0}))
    assert tokenizer_fingerprint(Slow({"a": 0})) != tokenizer_fingerprint(Slow({"a": 1}))
