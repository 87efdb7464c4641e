"""From what is typed to a token: exact texts, ids, candidates, and sentences where a text is several tokens or none."""

from __future__ import annotations

import pytest

from tests.helpers.tiny_models import VOCAB, tiny_tokenizer
from tpe_core.errors import TpeError
from tpe_core.printable import token_texts
from tpe_core.steering.token_search import TokenIndex

TEXTS = ["the", "·the", "The", "·THE", "other", "·then", "#7", "⏎", "twin", "twin", "∅"]


@pytest.fixture(scope="module")
def index() -> TokenIndex:
    return TokenIndex(TEXTS)


def test_candidates_come_likeliest_first(index: TokenIndex) -> None:
    found = [(candidate.text, candidate.how) for candidate in index.search("the")]
    assert found == [
        ("the", "exact"), ("·the", "space"), ("The", "case"), ("·THE", "case"), ("other", "part"), ("·then", "part"),
    ]  # fmt: skip
    assert [candidate.token_id for candidate in index.search("the", 2)] == [0, 1]
    assert index.search("#4")[0].how == "id"
    assert [candidate.text for candidate in index.search("\n")] == ["⏎"]
    assert index.search("") == index.search("zebra") == []


@pytest.mark.parametrize(
    ("query", "token_id"), [("the", 0), (" the", 1), ("·the", 1), ("The", 2), ("#5", 5), ("\n", 7), ("⏎", 7)]
)
def test_a_whole_text_or_an_id_is_a_token(index: TokenIndex, query: str, token_id: int) -> None:
    assert index.resolve(query) == token_id


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("THE", r"'THE' is no token here: choose one token, such as #3 '·THE', #0 'the'"),
        ("zebra", r"'zebra' is no token here: no token contains it"),
        ("twin", r"'twin' is the text of 2 tokens: name one as #8 'twin', #9 'twin'"),
        ("#11", r"token id 11 does not exist: this model's go from #0 to #10"),
        ("", r"an empty text is no token"),
    ],
)
def test_what_is_no_token_is_refused_with_candidates(index: TokenIndex, query: str, message: str) -> None:
    with pytest.raises(TpeError, match=message):
        index.resolve(query)


def test_the_error_names_the_ids_that_a_text_became() -> None:
    tokenizer = tiny_tokenizer()
    index = TokenIndex(token_texts(tokenizer, VOCAB), tokenizer)
    ids = tokenizer.encode("list number", add_special_tokens=False)
    with pytest.raises(TpeError, match=rf"'list number' is {len(ids)} tokens here \(#{ids[0]} '") as raised:
        index.resolve("list number")
    assert "\n" not in str(raised.value)
    for token_id in (3, 77, 300):
        assert index.resolve(index.texts[token_id]) == token_id
    assert index.resolve(" the") == index.resolve("·the")
    with pytest.raises(TpeError, match=r"'the' is 2 tokens here .* such as #\d+ '·the'"):
        index.resolve("the")
