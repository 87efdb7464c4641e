"""Which tokens belong to a Unicode script or block, as the `regex` package knows Unicode.

A token belongs to a script if at least one of its characters does, whatever else it holds. A token that ends inside a
character belongs to it if every character that it can still become does; characters that all scripts share (Common and
Inherited) and unassigned ones are left out of that question. So the first two bytes of three of a Chinese character
are of ``Han``. A first byte that begins characters of several scripts is of none: those are `begins_script`'s.
Bytes from the inside of a character alone say nothing about it, and belong to no script.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import regex
from numpy.typing import NDArray

from tpe_core.errors import TpeError
from tpe_core.printable import fit, printable_token
from tpe_core.token_sets.token_bytes import TokenContent, completions

__all__ = ["begins_script", "has_property"]

NAME = regex.compile(r"[A-Za-z][A-Za-z0-9 _-]*")
NO_SCRIPT = regex.compile(r"[\p{Script=Common}\p{Script=Inherited}\p{Script=Unknown}]")
EXAMPLES = {"Script": "Han, Cyrillic or Latin", "Block": "Cyrillic, Emoticons or CJK_Unified_Ideographs"}


@cache
def _characters(property_name: str, value: str) -> regex.Pattern[str]:
    """A pattern of one character whose `property_name` (Script, Block) is `value`."""
    try:
        if not NAME.fullmatch(value):
            raise regex.error("no name")
        return regex.compile(rf"\p{{{property_name}={value}}}")
    except regex.error as error:
        raise TpeError(
            f"Unicode has no {property_name.lower()} {fit(printable_token(value), 40)!r}: "
            f"name one such as {EXAMPLES[property_name]}."
        ) from error


def has_property(contents: Sequence[TokenContent | None], property_name: str, value: str) -> NDArray[np.bool_]:
    """[V] the tokens of a script or block. Raises `TpeError` where Unicode has none of that name."""
    pattern = _characters(property_name, value)

    @cache
    def becomes(begun: bytes) -> bool:
        possible = completions(begun)
        others = possible if property_name == "Block" else NO_SCRIPT.sub("", possible)
        return bool(others) and not pattern.sub("", others)

    return np.array(
        [
            one is not None and (pattern.search(one.text) is not None or bool(one.begun and becomes(one.begun)))
            for one in contents
        ],
        dtype=np.bool_,
    )


def begins_script(contents: Sequence[TokenContent | None], value: str) -> NDArray[np.bool_]:
    """[V] the tokens that end inside a character which can still become one of a script, or of another one.

    Without these and those of the script itself, no character of the script can be written.
    """
    pattern = _characters("Script", value)

    @cache
    def may_become(begun: bytes) -> bool:
        return pattern.search(completions(begun)) is not None

    found = [one is not None and bool(one.begun) and may_become(one.begun) for one in contents]
    return np.array(found, dtype=np.bool_)
