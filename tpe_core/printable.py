"""Token text made printable: every invisible or dangerous character becomes a visible one.

It never changes what a token is: the engine works with ids, and nothing here is parsed back.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import cycle
from typing import Any, Protocol

__all__ = [
    "TokenDecoder",
    "cell_width",
    "fit",
    "printable_bytes",
    "printable_token",
    "special_ids",
    "spellings_and_texts",
    "text_bytes",
    "token_texts",
]

EMPTY = "∅"
ELLIPSIS = "…"
SPACE = "·"
DOTTED_CIRCLE = "◌"
CHARS_PER_CELL = 8  # a letter and its marks; no script writes more all along a line
NAMED = {"\n": "⏎", "\t": "⇥", "\r": "␍", "\x7f": "␡"}

HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
MARK_CATEGORIES = frozenset({"Mn", "Mc", "Me"})
STAND_INS = frozenset({EMPTY, DOTTED_CIRCLE, "⟨", *NAMED.values(), *(chr(0x2400 + code) for code in range(0x20))})
"""What stands for something else; a token that really contains one shows it by its number."""

BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters, marks and symbols that fonts draw as nothing."""

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
BROKEN_BYTES = re.compile("([\udc80-\udcff]+)")

NEWLY_WIDE = ((0x2630, 0x2637), (0x268A, 0x268F), (0x4DC0, 0x4DFF), (0x1D300, 0x1D356), (0x1D360, 0x1D376))
"""Wide since Unicode 16: counted as 2 cells whatever Unicode this Python knows, so that a line never overflows."""


def _changes_neighbour(code: int) -> bool:
    """Variation selectors and skin tones: terminals disagree about the cells of what they follow."""
    ranges = ((0xFE00, 0xFE0F), (0xE0100, 0xE01EF), (0x180B, 0x180F), (0x1F3FB, 0x1F3FF))
    return any(low <= code <= high for low, high in ranges)


def _is_joining_jamo(code: int) -> bool:
    """Hangul vowels and final consonants that terminals draw into the cell before."""
    return 0x1160 <= code <= 0x11FF or 0xD7B0 <= code <= 0xD7FF


def _attaches(char: str) -> bool:
    return unicodedata.category(char) in MARK_CATEGORIES or _is_joining_jamo(ord(char))


@lru_cache(maxsize=65536)
def _glyph(char: str) -> str:
    """What one character inside a token is drawn as."""
    if char == " ":
        return char
    code = ord(char)
    if char in NAMED:
        return NAMED[char]
    if code < 0x20:
        return chr(0x2400 + code)
    hidden = unicodedata.category(char) in HIDDEN_CATEGORIES or char in BLANK or char in STAND_INS
    return f"⟨U+{code:04X}⟩" if hidden or _changes_neighbour(code) else char


def printable_token(text: str) -> str:
    """`text` as one line without control, format, unassigned or surrogate characters; ``∅`` where it is empty.

    Spaces at either end become ``·``, line breaks and tabs ``⏎`` and ``⇥``, other control characters their Unicode
    pictures, and every other invisible character its number, as in ``⟨U+202E⟩``. A combining mark without a
    letter before it sits on ``◌``. Different texts give different results: a token that contains one of these
    stand-ins itself shows that by number.
    """
    if not text:
        return EMPTY
    if text.isascii() and text.isprintable():
        body = text.lstrip(" ")
        kept = body.rstrip(" ")
        return SPACE * (len(text) - len(body)) + kept + SPACE * (len(body) - len(kept))
    edge = " " + SPACE
    start = len(text) - len(text.lstrip(edge))
    end = max(start, len(text.rstrip(edge)))
    parts = [_edge(text[:start])]
    base = False  # whether the character before is drawn as itself, so that a mark can sit on it
    for char in text[start:end]:
        glyph = _glyph(char)
        if glyph == char and not base and _attaches(char):
            parts.append(DOTTED_CIRCLE)
        parts.append(glyph)
        base = glyph == char and char != " "
    parts.append(_edge(text[end:]))
    return "".join(parts)


def _edge(run: str) -> str:
    return "".join(SPACE if char == " " else f"⟨U+{ord(char):04X}⟩" for char in run)


def printable_bytes(data: bytes) -> str:
    """Bytes as text where they are UTF-8, and as hexadecimal where they are not: ``a⟨E2 80⟩``."""
    if not data:
        return EMPTY
    pieces = BROKEN_BYTES.split(data.decode("utf-8", "surrogateescape"))
    return "".join(
        f"⟨{piece.encode('utf-8', 'surrogateescape').hex(' ').upper()}⟩" if odd else printable_token(piece)
        for odd, piece in zip(cycle((False, True)), pieces, strict=False)
        if piece
    )


@lru_cache(maxsize=65536)
def _width(char: str) -> int:
    if unicodedata.category(char) in {"Cc", "Cf", *MARK_CATEGORIES} or _is_joining_jamo(ord(char)):
        return 0
    wide = unicodedata.east_asian_width(char) in "WF" or any(low <= ord(char) <= high for low, high in NEWLY_WIDE)
    return 2 if wide else 1


def cell_width(text: str) -> int:
    """Terminal cells that `text` occupies: 2 for wide East Asian characters and emoji, 0 for combining marks."""
    return len(text) if text.isascii() and text.isprintable() else sum(map(_width, text))


def fit(text: str, width: int) -> str:
    """`text` cut to at most `width` cells, ending in ``…`` where something was cut; marks stay with their letters.

    Marks take no cells of their own: a heap of them is cut at `CHARS_PER_CELL` characters for each cell.
    """
    if width <= 0:
        return ""
    longest = CHARS_PER_CELL * width
    if len(text) <= longest and cell_width(text) <= width:
        return text
    used = 0
    for index, char in enumerate(text):
        used += _width(char)
        if used > width - 1 or index == longest - 1:
            return text[:index] + ELLIPSIS
    return text


class TokenDecoder(Protocol):
    """The part of a transformers tokenizer that `token_texts` needs."""

    def get_vocab(self) -> dict[str, int]:
        """Every token's id, added tokens included."""

    def convert_ids_to_tokens(self, ids: Any) -> Any:
        """The vocabulary's own spelling of every id."""

    def batch_decode(self, sequences: Any, *, clean_up_tokenization_spaces: bool | None = ...) -> Any:
        """The text of every sequence of ids."""


@cache
def _byte_alphabet() -> dict[str, int]:
    """Byte-level BPE's spelling of bytes: printable Latin-1 as itself, the other 68 in order from U+0100."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in set(kept)]
    return {chr(byte): byte for byte in kept} | {chr(0x100 + at): byte for at, byte in enumerate(moved)}


def token_texts(tokenizer: TokenDecoder, count: int) -> list[str]:
    """Printable texts of token ids 0 to ``count - 1``; a row that no token has shows as ``⟨id 50300⟩``.

    Each id is decoded alone. What that loses is restored from the vocabulary's spelling: the leading space of
    SentencePiece pieces, and the bytes of tokens that hold only a part of a character.
    """
    pairs = spellings_and_texts(tokenizer, count)
    spellings = {spelling for spelling, _ in pairs if isinstance(spelling, str)}
    return [_text(*pair, index, spellings) for index, pair in enumerate(pairs)]


def spellings_and_texts(tokenizer: TokenDecoder, count: int) -> list[tuple[Any, str | None]]:
    """(The vocabulary's spelling, the text it decodes to alone) of token ids 0 to ``count - 1``; None where none is."""
    highest = max(tokenizer.get_vocab().values(), default=-1)  # not the number of tokens: ids may have holes
    known = max(0, min(count, highest + 1))
    spelled = _each(tokenizer.convert_ids_to_tokens, list(range(known)))
    decoded = _each(
        lambda ids: tokenizer.batch_decode(ids, clean_up_tokenization_spaces=False), [[index] for index in range(known)]
    )
    return [*zip(spelled, decoded, strict=True), *[(None, None)] * (count - known)]


def special_ids(tokenizer: Any, rows: int) -> list[int]:
    """Ids below `rows` of tokens that are no text, ascending: ends, paddings, roles of a chat, reserved ones."""
    found = set(tokenizer.all_special_ids)
    for token_id, token in getattr(tokenizer, "added_tokens_decoder", {}).items():
        if getattr(token, "special", False):
            found.add(int(token_id))
    return sorted(each for each in found if 0 <= each < rows)


def _each(function: Any, items: list[Any]) -> list[Any]:
    """``function(items)``, or item by item with None for those it cannot do: vocabularies have holes."""
    failures = (IndexError, KeyError, TypeError, ValueError, OverflowError)
    try:
        return list(function(items))
    except failures:
        results: list[Any] = []
        for item in items:
            try:
                results.extend(function([item]))
            except failures:
                results.append(None)
        return results


def _text(spelling: object, decoded: str | None, index: int, spellings: set[str]) -> str:
    if isinstance(spelling, bytes):
        return printable_bytes(spelling)
    if isinstance(spelling, str):
        return _restored(spelling, decoded or "", spellings)
    return printable_token(decoded) if decoded else f"⟨id {index}⟩"


def _restored(spelling: str, decoded: str, spellings: set[str]) -> str:
    """What decoding alone shows of a token, with the spaces and bytes back that its spelling still has."""
    if (byte := BYTE_TOKEN.fullmatch(spelling)) and decoded != spelling:
        value = int(byte[1], 16)
        also = {chr(value), "▁" if value == 0x20 else chr(value)}  # spellings of the same text as a piece of its own
        return printable_token(chr(value)) if value < 0x80 and not also & spellings else f"⟨{value:02X}⟩"
    if "\ufffd" in decoded and (data := _spelled_bytes(spelling)) is not None:
        return printable_bytes(data)
    spaced = spelling.replace("▁", " ")
    if spelling.startswith("▁") and spaced.lstrip(" ") == decoded.lstrip(" "):
        return printable_token(spaced)
    return printable_token(decoded or spelling)


def text_bytes(spelling: object, decoded: str | None) -> bytes | None:
    """What a token adds to a text, as UTF-8 or a part of it; None where it has neither spelling nor text.

    It is what `token_texts` shows, before it is made printable.
    """
    if isinstance(spelling, bytes):
        return spelling
    if not isinstance(spelling, str):
        return decoded.encode(errors="replace") if decoded else None
    decoded = decoded or ""
    if (byte := BYTE_TOKEN.fullmatch(spelling)) and decoded != spelling:
        return bytes([int(byte[1], 16)])
    if "\ufffd" in decoded and (data := _spelled_bytes(spelling)) is not None:
        return data
    spaced = spelling.replace("▁", " ")
    is_spaced = spelling.startswith("▁") and spaced.lstrip(" ") == decoded.lstrip(" ")
    return (spaced if is_spaced else decoded or spelling).encode(errors="replace")


def _spelled_bytes(spelling: str) -> bytes | None:
    alphabet: Sequence[int | None] = [_byte_alphabet().get(char) for char in spelling]
    return bytes(byte for byte in alphabet if byte is not None) if None not in alphabet else None
