"""The kind of a token by the bytes that it adds to a text."""

from __future__ import annotations

import pytest

from tests.helpers.tiny_models import tiny_tokenizer
from tpe_core.atlas.kinds import kind_of, token_kinds


@pytest.mark.parametrize(
    ("class_name", "data", "kind"),
    [
        ("special", b"<|end|>", "special"),
        ("byte-fallback", b"\xf9", "byte-fallback"),
        ("punctuation", b"\x14", "control"),
        ("whitespace", b"\x14", "control"),
        ("whitespace", b"\n\n", "whitespace"),
        ("digits", b" 12", "digits"),
        ("punctuation", b".", "punctuation"),
        ("punctuation", b"(", "punctuation"),
        ("punctuation", b"());", "code-like"),
        ("word-beginning", b" snake_case", "code-like"),
        ("word-continuation", b"alueError", "code-like"),
        ("word-beginning", b" value", "word-beginning"),
        ("other script", "中".encode(), "script Han"),
        ("other script", " что".encode(), "script Cyrillic"),
        ("other script", "µ".encode(), "script Common"),
        ("unnamed", None, "unnamed"),
    ],
)
def test_kinds(class_name: str, data: bytes | None, kind: str) -> None:
    assert kind_of(class_name, data) == kind


def test_every_token_of_a_vocabulary_has_one() -> None:
    kinds = token_kinds(tiny_tokenizer(), 330)
    assert len(kinds) == 330
    assert kinds[0] == "special"
    assert "byte-fallback" in kinds
    assert "control" in kinds
    assert kinds[-1] == "unnamed"
