"""Ids in the place of a tokenizer: what is typed, what is shown, and the names that a file gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import EsmConfig, GPT2Config, T5Config

from tpe_core.corpus.id_tokenizer import IDS, IdTokenizer, id_tokenizer, read_vocabulary
from tpe_core.corpus.pieces import Pieces
from tpe_core.corpus.token_ids import open_ended, special_ends, text_ids, vocabulary_rows
from tpe_core.errors import CorpusError
from tpe_core.printable import token_texts
from tpe_core.steering.token_search import TokenIndex

NOTES = ["<pad>", "<mask>", "C4", "E4", "C4", "7", "rest, long", ",", "G4,A4"]


@pytest.mark.parametrize("typed", ["17 4 98", "#17 #4 #98", "17,4,98", " #17,  4 ,\n98 ", "017 04 098"])
def test_ids_are_typed_with_or_without_a_hash_and_commas(typed: str) -> None:
    assert text_ids(IdTokenizer(100), typed) == [17, 4, 98]


def test_entries_of_a_vocabulary_are_typed_between_spaces() -> None:
    tokenizer = IdTokenizer(9, NOTES)
    assert text_ids(tokenizer, "E4 #2 <mask> 0 8") == [3, 2, 1, 0, 8]
    assert text_ids(tokenizer, "7 #7") == [5, 7]  # an entry comes before an id, which # asks for
    assert text_ids(tokenizer, ", E4,7 G4,A4") == [7, 3, 5, 8]


@pytest.mark.parametrize(
    ("typed", "names", "told"),
    [
        ("17 100", (), "token id 100 does not exist: this model's go from #0 to #99."),
        ("17 -1", (), "'-1' is no token: this model has no tokenizer; type ids, like 17 or #17."),
        ("The capital", (), "'The' is no token: this model has no tokenizer; type ids"),
        ("##3", (), "'##3' is no token"),
        ("9" * 5000, (), "does not exist"),
        ("²", (), "'²' is no token"),
        ("C4", NOTES, "'C4' is the name of 2 tokens: name one as #2 or #4."),
        (
            "D4",
            NOTES,
            "'D4' is no token: this model has no tokenizer; type an entry of the vocabulary, such as '<pad>'",
        ),
    ],
)
def test_a_wrong_word_is_told_in_a_sentence(typed: str, names: list[str], told: str) -> None:
    with pytest.raises(CorpusError) as error:
        text_ids(IdTokenizer(100, names), typed)
    assert told in str(error.value)
    assert len(str(error.value)) < 250


def test_tokens_are_shown_by_number_or_by_name() -> None:
    assert token_texts(IdTokenizer(3), 5) == ["#0", "#1", "#2", "⟨id 3⟩", "⟨id 4⟩"]
    assert token_texts(IdTokenizer(4, ["A", "", "▁the", "<0x41>"]), 4) == ["A", "#1", "▁the", "<0x41>"]


def test_what_is_decoded_is_read_back() -> None:
    for tokenizer in (IdTokenizer(60), IdTokenizer(8, ["M", "K", "T", "<eos>", "", "▁a", "[MASK]", "x,y"], eos=3)):
        ids = list(range(len(tokenizer)))
        assert text_ids(tokenizer, tokenizer.decode(ids, skip_special_tokens=True)) == ids
        assert all(text_ids(tokenizer, example) for example in tokenizer.examples)
        assert len(set(tokenizer.examples)) == 3


def test_an_example_prompt_names_tokens_even_where_their_names_cannot_be_typed() -> None:
    tokenizer = IdTokenizer(9, NOTES)
    assert all(text_ids(tokenizer, example) for example in tokenizer.examples)
    assert [text_ids(IdTokenizer(1), example) for example in IdTokenizer(1).examples] == [[0]] * 3


def test_a_text_grows_by_whole_names() -> None:
    pieces = Pieces(IdTokenizer(100), before=[5])
    assert [pieces.add(each) for each in (17, 4)] == [" #17", " #4"]
    assert not pieces.rest()


def test_nothing_is_put_around_a_sequence() -> None:
    tokenizer = IdTokenizer(100, bos=1, eos=2)
    assert special_ends(tokenizer) == ((), ())
    assert open_ended(tokenizer) is tokenizer
    assert vocabulary_rows(tokenizer) == 100
    assert vocabulary_rows(IdTokenizer(9, NOTES)) == 9  # two of one name are two ids


def test_a_number_finds_its_token_without_a_hash_too() -> None:
    tokenizer = IdTokenizer(200)
    index = TokenIndex(token_texts(tokenizer, 200), tokenizer)
    assert [index.resolve(query) for query in ("#17", "17")] == [17, 17]
    assert [each.token_id for each in index.search("17")][:3] == [17, 117, 170]
    named = TokenIndex(token_texts(IdTokenizer(9, NOTES), 9), IdTokenizer(9, NOTES))
    assert named.resolve("7") == 5  # by its name
    assert named.resolve("#7") == 7


def test_special_ids_are_the_configs_where_the_vocabulary_has_them() -> None:
    esm = id_tokenizer(EsmConfig(vocab_size=33, mask_token_id=32, pad_token_id=1))
    assert (esm.mask_token_id, esm.pad_token_id, esm.mask_token) == (32, 1, "#32")
    small = id_tokenizer(GPT2Config(vocab_size=96))  # whose end token is 50256 where nothing else is said
    assert (small.rows, small.bos_token_id, small.eos_token_id) == (96, None, None)
    several = id_tokenizer(GPT2Config(vocab_size=96, eos_token_id=[7, 8]))
    assert several.eos_token_id == 7
    t5 = id_tokenizer(T5Config(vocab_size=50))
    assert (t5.pad_token_id, t5.eos_token_id) == (0, 1)


def test_a_mask_is_found_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("A\nC\n[MASK]\n")
    tokenizer = id_tokenizer(GPT2Config(vocab_size=4), str(path))
    assert (tokenizer.mask_token_id, tokenizer.mask_token, tokenizer.rows) == (2, "[MASK]", 3)


VOCABULARIES: dict[str, tuple[str, Any]] = {
    "lines": ("names.txt", "A\nC\n\n[MASK]\n"),
    "lines of Windows": ("names.txt", "\ufeffA\r\nC\r\n\r\n[MASK]\r\n"),
    "a list": ("names.json", ["A", "C", "", "[MASK]"]),
    "names to ids": ("names.json", {"[MASK]": 3, "C": 1, "A": 0}),
    "ids to names": ("names.json", {"3": "[MASK]", "0": "A", "1": "C"}),
    "a mapping of another suffix": ("names.vocab", {"[MASK]": 3, "C": 1, "A": 0}),
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_vocabulary_is_lines_or_json(tmp_path: Path, name: str) -> None:
    file, content = VOCABULARIES[name]
    path = tmp_path / file
    path.write_bytes((content if isinstance(content, str) else json.dumps(content)).encode())
    assert read_vocabulary(path) == ["A", "C", "", "[MASK]"]


def test_the_first_line_of_a_list_may_be_a_bracket(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n[UNK]\nL\n")
    assert read_vocabulary(path) == ["[PAD]", "[UNK]", "L"]


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("names.json", b'["A", 3]', "is neither a list of names nor a mapping between names and ids"),
        ("names.json", b'{"A": 0, "B": "1"}', "is neither a list of names nor a mapping"),
        ("names.json", b'["A", ', "is not valid JSON"),
        ("names.json", b'{"A": 0, "B": 0}', "gives one id to several names"),
        ("names.json", b'{"A": -4}', "has 1 entries and the id -4"),
        ("names.json", b'{"A": 4000000000}', "has 1 entries and the id 4000000000"),
        ("names.json", b"{}", "names no token"),
        ("names.txt", b"\n\n", "names no token"),
        ("names.txt", b"A\xff", "is not UTF-8 (byte offset 1)"),
        ("names.txt", b"A\nB\nC\nD\nE\n", "has 5 entries and the model 4 tokens"),
        ("", b"", "cannot be read (Is a directory)"),
    ],
)
def test_a_broken_vocabulary_is_told_in_a_sentence(tmp_path: Path, file: str, content: bytes, told: str) -> None:
    if file:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(CorpusError) as error:
        id_tokenizer(GPT2Config(vocab_size=4), str(tmp_path / file))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_names_do_not_change_what_ids_are() -> None:
    config = GPT2Config(vocab_size=9)
    plain, named = id_tokenizer(config, IDS), IdTokenizer(9, NOTES[2:])
    assert plain.fingerprint == named.fingerprint
    assert plain.fingerprint != IdTokenizer(9, eos=3).fingerprint  # which stands between documents
