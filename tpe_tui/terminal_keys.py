"""Which keys a terminal can send, by Textual's names: a binding to any other would never be pressed."""

from __future__ import annotations

import string
from functools import cache

from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual.keys import _character_to_key

__all__ = ["character_of", "key_name", "lost_as", "meant", "swallowed"]

SAME_CODE = {
    "ctrl+i": "tab",
    "ctrl+m": "enter",
    "ctrl+j": "enter",
    "ctrl+enter": "enter",
    "ctrl+h": "backspace",
    "ctrl+[": "escape",
    "ctrl+left_square_bracket": "escape",
}
"""Keys for which a terminal sends the code of another one."""

SWALLOWED = {
    "ctrl+s": "stops the output and never arrives where flow control is on (stty -ixon)",
    "ctrl+q": "starts the output again and never arrives where flow control is on (stty -ixon)",
    "ctrl+z": "no longer suspends tpe",
    "ctrl+b": "begins tmux's own commands there: press it twice",
    "ctrl+a": "begins GNU screen's own commands there: press it, then a",
}
"""Keys that something between the keyboard and the program may keep, and what becomes of them."""


@cache
def _special() -> frozenset[str]:
    """The names of keys that are no character: those that Textual knows an escape sequence or a control code of."""
    sent = (keys for keys in ANSI_SEQUENCES_KEYS.values() if isinstance(keys, tuple))
    return frozenset(key.value for keys in sent for key in keys if not key.value.startswith("<"))


@cache
def _characters() -> dict[str, str]:
    """The characters of a keyboard without letters and digits, by the names that Textual gives them."""
    return {_character_to_key(character): character for character in string.punctuation}


def character_of(key: str) -> str:
    """The character that a key's name stands for: ] for ``right_square_bracket``; empty for any other key."""
    return _characters().get(key, "")


def key_name(key: str) -> str | None:
    """Textual's name of a key that a terminal sends, given as that name or as its character; None for anything else."""
    if len(key) == 1 and key.isprintable():
        return "space" if key == " " else _character_to_key(key)
    return key if key in _special() or key in _characters() else None


def meant(key: str) -> str:
    """What may have been meant by the name of no key, for a sentence."""
    lower = key.lower().replace("control+", "ctrl+").replace("-", "+")
    letter = lower.removeprefix("shift+")
    if letter != lower and len(letter) == 1 and letter.isalpha():
        return f" (for shift and {letter}, write {letter.upper()})"
    names = {"esc": "escape", "return": "enter", "del": "delete", "pgup": "pageup", "pgdn": "pagedown", "ins": "insert"}
    other = names.get(lower, lower)
    if key_name(other) is not None:
        return f" (write {other})"
    return " (two keys one after the other cannot be bound)" if len(key) == 2 and key.isalnum() else ""


def lost_as(key: str) -> str:
    """What a terminal sends for a key that has no code of its own, for a sentence; empty where it has one."""
    other = SAME_CODE.get(key, "")
    return f" (it is {other} there)" if other else ""


def swallowed(key: str) -> str:
    """What may keep a key from the program, as the end of a sentence that begins with it; empty for most keys."""
    return SWALLOWED.get(key, "")
