"""Which tokens a definition names, against lists made by hand and against Python's own Unicode and UTF-8."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tpe_core.errors import TpeError
from tpe_core.models.head import OutputHead, Post
from tpe_core.token_sets.resolving import VocabularyTokens, nearest_rows, resolve_set
from tpe_core.token_sets.scripts import begins_script
from tpe_core.token_sets.token_bytes import TokenContent, completions
from tpe_core.token_sets.token_classes import CLASSES, token_classes
from tpe_core.token_sets.token_set import TokenSet

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
WORDS = ("the", " the", "The", "London", " London", "12", "1a", "...", "中文", "a中", "Жук", "Ж1", "ı", " ")
PIECES = (b"\xe4\xb8", b"\xe3\x80", b" \xe4\xb8", b"\xb8\xad", b"a\xd0", "中".encode() + b"\xe4")


def spelled(data: bytes) -> str:
    """Byte-level BPE's spelling, by transformers itself."""
    alphabet = bytes_to_unicode()
    return "".join(alphabet[byte] for byte in data)


@pytest.fixture(scope="module")
def tokens() -> VocabularyTokens:
    """A byte-level vocabulary: an end token, words, pieces of characters, and all bytes."""
    spellings = dict.fromkeys(["<|end|>", *(spelled(word.encode()) for word in WORDS), *(spelled(p) for p in PIECES)])
    vocabulary = list(dict.fromkeys([*spellings, *ALPHABET]))
    tokenizer = Tokenizer(models.BPE({word: at for at, word in enumerate(vocabulary)}, []))
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")
    rows = len(vocabulary) + 3  # padding rows, which no token has
    columns = torch.randn(4, rows, generator=torch.Generator().manual_seed(0))
    head = OutputHead(columns=columns, bias=None, post=Post(), vocab_rows=rows, tied=False, module=None)
    counts = np.arange(rows) % 2

    def find(query: str) -> int:
        return int(query[1:]) if query.startswith("#") else 1 + WORDS.index(query)

    return VocabularyTokens(tokenizer=fast, rows=rows, find=find, head=head, counts=counts)


def named(tokens: VocabularyTokens, definition: str) -> set[bytes]:
    """The tokens of a set as bytes."""
    contents = tokens.contents
    found = set()
    for token_id in resolve_set(definition, tokens).token_set.token_ids:
        content = contents[token_id]
        assert content is not None
        found.add(content.text.encode() + content.begun)
    return found


@pytest.mark.parametrize(
    ("definition", "wanted"),
    [
        ("regex:^ ?[Tt]he$", {"the", " the", "The"}),
        ("regex:^\\d", {"12", "1a", *"0123456789"}),
        ("regex:ondo", {"London", " London"}),
        ("=London + =the", {"London", "the"}),
        ("regex:ondo - =London", {" London"}),
        ("(regex:ondo + regex:^the) - (=the + =London)", {" London"}),
        ("class:digits", {"12", *"0123456789"}),
        ("script:Cyrillic", {"Жук", "Ж1"}),
        ("block:Cyrillic - regex:1", {"Жук"}),
        ("regex:^ı$", {"ı"}),
    ],
)
def test_a_definition_names_the_tokens_listed_by_hand(
    tokens: VocabularyTokens, definition: str, wanted: set[str]
) -> None:
    found = {data.decode(errors="replace") for data in named(tokens, definition) if not _is_piece(data)}
    assert found == wanted


def _is_piece(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False


def test_a_script_has_mixed_tokens_and_the_pieces_that_can_only_become_its_letters(tokens: VocabularyTokens) -> None:
    han = named(tokens, "script:Han")
    assert {"中文".encode(), "a中".encode()} <= han
    assert {b"\xe4\xb8", b" \xe4\xb8", b"\xe4", b"\xe5", b"\xe8", "中".encode() + b"\xe4"} <= han
    assert not {b"\xe3", b"\xe3\x80", b"\xb8", b"\xb8\xad", b"\xef", b"\xf0"} & han
    assert b"a\xd0" in named(tokens, "script:Cyrillic")


def test_the_pieces_of_a_script_are_those_of_which_python_knows_no_other_letter(tokens: VocabularyTokens) -> None:
    han = named(tokens, "script:Han")
    for lead in range(0xE1, 0xF0):
        begun = [chr((lead & 0xF) << 12 | rest) for rest in range(0x1000)]
        assert completions(bytes([lead])) == "".join(char for char in begun if not 0xD800 <= ord(char) < 0xE000)
        letters = {char for char in begun if unicodedata.category(char) in {"Lo", "Ll", "Lu"}}
        ideographs = {char for char in letters if unicodedata.name(char).startswith("CJK UNIFIED IDEOGRAPH")}
        assert (bytes([lead]) in han) == (bool(letters) and ideographs == letters), hex(lead)


def test_without_a_script_and_its_lead_bytes_none_of_its_characters_can_be_written(tokens: VocabularyTokens) -> None:
    gone = resolve_set("script:Han + lead-bytes:Han", tokens).token_set
    for token_id, content in enumerate(tokens.contents):
        if content is None or token_id in gone:
            continue
        assert not any(unicodedata.name(char, "").startswith("CJK UNIFIED") for char in content.text)
        if content.begun:
            may = completions(content.begun)
            assert not any(unicodedata.name(char, "").startswith("CJK UNIFIED") for char in may), content
    only = begins_script(tokens.contents, "Han")
    assert only[[content is not None and content.begun == b"\xe3\x80" for content in tokens.contents]].all()


@pytest.mark.parametrize("text", ["é", "中", "𝄞", "\u07ff", "\u0800", "\uffff", "\U00010000", "\U0010ffff"])
def test_every_beginning_of_a_character_can_become_it_and_nothing_shorter(text: str) -> None:
    data = text.encode()
    for size in range(1, len(data)):
        found = completions(data[:size])
        assert text in found
        assert all(char.encode()[:size] == data[:size] for char in found)
        content = TokenContent.of(b"x" + data[:size])
        assert (content.text, content.begun, content.is_whole) == ("x", data[:size], False)
    assert TokenContent.of(data) == TokenContent(text)
    assert TokenContent.of(data[1:]).begun == b""


def test_special_tokens_are_in_no_set_but_that_of_their_class_or_their_id(tokens: VocabularyTokens) -> None:
    assert resolve_set("class:special", tokens).token_set.token_ids == (0,)
    assert resolve_set("#0 + =the", tokens).token_set.token_ids == (0, 1)
    assert 0 not in resolve_set("regex:. + regex:end", tokens).token_set


def test_the_classes_cover_the_vocabulary_and_never_seen_is_what_did_not_come(tokens: VocabularyTokens) -> None:
    present = [CLASSES[at].replace(" ", "-") for at in sorted(set(token_classes(tokens.tokenizer, tokens.rows)))]
    assert len(present) > 5
    seen = [i for name in present for i in resolve_set(f"class:{name}", tokens).token_set.token_ids]
    assert sorted(seen) == list(range(tokens.rows))
    assert resolve_set("class:never-seen", tokens).token_set.token_ids == tuple(range(0, tokens.rows, 2))


def test_the_nearest_rows_are_those_of_largest_cosine(tokens: VocabularyTokens) -> None:
    assert tokens.head is not None
    rows = tokens.head.columns.double().T.numpy()
    cosine = rows @ rows[1] / np.linalg.norm(rows, axis=1) / np.linalg.norm(rows[1])
    wanted = np.argsort(-cosine, kind="stable")[:9]
    assert nearest_rows(tokens.head, 1, 9).tolist() == wanted.tolist()
    assert resolve_set("near:the:9", tokens).token_set.token_ids == tuple(sorted(wanted.tolist()))
    assert len(resolve_set("near:#1", tokens).token_set) == 20


def test_a_file_of_words_ids_or_an_array_names_its_tokens(tokens: VocabularyTokens, tmp_path: Path) -> None:
    text, ids, array = tmp_path / "words.txt", tmp_path / "ids.json", tmp_path / "ids.npy"
    text.write_text("the\n\n#4\r\nno such word\n", encoding="utf-8")
    found = resolve_set(f"file:{text}", tokens)
    assert found.token_set.token_ids == (1, 2, 4)
    assert found.notes == (f"1 of the words in {str(text)[:39] + '…'!r} are no single token ('no such word').",) or (
        len(found.notes) == 1 and "'no such word'" in found.notes[0]
    )
    ids.write_text(json.dumps({"token_ids": [5, 3]}))
    np.save(array, np.array([7, 3]))
    assert resolve_set(f"file:{ids} + file:{array}", tokens).token_set.token_ids == (3, 5, 7)


@pytest.mark.parametrize(
    ("definition", "says"),
    [
        ("script:Klingon", "Unicode has no script 'Klingon'"),
        ("block:)", "Unicode has no block"),
        ("script:Tibetan", "no token of this vocabulary is in the set 'script:Tibetan'"),
        ("regex:(", "is no regular expression"),
        ("class:verbs", "unknown token class 'verbs': choose one of special"),
        ("near:the:0", "between 1 and"),
        ("marked", "no token is marked"),
        ("file:/no/such/file", "cannot be read"),
        ("=the - =the", "no token of this vocabulary"),
    ],
)
def test_what_names_nothing_is_one_sentence(tokens: VocabularyTokens, definition: str, says: str) -> None:
    with pytest.raises(TpeError, match=says.replace("(", r"\(")) as caught:
        resolve_set(definition, tokens)
    assert str(caught.value).endswith(".")


def test_a_broken_list_is_one_sentence(tokens: VocabularyTokens, tmp_path: Path) -> None:
    for name, data in {
        "a.json": b"{", "b.json": b'{"token_ids": [true]}', "c.npy": b"x", "d.txt": b"\xff", "e.json": b"[99999]"
    }.items():  # fmt: skip
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(TpeError) as caught:
            resolve_set(f"file:{path}", tokens)
        assert name in str(caught.value)


def test_a_set_is_sorted_unique_and_says_what_is_taken_out_of_it() -> None:
    some = TokenSet("script:Han", (5, 3, 3), "Chinese")
    assert some.token_ids == (3, 5)
    assert some.ids.dtype == np.int64
    assert (3 in some, 4 in some, "3" in some) == (True, False, False)
    left = some.without([5, 9])
    assert left == TokenSet("script:Han - #5", (3,), "Chinese")
    assert some.without([3, 5]) is None
    assert some.less(TokenSet("#3 + #4", (3, 4))) == TokenSet("script:Han - (#3 + #4)", (5,), "Chinese")
    with pytest.raises(TpeError, match="has no token"):
        TokenSet("=a - =a", ())
