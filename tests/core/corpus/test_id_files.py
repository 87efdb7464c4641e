"""Token ids from files: every format against the ids that were written, lazily, and each broken one in a sentence."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.id_files import save_megatron
from tests.helpers.tokenizers import byte_level
from tpe_core.corpus import id_files
from tpe_core.corpus.corpus import read_corpus, text_source, token_stream, tokenizer_fingerprint
from tpe_core.corpus.id_files import IdFiles
from tpe_core.corpus.id_tokenizer import IdTokenizer
from tpe_core.corpus.kinds import are_ids
from tpe_core.errors import CorpusError
from tpe_core.progress import run

IDS = np.random.default_rng(0).integers(0, 60, 1000)


def read(*paths: Path, rows: int = 60, **options: Any) -> list[int]:
    """All ids of some files, through the source that `--text` makes."""
    stream = text_source([str(path) for path in paths]).token_ids(rows, **options)
    assert stream is not None
    return [int(each) for part in stream for each in part]


def refusal(*paths: Path, rows: int = 60) -> str:
    """The sentence that reading some files ends in."""
    with pytest.raises(CorpusError) as error:
        read(*paths, rows=rows)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def saved(path: Path, values: Any) -> Path:
    np.save(path, values)
    return path


def raw(path: Path, values: Any, dtype: str = "<u2") -> Path:
    np.asarray(values).astype(dtype).tofile(path)
    return path


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", ">i4", "int64", "uint64"])
def test_an_array_of_any_whole_numbers_is_its_ids(tmp_path: Path, dtype: str) -> None:
    assert read(saved(tmp_path / "ids.npy", IDS.astype(dtype))) == IDS.tolist()


def test_an_array_is_known_by_its_content_whatever_its_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "ids.npy", IDS).rename(tmp_path / "tokens")
    assert are_ids([str(path)])
    assert read(path) == IDS.tolist()


def test_rows_of_a_table_are_documents_without_their_padding(tmp_path: Path) -> None:
    table = [[5, 6, 1, 7], [1, 1, 1, 1], [8, 9, 2, 1], [3, 1, 1, 1]]
    path = saved(tmp_path / "ids.npy", table)
    assert read(path) == [id_ for row in table for id_ in row]
    # the third row ends in the end token already
    assert read(path, end=2, padding=1) == [5, 6, 1, 7, 2, 8, 9, 2, 3]


def test_a_raw_file_is_of_16_bits_until_the_vocabulary_needs_32(tmp_path: Path) -> None:
    assert read(raw(tmp_path / "small.bin", IDS)) == IDS.tolist()
    highest = [0, 65535, 17]
    assert read(raw(tmp_path / "most.bin", highest), rows=65536) == highest
    large = [0, 65536, 69999]
    assert read(raw(tmp_path / "large.bin", large, "<u4"), rows=70000) == large


@pytest.mark.parametrize(("magic", "dtype"), [(20240520, "<u2"), (20240801, "<u4")])
def test_a_shard_with_a_header_is_the_ids_after_it(tmp_path: Path, magic: int, dtype: str) -> None:
    header = np.zeros(256, "<i4")
    header[:3] = magic, 1, len(IDS)
    path = tmp_path / "shard.bin"
    path.write_bytes(header.tobytes() + IDS.astype(dtype).tobytes())
    assert read(path) == IDS.tolist()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "int64"])
def test_documents_of_megatron_are_their_sequences_joined(tmp_path: Path, dtype: str) -> None:
    documents = [[[1, 2, 3], [4]], [[5, 6]], [], [[7, 9], [], [8]]]
    path = save_megatron(tmp_path / "text_document", documents, dtype)
    assert read(path) == [1, 2, 3, 4, 5, 6, 7, 9, 8]
    assert read(path, end=6) == [1, 2, 3, 4, 6, 5, 6, 7, 9, 8]  # the second document ends in it already
    assert read(path.with_suffix(".idx")) == read(path)
    assert read(path, path.with_suffix(".idx")) == read(path)


def test_several_files_are_read_in_the_order_of_their_paths(tmp_path: Path) -> None:
    files = [saved(tmp_path / "a.npy", [1, 2]), raw(tmp_path / "b.bin", [3]), saved(tmp_path / "c.npy", [[4], [5]])]
    assert read(*files, end=9) == [1, 2, 9, 3, 9, 4, 9, 5]


def test_parts_are_joined_as_if_there_were_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_megatron(tmp_path / "data", [[IDS[:400].tolist()], [IDS[400:401].tolist()], [IDS[401:].tolist()]])
    files = [saved(tmp_path / "ids.npy", IDS), saved(tmp_path / "table.npy", IDS.reshape(20, 50)), path]
    whole = [read(each, end=0) for each in files]
    monkeypatch.setattr(id_files, "CHUNK", 7)
    assert [read(each, end=0) for each in files] == whole
    sizes = [len(part) for part in IdFiles.open(files).token_ids(60)]
    assert max(sizes) <= 2 * max(7, 50)


@pytest.mark.parametrize("value", [60, 61_000, -1, -100])
def test_an_id_outside_the_vocabulary_is_named_with_its_position(tmp_path: Path, value: int) -> None:
    wrong = IDS.copy()
    wrong[777] = value
    told = f"ids.npy holds the id {value} at position 777 (counted from 0), which is none of the model's vocabulary"
    assert told in refusal(saved(tmp_path / "ids.npy", wrong))
    assert "position 27 of row 15 (" in refusal(saved(tmp_path / "table.npy", wrong.reshape(20, 50)))


def test_the_position_in_raw_and_indexed_files_counts_from_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(id_files, "CHUNK", 100)
    wrong = IDS.copy()
    wrong[777] = 60
    sentence = refusal(raw(tmp_path / "ids.bin", wrong))
    assert "the id 60 at position 777 (" in sentence
    assert "read as 16-bit numbers, by the size of the vocabulary" in sentence
    path = save_megatron(tmp_path / "data", [[wrong[:700].tolist()], [wrong[700:750].tolist(), wrong[750:].tolist()]])
    assert "the id 60 at position 777, in document 1 (" in refusal(path)


def _patched(path: Path, at: int, data: bytes) -> Path:
    whole = bytearray(path.read_bytes())
    whole[at : at + len(data)] = data
    path.write_bytes(whole)
    return path


def _index_with(at: int, data: bytes) -> Callable[[Path], Sequence[Path]]:
    def make(folder: Path) -> Sequence[Path]:
        path = save_megatron(folder / "data", [[[1, 2], [3]], [[4]]])
        _patched(path.with_suffix(".idx"), at, data)
        return [path]

    return make


def _cut_index(folder: Path) -> Sequence[Path]:
    path = save_megatron(folder / "data", [[[1, 2], [3]], [[4]]])
    path.with_suffix(".idx").write_bytes(path.with_suffix(".idx").read_bytes()[:-4])
    return [path]


def _cut_header(folder: Path) -> Sequence[Path]:
    path = save_megatron(folder / "data", [[[1, 2]]])
    path.with_suffix(".idx").write_bytes(path.with_suffix(".idx").read_bytes()[:20])
    return [path]


def _cut_data(folder: Path) -> Sequence[Path]:
    path = save_megatron(folder / "data", [[[1, 2], [3]], [[4]]])
    path.write_bytes(path.read_bytes()[:-4])
    return [path]


def _lone_index(folder: Path) -> Sequence[Path]:
    path = save_megatron(folder / "data", [[[1]]])
    path.unlink()
    return [path.with_suffix(".idx")]


def _cut_array(folder: Path) -> Sequence[Path]:
    path = saved(folder / "ids.npy", IDS)
    path.write_bytes(path.read_bytes()[:-8])
    return [path]


def _written(name: str, data: bytes) -> Callable[[Path], Sequence[Path]]:
    def make(folder: Path) -> Sequence[Path]:
        (folder / name).write_bytes(data)
        return [folder / name]

    return make


def _mixed(folder: Path) -> Sequence[Path]:
    (folder / "words.txt").write_text("some words")
    return [saved(folder / "ids.npy", IDS), folder / "words.txt"]


BROKEN: dict[str, tuple[Callable[[Path], Sequence[Path]], str]] = {
    "floating point": (lambda folder: [saved(folder / "ids.npy", IDS * 0.5)], "an array of float64 of shape (1000,)"),
    "truth values": (lambda folder: [saved(folder / "ids.npy", IDS > 3)], "an array of bool of shape (1000,)"),
    "three dimensions": (lambda folder: [saved(folder / "ids.npy", IDS.reshape(10, 10, 10))], "shape (10, 10, 10)"),
    "no dimension": (lambda folder: [saved(folder / "ids.npy", np.int64(3))], "shape ()"),
    "objects": (lambda folder: [saved(folder / "ids.npy", np.array([[1], [2, 3]], object))], "as a NumPy array"),
    "empty array": (lambda folder: [saved(folder / "ids.npy", np.zeros((0, 4), int))], "no ids (its shape is (0, 4))"),
    "cut array": (_cut_array, "cannot be read as a NumPy array"),
    "no array": (_written("ids.npy", b"hello world"), "cannot be read as a NumPy array"),
    "empty file": (_written("ids.bin", b""), "is empty"),
    "odd size": (_written("ids.bin", b"\x01\x00\x02"), "has 3 bytes, which is no whole number of 16-bit ids"),
    "weights": (_written("pytorch_model.bin", b"PK\x03\x04" + bytes(60)), "is a zip archive"),
    "another index": (_index_with(0, b"TNTIDX\x00\x00\x00"), "an older format (TNTIDX)"),
    "no index": (_index_with(0, b"something"), "not Megatron's format (MMIDIDX)"),
    "version": (_index_with(9, struct.pack("<Q", 2)), "version 2"),
    "floating-point ids": (_index_with(17, b"\x07"), "dtype code 7"),
    "cut index": (_cut_index, "it is cut off or empty"),
    "cut header": (_cut_header, "is cut off after 20 bytes"),
    "cut data": (_cut_data, "data.idx does not go with data.bin: sequence 2 is of 1 ids at byte 12"),
    "offset between ids": (_index_with(34 + 12, struct.pack("<q", 2)), "sequence 0 is of 2 ids at byte 2"),
    "negative size": (_index_with(34, struct.pack("<i", -5)), "sequence 0 is of -5 ids"),
    "document beyond": (_index_with(34 + 36 + 8, struct.pack("<q", 9)), "document 0 is of sequences 0 to 9"),
    "index alone": (_lone_index, "there is no file"),
    "text and ids": (_mixed, "token ids and plain text cannot be read as one text"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_in_a_sentence(tmp_path: Path, name: str) -> None:
    make, told = BROKEN[name]
    assert told in refusal(*make(tmp_path))


def test_a_fingerprint_follows_the_ids_and_not_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(id_files, "HASHED", 256)
    monkeypatch.setattr(id_files, "STRIDE", 512)
    monkeypatch.setattr(id_files, "SPREAD", 16)

    def of(name: str, values: Any) -> str:
        return text_source([str(raw(tmp_path / name, values))]).fingerprint()

    assert of("a.bin", IDS) == of("b.bin", IDS)
    changed = IDS.copy()
    changed[100] += 1  # in the part that is hashed whole
    longer = np.append(IDS, 1)
    spread = IDS.copy()
    spread[(256 + 512) // 2] += 1  # in the spread behind it
    assert len({of("a.bin", each) for each in (IDS, changed, longer, spread)}) == 4


def test_an_index_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    one = save_megatron(tmp_path / "one", [[[1, 2]], [[3]]])
    other = save_megatron(tmp_path / "other", [[[1]], [[2, 3]]])
    assert one.read_bytes() == other.read_bytes()
    assert text_source([str(one)]).fingerprint() != text_source([str(other)]).fingerprint()


def test_a_model_with_a_tokenizer_reads_ids_as_its_own(tmp_path: Path) -> None:
    tokenizer = byte_level()
    sentences = ["the cat and the dog", "sat on the mat"]
    rows = [tokenizer(each)["input_ids"] for each in sentences]
    text = tmp_path / "text.txt"
    text.write_text(sentences[0])
    (tmp_path / "other.txt").write_text(sentences[1])
    ids = save_megatron(tmp_path / "data", [[row] for row in rows])
    as_text = np.concatenate(list(token_stream(text_source([str(text), str(tmp_path / "other.txt")]), tokenizer)))
    as_ids = np.concatenate(list(token_stream(text_source([str(ids)]), tokenizer)))
    by_name = rows[1] + [tokenizer.eos_token_id] + rows[0]  # files are read in the order of their names
    assert as_text.tolist() == by_name
    assert as_ids.tolist() == rows[0] + [tokenizer.eos_token_id] + rows[1]


def test_reading_stops_where_there_are_blocks_enough(tmp_path: Path) -> None:
    wrong = np.append(np.tile(IDS, 600), 60)  # an id outside the vocabulary, behind what is needed
    source = text_source([str(saved(tmp_path / "ids.npy", wrong))])
    tokenizer = IdTokenizer(60)
    options: dict[str, Any] = {"block_length": 10, "tokenizer_fingerprint": tokenizer_fingerprint(tokenizer)}
    corpus = run(read_corpus(source, tokenizer, positions=500, part="all", **options))
    assert corpus.blocks.ravel().tolist() == IDS[:500].tolist()
    assert corpus.targets.ravel().tolist() == IDS[1:501].tolist()
    with pytest.raises(CorpusError, match="the id 60 at position 600,000"):
        run(read_corpus(source, tokenizer, positions=10**7, part="all", **options))


def test_a_file_far_larger_than_what_is_read_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.bin"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)  # sparse: a terabyte that takes no place
    first = next(IdFiles.open([path]).token_ids(60))
    assert len(first) == id_files.CHUNK
    assert not first.any()


def test_text_is_refused_where_there_is_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("1 2 3")
    with pytest.raises(CorpusError, match="has no tokenizer and cannot read text"):
        list(token_stream(text_source([str(tmp_path / "words.txt")]), IdTokenizer(60)))
