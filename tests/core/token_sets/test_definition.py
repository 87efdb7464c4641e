"""How definitions of token sets are read: terms, operators between spaces, parentheses, quotes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tpe_core.errors import TpeError
from tpe_core.token_sets.definition import FORMS, Combined, Term, named_definition, parse_definition
from tpe_core.token_sets.resolving import TERMS, class_names

HAN, ONE, FIVE = Term("script", "Han"), Term("token", "1"), Term("id", "5")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("script:Han", HAN),
        ("  script: Han  ", HAN),
        ("lead-bytes:Han", Term("lead-bytes", "Han")),
        ("class:byte-fallback", Term("class", "byte-fallback")),
        ("near:the:20", Term("near", "the:20")),
        ("marked", Term("marked", "")),
        ("= London", Term("token", " London")),
        ("==", Term("token", "=")),
        ("=+", Term("token", "+")),
        ("=)", Term("token", ")")),
        ('="', Term("token", '"')),
        ("regex:^[a-z]+$", Term("regex", "^[a-z]+$")),
        ("regex:(a|b) c", Term("regex", "(a|b) c")),
        ("regex:'a + b'", Term("regex", "a + b")),
        ("file:a-b.txt - file:c+d.txt", Combined("-", Term("file", "a-b.txt"), Term("file", "c+d.txt"))),
        ("script:Han + =1", Combined("+", HAN, ONE)),
        ("script:Han - #5 + =1", Combined("+", Combined("-", HAN, FIVE), ONE)),
        ("script:Han - (#5 + =1)", Combined("-", HAN, Combined("+", FIVE, ONE))),
        ("(regex:(x|\\)) - =1)", Combined("-", Term("regex", "(x|\\))"), ONE)),
        ("(script:Han) - #5", Combined("-", HAN, FIVE)),
    ],
)
def test_a_definition_is_read_from_left_to_right(text: str, wanted: object) -> None:
    assert parse_definition(text) == wanted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "a term is missing"),
        ("London", "'London' is no term: write one of regex:PATTERN"),
        ("script:", "nothing follows script:"),
        ("script:Han + London", "'London' is no term"),
        ("(script:Han", "a parenthesis is not closed"),
        ("marked marked", "'marked' follows a term without"),
        ("(" * 99 + "#1", "more than 50 parentheses"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_with_the_definition(text: str, says: str) -> None:
    with pytest.raises(TpeError, match=says) as caught:
        parse_definition(text)
    assert str(caught.value).startswith("the token set ")
    assert str(caught.value).count(". ") == 0


def test_a_name_stands_before_an_equals_sign_and_never_in_a_definition() -> None:
    assert named_definition("Chinese = script:Han + =1") == ("Chinese", "script:Han + =1")
    assert named_definition("caps=regex:^[A-Z]") == ("caps", "regex:^[A-Z]")
    for plain in ("=London", "regex:x=y", "#17", "(#1)", "script:Han - =1"):
        assert named_definition(plain) == ("", plain)


def test_the_documentation_lists_every_form_and_every_class() -> None:
    page = (Path(__file__).parents[3] / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert all(f"| `{form}` | {about} |" in page for form, about in FORMS.items())
    assert all(f"`{name}`" in page for name in class_names())
    assert len(FORMS) == len(TERMS)
    for form in FORMS:
        found = parse_definition(form)
        assert isinstance(found, Term)
        assert found.kind in TERMS
