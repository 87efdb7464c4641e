"""Bytes from a terminal as text: whatever they are and however they are cut, and nothing that is UTF-8 is changed."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from tpe_tui.shell.terminal_input import InputDecoder, PlainPaste

TEXT = st.text(st.characters(exclude_characters="\x1b", exclude_categories=["Cs"]))


def in_pieces(data: bytes, cuts: list[int]) -> str:
    decoder, out = InputDecoder(), ""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        out += decoder.decode(data[start:end])
    return out + decoder.flush()


PARTS = st.lists(
    st.sampled_from([b"\x1b[M", b"\x1b[", b"\x1b", b"\xe9", b"a", b"\xc3\xa9", b"\xff\xff\xff", b" !!", b"\xe2\x82"])
)
CUTS = st.lists(st.integers(0, 10_000), max_size=6)


@given(TEXT, CUTS)
def test_utf8_is_read_as_it_is_however_it_is_cut(text: str, cuts: list[int]) -> None:
    assert in_pieces(text.encode(), cuts) == text


@settings(max_examples=300)
@given(PARTS, CUTS)
def test_any_bytes_are_text_that_a_terminal_may_send_and_how_they_are_cut_makes_no_difference(
    parts: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(parts) + b"..."  # whatever began is complete
    text = in_pieces(data, cuts)
    text.encode()
    assert text == in_pieces(data, [])


def test_a_byte_that_is_no_utf8_is_the_latin1_character_that_was_typed() -> None:
    assert in_pieces(b"caf\xe9 a\x9b", []) == "café a\ufffd"


def test_a_mouse_report_of_three_bytes_is_one_in_digits() -> None:
    assert in_pieces(b"j\x1b[M \xc8\x30k\x1b[M#\xc8\xb0", []) == "j\x1b[<0;168;16Mk\x1b[<0;168;144m"


TEXT = "def softmax(x):\r    return exp(x) / sum(exp(x))\r\rquit()\r"


def test_text_pasted_without_brackets_is_told_from_keys_by_its_length_and_kinds() -> None:
    assert PlainPaste().looks_pasted(TEXT)
    assert not PlainPaste().looks_pasted("p\x15hello\r")
    assert not PlainPaste().looks_pasted("j" * 200)
    assert not PlainPaste().looks_pasted("\x1b[A" * 40)
    assert not PlainPaste().looks_pasted(TEXT[:20])
    assert not PlainPaste().looks_pasted("pa long prompt that a script writes, all of it at once\r")


def test_the_middle_of_a_bracketed_paste_is_left_to_its_brackets() -> None:
    paste = PlainPaste()
    assert not paste.looks_pasted("\x1b[20")
    assert not paste.looks_pasted("0~" + TEXT)
    assert not paste.looks_pasted(TEXT)
    assert not paste.looks_pasted(TEXT + "\x1b[201~")
    assert paste.looks_pasted(TEXT)
