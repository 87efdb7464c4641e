"""The glyphs that are drawn, and what stands for each where a terminal or a stream knows ASCII only.

Every glyph takes one cell in both sets, so that nothing moves; no two marks of one plot share a character.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache

from rich.cells import cell_len

__all__ = ["ASCII", "ascii_cells", "ascii_token", "encodable", "wants_ascii"]

ASCII = {
    # bars and blocks
    "█": "#", "▉": "#", "▊": "#", "▋": "=", "▌": "=", "▍": "-", "▎": "-", "▏": "|", "▓": "%", "▒": "=", "░": ":",
    "▐": "#", "▁": "_", "▂": ".", "▃": ",", "▄": "-", "▅": "=", "▆": "+", "▇": "*",
    # lines and borders
    "│": "|", "┃": "|", "─": "-", "━": "=", "┤": "+", "├": "+", "┼": "+", "┬": "+", "┴": "+", "┌": "+", "┐": "+",
    "└": "+", "┘": "+", "╭": "+", "╮": "+", "╰": "+", "╯": "+", "╱": "/", "╸": "=", "╺": "=", "▔": "-", "▕": "|",
    "▀": "-", "▖": ".", "▗": ".", "▘": "'", "▝": "'",
    # marks of curves, rows and places
    "●": "@", "○": "o", "▲": "A", "△": "^", "■": "#", "□": "%", "◆": "*", "◇": "c", "◈": "&", "◐": "s", "▼": "v",
    "▽": "w", "★": "*", "☆": "+", "⊙": "0", "×": "x", "✗": "x", "▸": ">", "›": ">", "❯": ">", "∎": "!", "¦": ":",
    "◌": "o", "∅": "0", "◼": "#", "▶": ">", "•": "*",
    # signs
    "…": "~", "·": ".", "–": "-", "—": "-", "−": "-", "→": ">", "←": "<", "↑": "^", "↓": "v", "≈": "~", "≤": "<",
    "≥": ">", "±": "+", "²": "2", "³": "3", "½": "h", "¼": "q", "ᵀ": "T", "α": "a", "Δ": "d", "Σ": "S", "Λ": "L",
    "⏎": "$", "⇥": "t", "␍": "r", "␡": "?", "␣": "_", "⟨": "<", "⟩": ">", "Ġ": "_", "‘": "'", "’": "'", "“": '"',
    "”": '"', "\N{NO-BREAK SPACE}": " ",
}  # fmt: skip

UNITS = {"⏎": "\\n", "⇥": "\\t", "␍": "\\r", "␡": "\\x7f", "·": "_", "…": "~", "∅": "<empty>", "⟨": "<", "⟩": ">"}
"""Stand-ins inside a token's text, which may grow: it is cut to its cells afterwards."""

HALF_DOTS = 4  # of a braille cell's eight


@lru_cache(maxsize=4096)
def _cell(char: str) -> str:
    """What stands for one character, in as many cells."""
    if char.isascii():
        return char
    if char in ASCII:
        return ASCII[char]
    code = ord(char)
    if 0x2800 <= code <= 0x28FF:
        return _braille(code - 0x2800)
    if 0x2500 <= code <= 0x257F:
        return "+"
    return "?" * cell_len(char)


def _braille(dots: int) -> str:
    """The character whose ink lies where most of a braille cell's dots do."""
    upper, lower = (dots & 0b00011011).bit_count(), (dots & 0b11100100).bit_count()
    if not dots:
        return " "
    if upper + lower > HALF_DOTS:
        return "#"
    return ":" if upper and lower else "'" if upper else "."


def ascii_cells(text: str) -> str:
    """`text` in ASCII, in the same cells."""
    return text if text.isascii() else "".join(map(_cell, text))


def ascii_token(text: str) -> str:
    """A token's printable text in ASCII: what is not is escaped as in Python, a space at an end is ``_``.

    An underscore at an end and a backslash are escaped as well, so that two tokens do not look alike.
    """
    if text.isascii() and "\\" not in text and "_" not in (text[:1], text[-1:]):
        return text
    text = text.replace("\\", "\\\\")
    if text.startswith("_"):
        text = "\\x5f" + text[1:]
    if text.endswith("_"):
        text = text[:-1] + "\\x5f"
    return "".join(
        char if char.isascii() else UNITS.get(char) or char.encode("ascii", "backslashreplace").decode("ascii")
        for char in text
    )


def encodable(text: str, encoding: str | None) -> str:
    """`text` as a stream of that encoding can hold it: glyphs by their stand-ins, other characters escaped."""
    try:
        text.encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return "".join(ASCII.get(char) or char.encode("ascii", "backslashreplace").decode("ascii") for char in text)
    return text


def wants_ascii(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the terminal draws ASCII only: tmux says so of its client, else the locale does, else it is a console.

    Python turns the locale C into C.UTF-8 for its own time, so an explicit ``LANG=C`` is taken at its word.
    """
    if environment.get("TERM") == "linux":  # its font has no braille and few marks
        return True
    if "TMUX" in environment and (told := _tmux_utf8(environment)) is not None:
        return not told
    named = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := environment.get(name))), "")
    coerced = not environment.get("LC_ALL") and environment.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8")
    if coerced and environment.get("LANG") in ("C", "POSIX"):
        return True
    if not named:
        return False
    if "." not in named and named not in ("C", "POSIX", "UTF-8"):
        import locale

        return locale.getencoding().lower().replace("-", "") != "utf8"
    return named in ("C", "POSIX") or "utf8" not in named.lower().replace("-", "")


def _tmux_utf8(environment: Mapping[str, str]) -> bool | None:
    """Whether tmux's client takes UTF-8; None where it does not say."""
    import subprocess

    command = ["tmux", "display-message", "-p", "#{client_utf8}"]
    try:
        answer = subprocess.run(  # noqa: S603
            command, env=dict(environment), capture_output=True, text=True, timeout=1, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"1": True, "0": False}.get(answer.stdout.strip())
