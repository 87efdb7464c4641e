"""Token text on a screen: nothing invisible, nothing dangerous, nothing confused."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.helpers.tokenizers import byte_level, metaspace
from tpe_core.printable import CHARS_PER_CELL, cell_width, fit, printable_bytes, printable_token, token_texts

ESCAPE = re.compile("⟨U\\+([0-9A-F]{4,6})⟩")
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
any_text = st.text(st.characters(exclude_categories=()), max_size=12)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", "∅"),
        ("the", "the"),
        (" the", "·the"),
        ("   ", "···"),
        ("a b ", "a b·"),
        ("\n\t\r", "⏎⇥␍"),
        ("\x00\x1b[2J\x7f", "␀␛[2J␡"),
        ("\x85", "⟨U+0085⟩"),
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("\u2066\u200f\u061c\u200b\ufeff\u2060", "⟨U+2066⟩⟨U+200F⟩⟨U+061C⟩⟨U+200B⟩⟨U+FEFF⟩⟨U+2060⟩"),
        ("\u2028\u2029", "⟨U+2028⟩⟨U+2029⟩"),
        ("\ud800", "⟨U+D800⟩"),
        ("\ue000\U000f0000", "⟨U+E000⟩⟨U+F0000⟩"),
        ("\u0301a", "◌\u0301a"),
        ("e\u0301", "e\u0301"),
        (" \u0301", "·◌\u0301"),
        ("\n\u0301", "⏎◌\u0301"),
        ("❤\ufe0f", "❤⟨U+FE0F⟩"),
        ("a\u00a0b\u3000", "a⟨U+00A0⟩b⟨U+3000⟩"),
        ("\u3164\u2800", "⟨U+3164⟩⟨U+2800⟩"),
        ("\ufffd", "\ufffd"),
        ("日本", "日本"),
        ("a·b", "a·b"),
        ("·a", "⟨U+00B7⟩a"),
        ("∅", "⟨U+2205⟩"),
        ("[/foo]", "[/foo]"),
    ],
)
def test_examples(text: str, shown: str) -> None:
    assert printable_token(text) == shown


def original(shown: str) -> str:
    """The inverse of printable_token, written independently of it."""
    if shown == "∅":
        return ""
    back = {"⏎": "\n", "⇥": "\t", "␍": "\r", "␡": "\x7f"} | {chr(0x2400 + code): chr(code) for code in range(32)}
    inner = re.fullmatch("(·|⟨U\\+00B7⟩)*", shown)
    edges = re.fullmatch("((?:·|⟨U\\+00B7⟩)*)(.*?)((?:·|⟨U\\+00B7⟩)*)", shown, re.DOTALL)
    assert edges
    left, middle, right = (shown, "", "") if inner else edges.groups()
    middle = "".join(back.get(char, char) for char in middle.replace("◌", ""))
    return "".join(
        ESCAPE.sub(lambda found: chr(int(found[1], 16)), part)
        for part in (left.replace("·", " "), middle, right.replace("·", " "))
    )


@given(any_text)
@example("  ·· ")
@example("⟨U+0041⟩")
@example("◌\u0301")
@example("a\u0301 \u0301")
def test_nothing_hidden_and_nothing_lost(text: str) -> None:
    shown = printable_token(text)
    assert shown
    assert not {unicodedata.category(char) for char in shown} & HIDDEN
    assert shown.encode()
    assert not shown[0].isspace()
    assert not shown[-1].isspace()
    assert unicodedata.category(shown[0])[0] != "M"
    assert original(shown) == text


@given(st.binary(max_size=12))
@example(b"\xe2\x80")
def test_bytes_are_text_or_hexadecimal(data: bytes) -> None:
    shown = printable_bytes(data)
    assert not {unicodedata.category(char) for char in shown} & HIDDEN
    try:
        assert shown == printable_token(data.decode())
    except UnicodeDecodeError:
        assert re.search("⟨[89A-F][0-9A-F]( [89A-F][0-9A-F])*⟩", shown)


def test_broken_bytes_are_shown_together() -> None:
    assert printable_bytes(b" a \xe2\x80\xe2b") == "·a·⟨E2 80 E2⟩b"


@pytest.mark.parametrize(
    ("text", "width"), [("abc", 3), ("日本", 4), ("e\u0301", 1), ("⟨U+202E⟩", 8), ("👍", 2), ("", 0), ("ᄀ\u1161", 2)]
)
def test_cells(text: str, width: int) -> None:
    assert cell_width(text) == width


@given(any_text, st.integers(-2, 20))
def test_fit_never_overflows_and_keeps_what_fits(text: str, width: int) -> None:
    shown = printable_token(text)
    cut = fit(shown, width)
    assert cell_width(cut) <= max(0, width)
    assert len(cut) <= CHARS_PER_CELL * max(0, width)
    if cell_width(shown) <= width and len(shown) <= CHARS_PER_CELL * width:
        assert cut == shown
    elif width > 0:
        assert cut.endswith("…")
        assert shown.startswith(cut[:-1])


def test_fit_keeps_marks_and_wide_letters_whole() -> None:
    assert fit("日本語", 4) == "日…"
    assert fit("e\u0301e\u0301e\u0301", 2) == "e\u0301…"
    assert fit("e" + "\u0301" * 99, 2) == "e" + "\u0301" * 14 + "…"
    assert fit("abc", 1) == "…"
    assert fit("abc", 0) == ""


def test_byte_level_tokens_show_their_bytes() -> None:
    tokenizer = byte_level()
    texts = token_texts(tokenizer, len(tokenizer) + 2)
    for index in range(len(tokenizer)):
        assert not {unicodedata.category(char) for char in texts[index]} & HIDDEN
        assert "\ufffd" not in texts[index]
    assert texts[tokenizer.convert_tokens_to_ids("Ġthe")] == "·the"
    assert texts[tokenizer.convert_tokens_to_ids("Ċ")] == "⏎"
    assert texts[tokenizer.convert_tokens_to_ids("â")] == "⟨E2⟩"
    assert texts[tokenizer.convert_tokens_to_ids("<|end|>")] == "<|end|>"
    assert texts[-2:] == [f"⟨id {len(tokenizer)}⟩", f"⟨id {len(tokenizer) + 1}⟩"]
    assert len(set(texts)) == len(texts)


def test_every_byte_keeps_its_identity() -> None:
    tokenizer = byte_level()
    ids = tokenizer("é日\x00", add_special_tokens=False)["input_ids"]
    texts = token_texts(tokenizer, len(tokenizer))
    shown = "".join(texts[index] for index in ids)
    assert shown.replace("⟩⟨", " ").startswith("⟨C3 A9")
    assert shown.endswith("␀")


def test_sentencepiece_tokens_keep_their_leading_space() -> None:
    tokenizer = metaspace()
    texts = token_texts(tokenizer, len(tokenizer))
    ids = tokenizer.convert_tokens_to_ids
    assert texts[ids("▁the")] == "·the"
    assert texts[ids("▁")] == "·"
    assert texts[ids("a")] == "a"
    assert texts[ids("<0x41>")] == "A"
    assert texts[ids("<0x61>")] == "⟨61⟩"  # there is a piece "a" as well
    assert texts[ids("<0x20>")] == "⟨20⟩"
    assert texts[ids("<0x0A>")] == "⏎"
    assert texts[ids("<0xE2>")] == "⟨E2⟩"
    assert len(set(texts)) == len(texts)


class HoledTokenizer:
    """Ids 0 to 3; 2 has no token and cannot be asked for, 3 is spelled in bytes."""

    vocabulary: tuple[Any, ...] = ("a", "", None, b"\xff ")

    def get_vocab(self) -> dict[str, int]:
        return {"a": 0, "": 1, "bytes": 3}  # a count of tokens would miss the last of them

    def convert_ids_to_tokens(self, ids: list[int]) -> list[Any]:
        if 2 in ids:
            raise KeyError(2)
        return [self.vocabulary[index] for index in ids]

    def batch_decode(
        self, sequences: list[list[int]], *, clean_up_tokenization_spaces: bool | None = None
    ) -> list[str]:
        assert clean_up_tokenization_spaces is False
        if [2] in sequences:
            raise IndexError(2)
        return ["a" if index == 0 else "" for (index,) in sequences]


def test_a_vocabulary_with_holes() -> None:
    assert token_texts(HoledTokenizer(), 5) == ["a", "∅", "⟨id 2⟩", "⟨FF⟩·", "⟨id 4⟩"]
    assert token_texts(HoledTokenizer(), 0) == []
